"""Workers under load: replaced one after the other, killed, stopped; and the supervisor stopped, killed, run twice."""

import asyncio
import os
import shutil
import signal
import sys
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tests.support.criteria import marked, own, ready_workers, unharmed
from tests.support.forebay import PYTHONPATH, Forebay, http_pool
from tests.support.load import Load, run_load
from tests.support.origin import Origin
from tests.support.process import children
from tests.support.raw import fetch
from tests.support.waiting import until

from forebay_proxy.state_directory import StateDirectory

Start = Callable[..., Awaitable[Forebay]]

BUDGETS = pytest.mark.parametrize("budget", [None, {"maxConnections": 12, "linger": "500ms"}], ids=["plain", "budget"])


def pool_of_three(origin: Origin, budget: dict[str, Any] | None = None) -> dict[str, Any]:
    return http_pool(
        origin.port,
        spec={"replicas": 3, "drain": {"delay": "0s", "timeout": "10s"}},
        pool={"size": 5, "maxOverflow": 0, "timeout": "1900ms"},
        **({"budget": budget} if budget else {}),
    )


@pytest.mark.slow
@BUDGETS
async def test_rolling_replacement_under_load(forebay: Start, origin: Origin, budget: dict[str, Any] | None) -> None:
    """Also after a worker was killed, when the order of the workers is another than that of their numbers."""
    f = await forebay(pool_of_three(origin, budget))
    async with unharmed(f, origin, limit=12 if budget else 20, longest_wait=2.0, workers=3):
        before = await ready_workers(f, lambda pids: len(pids) == 3)
        os.kill(min(before), signal.SIGKILL)
        await ready_workers(f, lambda pids: len(pids) == 3 and min(before) not in pids)
        load = Load(f.port, clients=40, request=marked, check=own, timeout=10)
        fresh = Load(
            f.port,
            clients=10,
            request=lambda client, number: marked(client + 1000, number),
            check=lambda client, number, answer: own(client + 1000, number, answer),
            timeout=10,
            keep_alive=False,
        )
        async with load, fresh:
            await load.answered(200)
            for _ in range(2):
                old = set(await f.worker_pids())
                f.child.send(signal.SIGUSR2)
                await ready_workers(f, lambda pids, old=old: len(pids) == 3 and not pids & old)  # type: ignore[misc]
            await load.answered(load.outcome.answered + 200)
        for outcome in (load.outcome, fresh.outcome):
            assert outcome.statuses == {200: outcome.answered}, outcome
            assert not outcome.errors, outcome
            assert max(outcome.latencies) < 1.0, outcome


@pytest.mark.slow
@BUDGETS
async def test_kill_of_a_worker_costs_what_was_in_flight_on_it(
    forebay: Start, origin: Origin, budget: dict[str, Any] | None
) -> None:
    f = await forebay(pool_of_three(origin, budget))
    async with unharmed(f, origin, limit=12 if budget else 15, longest_wait=2.0, workers=3):
        await ready_workers(f, lambda pids: len(pids) == 3)
        load = Load(f.port, clients=30, request=marked, check=own, timeout=10)
        async with load:
            await load.answered(300)
            victim = max((await f.state())["workers"], key=lambda worker: worker["clients"])
            assert victim["clients"]
            os.kill(victim["pid"], signal.SIGKILL)
            await ready_workers(f, lambda pids: len(pids) == 3 and victim["pid"] not in pids)
            await load.answered(load.outcome.answered + 300)
        assert load.outcome.statuses == {200: load.outcome.answered}
        # One request in flight per client, and those that stood unaccepted in its queue or came just then.
        assert 0 < sum(load.outcome.errors.values()) <= victim["clients"] + 3, load.outcome
        assert max(load.outcome.latencies) < 1.0
    metrics = await f.metrics()
    assert metrics.value("forebay_worker_restarts_total") == 1
    # What the dead had counted is not lost.
    assert metrics.value("forebay_requests_total", code="200") > 0.9 * load.outcome.answered


