"""What a replica must not forget, through restarts, kill -9 and torn or foreign files."""

import os
import signal
import socket
import subprocess
import sys
from pathlib import Path
from socket import AF_INET6

import pytest

from forebay_proxy.journal import RECORDS, Record
from forebay_proxy.memory import SIZE, SLOTS, Memory, MemoryLocked, NotAMemory


def test_a_fresh_memory_is_a_new_life_with_nothing(tmp_path: Path) -> None:
    memory = Memory.at(tmp_path / "memory")
    other = Memory.at(tmp_path / "other")
    assert memory.fresh
    assert len(memory.life) == 32
    assert memory.life != other.life
    assert (memory.sequence, memory.draining, memory.grants, memory.left) == (0, False, {}, {})
    assert (tmp_path / "memory").stat().st_mode & 0o777 == 0o600
    memory.close()
    other.close()


def test_a_successor_goes_on_with_life_and_grant_and_counts_what_was_held(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    first = Memory.at(path)
    first.take(7, {"orders": 5, "users": 2})
    first.set_held("orders", 4)
    first.set_held("orders", 3)
    first.close()
    second = Memory.at(path)
    assert not second.fresh
    assert (second.life, second.sequence) == (first.life, 7)
    assert second.grants == {"orders": 5, "users": 2}
    assert second.left == {"orders": 3, "users": 0}
    # It opens two of its own and dies as well: what both have left counts.
    second.set_held("orders", 2)
    second.close()
    third = Memory.at(path)
    assert third.left["orders"] == 5
    third.set_left("orders", 1)
    third.close()
    assert Memory.at(path).left["orders"] == 1


def test_the_memory_of_a_draining_life_begins_a_new_one_but_counts_what_is_left(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    first = Memory.at(path)
    first.take(3, {"orders": 5})
    first.set_held("orders", 2)
    first.drain()
    assert first.draining
    first.close()
    second = Memory.at(path)
    assert second.fresh
    assert second.life != first.life
    assert (second.sequence, second.draining, second.grants) == (0, False, {})
    assert second.left == {"orders": 2}
    second.close()


def test_one_process_at_a_time(tmp_path: Path) -> None:
    memory = Memory.at(tmp_path / "memory")
    with pytest.raises(MemoryLocked, match="another process"):
        Memory.at(tmp_path / "memory")
    memory.close()
    Memory.at(tmp_path / "memory").close()


def test_it_survives_kill_9(tmp_path: Path) -> None:
    code = (
        "import sys; from pathlib import Path; from forebay_proxy.memory import Memory\n"
        "m = Memory.at(Path(sys.argv[1])); m.take(9, {'orders': 4}); m.set_held('orders', 3)\n"
        "print(m.life, flush=True); sys.stdin.read()"
    )
    path = tmp_path / "memory"
    process = subprocess.Popen(
        [sys.executable, "-c", code, str(path)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[2] / "proxy")},
    )  # fmt: skip
    with process:
        assert process.stdout is not None
        life = process.stdout.readline().strip()
        with pytest.raises(MemoryLocked):
            Memory.at(path)
        process.send_signal(signal.SIGKILL)
    memory = Memory.at(path)
    assert (memory.life, memory.sequence, memory.grants, memory.left) == (life, 9, {"orders": 4}, {"orders": 3})
    memory.close()


@pytest.mark.parametrize("content", [b"", b"\0" * 10, b"\0" * SIZE, b"forebay2", b"forebay0" + b"\1" * SIZE])
def test_a_torn_file_or_another_versions_is_a_new_life(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "memory"
    path.write_bytes(content)
    memory = Memory.at(path)
    assert memory.fresh
    assert (memory.grants, memory.left) == ({}, {})
    assert path.stat().st_size == SIZE
    memory.close()


@pytest.mark.parametrize("content", [b"x", b"not a memory", b"x" * SIZE, b"forebay: a document\n", b"forebay"])
def test_a_file_of_somebody_elses_is_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "memory"
    path.write_bytes(content)
    with pytest.raises(NotAMemory, match="memory is no replica's memory"):
        Memory.at(path)
    assert path.read_bytes() == content


def test_a_successor_finds_where_connections_went(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    memory = Memory.at(path)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_server(("::1", 0), family=AF_INET6) as other:
        memory.set_held("orders", 2)
        memory.set_held("users", 1)
        with (
            socket.create_connection(server.getsockname()) as a,
            socket.create_connection(other.getsockname()[:2]) as b,
        ):
            first, second = memory.note("orders", a), memory.note("orders", b)
            third = memory.note("users", a)
            memory.identify(second, 4711, b"k" * 32)
            memory.identify(third, 4712, b"k" * 33)
            memory.erase(first)
            memory.erase(first)
            memory.close()
            memory = Memory.at(path)
            assert memory.left == {"orders": 2, "users": 1}
            address, port = other.getsockname()[:2]
            assert memory.records("orders") == [Record(second, 0, address, port, b.getsockname()[1], 4711, b"k" * 32)]
            port = server.getsockname()[1]
            assert memory.records("users") == [Record(third, 1, "127.0.0.1", port, a.getsockname()[1], 4712, b"")]
            assert memory.records("others") == []
            memory.erase(second)  # its end was seen: whoever comes next does not find it
            memory.close()
            memory = Memory.at(path)
            assert memory.records("orders") == []
            assert len(memory.records("users")) == 1
            memory.close()


def test_more_connections_than_records_are_counted_only(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    memory = Memory.at(path)
    memory.set_held("orders", RECORDS + 1)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()) as sock:
        notes = [memory.note("orders", sock) for _ in range(RECORDS + 1)]
        assert sorted(notes) == [-1, *range(RECORDS)]
        memory.identify(-1, 1, b"key!")
        memory.erase(-1)
        memory.erase(7)
        assert memory.note("orders", sock) == 7
    memory.close()
    memory = Memory.at(path)
    assert (memory.left["orders"], len(memory.records("orders"))) == (RECORDS + 1, RECORDS)
    memory.close()


def test_upstreams_that_come_and_go_do_not_fill_it(tmp_path: Path) -> None:
    """Names of documents long past make room, but none that still holds something."""
    path = tmp_path / "memory"
    memory = Memory.at(path)
    memory.set_held("kept", 2)
    for number in range(3 * SLOTS):
        memory.take(number + 1, {f"upstream-{number}": 3})
        memory.set_held(f"upstream-{number}", 1)
        memory.set_held(f"upstream-{number}", 0)
    memory.set_held("last", 1)
    memory.close()
    memory = Memory.at(path)
    held = {name: count for name, count in memory.left.items() if count}
    assert held == {"kept": 2, "last": 1}
    assert memory.sequence == 3 * SLOTS
    for number in range(SLOTS - 2):
        memory.set_held(f"busy-{number}", 1)
    with pytest.raises(OverflowError, match="more than 64 upstreams"):
        memory.set_held("one-too-many", 1)
    memory.close()


def test_the_longest_name_fits(tmp_path: Path) -> None:
    path = tmp_path / "memory"
    memory = Memory.at(path)
    memory.take(1, {"u" * 63: 1})
    memory.close()
    assert Memory.at(path).grants == {"u" * 63: 1}
