"""What the dead have left open: by the kernel's table where it says so, by `linger` where it does not."""

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterable
from pathlib import Path

import pytest

from forebay_proxy.journal import Record
from forebay_proxy.leavings import TABLES, Leavings, Ownerless, encoded, ownerless

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(remote: str, state: str, inode: int = 0, port: int = 0xA000, kept: float = 0.0) -> str:
    queues = f"00000000:00000000 03:{int(kept * 100):08X} 00000000"
    return f"   0: 0100007F:{port:04X} {remote} {state} {queues}     0        0 {inode} 1 0\n"


RECORDS = [Record(number, 0, "127.0.0.1", 80, 50_000 + number) for number in range(5)]


def there(*numbers: int, closed: Iterable[int] = (), kept: float = 60.0) -> Ownerless:
    """The kernel shows these of the records, and somebody else's to the same address."""
    traces = [(50_000 + number, encoded("127.0.0.1", 80)) for number in range(100)]
    going = {traces[number]: kept for number in (*numbers, 99)}
    return Ownerless(going, {traces[number] for number in (*closed, 98)})


def test_what_the_kernel_has_shown_and_shows_no_more_has_gone() -> None:
    left = Leavings(5, RECORDS, linger=30, now=100)
    left.update(there(0, 1, 2, 3, 4), 100.1)
    assert left.left == 5
    left.update(there(0, 2), 100.2)
    assert left.records == [RECORDS[0], RECORDS[2]]
    left.update(there(0, 1, 2), 100.3)  # another one has got its port
    assert left.records == [RECORDS[0], RECORDS[2]]
    left.update(there(), 100.4)
    assert left.left == 0


def test_what_it_never_showed_counts_until_linger() -> None:
    left = Leavings(5, RECORDS, linger=30, now=100)
    left.update(there(0, 1, 2), 100.1)
    left.update(there(), 101)
    assert left.records == RECORDS[3:]
    left.update(there(), 129.9)
    assert left.left == 2
    left.update(there(), 130)
    assert left.left == 0


def test_it_may_show_one_late() -> None:
    """The process's end and its sockets' are not one moment."""
    left = Leavings(1, RECORDS[:1], linger=30, now=100)
    left.update(there(), 100.1)
    assert left.left == 1
    left.update(there(0), 100.2)
    left.update(there(), 100.3)
    assert left.left == 0


def test_who_looks_late_sees_what_has_been_closed() -> None:
    left = Leavings(3, RECORDS[:3], linger=30, now=100)
    left.update(there(0, closed=(1,)), 100.1)
    assert left.records == [RECORDS[0], RECORDS[2]]


def test_what_has_no_record_counts_until_linger() -> None:
    left = Leavings(4, RECORDS[:1], linger=30, now=100)
    left.update(there(0, 1, 2, 3), 100.1)
    left.update(there(), 100.2)
    assert (left.left, left.records) == (3, [])
    left.update(there(), 130)
    assert left.left == 0


def test_what_it_shows_beyond_linger_is_still_open() -> None:
    left = Leavings(4, RECORDS[:4], linger=1, now=100)
    left.update(there(0, 1), 100.1)
    left.update(there(0, 1), 110)
    assert left.records == RECORDS[:2]


def test_the_upstream_knows_better() -> None:
    left = Leavings(2, RECORDS[:2], linger=30, now=100)
    left.gone(RECORDS[1])
    left.gone(RECORDS[4])
    assert left.records == RECORDS[:1]


def test_the_most_at_one_endpoint() -> None:
    elsewhere = RECORDS[0]._replace(number=9, port=81)
    assert Leavings(4, [*RECORDS[:2], elsewhere], linger=30, now=100).most == 3
    assert Leavings(0, [], linger=30, now=100).most == 0


def test_the_kernel_forgets_after_a_while_what_linger_does_not() -> None:
    """An ownerless connection leaves the table at its time, open or not, however late its successor came to look: a
    longer linger counts it on."""
    left = Leavings(4, RECORDS[:4], linger=300, now=100)
    left.update(there(0, 1, 2, 3, kept=20), 100.1)
    left.update(there(0, 1, 2, kept=5), 115)
    assert left.left == 3
    left.update(there(0, 1, kept=2), 118)
    assert left.left == 2
    left.update(there(), 119.9)
    assert left.left == 2
    left.update(there(), 399)
    assert left.left == 2
    left.update(there(), 400)
    assert left.left == 0


def test_the_end_of_one_whose_time_is_not_known_proves_nothing() -> None:
    """The kernel gives up on one that the other end has not answered."""
    left = Leavings(1, RECORDS[:1], linger=300, now=100)
    left.update(there(0, kept=0), 100.1)
    left.update(there(), 100.2)
    assert left.left == 1


def test_the_table_is_read_by_state_owner_and_address(tmp_path: Path) -> None:
    v4, v6 = tmp_path / "tcp", tmp_path / "tcp6"
    ours, other = encoded("127.0.0.1", 8080), encoded("127.0.0.1", 8081)
    v4.write_text(
        HEAD
        + "".join(row(ours, state, port=port) for port, state in enumerate(("04", "05", "09", "0B"), 1))  # going
        + row(ours, "05", 4711, port=5)  # going, but its owner lives
        + "".join(row(ours, state, port=6) for state in ("01", "08", "0A"))  # open, or listening
        + row(ours, "06", port=9)
        + row(other, "05", port=7, kept=59.5)
    )  # fmt: skip
    v6.write_text(HEAD + row(encoded("::1", 8080), "05", port=8))
    four = {(port, ours): 0.0 for port in (1, 2, 3, 4)} | {(7, other): 59.5}
    assert ownerless((v4, v6)) == (four | {(8, encoded("::1", 8080)): 0.0}, {(9, ours)})
    assert ownerless((v4, tmp_path / "no-ipv6")) == (four, {(9, ours)})


@pytest.mark.skipif(sys.byteorder != "little", reason="the literals are of a little-endian machine")
def test_addresses_as_the_kernel_writes_them() -> None:
    assert encoded("127.0.0.1", 80) == "0100007F:0050"
    assert encoded("::1", 8080) == "00000000000000000000000001000000:1F90"


def test_the_real_kernel_shows_what_a_killed_process_leaves() -> None:
    """A process with three connections dies by kill -9; the other end has not closed yet, then closes one by one."""
    code = (
        "import socket, sys\n"
        "held = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(3)]\n"
        "print(*[sock.getsockname()[1] for sock in held], flush=True); sys.stdin.read()"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(address[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            peers = [listener.accept()[0] for _ in range(3)]
            ports = list(map(int, process.stdout.readline().split()))
            records = [Record(number, 0, *address, port) for number, port in enumerate(ports)]
            traces = {(port, encoded(*address)) for port in ports}
            assert not ownerless().going.keys() & traces
            left = Leavings(3, records, linger=300, now=0)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        for open_still in (3, 2, 1, 0):
            deadline = time.monotonic() + 5
            while len(ownerless().going.keys() & traces) != open_still:
                assert time.monotonic() < deadline, TABLES[0].read_text()
            left.update(ownerless(), 1.0)
            assert left.left == open_still
            if peers:
                peers.pop().close()
        late = Leavings(3, records, linger=300, now=0)
        late.update(ownerless(), 1.0)
        assert late.left == 0
