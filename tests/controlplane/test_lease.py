"""One leader among the operator's processes."""

import asyncio
from typing import Any, cast

import pytest
from tests.controlplane.fakes import FakeApi

from forebay_operator import lease
from forebay_operator.api import Api
from forebay_operator.lease import Elector

KEY = ("Lease", "forebay-system", "forebay-operator")


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lease, "DURATION", 0.5)
    monkeypatch.setattr(lease, "RENEW", 0.3)
    monkeypatch.setattr(lease, "RETRY", 0.05)


class Candidate:
    """A process that wants to lead; `leads` is set while it does."""

    def __init__(self, api: FakeApi, name: str) -> None:
        self.leads, self.rests = asyncio.Event(), asyncio.Event()
        self.task = asyncio.create_task(Elector(cast(Api, api), "forebay-system", name).run(self._lead))

    async def _lead(self) -> None:
        self.leads.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.leads.clear()
            self.rests.set()

    async def stop(self) -> None:
        self.task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await self.task


def holder(api: FakeApi) -> Any:
    return api.objects[KEY]["spec"]["holderIdentity"]


async def test_one_leads_and_the_next_takes_over_at_once_when_it_goes() -> None:
    api = FakeApi()
    first = Candidate(api, "a")
    await asyncio.wait_for(first.leads.wait(), 5)
    second = Candidate(api, "b")
    await asyncio.sleep(0.7)
    assert first.leads.is_set(), "it renews"
    assert not second.leads.is_set()
    await first.stop()
    assert first.rests.is_set()
    await asyncio.wait_for(second.leads.wait(), 0.4)
    assert holder(api) == "b"
    await second.stop()
    assert holder(api) == ""


async def test_a_dead_leaders_lease_runs_out() -> None:
    api = FakeApi()
    body = {"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": KEY[2], "namespace": KEY[1]}}
    api.put(body | {"spec": {"holderIdentity": "dead", "renewTime": "2030-01-01T00:00:00.000000Z"}})
    candidate = Candidate(api, "b")
    await asyncio.sleep(0.3)
    assert not candidate.leads.is_set()
    await asyncio.wait_for(candidate.leads.wait(), 5)
    await candidate.stop()


async def test_who_can_not_renew_stops_leading_before_another_may_begin() -> None:
    api = FakeApi()
    candidate = Candidate(api, "a")
    await asyncio.wait_for(candidate.leads.wait(), 5)
    api.away = True
    await asyncio.wait_for(candidate.rests.wait(), lease.DURATION)
    api.away = False
    await asyncio.wait_for(candidate.leads.wait(), 5)
    await candidate.stop()


async def test_who_wakes_after_another_took_over_does_not_release_the_others_lease() -> None:
    api = FakeApi()
    paused = Candidate(api, "a")
    await asyncio.wait_for(paused.leads.wait(), 5)
    api.objects[KEY]["spec"]["holderIdentity"] = "b"  # while it slept
    await paused.stop()
    assert holder(api) == "b"
