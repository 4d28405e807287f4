"""Load-balancing policies."""

from collections import Counter

import pytest

from forebay_core.balance import POLICIES, Endpoint, Picker, picker
from forebay_core.health import HealthGroup, HealthPolicy

KEYS = [f"user-{number}".encode() for number in range(4000)]


def endpoints_of(*weights: int, percent: int = 100) -> list[Endpoint]:
    group = HealthGroup(HealthPolicy(consecutive_errors=1, max_ejection_percent=percent))
    return [
        Endpoint(f"host-{chr(97 + index)}", 80, weight, f"10.0.0.{index}", group.add())
        for index, weight in enumerate(weights)
    ]


def picks(chooser: Picker, count: int) -> str:
    """The last letter of each host, as it was picked."""
    chosen = [chooser.pick(0.0, None) for _ in range(count)]
    return "".join("-" if endpoint is None else endpoint.host[-1] for endpoint in chosen)


def test_an_endpoint_names_itself_and_is_compared_by_identity() -> None:
    health = HealthGroup(HealthPolicy()).add()
    first, second = Endpoint("::1", 80, 1, "::1", health), Endpoint("::1", 80, 1, "::1", health)
    assert first.name == "[::1]:80"
    assert len({first, second}) == 2


def test_a_weight_below_one_is_refused() -> None:
    with pytest.raises(ValueError, match="weight of endpoint a:80 is 0: expected 1 or more"):
        Endpoint("a", 80, 0, "a", HealthGroup(HealthPolicy()).add())


def test_an_unknown_policy_is_refused() -> None:
    with pytest.raises(ValueError, match="'random': expected one of roundRobin"):
        picker("random", endpoints_of(1, 1), 0)


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize("size", [1, 3])
def test_only_available_endpoints_are_picked(policy: str, size: int) -> None:
    endpoints = endpoints_of(*[1] * size)
    chooser = picker(policy, endpoints, 0)
    for index, endpoint in enumerate(endpoints):
        for key in (None, *KEYS[:50]):
            assert chooser.pick(0.0, key) in endpoints[index:]
        endpoint.health.failed(0.0, "reset")
    assert chooser.pick(0.0, None) is None
    assert chooser.pick(0.0, b"key") is None
    assert chooser.pick(1000.0, b"key") in endpoints, "due for a probe"


@pytest.mark.parametrize("policy", POLICIES)
def test_no_endpoints_is_no_endpoint(policy: str) -> None:
    chooser = picker(policy, [], 7)
    assert chooser.pick(0.0, None) is None
    assert chooser.pick(0.0, b"key") is None


def test_round_robin_is_smooth() -> None:
    assert picks(picker("roundRobin", endpoints_of(5, 1, 1), 0), 14) == "aabacaa" * 2


def test_round_robin_spreads_an_ejected_ones_share_evenly() -> None:
    endpoints = endpoints_of(1, 1, 1, 1)
    chooser = picker("roundRobin", endpoints, 0)
    endpoints[1].health.failed(0.0, "reset")
    assert Counter(picks(chooser, 300)) == {"a": 100, "c": 100, "d": 100}


@pytest.mark.parametrize("policy", ["roundRobin", "leastConnections"])
def test_replicas_with_different_seeds_start_with_different_endpoints(policy: str) -> None:
    assert {picks(picker(policy, endpoints_of(1, 1, 1), seed), 1) for seed in range(3)} == set("abc")


def test_least_connections_by_weight_with_rotating_ties() -> None:
    endpoints = endpoints_of(1, 1, 2)
    chooser = picker("leastConnections", endpoints, 0)
    assert Counter(picks(chooser, 9)) == {"a": 3, "b": 3, "c": 3}, "all free: a tie"
    endpoints[0].open, endpoints[1].open, endpoints[2].open = 2, 1, 3
    assert picks(chooser, 3) == "bbb"
    endpoints[1].open = 2
    assert picks(chooser, 3) == "ccc", "3 of weight 2 is less than 2 of weight 1"


def mapped(endpoints: list[Endpoint]) -> dict[bytes, str]:
    chooser = picker("consistentHash", endpoints, 0)
    chosen = {key: chooser.pick(0.0, key) for key in KEYS}
    return {key: endpoint.address for key, endpoint in chosen.items() if endpoint is not None}


def test_consistent_hash_is_the_same_in_every_replica_and_order() -> None:
    endpoints = endpoints_of(1, 1, 1)
    assert mapped(endpoints) == mapped(endpoints[::-1])
    # Known answers: all versions of the program must agree, as they serve side by side in a rollout.
    chooser = picker("consistentHash", endpoints, 99)
    assert "".join(endpoint.host[-1] for key in KEYS[:8] if (endpoint := chooser.pick(0.0, key))) == "bacacccc"


@pytest.mark.parametrize("weights", [(1, 1, 1, 1, 1), (1, 2, 3)])
def test_consistent_hash_shares_follow_the_weights(weights: tuple[int, ...]) -> None:
    counts = Counter(mapped(endpoints_of(*weights)).values())
    for index, weight in enumerate(weights):
        ideal = len(KEYS) * weight / sum(weights)
        assert 0.75 * ideal < counts[f"10.0.0.{index}"] < 1.25 * ideal


def test_consistent_hash_moves_only_what_a_change_concerns() -> None:
    endpoints = endpoints_of(1, 1, 1, 1)
    all_four, three = mapped(endpoints), mapped(endpoints[:3])
    moved = [key for key in KEYS if all_four[key] != three[key]]
    assert {all_four[key] for key in moved} == {"10.0.0.3"}, "a key moved whose endpoint stayed"
    assert len(moved) == Counter(all_four.values())["10.0.0.3"]


def test_consistent_hash_moves_only_an_ejected_endpoints_keys_and_back() -> None:
    endpoints = endpoints_of(1, 1, 1)
    before = mapped(endpoints)
    endpoints[0].health.failed(0.0, "reset")
    during = mapped(endpoints)
    assert all(before[key] == during[key] for key in KEYS if before[key] != "10.0.0.0")
    assert set(during.values()) == {"10.0.0.1", "10.0.0.2"}


def test_consistent_hash_tells_pods_of_one_name_apart() -> None:
    group = HealthGroup(HealthPolicy())
    pods = [Endpoint("orders", 80, 1, f"10.0.0.{index}", group.add()) for index in range(3)]
    assert set(mapped(pods).values()) == {"10.0.0.0", "10.0.0.1", "10.0.0.2"}


def test_consistent_hash_without_a_key_takes_the_least_loaded() -> None:
    endpoints = endpoints_of(1, 1)
    endpoints[0].open = 1
    assert picks(picker("consistentHash", endpoints, 0), 3) == "bbb"
