"""Documents for the tests of the spec: two that are good, and a table of what makes them bad."""

import copy
import itertools
import re
from typing import Any, NamedTuple

REMOVED = object()


def good(form: str = "cluster", protocol: str = "http") -> dict[str, Any]:
    """A small valid document."""
    target = {"service": {"name": "orders", "port": 80}}
    if form == "local":
        target = {"endpoints": [{"host": "127.0.0.1", "port": 9000}]}
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {"name": "orders"},
        "spec": {
            "protocol": protocol,
            "listen": {"port": 8080},
            "upstreams": [{"name": "orders", **target}],
        },
    }


def changed(document: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """A copy with the values at paths such as `spec.upstreams[0].name` set, or REMOVED."""
    document = copy.deepcopy(document)
    for path, value in changes.items():
        *outer, last = [int(part) if part.isdigit() else part for part in re.findall(r"[^.\[\]]+", path)]
        holder: Any = document
        for part, following in itertools.pairwise([*outer, last]):
            if isinstance(part, int):
                while len(holder) <= part:
                    holder.append([] if isinstance(following, int) else {})
            else:
                holder.setdefault(part, [] if isinstance(following, int) else {})
            holder = holder[part]
        if value is REMOVED:
            del holder[last]
        elif isinstance(last, int) and last == len(holder):
            holder.append(value)
        else:
            holder[last] = value
    return document


class Bad(NamedTuple):
    """A change that makes a good document bad, where that is found, and what the message says."""

    changes: dict[str, Any]
    path: str
    says: str
    form: str = "cluster"
    protocol: str = "http"

    @property
    def id(self) -> str:
        return f"{self.form}-{self.protocol}-{self.path}-{'-'.join(map(str, self.changes.values()))}"[:90]

    @property
    def document(self) -> dict[str, Any]:
        return changed(good(self.form, self.protocol), self.changes)


_UP = "spec.upstreams[0]"
_DURATION = "a duration such as 500ms, 30s or 1m30s, from "

# Refused by `load`, and by the API server too: the cluster tests try each one there.
CLUSTER = [
    Bad({"metadata.name": "a" * 46}, "metadata.name", "at most 45 characters"),
    Bad({"metadata.name": "Orders"}, "metadata.name", "lower-case letters"),
    Bad({"metadata.name": "7up"}, "metadata.name", "begins with a letter"),
    Bad({"kind": "Pod"}, "kind", "expected ProxyPool"),
    Bad({"apiVersion": "forebay.dev/v1"}, "apiVersion", "expected forebay.dev/v1alpha1"),
    Bad({"spec": REMOVED}, "spec", "expected a mapping with protocol, listen, upstreams"),
    Bad({"spec": "x"}, "spec", "expected a mapping with protocol, listen, upstreams"),
    Bad({"spec.protocol": REMOVED}, "spec.protocol", "expected one of http, tcp"),
    Bad({"spec.protocol": "htttp"}, "spec.protocol", "expected one of http, tcp"),
    *(
        Bad({"spec.protocol": name}, "spec.protocol", f"{name} is not built yet; expected http or tcp")
        for name in ("forward", "postgres", "mysql", "redis", "amqp", "grpc")
    ),
    Bad({"spec.postgres": {"poolMode": "session"}}, "spec.postgres", "postgres is not built yet"),
    Bad({"spec.protocoll": "http"}, "spec.protocoll", "unknown field, did you mean protocol?"),
    Bad({f"{_UP}.pool.max_overflow": 1}, f"{_UP}.pool.max_overflow", "did you mean maxOverflow?"),
    Bad({"spec.drain.xyz": 1}, "spec.drain.xyz", "unknown field, expected one of delay, timeout"),
    Bad({"spec.listen.port": 65536}, "spec.listen.port", "expected an integer from 0 to 65535"),
    Bad({"spec.listen.port": "80"}, "spec.listen.port", "expected an integer from 0 to 65535"),
    Bad({"spec.listen.port": True}, "spec.listen.port", "expected an integer from 0 to 65535"),
    Bad({"spec.listen.port": 80.5}, "spec.listen.port", "expected an integer from 0 to 65535"),
    Bad({"spec.listen.port": 0}, "spec.listen.port", "0, any free port, is for local mode"),
    Bad({"spec.listen.address": "::1"}, "spec.listen.address", "expected only in local mode"),
    Bad({"spec.listen.tls": {}}, "spec.listen.tls.certSecret", "the Secret of the server's certificate"),
    Bad({"spec.listen.tls.certFile": "x"}, "spec.listen.tls.certFile", "a cluster takes certSecret"),
    Bad({"spec.listen.tls.certSecret.name": "A"}, "spec.listen.tls.certSecret.name", "name of an object"),
    Bad(
        {"spec.listen.tls.certSecret.name": "a", "spec.listen.tls.certSecret.key": "a/b"},
        "spec.listen.tls.certSecret.key",
        "a key of a Secret",
    ),
    Bad({"spec.paused": "yes"}, "spec.paused", "expected true or false"),
    Bad({"spec.replicas": -1}, "spec.replicas", "expected an integer from 0 to 1000"),
    Bad({"spec.maxClientConnections": 0}, "spec.maxClientConnections", "an integer from 1 to 1000000"),
    Bad({"spec.upstreams": []}, "spec.upstreams", "expected a list of 1 to 16 items"),
    Bad({"spec.upstreams": {}}, "spec.upstreams", "expected a list of 1 to 16 items"),
    Bad(
        {"spec.upstreams": [{"name": f"u{n}", "dns": {"host": "a", "port": 1}} for n in range(17)]},
        "spec.upstreams",
        "expected a list of 1 to 16 items",
    ),
    Bad({f"{_UP}.name": REMOVED}, f"{_UP}.name", "lower-case letters, digits and '-', at most 63"),
    Bad({f"{_UP}.name": "a.b"}, f"{_UP}.name", "lower-case letters, digits and '-', at most 63"),
    Bad({f"{_UP}.service": REMOVED}, _UP, "exactly one of service, endpoints and dns, found none"),
    Bad({f"{_UP}.dns": {"host": "a", "port": 1}}, _UP, "found service and dns"),
    Bad({f"{_UP}.dns": {"host": "http://a", "port": 1}}, f"{_UP}.dns.host", "without scheme, port or brackets"),
    Bad({f"{_UP}.endpoints": [{"host": "a"}]}, f"{_UP}.endpoints[0].port", "an integer from 1 to 65535"),
    Bad(
        {f"{_UP}.endpoints": [{"host": "a", "port": 1, "weight": 0}]},
        f"{_UP}.endpoints[0].weight",
        "1 to 1000",
    ),
    Bad({f"{_UP}.tls.mode": "verify"}, f"{_UP}.tls.mode", "one of verify-full, verify-ca, require"),
    Bad({f"{_UP}.tls.caFile": "x"}, f"{_UP}.tls.caFile", "only in local mode; a cluster takes caSecret"),
    Bad({f"{_UP}.loadBalancing.policy": "random"}, f"{_UP}.loadBalancing.policy", "one of roundRobin"),
    Bad(
        {f"{_UP}.loadBalancing.consistentHash.header": "X-User"},
        f"{_UP}.loadBalancing.consistentHash",
        "only with policy consistentHash, which is leastConnections",
    ),
    Bad(
        {f"{_UP}.loadBalancing": {"policy": "consistentHash", "consistentHash": {"header": "X User"}}},
        f"{_UP}.loadBalancing.consistentHash.header",
        "a header name",
    ),
    Bad({f"{_UP}.budget": {}}, f"{_UP}.budget.maxConnections", "an integer from 1 to 1000000"),
    Bad(
        {f"{_UP}.budget": {"maxConnections": 10, "reserved": 10}},
        f"{_UP}.budget.reserved",
        "expected less than maxConnections, which is 10",
    ),
    Bad(
        {f"{_UP}.budget": {"maxConnections": 12, "reserved": 4}, "spec.replicas": 8},
        f"{_UP}.budget.maxConnections",
        "expected at least 13: every replica needs a floor of 1, and (maxConnections 12 - reserved 4) / "
        "(replicas 8 + 1) = 8/9 is less",
    ),
    Bad(
        {f"{_UP}.budget": {"maxConnections": 8}, "spec.replicas": 1, "spec.autoscaling": {"maxReplicas": 8}},
        f"{_UP}.budget.maxConnections",
        "(autoscaling.maxReplicas 8 + 1) = 8/9",
    ),
    Bad({f"{_UP}.budget": {"maxConnections": 10, "linger": "1d"}}, f"{_UP}.budget.linger", f"{_DURATION}0s"),
    Bad({f"{_UP}.pool.timeout": "0s"}, f"{_UP}.pool.timeout", f"{_DURATION}1ms to 8760h"),
    Bad({f"{_UP}.pool.timeout": 5}, f"{_UP}.pool.timeout", f"{_DURATION}1ms to 8760h"),
    Bad({f"{_UP}.pool.timeout": "5 s"}, f"{_UP}.pool.timeout", f"{_DURATION}1ms to 8760h"),
    Bad({f"{_UP}.pool.timeout": "-5s"}, f"{_UP}.pool.timeout", f"{_DURATION}1ms to 8760h"),
    Bad({f"{_UP}.pool.timeout": "1.5s"}, f"{_UP}.pool.timeout", f"{_DURATION}1ms to 8760h"),
    Bad({f"{_UP}.pool.recycle": "8760h1ms"}, f"{_UP}.pool.recycle", f"{_DURATION}1ms to 8760h"),
    Bad({f"{_UP}.pool": {"size": 2, "minIdle": 3}}, f"{_UP}.pool.minIdle", "at most size, which is 2"),
    Bad({f"{_UP}.pool.minIdle": 11}, f"{_UP}.pool.minIdle", "expected at most size, which is 10"),
    Bad({f"{_UP}.pool.recycleJitter": 101}, f"{_UP}.pool.recycleJitter", "an integer from 0 to 100"),
    Bad({f"{_UP}.healthCheck.active.path": "healthz"}, f"{_UP}.healthCheck.active.path", "begins with '/'"),
    Bad(
        {"spec.upstreams[1]": {"name": "orders", "dns": {"host": "a", "port": 1}}},
        "spec.upstreams[1].name",
        "expected a name of its own, upstreams[0] has this one",
    ),
    Bad({"spec.routes": [{"upstream": "b"}]}, "spec.routes[0].upstream", "the name of an upstream: orders"),
    Bad(
        {"spec.routes": [{"upstream": "orders", "host": "a:80"}]},
        "spec.routes[0].host",
        "without scheme or port",
    ),
    Bad(
        {"spec.routes": [{"upstream": "orders", "pathPrefix": "/a?b"}]},
        "spec.routes[0].pathPrefix",
        "without query",
    ),
    Bad(
        {"spec.autoscaling": {"minReplicas": 9}},
        "spec.autoscaling.minReplicas",
        "at most maxReplicas, which is 8",
    ),
    Bad(
        {"spec.autoscaling.behavior.scaleUp.policies": [{"type": "Pods", "value": 1}]},
        "spec.autoscaling.behavior.scaleUp.policies[0].periodSeconds",
        "an integer from 1 to 1800",
    ),
    Bad(
        {"spec.http.maxHeaderBytes": "1k"},
        "spec.http.maxHeaderBytes",
        "a size in bytes such as 65536 or 64Ki",
    ),
    Bad({"spec.http.maxHeaderBytes": 1023}, "spec.http.maxHeaderBytes", "from 1Ki to 1Mi"),
    Bad({"spec.http.maxHeaderBytes": "2Mi"}, "spec.http.maxHeaderBytes", "from 1Ki to 1Mi"),
    Bad({"spec.http.maxBodyBytes": -1}, "spec.http.maxBodyBytes", "from 0 to 1048576Gi"),
    Bad({"spec.http.trustedProxies": ["10.0.0.1/8"]}, "spec.http.trustedProxies[0]", "without host bits"),
    Bad(
        {"spec.http.trustedProxies": ["fe80::1%eth0"]},
        "spec.http.trustedProxies[0]",
        "an IP address or network",
    ),
    Bad({"spec.http.trustedProxies": ["proxy"]}, "spec.http.trustedProxies[0]", "an IP address or network"),
    Bad({"spec.http.retries.retryOn": ["5xx"]}, "spec.http.retries.retryOn[0]", "one of connectFailure"),
    Bad({"spec.http.retries.on": ["connectFailure"]}, "spec.http.retries.on", "unknown field"),
    Bad({"spec.strategy.maxSurge": 0}, "spec.strategy.maxSurge", "a rollout could replace no replica"),
    Bad({"spec.telemetry.accessLog": "text"}, "spec.telemetry.accessLog", "expected one of none, json"),
    Bad({"spec.telemetry.tracing": {}}, "spec.telemetry.tracing.endpoint", "a URL such as"),
    Bad(
        {"spec.telemetry.tracing": {"endpoint": "http://a", "sampleRatio": 1.1}},
        "spec.telemetry.tracing.sampleRatio",
        "a number from 0 to 1",
    ),
    Bad({"spec.serviceTemplate.type": "ExternalName"}, "spec.serviceTemplate.type", "one of ClusterIP"),
    Bad(
        {"spec.serviceTemplate.annotations": {"a": 1}},
        "spec.serviceTemplate.annotations.a",
        "text of at most 16384 characters",
    ),
    Bad({"spec.template": []}, "spec.template", "expected a mapping"),
    *(
        Bad({path: value}, path, "expected only with protocol http, not tcp", protocol="tcp")
        for path, value in {
            "spec.routes": [{"upstream": "orders"}],
            "spec.http": {},
            f"{_UP}.pool.minIdle": 1,
            f"{_UP}.pool.recycle": "30m",
            f"{_UP}.pool.recycleJitter": 10,
            f"{_UP}.pool.idleTimeout": "55s",
            f"{_UP}.pool.maxUses": 0,
            f"{_UP}.pool.prePing": "auto",
            f"{_UP}.healthCheck.active.path": "/healthz",
        }.items()
    ),
    Bad(
        {f"{_UP}.loadBalancing": {"policy": "consistentHash", "consistentHash": {"header": "X-User"}}},
        f"{_UP}.loadBalancing.consistentHash.header",
        "expected only with protocol http, not tcp",
        protocol="tcp",
    ),
]

LOCAL = [
    Bad({f"{_UP}.endpoints": REMOVED}, _UP, "expected either endpoints or dns, found none", "local"),
    Bad(
        {f"{_UP}.endpoints": REMOVED, f"{_UP}.service": {"name": "a", "port": 1}},
        f"{_UP}.service",
        "expected only in a cluster; local mode takes endpoints or dns",
        "local",
    ),
    Bad(
        {"spec.listen.tls.certSecret.name": "a"},
        "spec.listen.tls.certSecret",
        "expected only in a cluster; local mode takes certFile and keyFile",
        "local",
    ),
    Bad({"spec.listen.tls.certFile": "a"}, "spec.listen.tls.keyFile", "certFile and keyFile", "local"),
    Bad({f"{_UP}.tls.clientKeyFile": "a"}, f"{_UP}.tls.clientCertFile", "together", "local"),
    Bad({f"{_UP}.tls.caSecret.name": "a"}, f"{_UP}.tls.caSecret", "local mode takes caFile", "local"),
    Bad({f"{_UP}.tls.caFile": "a\0"}, f"{_UP}.tls.caFile", "the path of a file", "local"),
    Bad({"spec.replicas": 0}, "spec.replicas", "expected at least 1 in local mode", "local"),
]
