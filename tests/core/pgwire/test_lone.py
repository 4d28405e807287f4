"""What can be passed on unread: plain texts, the chunks that are one lease's only messages, and their answers."""

from types import ModuleType

import pytest
from tests.conformance.pgwire_cases import HOSTILE_CLIENTS, HOSTILE_SERVERS, SYNC, Hostile, message

from forebay_core.pgwire import reporting

STARTS = (b"select", b"with")
NEVER = (b"temp", b"--", b"te_", b"\xfc", b"/*")

QUERY = message(b"Q", b"SELECT 1\0")
PARSE = message(b"P", b"\0SELECT $1\0\0\1\0\0\0\x17")
BIND = message(b"B", b"\0\0\0\0\0\1\0\0\0\1x\0\0")
DESCRIBE = message(b"D", b"P\0")
EXECUTE = message(b"E", b"\0\0\0\0\0")
FLUSH = message(b"H")
LONE = {
    "Q": QUERY,
    "PBDES": PARSE + BIND + DESCRIBE + EXECUTE + SYNC,
    "PBES": PARSE + BIND + EXECUTE + SYNC,
    "PDHS": PARSE + message(b"D", b"S\0") + FLUSH + SYNC,
    "PBEBES": PARSE + (BIND + EXECUTE) * 2 + SYNC,
}


@pytest.mark.parametrize(
    "text",
    [
        b"select", b"SELECT 1", b"SeLeCt 1;", b"with\0", b"selected", b"select ;", b"select te-te\xdc tem", b"select t",
        b"select -",
    ],
)  # fmt: skip
def test_plain_texts(codec: ModuleType, text: bytes) -> None:
    assert codec.Plain(STARTS, NEVER)(text)


@pytest.mark.parametrize(
    "text",
    [
        b"", b"selec", b" select", b";", b"set", b"select; ", b"select;;", b"select TEMP", b"selecttemp",
        b"select tetemp", b"with --", b"SELECT TE_", b"select \xfc", b"select /*",
    ],
)  # fmt: skip
def test_texts_that_are_not_plain(codec: ModuleType, text: bytes) -> None:
    assert not codec.Plain(STARTS, NEVER)(text)


def test_a_lone_chunk_is_a_query_or_told_by_the_end_of_its_parse(codec: ModuleType) -> None:
    plain = codec.Plain(STARTS, NEVER)
    ends = {name: codec.lone(data, plain) for name, data in LONE.items()}
    assert ends == {name: 1 if name == "Q" else len(PARSE) for name in LONE}


@pytest.mark.parametrize("data", LONE.values(), ids=LONE)
def test_a_chunk_with_more_or_less_in_it_is_not_lone(codec: ModuleType, data: bytes) -> None:
    plain = codec.Plain(STARTS, NEVER)
    assert codec.lone(data, plain)
    others = [data[:cut] for cut in range(len(data))]
    others += [data + more for more in (b"Q", SYNC, QUERY, PARSE, FLUSH, message(b"X"))]
    others += [more + data for more in (SYNC, QUERY, PARSE, message(b"d", b"x"))]
    assert [codec.lone(other, plain) for other in others] == [0] * len(others)


@pytest.mark.parametrize(
    "data",
    [
        message(b"Q", b"CREATE TEMP TABLE a ()\0"),
        message(b"Q", b"SELECT 1; SELECT 2\0"),
        message(b"P", b"\0LISTEN a\0\0\0") + BIND + EXECUTE + SYNC,
        message(b"P", b"s\0SELECT 1\0\0\0") + SYNC,
        PARSE + message(b"B", b"\0s\0\0\0\0\0\0\0") + EXECUTE + SYNC,
        PARSE + message(b"D", b"Ss\0") + SYNC,
        PARSE + message(b"C", b"S\0") + SYNC,
        PARSE + QUERY,
        PARSE + BIND + EXECUTE + FLUSH,
        PARSE + message(b"c") + SYNC,
        message(b"F", b"\0" * 10),
    ],
)  # fmt: skip
def test_what_has_to_be_looked_at_is_not_lone(codec: ModuleType, data: bytes) -> None:
    assert not codec.lone(data, codec.Plain(STARTS, NEVER))


@pytest.mark.parametrize("case", HOSTILE_CLIENTS, ids=lambda case: case.name)
def test_what_is_wrong_is_not_lone(codec: ModuleType, case: Hostile) -> None:
    assert not codec.lone(case.data, codec.Plain((b"s", b"x", b"n"), ()))


HEEDED = reporting(b"SCEG")
READY = message(b"Z", b"I")
ROWS = message(b"T", b"\0\1a\0" + bytes(18)) + message(b"D", b"\0\1\0\0\0\1" + b"0") + message(b"C", b"SELECT 1\0")
ANSWERS = {
    "rows": ROWS + READY,
    "extended": message(b"1") + message(b"2") + ROWS + READY,
    "empty": message(b"I") + READY,
    "notice": message(b"N", b"SNOTICE\0C00000\0Mx\0\0") + ROWS + READY,
}


@pytest.mark.parametrize("data", ANSWERS.values(), ids=ANSWERS)
def test_a_whole_answer_and_no_part_of_it_nor_more(codec: ModuleType, data: bytes) -> None:
    assert codec.answered(data, HEEDED)
    others = [data[:cut] for cut in range(len(data))]
    others += [data + more for more in (b"Z", READY, ROWS, data)]
    others += [READY + data]
    assert [codec.answered(other, HEEDED) for other in others] == [False] * len(others)


@pytest.mark.parametrize(
    "data",
    [
        ROWS + message(b"Z", b"T"),
        ROWS + message(b"Z", b"E"),
        message(b"C", b"BEGIN\0") + READY,
        message(b"S", b"TimeZone\0UTC\0") + ROWS + READY,
        message(b"E", b"SERROR\0C42601\0Mx\0\0") + READY,
        message(b"G", b"\0\0\0") + READY,
    ],
)
def test_an_answer_with_something_to_heed(codec: ModuleType, data: bytes) -> None:
    assert not codec.answered(data, HEEDED)


@pytest.mark.parametrize("case", HOSTILE_SERVERS, ids=lambda case: case.name)
def test_an_answer_that_is_wrong(codec: ModuleType, case: Hostile) -> None:
    assert not codec.answered(case.data, HEEDED)
    assert not codec.answered(ROWS + case.data + READY, HEEDED)
