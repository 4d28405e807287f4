"""Documents for the tests of the spec: one for each protocol that is good, and a table of what makes them bad."""

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
    if protocol == "forward":
        target = {}
    logins: dict[str, Any] = {"usersFile": "users.txt"} if form == "local" else {"usersSecret": {"name": "users"}}
    return {
        "apiVersion": "forebay.dev/v1alpha1",
        "kind": "ProxyPool",
        "metadata": {"name": "orders"},
        "spec": {
            "protocol": protocol,
            "listen": {"port": 8080},
            "upstreams": [{"name": "orders", **target}],
            **({"postgres": {"auth": logins}} if protocol == "postgres" else {}),
            **({"forward": {"allowHosts": ["example.com"]}} if protocol == "forward" else {}),
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
_PG = "spec.postgres"
_QUERY = {"user": "a", "statement": "SELECT * FROM lookup($1)"}
_FW = "spec.forward"
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
    Bad({"spec.protocol": REMOVED}, "spec.protocol", "expected one of http, forward, tcp, postgres"),
    Bad({"spec.protocol": "htttp"}, "spec.protocol", "expected one of http, forward, tcp, postgres"),
    *(
        Bad(
            {"spec.protocol": name},
            "spec.protocol",
            f"{name} is not built yet; expected http, forward, tcp or postgres",
        )
        for name in ("mysql", "redis", "amqp", "grpc")
    ),
    Bad({"spec.redis": {}}, "spec.redis", "redis is not built yet"),
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
        Bad({path: value}, path, f"expected only with protocol {only}, not {protocol}", protocol=protocol)
        for only, protocols, fields in (
            (
                "http",
                ("forward", "tcp", "postgres"),
                {
                    "spec.routes": [{"upstream": "orders"}],
                    f"{_UP}.healthCheck.active.path": "/healthz",
                },
            ),
            ("http", ("forward",), {"spec.http.trustedProxies": ["10.0.0.0/8"]}),
            (
                "http or forward",
                ("tcp", "postgres"),
                {"spec.http": {}, "spec.telemetry.tracing": {"endpoint": "http://otel:4318"}},
            ),
            ("http or postgres", ("forward", "tcp"), {f"{_UP}.pool.minIdle": 1}),
            (
                "http or forward or postgres",
                ("tcp",),
                {
                    f"{_UP}.pool.recycle": "30m",
                    f"{_UP}.pool.recycleJitter": 10,
                    f"{_UP}.pool.idleTimeout": "55s",
                    f"{_UP}.pool.maxUses": 0,
                    f"{_UP}.pool.prePing": "auto",
                    "spec.telemetry.slowRequest": "1s",
                },
            ),
            (
                "postgres",
                ("http", "forward", "tcp"),
                {"spec.postgres": {"auth": {"method": "trust"}}, f"{_UP}.pool.resetOnReturn": "auto"},
            ),
            ("forward", ("http", "tcp", "postgres"), {"spec.forward": {"allowHosts": ["example.com"]}}),
        )
        for protocol in protocols
        for path, value in fields.items()
    ),
    *(
        Bad(
            {f"{_UP}.loadBalancing": {"policy": "consistentHash", "consistentHash": {"header": "X-User"}}},
            f"{_UP}.loadBalancing.consistentHash.header",
            f"expected only with protocol http, not {protocol}",
            protocol=protocol,
        )
        for protocol in ("forward", "tcp", "postgres")
    ),
    Bad(
        {f"{_UP}.budget": {"maxConnections": 10, "reserved": 5}},
        f"{_UP}.budget.maxConnections",
        "expected at least 11: every replica needs a floor of 2 (a cancel takes a connection of its own), and "
        "(maxConnections 10 - reserved 5) / (replicas 2 + 1) = 5/3 is less",
        protocol="postgres",
    ),
    Bad({"spec.postgres": REMOVED}, "spec.postgres", "a mapping with auth, which says who", protocol="postgres"),
    *(
        Bad({f"{_PG}.{path}": value}, f"{_PG}.{at or path}", says, protocol="postgres")
        for path, value, at, says in (
            ("auth", REMOVED, "", "a mapping that says who may log in"),
            ("auth", {}, "auth.usersSecret", "expected usersSecret or query, which method scram-sha-256 checks by"),
            ("auth", {"method": "md5"}, "auth.usersSecret", "expected usersSecret or query, which method md5"),
            ("auth.query", {"user": "a"}, "auth.query.statement", "4096 characters with $1 in the place of the user"),
            ("auth.query", {"user": "a", "statement": "SELECT 1"}, "auth.query.statement", "with $1 in the place"),
            ("auth.query", {"statement": "SELECT $1"}, "auth.query.user", "a name of 1 to 63 characters"),
            (
                "auth.query",
                {**_QUERY, "passwordFile": "f"},
                "auth.query.passwordFile",
                "a cluster takes passwordSecret",
            ),
            ("auth", {"method": "trust", "query": _QUERY}, "auth.query", "none with method trust, which checks no"),
            ("auth.method", "password", "", "expected one of scram-sha-256, md5, cert, trust"),
            ("auth.usersFile", "users.txt", "", "expected only in local mode; a cluster takes usersSecret"),
            ("poolMode", "request", "", "expected one of transaction, session, statement"),
            ("poolmode", "session", "", "unknown field, did you mean poolMode?"),
            ("monitor", {}, "monitor.user", "a name of 1 to 63 characters"),
            ("monitor", {"user": "a" * 64}, "monitor.user", "a name of 1 to 63 characters"),
            ("monitor", {"user": "a", "passwordEnv": "A"}, "monitor.passwordEnv", "a cluster takes passwordSecret"),
            ("databases", [{"name": "a\0"}], "databases[0].name", "a name of 1 to 63 characters"),
            ("databases", [{"name": "a", "access": "write"}], "databases[0].access", "one of readWrite, readOnly"),
            (
                "databases",
                [{"name": "a", "access": "readOnly"}],
                "databases[0].access",
                "expected readWrite without monitor, which finds out the roles of endpoints",
            ),
            ("databases", [{"name": "pgbouncer"}], "databases[0].name", "which is the admin database"),
            ("databases", [{"name": "a"}, {"name": "a"}], "databases[1].name", "databases[0] has this one"),
            ("databases", [{"name": "a", "upstream": "b"}], "databases[0].upstream", "the name of an upstream: orders"),
            (
                "databases",
                [{"name": "a", "passwordSecret": {"name": "p"}}],
                "databases[0].user",
                "expected the user that the password is of",
            ),
            ("databases", [{"name": "a", "settings": {"x": 1}}], "databases[0].settings.x", "text of at most 1024"),
            (
                "databases",
                [{"name": "a", "settings": {"a b": "c"}}],
                'databases[0].settings["a b"]',
                "the name of a session parameter",
            ),
            (
                "databases",
                [{"name": "a", "settings": {"Role": "c"}}],
                "databases[0].settings.Role",
                "Role can't be set at start-up",
            ),
            ("adminUsers", ["a"] * 65, "", "expected a list of at most 64 items"),
            ("maxPreparedStatements", 0, "", "an integer from 1 to 10000"),
            ("queryTimeout", 5, "", f"{_DURATION}0s to 8760h"),
        )
    ),
    Bad(
        {f"{_PG}.auth": {"method": "cert"}},
        "spec.listen.tls.clientCASecret",
        "the authorities of clients' certificates, which auth.method cert needs",
        protocol="postgres",
    ),
    Bad({"spec.forward": REMOVED}, _FW, "a mapping with credentialsSecret, clientNetworks or", protocol="forward"),
    *(
        Bad({f"{_FW}.{path}": value}, f"{_FW}{at}", says, protocol="forward")
        for path, value, at, says in (
            ("allowHosts", [], "", "credentialsSecret, clientNetworks or allowHosts: an open proxy is never a default"),
            *(
                ("allowHosts", [host], ".allowHosts[0]", "a host name, *.name for all names below it, or an IP address")
                for host in (
                    *("", "*", "*.", ".example.com", "a*.example.com", "a.*.com", "http://a.com", "a.com:80"),
                    *(
                        "127.1",
                        "0x7f.0.0.1",
                        "2130706433",
                        "0177.0.0.1",
                        "10.0.0.1/8",
                        "fe80::1%eth0",
                        "a\n",
                        "\u00e9.com",
                    ),
                    *("a..com", "a.com.", "-a.com", "user@a.com", "[::1]", "a" * 254),
                )
            ),
            ("denyHosts", [1], ".denyHosts[0]", "a host name, *.name"),
            ("denyHosts", ["a.com"] * 257, ".denyHosts", "a list of at most 256 items"),
            ("denyPrivate", "no", ".denyPrivate", "expected true or false"),
            ("ports", [], ".ports", "a list of 1 to 64 items"),
            ("ports", [0], ".ports[0]", "an integer from 1 to 65535"),
            ("credentialsSecret", {}, ".credentialsSecret.name", "the name of an object"),
            (
                "credentialsFile",
                "htpasswd",
                ".credentialsFile",
                "only in local mode; a cluster takes credentialsSecret",
            ),
            ("clientNetworks", ["10.0.0.1/8"], ".clientNetworks[0]", "without host bits"),
            ("perOrigin", {"maxConnections": 0}, ".perOrigin.maxConnections", "an integer from 1 to 100000"),
            ("perOrigin", {"requestsPerSecond": -1}, ".perOrigin.requestsPerSecond", "a number from 0 to 1000000"),
            ("parents", [{"host": "a"}], ".parents[0].port", "an integer from 1 to 65535"),
            ("parents", [{"host": "http://a", "port": 1}], ".parents[0].host", "without scheme, port or brackets"),
            (
                "parents",
                [{"host": "a", "port": 1, "credentialsEnv": "A"}],
                ".parents[0].credentialsEnv",
                "only in local mode; a cluster takes credentialsSecret",
            ),
        )
    ),
    *(
        Bad({f"{_UP}.{field}": value}, f"{_UP}.{field}", says, protocol="forward")
        for field, value, says in (
            ("service", {"name": "a", "port": 80}, "expected none with protocol forward, where requests say where"),
            ("endpoints", [{"host": "a", "port": 80}], "expected none with protocol forward"),
            ("dns", {"host": "a", "port": 80}, "expected none with protocol forward"),
            ("tls", {"mode": "require"}, "expected none with protocol forward"),
        )
    ),
    Bad(
        {f"{_UP}.budget": {"maxConnections": 10, "per": "endpoint"}},
        f"{_UP}.budget.per",
        "expected upstream with protocol forward",
        protocol="forward",
    ),
    Bad({"spec.upstreams[1]": {"name": "b"}}, "spec.upstreams", "exactly one upstream", protocol="forward"),
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
    *(
        Bad({f"{_PG}.{path}": value}, at, says, "local", "postgres")
        for path, value, at, says in (
            ("auth", {}, f"{_PG}.auth.usersFile", "expected usersFile or query, which method scram-sha-256"),
            (
                "auth.query",
                {**_QUERY, "passwordFile": "f", "passwordEnv": "E"},
                f"{_PG}.auth.query.passwordEnv",
                "expected either passwordFile or passwordEnv",
            ),
            ("auth.usersSecret.name", "a", f"{_PG}.auth.usersSecret", "local mode takes usersFile"),
            ("auth", {"method": "cert"}, "spec.listen.tls.clientCAFile", "which auth.method cert needs"),
            (
                "monitor",
                {"user": "u", "passwordFile": "f", "passwordEnv": "E"},
                f"{_PG}.monitor.passwordEnv",
                "expected either passwordFile or passwordEnv",
            ),
            ("monitor", {"user": "u", "passwordEnv": "1"}, f"{_PG}.monitor.passwordEnv", "an environment variable"),
            (
                "databases",
                [{"name": "a", "user": "u", "passwordFile": "f", "passwordEnv": "E"}],
                f"{_PG}.databases[0].passwordEnv",
                "expected either passwordFile or passwordEnv",
            ),
        )
    ),
    *(
        Bad({f"{_FW}.{path}": value}, at, says, "local", "forward")
        for path, value, at, says in (
            ("allowHosts", [], _FW, "expected credentialsFile, clientNetworks or allowHosts"),
            ("credentialsSecret.name", "a", f"{_FW}.credentialsSecret", "local mode takes credentialsFile"),
            (
                "parents",
                [{"host": "a", "port": 1, "credentialsFile": "f", "credentialsEnv": "E"}],
                f"{_FW}.parents[0].credentialsEnv",
                "either credentialsFile or credentialsEnv",
            ),
        )
    ),
]
