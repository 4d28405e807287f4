"""Cancel requests between the workers of one supervisor."""

import asyncio
import shutil
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from tests.proxy.postgres.harness import Rig
from tests.support.waiting import until

from forebay_core.pgwire.startup import CancelRequest
from forebay_proxy.postgres.peers import Peers

REQUEST = CancelRequest(7, b"abcd")


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    """One whose name is too long for a socket's."""
    path = tmp_path / ("x" * 120)
    path.mkdir()
    return path


def peer(path: Path, heard: list[CancelRequest]) -> Peers:
    def deliver(request: CancelRequest) -> bool:
        heard.append(request)
        return True

    return Peers(deliver, path)


def names(directory: Path) -> list[str]:
    return sorted(path.name for path in directory.iterdir())


async def test_all_others_hear(directory: Path) -> None:
    heard: list[list[CancelRequest]] = [[], [], []]
    peers = [peer(directory / f"{number}.cancel", heard[number]) for number in range(3)]
    (directory / "0.memory").touch()
    assert peers[0].tell(REQUEST) == 2
    await until(lambda: heard == [[], [REQUEST], [REQUEST]])
    for one in peers:
        one.close()
    assert names(directory) == ["0.memory"]


async def test_one_that_was_killed(directory: Path) -> None:
    """Its socket is nobody's until its successor takes the name."""
    heard: list[CancelRequest] = []
    other = peer(directory / "other.cancel", [])
    killed = peer(directory / "one.cancel", [])
    asyncio.get_running_loop().remove_reader(killed._socket)
    killed._socket.close()
    assert other.tell(REQUEST) == 0
    successor = peer(directory / "one.cancel", heard)
    assert other.tell(REQUEST) == 1
    await until(lambda: heard == [REQUEST])
    successor.close()
    other.close()


async def test_a_directory_that_has_gone(directory: Path) -> None:
    one = peer(directory / "one.cancel", [])
    shutil.rmtree(directory)
    assert one.tell(REQUEST) == 0
    one.close()


async def test_where_there_can_be_no_socket_the_worker_serves_all_the_same(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, rig: Callable[..., Awaitable[Rig]]
) -> None:
    r = await rig()
    r.proxy.join_peers(tmp_path / "nowhere" / "one.cancel")
    assert "cancel requests for other workers' sessions are not passed on" in caplog.text
