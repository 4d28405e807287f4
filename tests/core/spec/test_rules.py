"""Every bad document is refused for what is bad in it, and for that only."""

import pytest
from tests.core.spec.cases import CLUSTER, LOCAL, Bad, changed, good

from forebay_core.spec.load import DocumentError, parse
from forebay_core.spec.rules import RULES
from forebay_core.spec.values import Form


@pytest.mark.parametrize("protocol", ["http", "tcp", "postgres"])
@pytest.mark.parametrize("form", ["local", "cluster"])
def test_the_good_document_is_taken(form: Form, protocol: str) -> None:
    assert parse(good(form, protocol), form=form).spec.protocol == protocol


@pytest.mark.parametrize("bad", [*CLUSTER, *LOCAL], ids=lambda bad: bad.id)
def test_the_one_problem_is_found(bad: Bad) -> None:
    with pytest.raises(DocumentError) as raised:
        parse(bad.document, form="local" if bad.form == "local" else "cluster")
    (problem,) = raised.value.problems
    assert problem.path == bad.path
    assert bad.says in problem.expected


@pytest.mark.parametrize("form", ["local", "cluster"])
def test_an_upstream_of_each_kind_is_taken(form: Form) -> None:
    for target in ({"endpoints": [{"host": "::1", "port": 1}]}, {"dns": {"host": "a.example.", "port": 1}}):
        document = changed(good(form), {"spec.upstreams[0]": {"name": "a", **target}})
        assert parse(document, form=form).spec.upstreams[0].service is None


def test_any_free_port_is_for_local_mode() -> None:
    assert parse(changed(good("local"), {"spec.listen.port": 0}), form="local").spec.listen.port == 0


def test_no_replica_is_for_the_cluster() -> None:
    assert parse(changed(good(), {"spec.replicas": 0}), form="cluster").spec.replicas == 0


def test_a_budget_that_just_gives_every_replica_a_floor_is_taken() -> None:
    changes = {"spec.upstreams[0].budget": {"maxConnections": 13, "reserved": 4}, "spec.replicas": 8}
    assert parse(changed(good(), changes), form="cluster").spec.maximum_replicas == 8


def test_a_budget_of_sessions_that_just_gives_every_replica_a_floor_of_two_is_taken() -> None:
    changes = {"spec.upstreams[0].budget": {"maxConnections": 22, "reserved": 4}, "spec.replicas": 8}
    assert parse(changed(good("cluster", "postgres"), changes), form="cluster").spec.maximum_replicas == 8


def test_tls_by_files_and_by_secrets() -> None:
    local = {
        "spec.listen.tls": {"certFile": "a", "keyFile": "b", "clientCAFile": "c"},
        "spec.upstreams[0].tls": {"caFile": "a", "clientCertFile": "b", "clientKeyFile": "c"},
    }
    tls = parse(changed(good("local"), local), form="local").spec.listen.tls
    assert tls is not None
    assert tls.client_ca_file == "c"
    cluster = {
        "spec.listen.tls": {"certSecret": {"name": "a"}, "clientCASecret": {"name": "b"}},
        "spec.upstreams[0].tls": {"caSecret": {"name": "c"}, "clientCertSecret": {"name": "d"}},
    }
    tls = parse(changed(good(), cluster), form="cluster").spec.listen.tls
    assert tls is not None
    assert tls.cert_secret is not None
    assert (tls.cert_secret.key, tls.cert_secret.private_key) == ("tls.crt", "tls.key")


def test_the_policy_of_tcp_hashes_the_clients_address() -> None:
    document = changed(good("local", "tcp"), {"spec.upstreams[0].loadBalancing.policy": "consistentHash"})
    assert parse(document, form="local").spec.upstreams[0].load_balancing.consistent_hash is None


def test_every_problem_is_reported_at_once() -> None:
    """Single values, unknown fields and rules over several fields; nothing that follows from another one."""
    document = changed(
        good("cluster", "tcp"),
        {
            "spec.listen.port": "80",
            "spec.drain.dely": "5s",
            "spec.http": {},
            "spec.upstreams[0].budget": {"maxConnections": 5, "reserved": 7},
            "spec.upstreams[0].pool": {"size": "ten", "recycle": "1m"},
            "spec.upstreams[1]": {"nam": "b", "dns": {"host": "a", "port": 0}},
            "spec.upstreams[2]": {"name": "orders", "dns": {"host": "a", "port": 1}},
            "spec.upstreams[3]": {"name": "d"},
            "spec.strategy": {"maxSurge": 0},
        },
    )
    with pytest.raises(DocumentError) as raised:
        parse(document, form="cluster")
    assert sorted(problem.path for problem in raised.value.problems) == [
        "spec.drain.dely",
        "spec.http",
        "spec.listen.port",
        "spec.strategy.maxSurge",
        "spec.upstreams[0].budget.reserved",
        "spec.upstreams[0].pool.recycle",
        "spec.upstreams[0].pool.size",
        "spec.upstreams[1].dns.port",
        "spec.upstreams[1].nam",
        "spec.upstreams[1].name",
        "spec.upstreams[2].name",
        "spec.upstreams[3]",
    ]


def test_a_rule_that_rests_on_a_bad_value_is_not_reported() -> None:
    changes = {"spec.upstreams[0].budget": {"maxConnections": 5, "reserved": 7}, "spec.upstreams[0].pool": {}}
    document = changed(good(), {**changes, "spec.upstreams[0].budget.maxConnections": "5"})
    with pytest.raises(DocumentError) as raised:
        parse(document, form="cluster")
    assert [problem.path for problem in raised.value.problems] == ["spec.upstreams[0].budget.maxConnections"]


def test_every_rule_has_a_case() -> None:
    """Without the rule some case of the table passes; so each rule is there for a reason."""
    for rule in RULES:
        assert any(_found_by(rule.check.__name__, bad) for bad in [*CLUSTER, *LOCAL]), rule.check.__name__


def _found_by(name: str, bad: Bad) -> bool:
    others = [rule for rule in RULES if rule.check.__name__ != name]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("forebay_core.spec.rules.RULES", others)
        try:
            parse(bad.document, form="local" if bad.form == "local" else "cluster")
        except DocumentError:
            return False
        return True
