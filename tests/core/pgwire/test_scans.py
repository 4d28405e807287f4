"""What the scans say of messages: whole, cut, large and wrong."""

from types import ModuleType

import pytest
from tests.conformance.pgwire_cases import HOSTILE_CLIENTS, HOSTILE_SERVERS, READY, SYNC, Hostile, message

from forebay_core.pgwire import ProtocolError, reporting
from forebay_core.pgwire.types import MAX_LENGTH

HELD = 64  # bytes of a large message that are waited for
WANTED = reporting(b"CEN")

QUERY = message(b"Q", b"SELECT 1\0")
PARSE = message(b"P", b"s1\0SELECT $1\0\0\1\0\0\0\x17")
BIND = message(b"B", b"p\0s1\0\0\0\0\1\0\0\0\1x\0\0")
DESCRIBE = message(b"D", b"Ss1\0")
EXECUTE = message(b"E", b"p\0\0\0\0\0")


def ends(*messages: bytes, skip: int = 0) -> list[int]:
    return [skip + len(b"".join(messages[: count + 1])) for count in range(len(messages))]


def test_a_query(codec: ModuleType) -> None:
    assert codec.scan_client(QUERY, 0, HELD) == (len(QUERY), 0, b"Q", [len(QUERY)], [], [b"SELECT 1"])


def test_nothing(codec: ModuleType) -> None:
    assert codec.scan_client(b"", 0, HELD) == (0, 0, b"", [], [], [])
    assert codec.scan_server(b"", 0, HELD, WANTED) == (0, 0, b"", [])


def test_an_extended_query_names_its_statement(codec: ModuleType) -> None:
    parts = (PARSE, BIND, DESCRIBE, EXECUTE, SYNC)
    end, missing, kinds, stops, names, texts = codec.scan_client(b"".join(parts), 0, HELD)
    assert (end, missing, kinds) == (ends(*parts)[-1], 0, b"PBDES")
    assert stops == ends(*parts)
    assert names == [b"s1", b"s1", b"s1", None, None]
    assert texts == [b"SELECT $1"]


def test_names_line_up_with_what_came_before(codec: ModuleType) -> None:
    parts = (QUERY, SYNC, message(b"C", b"Px\0"), message(b"C", b"S\0"), message(b"B", b"\0\0\0\0\0\0\0\0"), QUERY)
    _, _, kinds, _, names, texts = codec.scan_client(b"".join(parts), 0, HELD)
    assert kinds == b"QSCCBQ"
    assert names == [None, None, None, b"", b"", None]
    assert texts == [b"SELECT 1", b"SELECT 1"]


def test_copy_data_in_a_row_is_one(codec: ModuleType) -> None:
    rows = message(b"d", b"row\n") * 500
    parts = (QUERY, rows, message(b"c"), message(b"d"), message(b"f", b"no\0"), message(b"H"))
    end, _, kinds, stops, names, _ = codec.scan_client(b"".join(parts), 0, HELD)
    assert kinds == b"QdcdfH"
    assert stops == ends(*parts)
    assert end == stops[-1]
    assert names == []


def test_nothing_is_read_after_terminate(codec: ModuleType) -> None:
    data = SYNC + message(b"X") + b"anything"
    assert codec.scan_client(data, 0, HELD) == (10, 0, b"SX", [5, 10], [], [])


def test_more_messages_than_are_gathered_at_once(codec: ModuleType) -> None:
    data = (SYNC + message(b"H")) * 700
    _, _, kinds, stops, _, _ = codec.scan_client(data, 0, HELD)
    assert kinds == b"SH" * 700
    assert stops == list(range(5, len(data) + 1, 5))
    statuses = b"ITE" * 300
    answer = b"".join(message(b"Z", bytes((status,))) for status in statuses)
    assert codec.scan_server(answer, 0, HELD, WANTED) == (len(answer), 0, statuses, [])


@pytest.mark.parametrize("whole", [QUERY, PARSE, BIND, DESCRIBE, EXECUTE, SYNC], ids=lambda data: data[:1].decode())
def test_the_beginning_of_a_message_is_kept(codec: ModuleType, whole: bytes) -> None:
    for cut in range(len(whole)):
        assert codec.scan_client(SYNC + whole[:cut], 0, HELD) == (5, 0, b"S", [5], [], [])


def test_what_can_only_be_small_is_kept_until_whole_whatever_is_held(codec: ModuleType) -> None:
    describe = message(b"D", b"S" + b"x" * 9_994 + b"\0")
    assert codec.scan_client(describe[:-1], 0, HELD) == (0, 0, b"", [], [], [])
    assert codec.scan_client(describe, 0, HELD)[4] == [b"x" * 9_994]
    tag = message(b"C", b"x" * 29_995 + b"\0")
    assert codec.scan_server(tag[:-1], 0, HELD, WANTED) == (0, 0, b"", [])
    assert codec.scan_server(tag, 0, HELD, WANTED)[3] == [(b"C", 0, len(tag))]


