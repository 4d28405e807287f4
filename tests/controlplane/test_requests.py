"""What is asked of the API server, in the words of its rights."""

import pytest

from forebay_operator.requests import Request, asked

POOLS = "/apis/forebay.dev/v1alpha1"
DEPLOYMENT = "/apis/apps/v1/namespaces/shop/deployments/a"
STATUS = f"{POOLS}/namespaces/a/proxypools/b/status"


@pytest.mark.parametrize(
    ("method", "path", "watch", "code", "expected"),
    [
        ("GET", f"{POOLS}/proxypools", False, 200, [("list", "forebay.dev", "proxypools")]),
        ("GET", f"{POOLS}/namespaces/shop/proxypools", False, 200, [("list", "forebay.dev", "proxypools")]),
        ("GET", f"{POOLS}/namespaces/shop/proxypools", True, 200, [("watch", "forebay.dev", "proxypools")]),
        ("GET", f"{POOLS}/namespaces/shop/proxypools/orders", False, 200, [("get", "forebay.dev", "proxypools")]),
        ("PATCH", STATUS, False, 200, [("patch", "forebay.dev", "proxypools/status")]),
        ("POST", "/api/v1/namespaces/shop/events", False, 201, [("create", "", "events")]),
        ("DELETE", "/api/v1/namespaces/shop/pods/a", False, 200, [("delete", "", "pods")]),
        ("PATCH", DEPLOYMENT, False, 200, [("patch", "apps", "deployments")]),
        ("PATCH", DEPLOYMENT, False, 201, [("create", "apps", "deployments"), ("patch", "apps", "deployments")]),
        ("GET", "/k8s/clusters/c-1/api/v1/namespaces/shop/pods", False, 403, [("list", "", "pods")]),
        ("GET", "/api/v1/nodes/node-1", False, 200, [("get", "", "nodes")]),
        ("GET", "/api/v1", False, 200, []),
        ("GET", "/apis/apps/v1", False, 200, []),
        ("GET", "/version", False, 200, []),
    ],
)  # fmt: skip
def test_a_request_is_a_verb_on_a_resource(
    method: str, path: str, watch: bool, code: int, expected: list[tuple[str, str, str]]
) -> None:
    assert asked(method, path, watch, code) == [Request(*one, code) for one in expected]
