"""`protocol: postgres`: its defaults, and whole documents. What is refused is in `cases`."""

from typing import Any

import pytest
from tests.core.spec.cases import changed, good

from forebay_core.spec.load import parse
from forebay_core.spec.model import Spec
from forebay_core.spec.schema import node_at
from forebay_core.spec.values import Form


def _whole(form: Form, password: dict[str, Any]) -> dict[str, Any]:
    """A document that says everything about PostgreSQL."""
    return changed(
        good(form, "postgres"),
        {
            "spec.upstreams[0].budget": {"maxConnections": 100, "reserved": 10},
            "spec.upstreams[0].pool": {
                "minIdle": 1,
                "idleTimeout": "1m",
                "prePing": "always",
                "resetOnReturn": "never",
            },
            "spec.postgres.auth.query": {
                "user": "lookup",
                **password,
                "statement": "SELECT *\nFROM lookup($1)",
                "database": "users",
                "cacheTime": "0s",
            },
            "spec.postgres.monitor": {"user": "forebay", **password, "database": "watch"},
            "spec.postgres.databases": [
                {"name": "a", "upstream": "orders", "database": "b", "user": "u", **password, "access": "readOnly"},
                {"name": "\u00c9t\u00e9", "settings": {"statement_timeout": "5s", "my.thing": "x"}},
            ],
            "spec.postgres.poolMode": "session",
            "spec.postgres.adminUsers": ["root"],
            "spec.postgres.statsUsers": ["exporter"],
            "spec.postgres.maxPreparedStatements": 50,
            "spec.postgres.idleTransactionTimeout": "1m",
            "spec.postgres.queryTimeout": "10s",
            "spec.postgres.clientIdleTimeout": "1h",
        },
    )


WHOLE: dict[str, dict[str, Any]] = {
    "cluster": _whole("cluster", {"passwordSecret": {"name": "p"}}),
    "local": _whole("local", {"passwordEnv": "PASSWORD"}),
}
BUDGET = {"spec.upstreams[0].budget.maxConnections": 6}


def spec_of(document: dict[str, Any], form: Form = "cluster") -> Spec:
    return parse(document, form=form).spec


def test_the_defaults_are_those_of_the_design() -> None:
    spec = spec_of(changed(good("cluster", "postgres"), BUDGET))
    postgres = spec.postgres
    assert postgres is not None
    assert (postgres.pool_mode, postgres.auth.method, postgres.monitor) == ("transaction", "scram-sha-256", None)
    assert (postgres.databases, postgres.admin_users, postgres.stats_users) == ((), (), ())
    assert (postgres.idle_transaction_timeout, postgres.query_timeout, postgres.client_idle_timeout) == (0, 0, 0)
    assert postgres.max_prepared_statements == 200
    assert spec.session
    pool = spec.upstreams[0].pool
    assert (pool.idle_timeout, pool.reset_on_return, pool.pre_ping) == (300.0, "auto", "auto")


def test_without_it_there_is_none() -> None:
    spec = spec_of(good())
    assert spec.postgres is None
    assert not spec.session


@pytest.mark.parametrize(("protocol", "per", "idle"), [("http", "upstream", 55), ("postgres", "endpoint", 300)])
def test_a_default_can_be_the_protocols(protocol: str, per: str, idle: float) -> None:
    upstream = spec_of(changed(good("cluster", protocol), BUDGET)).upstreams[0]
    assert upstream.budget is not None
    assert (upstream.budget.per, upstream.pool.idle_timeout) == (per, idle)


def test_what_the_document_says_stands() -> None:
    said = {"spec.upstreams[0].pool.idleTimeout": "55s", "spec.upstreams[0].budget.per": "upstream"}
    upstream = spec_of(changed(good("cluster", "postgres"), BUDGET | said)).upstreams[0]
    assert upstream.budget is not None
    assert (upstream.budget.per, upstream.pool.idle_timeout) == ("upstream", 55)


@pytest.mark.parametrize(("path", "written"), [("pool.idleTimeout", "5m"), ("budget.per", "endpoint")])
def test_the_schema_tells_the_protocols_default(path: str, written: str) -> None:
    """Written out, it means the same as left out."""
    node = node_at(("spec", "upstreams", 0, *path.split(".")))
    assert node["x-defaults"] == {"postgres": written}
    document = changed(good("cluster", "postgres"), BUDGET)
    assert spec_of(changed(document, {f"spec.upstreams[0].{path}": written})) == spec_of(document)


@pytest.mark.parametrize("form", ["cluster", "local"])
def test_a_whole_one_is_taken(form: Form) -> None:
    postgres = spec_of(WHOLE[form], form).postgres
    assert postgres is not None
    assert postgres.databases[0].access == "readOnly"
    assert postgres.databases[1].settings == {"statement_timeout": "5s", "my.thing": "x"}
    assert postgres.idle_transaction_timeout == 60


def test_a_query_is_enough() -> None:
    query = {"user": "lookup", "statement": "SELECT * FROM lookup($1)"}
    postgres = spec_of(changed(good("cluster", "postgres"), {"spec.postgres": {"auth": {"query": query}}})).postgres
    assert postgres is not None
    assert postgres.auth.query is not None
    assert (postgres.auth.query.database, postgres.auth.query.cache_time) == ("postgres", 10)


@pytest.mark.parametrize("method", ["cert", "trust"])
def test_no_users_are_needed_where_no_password_is_asked_for(method: str) -> None:
    tls = {"certSecret": {"name": "a"}, "clientCASecret": {"name": "b"}}
    postgres = {"auth": {"method": method}}
    spec = spec_of(changed(good("cluster", "postgres"), {"spec.postgres": postgres, "spec.listen.tls": tls}))
    assert spec.postgres is not None
    assert spec.postgres.auth.method == method
