"""`protocol: forward`: its defaults, and whole documents. What is refused is in `cases`."""

from typing import Any

import pytest
from tests.core.spec.cases import changed, good

from forebay_core.spec.load import parse
from forebay_core.spec.model import Forward
from forebay_core.spec.values import Form


def _whole(form: Form, users: dict[str, Any], parent: dict[str, Any]) -> dict[str, Any]:
    """A document that says everything about forwarding."""
    return changed(
        good(form, "forward"),
        {
            "spec.upstreams[0].budget": {"maxConnections": 100, "reserved": 10, "per": "upstream"},
            "spec.upstreams[0].pool": {"size": 20, "idleTimeout": "30s", "maxUses": 100},
            "spec.upstreams[0].loadBalancing.policy": "roundRobin",
            "spec.upstreams[0].healthCheck.active": {"interval": "5s"},
            "spec.http": {"streamIdleTimeout": "1m"},
            "spec.forward": {
                **users,
                "allowHosts": ["example.com", "*.Example.net", "10.2.0.0/16", "2001:db8::1"],
                "denyHosts": ["*.bad.example.net"],
                "denyPrivate": True,
                "ports": [80, 443, 8443],
                "clientNetworks": ["10.0.0.0/8", "::1"],
                "perOrigin": {"maxConnections": 2, "requestsPerSecond": 0.5},
                "parents": [{"host": "parent", "port": 3128, **parent}, {"host": "::1", "port": 3129}],
            },
        },
    )


WHOLE: dict[str, dict[str, Any]] = {
    "cluster": _whole("cluster", {"credentialsSecret": {"name": "users"}}, {"credentialsSecret": {"name": "p"}}),
    "local": _whole("local", {"credentialsFile": "htpasswd"}, {"credentialsEnv": "PARENT"}),
}


def forward_of(document: dict[str, Any], form: Form = "cluster") -> Forward:
    forward = parse(document, form=form).spec.forward
    assert forward is not None
    return forward


def test_the_defaults_are_those_of_the_design() -> None:
    forward = forward_of(good("cluster", "forward"))
    assert (forward.allow_hosts, forward.deny_hosts) == (("example.com",), ())
    assert (forward.deny_private, forward.ports, forward.client_networks) == (True, (80, 443), ())
    assert (forward.per_origin.max_connections, forward.per_origin.requests_per_second) == (8, 0)
    assert (forward.credentials_secret, forward.parents) == (None, ())


@pytest.mark.parametrize("form", ["cluster", "local"])
def test_a_whole_document_is_taken(form: Form) -> None:
    forward = forward_of(WHOLE[form], form)
    assert forward.allow_hosts == ("example.com", "*.example.net", "10.2.0.0/16", "2001:db8::1/128")
    assert [(parent.host, parent.port) for parent in forward.parents] == [("parent", 3128), ("::1", 3129)]
    if form == "cluster":
        assert forward.credentials_secret is not None
        assert forward.credentials_secret.key == "htpasswd"
        assert forward.parents[0].credentials_secret is not None
        assert forward.parents[0].credentials_secret.key == "credentials"


@pytest.mark.parametrize(
    "limit",
    [{"allowHosts": ["example.com"]}, {"clientNetworks": ["10.0.0.0/8"]}, {"credentialsSecret": {"name": "users"}}],
    ids=lambda limit: next(iter(limit)),
)
def test_one_limit_is_enough(limit: dict[str, Any]) -> None:
    assert forward_of(changed(good("cluster", "forward"), {"spec.forward": limit}))
