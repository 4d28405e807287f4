"""What the dead have left open: by the kernel's table where it says so, by `linger` where it does not."""

import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from forebay_proxy.leavings import FORGETS, TABLES, Leavings, encoded, ownerless

HEAD = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode\n"


def row(remote: str, state: str, inode: int = 0) -> str:
    return f"   0: 0100007F:A000 {remote} {state} 00000000:00000000 00:00000000 00000000     0        0 {inode} 1 0\n"


def test_only_what_the_kernel_shows_may_be_open() -> None:
    left = Leavings(5, linger=30, now=100)
    left.update(5, 100.1)
    assert left.left == 5
    left.update(2, 100.2)
    assert left.left == 2
    left.update(3, 100.3)  # somebody else's, to the same address
    assert left.left == 2
    left.update(0, 100.4)
    assert left.left == 0


def test_what_it_never_showed_counts_until_linger() -> None:
    left = Leavings(5, linger=30, now=100)
    left.update(3, 100.1)
    left.update(0, 101)
    assert left.left == 2
    left.update(0, 129.9)
    assert left.left == 2
    left.update(0, 130)
    assert left.left == 0


def test_what_it_shows_beyond_linger_is_still_open() -> None:
    left = Leavings(4, linger=1, now=100)
    left.update(2, 100.1)
    left.update(2, 110)
    assert left.left == 2


def test_the_kernel_forgets_after_a_minute_what_linger_does_not() -> None:
    """An ownerless connection leaves the table at `tcp_fin_timeout`, open or not: a longer linger counts it on."""
    left = Leavings(4, linger=300, now=100)
    left.update(4, 100.1)
    left.update(3, 100 + FORGETS - 1)
    assert left.left == 3
    left.update(3, 100 + FORGETS)
    left.update(0, 161)
    assert left.left == 3
    left.update(0, 399)
    assert left.left == 3
    left.update(0, 400)
    assert left.left == 0


def test_the_table_is_read_by_state_owner_and_address(tmp_path: Path) -> None:
    v4, v6 = tmp_path / "tcp", tmp_path / "tcp6"
    ours, other = encoded("127.0.0.1", 8080), encoded("127.0.0.1", 8081)
    v4.write_text(
        HEAD
        + row(ours, "04") + row(ours, "05") + row(ours, "09") + row(ours, "0B")  # going, without an owner
        + row(ours, "05", 4711)  # going, but its owner lives
        + row(ours, "01") + row(ours, "06") + row(ours, "08") + row(ours, "0A")  # open, gone, or listening
        + row(other, "05")
    )  # fmt: skip
    v6.write_text(HEAD + row(encoded("::1", 8080), "05"))
    assert ownerless({("127.0.0.1", 8080)}, (v4, v6)) == 4
    assert ownerless({("127.0.0.1", 8080), ("::1", 8080)}, (v4, v6)) == 5
    assert ownerless({("127.0.0.1", 8080)}, (v4, tmp_path / "no-ipv6")) == 4
    assert ownerless(set(), (v4, v6)) == 0


@pytest.mark.skipif(sys.byteorder != "little", reason="the literals are of a little-endian machine")
def test_addresses_as_the_kernel_writes_them() -> None:
    assert encoded("127.0.0.1", 80) == "0100007F:0050"
    assert encoded("::1", 8080) == "00000000000000000000000001000000:1F90"


def test_the_real_kernel_shows_what_a_killed_process_leaves() -> None:
    """A process with three connections dies by kill -9; the other end has not closed yet, then closes one by one."""
    code = (
        "import socket, sys\n"
        "held = [socket.create_connection(('127.0.0.1', int(sys.argv[1]))) for _ in range(3)]\n"
        "print('open', flush=True); sys.stdin.read()"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = listener.getsockname()
        process = subprocess.Popen(
            [sys.executable, "-c", code, str(address[1])], stdin=subprocess.PIPE, stdout=subprocess.PIPE
        )
        with process:
            assert process.stdout is not None
            process.stdout.readline()
            peers = [listener.accept()[0] for _ in range(3)]
            assert ownerless({address}) == 0
            left = Leavings(3, linger=0, now=0)
            os.kill(process.pid, signal.SIGKILL)
            process.wait()
        for open_still in (3, 2, 1, 0):
            deadline = time.monotonic() + 5
            while ownerless({address}) != open_still:
                assert time.monotonic() < deadline, TABLES[0].read_text()
            left.observe({address}, 1.0)
            assert left.left == open_still
            if peers:
                peers.pop().close()


def test_an_upstream_that_moves_leaves_its_connections_where_they_are(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[set[tuple[str, int]]] = []

    def table(addresses: set[tuple[str, int]]) -> int:
        asked.append(set(addresses))
        return 2

    monkeypatch.setattr("forebay_proxy.leavings.ownerless", table)
    left = Leavings(2, linger=1, now=0)
    left.observe({("10.0.0.1", 80)}, 0.1)
    left.observe({("10.0.0.2", 80)}, 0.2)
    assert asked[1] == {("10.0.0.1", 80), ("10.0.0.2", 80)}
    assert left.left == 2
