"""Documents of pools in front of a PostgreSQL server."""

from collections.abc import Mapping
from typing import Any


def postgres_pool(
    *ports: int, postgres: Mapping[str, Any] | None = None, spec: Mapping[str, Any] | None = None, **upstream: Any
) -> dict[str, Any]:
    """A document for one upstream with an endpoint at each of `ports`; anybody is let in unless `postgres` says how."""
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {"name": "test"},
        "spec": {
            "protocol": "postgres",
            "listen": {"port": 0},
            "replicas": 1,
            "upstreams": [
                {
                    "name": "db",
                    "endpoints": [{"host": "127.0.0.1", "port": port} for port in ports],
                    "pool": {"size": 5, "maxOverflow": 0},
                    **upstream,
                }
            ],
            "postgres": {"auth": {"method": "trust"}, **(postgres or {})},
            "drain": {"delay": "0s", "timeout": "5s"},
            **(spec or {}),
        },
    }
