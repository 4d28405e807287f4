"""When an upstream is out: for every replica, long enough; and what is said of it."""

from typing import Any

from tests.controlplane.parts import NOW, pool, report
from tests.support import states

from forebay_core.spec.load import parse
from forebay_core.spec.model import ProxyPool
from forebay_operator.observed import Report
from forebay_operator.outages import UNAVAILABLE, after, state
from forebay_operator.past import Signal
from forebay_operator.status import State

POOL = parse(pool(), form="cluster")
OUT = {"orders:80@10.0.0.9": states.endpoint(healthy=False, reason="connect_refused")}
IN = {"orders:80@10.0.0.9": states.endpoint()}


def one(life: str, endpoints: dict[str, Any]) -> Report:
    return report(life, orders={"endpoints": endpoints})


def look(
    before: dict[str, Signal], second: float, *reports: Report, of: ProxyPool = POOL, old: Any = None
) -> tuple[dict[str, Signal], State]:
    signals = after(of, reports, before, old is not None and old["status"] == "True", NOW + second)
    return signals, state(of, reports, signals, before, old)


def stands(said: State) -> dict[str, str]:
    """As it is in the status."""
    return {"status": "True" if said.holds else "False", "reason": said.reason, "message": said.message}


def test_it_is_said_when_every_replica_has_said_so_for_long_and_unsaid_later() -> None:
    signals, said = look({}, 0, one("a", OUT), one("b", IN))
    assert not signals["orders"].holds
    signals, said = look(signals, 2, one("a", OUT), one("b", OUT), old=stands(said))
    signals, said = look(signals, 11, one("a", OUT), one("b", OUT), old=stands(said))
    assert not said.holds
    signals, said = look(signals, 12, one("a", OUT), one("b", OUT), old=stands(said))
    message = "orders: no replica reaches orders:80@10.0.0.9 (connect_refused)"
    assert said == State(UNAVAILABLE, True, "NoEndpoint", message)
    signals, said = look(signals, 20, one("a", OUT), one("b", IN), old=stands(said))
    assert said.message == message
    signals, said = look(signals, 50, one("a", IN), one("b", IN), old=stands(said))
    assert said == State(UNAVAILABLE, False, "BackendAvailable", "no upstream is known to be out of reach")


def test_a_name_without_addresses_is_out_too() -> None:
    signals, _ = look({}, 0, one("a", {}))
    _, said = look(signals, 10, one("a", {}))
    assert said.message == "orders: Service orders resolves to no address"


def test_parents_may_be_out_and_where_requests_say_where_to_go_nothing_is() -> None:
    forward: dict[str, Any] = {"allowHosts": ["example.com"]}
    spec = {"protocol": "forward", "upstreams": [{"name": "orders"}], "forward": forward}
    anywhere = parse(pool(spec), form="cluster")
    signals, _ = look({}, 0, one("a", {}), of=anywhere)
    assert not look(signals, 10, one("a", {}), of=anywhere)[1].holds
    forward["parents"] = [{"host": "one.test", "port": 3128}, {"host": "two.test", "port": 3128}]
    through = parse(pool(spec), form="cluster")
    signals, _ = look({}, 0, one("a", {}), of=through)
    _, said = look(signals, 10, one("a", {}), of=through)
    assert said.message == "orders: one.test, two.test resolves to no address"


def test_who_does_not_answer_says_nothing() -> None:
    assert look({}, 0) == ({}, State(UNAVAILABLE, False, "BackendAvailable", "no upstream is known to be out of reach"))
    holding = {"orders": Signal(True)}
    signals, said = look(holding, 100, old={"status": "True", "reason": "NoEndpoint", "message": "m"})
    assert (signals, said) == (holding, State(UNAVAILABLE, True, "NoEndpoint", "m"))


def test_a_new_leader_goes_on_from_what_is_said() -> None:
    old = {"status": "True", "reason": "NoEndpoint", "message": "m"}
    assert look({}, 0, old=old)[1] == State(UNAVAILABLE, True, "NoEndpoint", "m"), "nobody has answered yet"
    assert look({}, 0, one("a", OUT), old=old)[1].holds


def test_words_stand_until_another_upstream_is_out() -> None:
    stock = {"name": "stock", "endpoints": [{"host": "10.0.0.8", "port": 80}]}
    both = parse(pool({"upstreams": [*pool()["spec"]["upstreams"], stock]}), form="cluster")
    old = {"status": "True", "reason": "NoEndpoint", "message": "orders: once"}
    down = {"orders": Signal(True), "stock": Signal(False)}

    def replica(**upstreams: dict[str, Any]) -> Report:
        made = {name: states.upstream(endpoints=endpoints) for name, endpoints in upstreams.items()}
        return report("a", upstreams=made)

    down, said = look(down, 0, replica(orders=OUT, stock=OUT), of=both, old=old)
    assert said.message == "orders: once"
    down, said = look(down, 10, replica(orders=OUT, stock=OUT), of=both, old=old)
    assert [part.split(":")[0] for part in said.message.split("; ")] == ["orders", "stock"]
    down, said = look(down, 20, replica(orders=IN, stock=OUT), of=both, old=stands(said))
    down, said = look(down, 50, replica(orders=IN, stock=OUT), of=both, old=stands(said))
    assert said.message.startswith("stock: ")
