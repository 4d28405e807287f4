"""An operator that watches one namespace, with rights in no other: what is the same there, and what it can't prove."""

import json
from collections.abc import Callable, Iterator

import pytest
from tests.cluster.conftest import complaints, install
from tests.cluster.place import Place, fixed

pytestmark = [pytest.mark.cluster, pytest.mark.timeout(600)]

BUDGET = 36
SERVICE = "orders-forebay:8080"


@pytest.fixture(scope="module")
def whole_place(places: Callable[[str], Place], system: None) -> Place:
    place = places("forebay-test-faults")
    install(f"watchNamespace={place.name}")
    return place


@pytest.fixture
def place(whole_place: Place) -> Iterator[Place]:
    """Two ready replicas that together may open 36 connections; afterwards they never had opened more."""
    whole_place.declare(fixed(2, BUDGET + 4, 4))
    whole_place.settled(2)
    yield whole_place
    counts = whole_place.counts()
    assert counts["peak"] <= BUDGET, counts


def test_a_changed_document_restarts_nothing(place: Place) -> None:
    before = place.restarts()
    document = fixed(2, BUDGET + 4, 4)
    document["spec"]["upstreams"][0]["pool"]["timeout"] = "4s"
    place.declare(document)
    generation = place.get("pp", "orders")["metadata"]["generation"]
    place.kubectl("wait", f"--for=jsonpath={{.status.observedGeneration}}={generation}", "pp/orders", "--timeout=15s")
    place.kubectl("wait", "--for=condition=Progressing=False", "pp/orders", "--timeout=15s")
    assert place.restarts() == before


def test_a_pod_deleted_by_force_frees_nothing_until_a_person_speaks(place: Place) -> None:
    victim, pod = next(iter(place.pods().items()))
    place.kubectl("delete", "pod", victim, "--force", "--grace-period=0")
    place.ready(2)
    assert place.load(SERVICE, 50, 5)["failed"] == {}
    uid = pod["metadata"]["uid"]
    bounds = place.bounds()
    assert bounds[uid] > 0
    assert sum(bounds.values()) <= BUDGET
    assert uid in [row["pod"] for row in place.get("pp", "orders")["status"]["ledger"]["orphaned"]]
    place.kubectl("annotate", "pp", "orders", "--overwrite", f"forebay.dev/confirm-dead={uid}")
    place.settled(2)


def test_a_bad_document_is_refused_and_the_last_one_serves(place: Place) -> None:
    document = fixed(2, BUDGET + 4, 4)
    document["spec"]["upstreams"][0]["budget"]["reserved"] = 40
    with pytest.raises(AssertionError, match="reserved"):
        place.kubectl("apply", "-f", "-", stdin=json.dumps(document))
    assert place.load(SERVICE, 20, 1)["failed"] == {}


def test_rights_in_one_namespace_were_enough(place: Place) -> None:
    assert complaints() == []
