"""Rules over several fields, each here twice, side by side: as Python for every document, as CEL for the API
server. A check yields what it finds, with the arithmetic; `needs` names other places that a finding rests on.
"""

from collections.abc import Iterator

from forebay_core.spec.forward_rules import FORWARD_RULES
from forebay_core.spec.model import (
    Autoscaling,
    Budget,
    ListenTLS,
    LoadBalancing,
    Pool,
    ProxyPool,
    Spec,
    Strategy,
    UpstreamTLS,
)
from forebay_core.spec.postgres_rules import POSTGRES_RULES
from forebay_core.spec.rule import Finding, Rule, names_differ
from forebay_core.spec.schema import Loc
from forebay_core.spec.values import Form, Json, Model


def certificate_given(tls: ListenTLS, form: Form) -> Iterator[Finding]:
    if form == "cluster" and not (tls.cert_secret or tls.cert_file or tls.key_file):
        yield Finding(("certSecret",), "expected the Secret of the server's certificate")
    if form == "local" and not tls.cert_secret:
        for name, value in (("certFile", tls.cert_file), ("keyFile", tls.key_file)):
            if not value:
                yield Finding((name,), "expected certFile and keyFile", (("certSecret",),))


def client_certificate_whole(tls: UpstreamTLS, form: Form) -> Iterator[Finding]:
    if (tls.client_cert_file is None) != (tls.client_key_file is None):
        missing = "clientKeyFile" if tls.client_cert_file else "clientCertFile"
        yield Finding((missing,), "expected clientCertFile and clientKeyFile together")


def one_target(spec: Spec, form: Form) -> Iterator[Finding]:
    if spec.protocol == "forward":  # see forward_rules
        return
    choice = "exactly one of service, endpoints and dns" if form == "cluster" else "either endpoints or dns"
    for index, upstream in enumerate(spec.upstreams):
        given = [name for name in ("service", "endpoints", "dns") if getattr(upstream, name)]
        if len(given) != 1:
            found = " and ".join(given) or "none"
            yield Finding(("upstreams", index), f"expected {choice}, found {found}", (("protocol",),))


def hash_only_with_policy(balancing: LoadBalancing, form: Form) -> Iterator[Finding]:
    if balancing.consistent_hash and balancing.policy != "consistentHash":
        expected = f"expected only with policy consistentHash, which is {balancing.policy}"
        yield Finding(("consistentHash",), expected, (("policy",),))


def reserved_below_maximum(budget: Budget, form: Form) -> Iterator[Finding]:
    if budget.reserved >= budget.max_connections:
        expected = f"expected less than maxConnections, which is {budget.max_connections}"
        yield Finding(("reserved",), expected, (("maxConnections",),))


def min_idle_within_size(pool: Pool, form: Form) -> Iterator[Finding]:
    if pool.min_idle > pool.size:
        yield Finding(("minIdle",), f"expected at most size, which is {pool.size}", (("size",),))


def replicas_in_order(scaling: Autoscaling, form: Form) -> Iterator[Finding]:
    if scaling.min_replicas > scaling.max_replicas:
        expected = f"expected at most maxReplicas, which is {scaling.max_replicas}"
        yield Finding(("minReplicas",), expected, (("maxReplicas",),))


def rollout_can_move(strategy: Strategy, form: Form) -> Iterator[Finding]:
    if strategy.max_surge == 0 and strategy.max_unavailable == 0:
        expected = "expected at least 1 where maxUnavailable is 0: a rollout could replace no replica"
        yield Finding(("maxSurge",), expected, (("maxUnavailable",),))


def floors_are_of_use(spec: Spec, form: Form) -> Iterator[Finding]:
    """Every replica there can be, and the one that a rollout adds, can have the connections that it needs at least."""
    maximum = spec.maximum_replicas
    least = 2 if spec.session else 1
    floor = f"a floor of {least}{' (a cancel takes a connection of its own)' if spec.session else ''}"
    source: Loc = ("autoscaling", "maxReplicas") if spec.autoscaling else ("replicas",)
    for index, upstream in enumerate(spec.upstreams):
        budget = upstream.budget
        if budget is None or budget.reserved >= budget.max_connections:  # the latter is a finding of its own
            continue
        available = budget.max_connections - budget.reserved
        if available // (maximum + 1) < least:
            place: Loc = ("upstreams", index, "budget")
            yield Finding(
                (*place, "maxConnections"),
                f"expected at least {least * (maximum + 1) + budget.reserved}: every replica needs {floor}, and "
                f"(maxConnections {budget.max_connections} - reserved {budget.reserved}) / "
                f"({'.'.join(map(str, source))} {maximum} + 1) = {available}/{maximum + 1} is less",
                ((*place, "reserved"), source, ("protocol",)),
            )


def upstream_names_differ(spec: Spec, form: Form) -> Iterator[Finding]:
    return names_differ("upstreams", spec.upstreams)


def routes_lead_somewhere(spec: Spec, form: Form) -> Iterator[Finding]:
    names = [upstream.name for upstream in spec.upstreams]
    for index, route in enumerate(spec.routes):
        if route.upstream not in names:
            needs = tuple(("upstreams", place, "name") for place in range(len(names)))
            yield Finding(("routes", index, "upstream"), f"expected the name of an upstream: {', '.join(names)}", needs)


