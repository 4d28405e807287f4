"""`spec.postgres`: its defaults, and every rule broken by itself."""

from typing import Any

import pydantic
import pytest

from forebay_core.spec.model import Listen, Upstream
from forebay_core.spec.postgres import Postgres
from forebay_core.spec.postgres_rules import POSTGRES_RULES
from forebay_core.spec.problems import path_of
from forebay_core.spec.rule import Rule
from forebay_core.spec.rules import _misplaced, _visit
from forebay_core.spec.values import Form, Model, Seq

USERS = {"cluster": {"usersSecret": {"name": "users"}}, "local": {"usersFile": "users.txt"}}


class Spec(Model):
    listen: Listen
    upstreams: Seq[Upstream]
    postgres: Postgres = Postgres()


class Document(Model):
    spec: Spec


def document(postgres: dict[str, Any], listen: dict[str, Any] | None = None) -> Document:
    upstreams = [{"name": "orders", "dns": {"host": "db", "port": 5432}}]
    spec = {"listen": {"port": 5432, **(listen or {})}, "upstreams": upstreams, "postgres": postgres}
    return Document.model_validate({"spec": spec})


def problems(found: Document, form: Form, rules: tuple[Rule, ...] = POSTGRES_RULES) -> list[tuple[str, str]]:
    places = [
        ((*loc, *finding.loc), finding.expected)
        for rule in rules
        for loc, node in _visit(found, (), rule.scope.split("."))
        for finding in rule.check(node, form)
    ]
    places += [(finding.loc, finding.expected) for finding in _misplaced(found, (), "postgres", form)]
    return [(path_of(loc), expected) for loc, expected in places]


def test_the_defaults_are_those_of_the_design() -> None:
    postgres = Postgres()
    assert (postgres.pool_mode, postgres.auth.method, postgres.monitor) == ("transaction", "scram-sha-256", None)
    assert (postgres.databases, postgres.admin_users, postgres.stats_users) == ((), (), ())
    assert (postgres.idle_transaction_timeout, postgres.query_timeout, postgres.client_idle_timeout) == (0, 0, 0)
    assert postgres.max_prepared_statements == 200


@pytest.mark.parametrize("form", ["cluster", "local"])
def test_a_whole_one_is_taken(form: Form) -> None:
    password = {"passwordSecret": {"name": "p"}} if form == "cluster" else {"passwordEnv": "PASSWORD"}
    found = document(
        {
            "poolMode": "session",
            "auth": {**USERS[form], "query": "SELECT usename, passwd FROM pg_shadow WHERE usename = $1"},
            "monitor": {"user": "forebay", **password},
            "databases": [
                {"name": "a", "upstream": "orders", "database": "b", "user": "u", **password, "access": "readOnly"},
                {"name": "Été", "settings": {"statement_timeout": "5s", "my.thing": "x"}},
            ],
            "idleTransactionTimeout": "1m",
        }
    )
    assert problems(found, form) == []
    assert found.spec.postgres.databases[0].access == "readOnly"
    assert found.spec.postgres.idle_transaction_timeout == 60


TRUST: dict[str, Any] = {"auth": {"method": "trust"}}
BAD: list[tuple[Form, dict[str, Any], str, str]] = [
    ("cluster", {}, "spec.postgres.auth.usersSecret", "usersSecret or query, which method scram-sha-256"),
    ("local", {"auth": {"method": "md5"}}, "spec.postgres.auth.usersFile", "usersFile or query, which method md5"),
    ("local", {"auth": USERS["cluster"]}, "spec.postgres.auth.usersSecret", "local mode takes usersFile"),
    ("cluster", {"auth": USERS["local"]}, "spec.postgres.auth.usersFile", "a cluster takes usersSecret"),
    ("cluster", {"auth": {"query": "SELECT 1"}}, "spec.postgres.monitor", "the user that auth.query is made as"),
    ("cluster", {"auth": {"method": "cert"}}, "spec.listen.tls.clientCASecret", "which auth.method cert needs"),
    ("local", {"auth": {"method": "cert"}}, "spec.listen.tls.clientCAFile", "which auth.method cert needs"),
    (
        "local",
        {**TRUST, "monitor": {"user": "u", "passwordFile": "f", "passwordEnv": "E"}},
        "spec.postgres.monitor.passwordEnv",
        "either passwordFile or passwordEnv",
    ),
    (
        "local",
        {**TRUST, "databases": [{"name": "a", "user": "u", "passwordFile": "f", "passwordEnv": "E"}]},
        "spec.postgres.databases[0].passwordEnv",
        "either passwordFile or passwordEnv",
    ),
    (
        "cluster",
        {**TRUST, "databases": [{"name": "a", "passwordSecret": {"name": "p"}}]},
        "spec.postgres.databases[0].user",
        "the user that the password is of",
    ),
    ("cluster", {**TRUST, "databases": [{"name": "pgbouncer"}]}, "spec.postgres.databases[0].name", "admin database"),
    (
        "cluster",
        {**TRUST, "databases": [{"name": "a"}, {"name": "a"}]},
        "spec.postgres.databases[1].name",
        "databases[0] has this one",
    ),
    (
        "cluster",
        {**TRUST, "databases": [{"name": "a", "upstream": "other"}]},
        "spec.postgres.databases[0].upstream",
        "the name of an upstream: orders",
    ),
    (
        "cluster",
        {**TRUST, "databases": [{"name": "a", "settings": {"a b": "c"}}]},
        'spec.postgres.databases[0].settings["a b"]',
        "the name of a session parameter",
    ),
    (
        "cluster",
        {**TRUST, "databases": [{"name": "a", "settings": {"Role": "c"}}]},
        "spec.postgres.databases[0].settings.Role",
        "Role can't be set at start-up",
    ),
]


@pytest.mark.parametrize(("form", "postgres", "path", "says"), BAD)
def test_the_one_problem_is_found(form: Form, postgres: dict[str, Any], path: str, says: str) -> None:
    ((found, expected),) = problems(document(postgres), form)
    assert found == path
    assert says in expected


def test_every_rule_has_a_case() -> None:
    for rule in POSTGRES_RULES:
        others = tuple(other for other in POSTGRES_RULES if other is not rule)
        assert any(not problems(document(bad[1]), bad[0], others) for bad in BAD), rule.check.__name__


@pytest.mark.parametrize(
    "postgres",
    [
        {"poolMode": "request"},
        {"auth": {"method": "password"}},
        {"monitor": {}},
        {"databases": [{"name": "a\0"}]},
        {"databases": [{"name": "a", "access": "write"}]},
        {"databases": [{"name": "a", "settings": {"x": 1}}]},
        {"maxPreparedStatements": 0},
        {"queryTimeout": 5},
        {"poolmode": "session"},
    ],
)
def test_bad_values_are_refused(postgres: dict[str, Any]) -> None:
    with pytest.raises(pydantic.ValidationError):
        document(postgres)