@pytest.mark.slow
async def test_a_stopped_worker_leaves_new_clients_to_the_others(forebay: Start, origin: Origin) -> None:
    f = await forebay(pool_of_three(origin, {"maxConnections": 12, "linger": "500ms"}))
    async with unharmed(f, origin, limit=12, workers=3):
        await ready_workers(f, lambda pids: len(pids) == 3)
        load = Load(f.port, clients=30, request=marked, check=own, timeout=20)
        async with load:
            await load.answered(300)
            stopped = max((await f.state())["workers"], key=lambda worker: worker["clients"])["pid"]
            os.kill(stopped, signal.SIGSTOP)
            try:
                # A third of these come to its socket, and wait there until it is found silent.
                outcome = await run_load(f.port, clients=60, requests=3, keep_alive=False, timeout=15)
            finally:
                os.kill(stopped, signal.SIGCONT)
            assert outcome.statuses == {200: 180}, outcome
            assert max(outcome.latencies) < 8
            count = load.outcome.answered
            await load.answered(count + 300)
        # Its own clients have waited, and were answered when it woke; whoever stood in the queue has timed out.
        assert load.outcome.statuses[200] + load.outcome.statuses[503] == load.outcome.answered, load.outcome
        assert load.outcome.statuses[503] <= 30, load.outcome
        assert not load.outcome.errors, load.outcome
        assert stopped in await f.worker_pids()


async def test_a_worker_that_dies_while_it_takes_over_is_made_up_for(forebay: Start, origin: Origin) -> None:
    f = await forebay(pool_of_three(origin))
    old = await ready_workers(f, lambda pids: len(pids) == 3)
    mine = set(children())
    async with Load(f.port, clients=10, timeout=10) as load:
        await load.answered(100)
        f.child.send(signal.SIGUSR2)
        new = await _first_new_worker(f, old)
        os.kill(new, signal.SIGKILL)
        pids = await ready_workers(f, lambda pids: len(pids) == 3 and not pids & old)
        assert new not in pids
    assert load.outcome.statuses == {200: load.outcome.answered}
    assert sum(load.outcome.errors.values()) <= 10, load.outcome
    assert set(children()) == mine


async def _first_new_worker(f: Forebay, old: set[int]) -> int:
    """The process id of the first worker that the supervisor starts beside the old ones."""
    new: set[int] = set()

    def condition() -> bool:
        new.update(children_of(f.pid) - old)
        return bool(new)

    await until(condition)
    return new.pop()


async def test_a_reload_in_the_middle_of_a_replacement(forebay: Start, origin: Origin) -> None:
    """Fewer workers, and another size: in the end there are as many as the document says, and all have it."""
    document = pool_of_three(origin, {"maxConnections": 12, "linger": "500ms"})
    f = await forebay(document)
    old = await ready_workers(f, lambda pids: len(pids) == 3)
    async with Load(f.port, clients=10, timeout=10) as load:
        await load.answered(100)
        f.child.send(signal.SIGUSR2)
        await _first_new_worker(f, old)
        document["spec"]["replicas"] = 2
        document["spec"]["upstreams"][0]["pool"]["size"] = 4
        f.write(document)
        f.reload()
        await f.child.line("is in force")
        pids = await ready_workers(f, lambda pids: len(pids) == 2 and not pids & old)
    assert load.outcome.statuses == {200: load.outcome.answered}, load.outcome
    assert not load.outcome.errors, load.outcome
    assert {w["document"] for w in (await f.state())["workers"]} == {(await f.state())["workers"][0]["document"]}
    assert pids


async def test_two_replacements_at_once_leave_as_many_workers(forebay: Start, origin: Origin) -> None:
    f = await forebay(pool_of_three(origin))
    old = await ready_workers(f, lambda pids: len(pids) == 3)
    for _ in range(2):
        assert (await f.admin("/restart", "POST", headers=[("Authorization", f"Bearer {token(f)}")])).status == 202
    await ready_workers(f, lambda pids: len(pids) == 3 and not pids & old)
    await asyncio.sleep(1.5)  # the second one goes on
    pids = await ready_workers(f, lambda pids: len(pids) == 3)
    assert not pids & old


async def test_workers_are_kept_where_no_new_one_can_be_started(origin: Origin, tmp_path: Path) -> None:
    """The environment is being upgraded in place, say: its interpreter is not there for a moment."""
    python = tmp_path / "python"
    python.symlink_to(sys.executable)
    f = Forebay(tmp_path, pool_of_three(origin))
    f.argv[0] = str(python)
    f.env["PYTHONPATH"] = os.pathsep.join(path for path in (PYTHONPATH, *sys.path) if path)
    async with f:
        before = await ready_workers(f, lambda pids: len(pids) == 3)
        python.rename(tmp_path / "python.old")
        f.child.send(signal.SIGUSR2)
        await f.child.line("no new worker has started: those that there are go on")
        assert set(await f.worker_pids()) == before
        (tmp_path / "python.old").rename(python)
        f.child.send(signal.SIGUSR2)
        await ready_workers(f, lambda pids: len(pids) == 3 and not pids & before)


