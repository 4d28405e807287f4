"""The document that pods load: the ProxyPool in its local form, with files and names in the place of Secrets and
Services.

What concerns only the operator (replicas, autoscaling, strategy, templates) is left out, so that a change of it
reaches no pod.
"""

from typing import Any, NamedTuple

import yaml

from forebay_core.spec.forward import Forward, HtpasswdSecret, ParentSecret
from forebay_core.spec.load import document_hash, load
from forebay_core.spec.model import API_VERSION, CASecret, CertSecret, Postgres, ProxyPool
from forebay_core.spec.postgres import PasswordSecret, UsersSecret

SECRETS = "/etc/forebay/secrets"
FileSecret = CASecret | HtpasswdSecret | ParentSecret | PasswordSecret | UsersSecret
Secret = FileSecret | CertSecret
OPERATORS_OWN = ("replicas", "autoscaling", "strategy", "serviceTemplate", "template")


class Document(NamedTuple):
    """The text of `pool.yaml`, and the hash that a pod reports once it serves it."""

    text: str
    hash: str


def render(pool: ProxyPool, namespace: str) -> Document:
    """The local form of a pool in the cluster's form. Raises DocumentError where local mode would refuse it."""
    # By what is said, not by what differs from a field's default: a protocol may have another.
    spec = pool.spec.model_dump(mode="json", exclude_unset=True)
    for name in OPERATORS_OWN:
        spec.pop(name, None)
    spec["replicas"] = 1  # a pod is one worker
    listen = pool.spec.listen.tls
    if listen is not None:
        _certificate(spec["listen"]["tls"], "cert", "key", listen.cert_secret)
        _file(spec["listen"]["tls"], "clientCA", listen.client_ca_secret)
    for rendered, upstream in zip(spec["upstreams"], pool.spec.upstreams, strict=True):
        if upstream.service is not None:
            del rendered["service"]
            rendered["dns"] = {"host": f"{upstream.service.name}.{namespace}.svc", "port": upstream.service.port}
        if upstream.tls is not None:
            _file(rendered["tls"], "ca", upstream.tls.ca_secret)
            _certificate(rendered["tls"], "clientCert", "clientKey", upstream.tls.client_cert_secret)
    if pool.spec.postgres is not None:
        _logins(spec["postgres"], pool.spec.postgres)
    if pool.spec.forward is not None:
        _credentials(spec["forward"], pool.spec.forward)
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
    listen, postgres, forward = pool.spec.listen.tls, pool.spec.postgres, pool.spec.forward
    secrets: list[Secret | None] = []
    if listen is not None:
        secrets += [listen.cert_secret, listen.client_ca_secret]
    for upstream in pool.spec.upstreams:
        if upstream.tls is not None:
            secrets += [upstream.tls.ca_secret, upstream.tls.client_cert_secret]
    if postgres is not None:
        secrets += [postgres.auth.users_secret, *(database.password_secret for database in postgres.databases)]
        secrets += [user.password_secret for user in (postgres.monitor, postgres.auth.query) if user is not None]
    if forward is not None:
        secrets += [forward.credentials_secret, *(parent.credentials_secret for parent in forward.parents)]
    return sorted({secret.name for secret in secrets if secret is not None})


def _logins(rendered: dict[str, Any], postgres: Postgres) -> None:
    _file(rendered["auth"], "users", postgres.auth.users_secret)
    if postgres.auth.query is not None:
        _file(rendered["auth"]["query"], "password", postgres.auth.query.password_secret)
    if postgres.monitor is not None:
        _file(rendered["monitor"], "password", postgres.monitor.password_secret)
    for place, database in enumerate(postgres.databases):
        _file(rendered["databases"][place], "password", database.password_secret)


def _credentials(rendered: dict[str, Any], forward: Forward) -> None:
    _file(rendered, "credentials", forward.credentials_secret)
    for place, parent in enumerate(forward.parents):
        _file(rendered["parents"][place], "credentials", parent.credentials_secret)


def _file(rendered: dict[str, Any], field: str, secret: FileSecret | None) -> None:
    """`caSecret` becomes `caFile`."""
    if secret is not None:
        del rendered[f"{field}Secret"]
        rendered[f"{field}File"] = f"{SECRETS}/{secret.name}/{secret.key}"


def _certificate(rendered: dict[str, Any], chain: str, key: str, secret: CertSecret | None) -> None:
    """`certSecret` becomes `certFile` and `keyFile`."""
    if secret is not None:
        del rendered[f"{chain}Secret"]
        rendered[f"{chain}File"] = f"{SECRETS}/{secret.name}/{secret.key}"
        rendered[f"{key}File"] = f"{SECRETS}/{secret.name}/{secret.private_key}"