def test_a_large_query_is_waited_for_and_then_clipped(codec: ModuleType) -> None:
    large = message(b"Q", b"SELECT '%s'\0" % (b"x" * 500))
    assert codec.scan_client(large[: HELD - 1], 0, HELD)[0] == 0
    head = large[:HELD]
    assert codec.scan_client(head, 0, HELD) == (HELD, len(large) - HELD, b"Q", [HELD], [], [head[5:]])
    assert codec.scan_client(large[HELD:] + QUERY, len(large) - HELD, HELD)[2:4] == (b"Q", [len(large) - HELD + 14])


def test_a_large_message_that_is_all_there_is_not_clipped(codec: ModuleType) -> None:
    large = message(b"Q", b"x" * 500 + b"\0")
    assert codec.scan_client(large, 0, HELD)[-1] == [b"x" * 500]


def test_what_is_missing_counts_down(codec: ModuleType) -> None:
    assert codec.scan_client(b"x" * 10, 25, HELD) == (10, 15, b"", [], [], [])
    assert codec.scan_client(b"x" * 10, 10, HELD) == (10, 0, b"", [], [], [])
    assert codec.scan_client(b"x" * 10 + SYNC, 10, HELD) == (15, 0, b"S", [15], [], [])
    assert codec.scan_server(b"x" * 10, MAX_LENGTH, HELD, WANTED) == (10, MAX_LENGTH - 10, b"", [])
    assert codec.scan_server(b"x" * 10 + READY, 10, HELD, WANTED) == (16, 0, b"I", [])


def test_a_gigabyte_of_copy_data_is_passed_from_its_header_on(codec: ModuleType) -> None:
    header = message(b"d", b"", MAX_LENGTH)
    assert codec.scan_client(SYNC + header, 0, HELD) == (10, MAX_LENGTH - 4, b"Sd", [5, 10], [], [])
    assert codec.scan_server(header, 0, HELD, WANTED) == (5, MAX_LENGTH - 4, b"", [])


def test_a_large_parse_and_bind_tell_their_names(codec: ModuleType) -> None:
    parse = message(b"P", b"name\0" + b"x" * 500 + b"\0\0\0")
    assert codec.scan_client(parse[:100], 0, HELD)[4:] == ([b"name"], [b"x" * 90])
    bind = message(b"B", b"portal\0name\0\0\0\0\1\0\0\1\xf4" + b"x" * 500 + b"\0\0")
    assert codec.scan_client(bind[:100], 0, HELD)[1:5] == (len(bind) - 100, b"B", [100], [b"name"])


def test_a_name_longer_than_what_is_held_is_refused(codec: ModuleType) -> None:
    bind = message(b"B", b"\0" + b"n" * 500 + b"\0\0\0\0\0\0\0")
    with pytest.raises(ProtocolError, match="message 'B' at byte 0 has a name"):
        codec.scan_client(bind[:HELD], 0, HELD)


def test_an_answer(codec: ModuleType) -> None:
    rows = message(b"T", b"\0\0") + message(b"D", b"\0\0") * 100 + message(b"C", b"SELECT 100\0")
    assert codec.scan_server(rows + READY, 0, HELD, WANTED) == (len(rows) + 6, 0, b"I", [])


def test_events_are_what_is_wanted(codec: ModuleType) -> None:
    parts = (message(b"1"), message(b"2"), message(b"C", b"LISTEN\0"), message(b"N", b"SNOTICE\0\0"), READY)
    data = b"".join(parts)
    at = [0, *ends(*parts)]
    assert codec.scan_server(data, 0, HELD, reporting(b"")) == (len(data), 0, b"I", [])
    assert codec.scan_server(data, 0, HELD, WANTED)[3] == [(b"C", at[2], at[3]), (b"N", at[3], at[4])]
    assert codec.scan_server(data, 0, HELD, reporting(b"1Z"))[2:] == (b"I", [(b"1", 0, 5), (b"Z", at[4], at[5])])


@pytest.mark.parametrize("tag", [b"SELECT 1", b"INSERT 0 1", b"UPDATE 0", b"COPY 9", b"FETCH 12345"])
def test_tags_that_count_rows_are_no_events(codec: ModuleType, tag: bytes) -> None:
    assert codec.scan_server(message(b"C", tag + b"\0"), 0, HELD, WANTED)[3] == []


