"""The document that pods load: the ProxyPool in its local form, with files and names in the place of Secrets and
Services.

What concerns only the operator (replicas, autoscaling, strategy, templates) is left out, so that a change of it
reaches no pod.
"""

from typing import Any, NamedTuple

import yaml

from forebay_core.spec.load import document_hash, load
from forebay_core.spec.model import API_VERSION, CASecret, CertSecret, ProxyPool, UpstreamTLS

SECRETS = "/etc/forebay/secrets"
OPERATORS_OWN = ("replicas", "autoscaling", "strategy", "serviceTemplate", "template")


class Document(NamedTuple):
    """The text of `pool.yaml`, and the hash that a pod reports once it serves it."""

    text: str
    hash: str


def render(pool: ProxyPool, namespace: str) -> Document:
    """The local form of a pool in the cluster's form. Raises DocumentError where local mode would refuse it."""
    spec = pool.spec.model_dump(mode="json", exclude_defaults=True)
    for name in OPERATORS_OWN:
        spec.pop(name, None)
    spec["replicas"] = 1  # a pod is one worker
    listen = pool.spec.listen.tls
    if listen is not None:
        spec["listen"]["tls"] = _certificate(listen.cert_secret, "certFile", "keyFile")
        spec["listen"]["tls"] |= _authorities(listen.client_ca_secret, "clientCAFile")
    for rendered, upstream in zip(spec["upstreams"], pool.spec.upstreams, strict=True):
        if upstream.service is not None:
            del rendered["service"]
            rendered["dns"] = {"host": f"{upstream.service.name}.{namespace}.svc", "port": upstream.service.port}
        if upstream.tls is not None:
            rendered["tls"] = _upstream_tls(rendered["tls"], upstream.tls)
    document = {
        "apiVersion": API_VERSION,
        "kind": "ProxyPool",
        "metadata": {"name": pool.metadata.name, "namespace": namespace},
        "spec": spec,
    }
    text = yaml.safe_dump(document, sort_keys=False, width=110, allow_unicode=True)
    return Document(text, document_hash(load(text, form="local")))


def secrets_of(pool: ProxyPool) -> list[str]:
    """The names of the Secrets that the document takes files from, in order."""
    names = set()
    listen = pool.spec.listen.tls
    for tls in (u.tls for u in pool.spec.upstreams):
        if tls is not None:
            names |= {secret.name for secret in (tls.ca_secret, tls.client_cert_secret) if secret is not None}
    if listen is not None:
        names |= {secret.name for secret in (listen.cert_secret, listen.client_ca_secret) if secret is not None}
    return sorted(names)


def _upstream_tls(rendered: dict[str, Any], tls: UpstreamTLS) -> dict[str, Any]:
    kept = {key: value for key, value in rendered.items() if key not in ("caSecret", "clientCertSecret")}
    certificate = _certificate(tls.client_cert_secret, "clientCertFile", "clientKeyFile")
    return kept | _authorities(tls.ca_secret, "caFile") | certificate


def _certificate(secret: CertSecret | None, chain: str, key: str) -> dict[str, str]:
    if secret is None:
        return {}
    folder = f"{SECRETS}/{secret.name}"
    return {chain: f"{folder}/{secret.key}", key: f"{folder}/{secret.private_key}"}


def _authorities(secret: CASecret | None, name: str) -> dict[str, str]:
    return {} if secret is None else {name: f"{SECRETS}/{secret.name}/{secret.key}"}
