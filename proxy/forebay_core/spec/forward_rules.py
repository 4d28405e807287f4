"""Rules over several fields of `spec.forward`, as Python and as CEL (see `rules`)."""

from collections.abc import Iterator

from forebay_core.spec.forward import Parent
from forebay_core.spec.model import Spec
from forebay_core.spec.rule import Finding, Rule
from forebay_core.spec.schema import Loc
from forebay_core.spec.values import Form


def somebody_is_kept_out(spec: Spec, form: Form) -> Iterator[Finding]:
    """An open proxy is never a default."""
    if spec.protocol != "forward":
        return
    field = "credentialsSecret" if form == "cluster" else "credentialsFile"
    limits = f"{field}, clientNetworks or allowHosts: an open proxy is never a default"
    forward = spec.forward
    if forward is None:
        yield Finding(("forward",), f"expected a mapping with {limits}", (("protocol",),))
    elif not (forward.credentials_secret or forward.credentials_file or forward.client_networks or forward.allow_hosts):
        yield Finding(("forward",), f"expected {limits}", (("protocol",),))


def one_upstream_for_all_origins(spec: Spec, form: Form) -> Iterator[Finding]:
    if spec.protocol != "forward":
        return
    if len(spec.upstreams) > 1:
        expected = "expected exactly one upstream with protocol forward: its pool and budget hold over all origins"
        yield Finding(("upstreams",), expected, (("protocol",),))
    for index, upstream in enumerate(spec.upstreams):
        for field in ("service", "endpoints", "dns", "tls"):
            if getattr(upstream, field):
                expected = "expected none with protocol forward, where requests say where to go"
                yield Finding(("upstreams", index, field), expected, (("protocol",),))
        if upstream.budget and upstream.budget.per == "endpoint":
            place: Loc = ("upstreams", index, "budget", "per")
            yield Finding(place, "expected upstream with protocol forward, which has no endpoints", (("protocol",),))


def one_source_of_credentials(parent: Parent, form: Form) -> Iterator[Finding]:
    if parent.credentials_file and parent.credentials_env:
        expected = "expected either credentialsFile or credentialsEnv"
        yield Finding(("credentialsEnv",), expected, (("credentialsFile",),))


FORWARD_RULES = (
    Rule(
        "spec",
        somebody_is_kept_out,
        "self.protocol != 'forward' || (has(self.forward) && (has(self.forward.credentialsSecret) || "
        "(has(self.forward.clientNetworks) && size(self.forward.clientNetworks) > 0) || "
        "(has(self.forward.allowHosts) && size(self.forward.allowHosts) > 0)))",
        "with protocol forward, expected forward.credentialsSecret, clientNetworks or allowHosts: an open proxy is "
        "never a default",
    ),
    Rule(
        "spec",
        one_upstream_for_all_origins,
        "self.protocol != 'forward' || (size(self.upstreams) == 1 && self.upstreams.all(u, !has(u.service) && "
        "!has(u.endpoints) && !has(u.dns) && !has(u.tls) && (!has(u.budget) || !has(u.budget.per) || "
        "u.budget.per == 'upstream')))",
        "with protocol forward, expected upstreams to be exactly one, without service, endpoints, dns and tls, and "
        "with a budget per upstream: its pool and budget hold over all origins",
    ),
    Rule("spec.forward.parents[]", one_source_of_credentials),
)