def counts_fit_form(spec: Spec, form: Form) -> Iterator[Finding]:
    if form == "cluster" and spec.listen.port == 0:
        yield Finding(("listen", "port"), "expected 1 to 65535; 0, any free port, is for local mode")
    if form == "local" and spec.replicas == 0 and not spec.autoscaling:
        yield Finding(("replicas",), "expected at least 1 in local mode")


RULES = (
    Rule(
        "spec.listen.tls",
        certificate_given,
        "has(self.certSecret)",
        "expected certSecret, the Secret of the server's certificate",
    ),
    Rule("spec.upstreams[].tls", client_certificate_whole),
    Rule(
        "spec",
        one_target,
        "self.protocol == 'forward' || self.upstreams.all(u, "
        "[has(u.service), has(u.endpoints), has(u.dns)].exists_one(given, given))",
        "expected each of upstreams to have exactly one of service, endpoints and dns",
    ),
    Rule(
        "spec.upstreams[].loadBalancing",
        hash_only_with_policy,
        "!has(self.consistentHash) || self.policy == 'consistentHash'",
        "expected consistentHash only with policy consistentHash",
    ),
    Rule(
        "spec.upstreams[].budget",
        reserved_below_maximum,
        "self.reserved < self.maxConnections",
        "expected reserved less than maxConnections",
    ),
    Rule(
        "spec.upstreams[].pool",
        min_idle_within_size,
        "!has(self.minIdle) || self.minIdle <= self.size",
        "expected minIdle at most size",
    ),
    Rule(
        "spec.autoscaling",
        replicas_in_order,
        "self.minReplicas <= self.maxReplicas",
        "expected minReplicas at most maxReplicas",
    ),
    Rule(
        "spec.strategy",
        rollout_can_move,
        "self.maxSurge > 0 || self.maxUnavailable > 0",
        "expected maxSurge of at least 1 where maxUnavailable is 0: a rollout could replace no replica",
    ),
    Rule(
        "spec",
        floors_are_of_use,
        "self.upstreams.all(u, !has(u.budget) || u.budget.reserved >= u.budget.maxConnections || "
        "u.budget.maxConnections - u.budget.reserved >= (self.protocol == 'postgres' ? 2 : 1) * "
        "((has(self.autoscaling) ? self.autoscaling.maxReplicas : self.replicas) + 1))",
        "expected budgets in which every replica has a floor of 1, with postgres of 2 (a cancel takes a connection of "
        "its own): maxConnections - reserved must be at least the floor times one more than the maximum of "
        "replicas (autoscaling.maxReplicas, else replicas)",
    ),
    # The API server refuses this by the list's key.
    Rule("spec", upstream_names_differ, message="expected every upstream to have a name of its own"),
    Rule(
        "spec",
        routes_lead_somewhere,
        "!has(self.routes) || self.routes.all(r, self.upstreams.exists(u, u.name == r.upstream))",
        "expected every route's upstream to be the name of an upstream",
    ),
    Rule("spec", counts_fit_form, "self.listen.port > 0", "in a cluster, expected listen.port from 1 to 65535"),
    *FORWARD_RULES,
    *POSTGRES_RULES,
)


def findings(pool: ProxyPool, form: Form) -> Iterator[Finding]:
    """Every broken rule of a document whose single values are valid; places are from the document's root."""
    yield from _misplaced(pool, (), pool.spec.protocol, form)
    for rule in RULES:
        for loc, node in _visit(pool, (), rule.scope.split(".")):
            for found in rule.check(node, form):
                needs = tuple((*loc, *need) for need in found.needs)
                yield Finding((*loc, *found.loc), found.expected, needs)


def _visit(node: Model, loc: Loc, scope: list[str]) -> Iterator[tuple[Loc, Model]]:
    """The objects at a scope such as `spec.upstreams[].budget`."""
    if not scope:
        yield loc, node
        return
    name = scope[0].removesuffix("[]")
    attribute = next(key for key, field in type(node).model_fields.items() if field.alias == name)
    value = getattr(node, attribute)
    children = enumerate(value) if scope[0].endswith("[]") else [(None, value)] if value is not None else []
    for index, child in children:
        yield from _visit(child, (*loc, name) if index is None else (*loc, name, index), scope[1:])


def _misplaced(node: Model, loc: Loc, protocol: str, form: Form) -> Iterator[Finding]:
    """Fields that are given but are for another protocol or the other form of the document."""
    for attribute, field in type(node).model_fields.items():
        if attribute not in node.model_fields_set:
            continue
        place = (*loc, field.alias or attribute)
        marks: Json = field.json_schema_extra if isinstance(field.json_schema_extra, dict) else {}
        only: list[str] = marks.get("x-protocol", [protocol])
        if protocol not in only:
            expected = f"expected only with protocol {' or '.join(only)}, not {protocol}"
            yield Finding(place, expected, (("spec", "protocol"),))
        elif marks.get("x-form", form) != form:
            instead = f"; {_FORMS[form]} takes {marks['x-instead']}" if "x-instead" in marks else ""
            yield Finding(place, f"expected only in {_FORMS[marks['x-form']]}{instead}")
        else:
            value = getattr(node, attribute)
            for index, item in enumerate(value if isinstance(value, tuple) else (value,)):
                if isinstance(item, Model):
                    inner = (*place, index) if isinstance(value, tuple) else place
                    yield from _misplaced(item, inner, protocol, form)


_FORMS = {"local": "local mode", "cluster": "a cluster"}