async def test_an_end_waits_for_those_who_drain_already(forebay: Start, origin: Origin) -> None:
    """A worker that has been replaced has requests in flight when all are to end."""
    f = await forebay(http_pool(origin.port, spec={"drain": {"delay": "0s", "timeout": "20s"}}))
    asking = [asyncio.create_task(fetch(f.port, "/slow/3")) for _ in range(5)]
    await origin.until(lambda stats: stats["open"] == 5)
    f.child.send(signal.SIGUSR2)
    await until(f.state, wanted=lambda state: any(worker["draining"] for worker in state["workers"]))
    f.terminate()
    answers = await asyncio.gather(*asking)
    assert {answer.status for answer in answers} == {200}
    assert await f.wait() == 0


def token(f: Forebay) -> str:
    """The admin token that `run` has left for its user."""
    return (StateDirectory(f.path).path / "token").read_text()


@pytest.mark.slow
async def test_a_stopped_supervisor_is_not_missed_and_kills_nobody_on_waking(forebay: Start, origin: Origin) -> None:
    f = await forebay(pool_of_three(origin, {"maxConnections": 12, "linger": "500ms"}))
    pids = await ready_workers(f, lambda pids: len(pids) == 3)
    f.child.send(signal.SIGSTOP)
    outcome = await run_load(f.port, clients=30, requests=50, request=marked, check=own)
    assert outcome.statuses == {200: 1500}
    await asyncio.sleep(4)  # longer than a worker may be silent
    f.child.send(signal.SIGCONT)
    assert await ready_workers(f, lambda pids: len(pids) == 3) == pids
    assert (await f.metrics()).value("forebay_worker_restarts_total") == 0


async def test_workers_end_with_their_supervisor(origin: Origin, tmp_path: Path) -> None:
    f = await Forebay(tmp_path, pool_of_three(origin)).start()
    pids = await f.worker_pids()
    handles = [os.pidfd_open(pid) for pid in pids]
    f.child.send(signal.SIGKILL)
    await f.wait()
    loop = asyncio.get_running_loop()
    for handle in handles:
        ended = loop.create_future()
        loop.add_reader(handle, lambda ended=ended: ended.done() or ended.set_result(None))
        async with asyncio.timeout(5):
            await ended
        loop.remove_reader(handle)
        os.close(handle)
    assert not f.tracebacks(), f.stderr


async def test_the_same_document_is_not_run_twice(forebay: Start, origin: Origin) -> None:
    f = await forebay(pool_of_three(origin))
    before = token(f)
    second = Forebay(f.path.parent, http_pool(origin.port))
    f.write(pool_of_three(origin))
    await second.spawn()
    assert await second.wait() == 1
    assert second.child.lines == [f"forebay: {f.path} is already being run, by process {f.pid}"]
    assert token(f) == before


async def test_workers_start_anew_though_their_directory_was_removed(forebay: Start, origin: Origin) -> None:
    """By whoever cleans up temporary files, or at the end of a login."""
    f = await forebay(pool_of_three(origin, {"maxConnections": 12, "linger": "500ms"}))
    before = await ready_workers(f, lambda pids: len(pids) == 3)
    shutil.rmtree(StateDirectory(f.path).path)
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    await ready_workers(f, lambda pids: len(pids) == 3 and not pids & before)
    assert (await fetch(f.port, "/")).status == 200


async def test_two_pools_do_not_share_a_port(forebay: Start, origin: Origin, tmp_path: Path) -> None:
    """The kernel would give half of the clients to each."""
    f = await forebay(pool_of_three(origin))
    second = http_pool(origin.port, spec={"listen": {"port": f.port}})
    g = await Forebay(tmp_path / "second", second).spawn()
    assert await g.wait() == 1
    assert g.child.lines == [f"forebay: can't listen on 0.0.0.0:{f.port}: Address already in use"]


async def test_an_end_while_it_starts(origin: Origin, tmp_path: Path) -> None:
    """Told to end before its workers are there: it ends, with all of them."""
    f = await Forebay(tmp_path, pool_of_three(origin)).spawn()
    await until(lambda: len(children_of(f.pid)) == 3)
    f.terminate()
    assert await f.wait() == 0
    assert not f.tracebacks(), f.stderr


def children_of(pid: int) -> set[int]:
    return set(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