@pytest.mark.parametrize("tag", [b"", b"BEGIN", b"SET", b"LISTEN", b"DISCARD ALL", b"CREATE TABLE", b"LISTEN:", b"x/"])
def test_all_other_tags_are(codec: ModuleType, tag: bytes) -> None:
    assert codec.scan_server(message(b"C", tag + b"\0"), 0, HELD, WANTED)[3] == [(b"C", 0, 6 + len(tag))]


def test_what_is_wanted_is_kept_until_whole(codec: ModuleType) -> None:
    error = message(b"E", b"SERROR\0C42601\0Mno\0\0")
    for whole, seen in ((error, b""), (READY, b"I"), (message(b"C", b"SET\0"), b"")):
        for cut in range(len(whole)):
            assert codec.scan_server(READY + whole[:cut], 0, HELD, WANTED) == (6, 0, b"I", [])
        assert codec.scan_server(READY + whole, 0, HELD, WANTED)[:3] == (6 + len(whole), 0, b"I" + seen)


def test_what_is_not_wanted_is_passed_from_its_header_on(codec: ModuleType) -> None:
    row = message(b"D", b"\0\1\0\0\1\0" + b"x" * 256)
    assert codec.scan_server(row[:4], 0, HELD, WANTED) == (0, 0, b"", [])
    for cut in range(5, len(row)):
        assert codec.scan_server(row[:cut], 0, HELD, WANTED) == (cut, len(row) - cut, b"", [])


def test_a_large_error_is_an_event_when_its_beginning_is_there(codec: ModuleType) -> None:
    error = message(b"E", b"SERROR\0C42601\0M" + b"x" * 500 + b"\0\0")
    assert codec.scan_server(error[: HELD - 1], 0, HELD, WANTED) == (0, 0, b"", [])
    assert codec.scan_server(error[:HELD], 0, HELD, WANTED) == (HELD, len(error) - HELD, b"", [(b"E", 0, HELD)])


@pytest.mark.parametrize("case", HOSTILE_CLIENTS, ids=lambda case: case.name)
def test_hostile_clients(codec: ModuleType, case: Hostile) -> None:
    with pytest.raises(ProtocolError) as refused:
        codec.scan_client(case.data, 0, 1 << 16)
    assert case.detail in refused.value.detail
    assert refused.value.sqlstate == case.sqlstate


@pytest.mark.parametrize("case", HOSTILE_SERVERS, ids=lambda case: case.name)
def test_hostile_servers(codec: ModuleType, case: Hostile) -> None:
    with pytest.raises(ProtocolError) as refused:
        codec.scan_server(case.data, 0, 1 << 16, WANTED)
    assert case.detail in refused.value.detail


@pytest.mark.parametrize("whole", [PARSE, BIND, DESCRIBE, message(b"C", b"Ss1\0")], ids=lambda data: data[:1].decode())
@pytest.mark.parametrize("name", [b"", b"x", b"a_much_longer_name"])
def test_rename(codec: ModuleType, whole: bytes, name: bytes) -> None:
    data = QUERY + whole + SYNC
    renamed = codec.rename(data, len(QUERY), len(QUERY) + len(whole), name)
    assert renamed == message(whole[:1], whole[5:].replace(b"s1\0", name + b"\0"))
    assert codec.scan_client(renamed, 0, HELD)[4] == [name]
    assert codec.rename(renamed, 0, len(renamed), b"s1") == whole


def test_rename_of_a_clipped_message_counts_what_is_to_come(codec: ModuleType) -> None:
    bind = message(b"B", b"\0s1\0\0\0\0\1\0\0\1\xf4" + b"x" * 500 + b"\0\0")
    start = codec.rename(bind[:100], 0, 100, b"longer")
    assert start + bind[100:] == message(b"B", bind[5:].replace(b"s1\0", b"longer\0"))


def test_rename_does_not_make_a_message_too_long(codec: ModuleType) -> None:
    with pytest.raises(ProtocolError, match="message 'P' at byte 0 has the length 1073741823"):
        codec.rename(message(b"P", b"\0SELECT", MAX_LENGTH), 0, 12, b"x")
    with pytest.raises(ProtocolError, match="message 'D' at byte 0 has the length 10007"):
        codec.rename(DESCRIBE, 0, len(DESCRIBE), b"x" * 10_001)


@pytest.mark.parametrize(("data", "end"), [(b"", 0), (b"B\0\0\0", 4), (message(b"B", b"abc"), 8), (PARSE, 7)])
def test_rename_of_what_is_no_message_is_an_error_of_the_caller(codec: ModuleType, data: bytes, end: int) -> None:
    with pytest.raises(ValueError, match="there"):
        codec.rename(data, 0, end, b"x")
