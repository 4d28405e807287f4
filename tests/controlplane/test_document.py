"""The document that pods load."""

from typing import Any

import pytest
from tests.controlplane.parts import pool

from forebay_core.spec.load import DocumentError, document_hash, load, parse
from forebay_operator.document import Document, render, secrets_of

TLS: dict[str, Any] = {
    "listen": {
        "port": 8443,
        "tls": {"certSecret": {"name": "web"}, "clientCASecret": {"name": "clients", "key": "ca"}},
    },
    "upstreams": [
        {
            "name": "orders",
            "endpoints": [{"host": "10.0.0.9", "port": 443}],
            "tls": {
                "caSecret": {"name": "backend"},
                "clientCertSecret": {"name": "web", "key": "a.crt", "privateKey": "a.key"},
                "serverName": "orders.example",
            },
        }
    ],
}


def rendered(spec: dict[str, Any] | None = None) -> Document:
    return render(parse(pool(spec), form="cluster"), "shop")


def test_a_service_becomes_its_name() -> None:
    local = load(rendered().text, form="local")
    (upstream,) = local.spec.upstreams
    assert upstream.dns is not None
    assert (upstream.dns.host, upstream.dns.port) == ("orders.shop.svc", 80)
    assert upstream.service is None
    assert (local.metadata.name, local.metadata.namespace) == ("orders", "shop")


def test_secrets_become_files() -> None:
    local = load(rendered(TLS).text, form="local")
    listen, upstream = local.spec.listen.tls, local.spec.upstreams[0].tls
    assert listen is not None
    assert upstream is not None
    folder = "/etc/forebay/secrets"
    assert (listen.cert_file, listen.key_file) == (f"{folder}/web/tls.crt", f"{folder}/web/tls.key")
    assert listen.client_ca_file == f"{folder}/clients/ca"
    assert upstream.ca_file == f"{folder}/backend/ca.crt"
    assert (upstream.client_cert_file, upstream.client_key_file) == (f"{folder}/web/a.crt", f"{folder}/web/a.key")
    assert upstream.server_name == "orders.example"
    assert secrets_of(parse(pool(TLS), form="cluster")) == ["backend", "clients", "web"]


POSTGRES: dict[str, Any] = {
    "protocol": "postgres",
    "upstreams": [
        {
            "name": "orders",
            "dns": {"host": "db", "port": 5432},
            "budget": {"maxConnections": 20, "per": "upstream"},
            "pool": {"idleTimeout": "55s"},
        }
    ],
    "postgres": {
        "auth": {
            "usersSecret": {"name": "users"},
            "query": {"user": "q", "passwordSecret": {"name": "lookup"}, "statement": "SELECT * FROM lookup($1)"},
        },
        "monitor": {"user": "forebay", "passwordSecret": {"name": "monitor"}},
        "databases": [{"name": "a"}, {"name": "b", "user": "u", "passwordSecret": {"name": "b", "key": "p"}}],
    },
}


FORWARD: dict[str, Any] = {
    "protocol": "forward",
    "upstreams": [{"name": "out", "budget": {"maxConnections": 20}}],
    "forward": {
        "credentialsSecret": {"name": "users"},
        "parents": [
            {"host": "a", "port": 3128},
            {"host": "b", "port": 3128, "credentialsSecret": {"name": "parent", "key": "b"}},
        ],
    },
}


def test_credentials_become_files() -> None:
    forward = load(rendered(FORWARD).text, form="local").spec.forward
    assert forward is not None
    folder = "/etc/forebay/secrets"
    assert forward.credentials_file == f"{folder}/users/htpasswd"
    assert [parent.credentials_file for parent in forward.parents] == [None, f"{folder}/parent/b"]
    assert secrets_of(parse(pool(FORWARD), form="cluster")) == ["parent", "users"]


def test_logins_become_files() -> None:
    postgres = load(rendered(POSTGRES).text, form="local").spec.postgres
    assert postgres is not None
    assert postgres.monitor is not None
    folder = "/etc/forebay/secrets"
    assert postgres.auth.users_file == f"{folder}/users/userlist.txt"
    assert postgres.monitor.password_file == f"{folder}/monitor/password"
    assert postgres.auth.query is not None
    assert postgres.auth.query.password_file == f"{folder}/lookup/password"
    assert [database.password_file for database in postgres.databases] == [None, f"{folder}/b/p"]
    assert secrets_of(parse(pool(POSTGRES), form="cluster")) == ["b", "lookup", "monitor", "users"]


def test_what_is_said_stands_though_it_is_the_default_of_another_protocol() -> None:
    (upstream,) = load(rendered(POSTGRES).text, form="local").spec.upstreams
    assert upstream.budget is not None
    assert (upstream.budget.per, upstream.pool.idle_timeout) == ("upstream", 55)


def test_the_hash_is_the_one_that_a_pod_will_report() -> None:
    document = rendered(TLS)
    assert document.hash == document_hash(load(document.text, form="local"))


@pytest.mark.parametrize(
    "spec",
    [
        {"replicas": 4},
        {"replicas": 0},
        {"autoscaling": {"maxReplicas": 3}},
        {"strategy": {"maxSurge": 2}},
        {"serviceTemplate": {"type": "NodePort"}},
        {"template": {"spec": {"nodeSelector": {"disk": "fast"}}}},
    ],
    ids=lambda spec: next(iter(spec)),
)
def test_what_is_the_operators_own_reaches_no_pod(spec: dict[str, Any]) -> None:
    assert rendered(spec) == rendered()


def test_what_local_mode_would_refuse_is_refused() -> None:
    small: dict[str, Any] = {
        "upstreams": [{"name": "o", "dns": {"host": "o", "port": 1}, "budget": {"maxConnections": 1}}]
    }
    with pytest.raises(DocumentError, match="maxConnections"):
        rendered(small | {"replicas": 0})
