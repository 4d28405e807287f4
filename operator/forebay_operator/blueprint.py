"""What a pool's document asks for, understood once per generation: a look every two seconds parses nothing."""

import hashlib
import json
from collections.abc import Mapping
from typing import Any, NamedTuple

from forebay_core.budget.ledger import Terms
from forebay_core.budget.terms import terms
from forebay_core.spec.load import DocumentError, Problem, parse
from forebay_core.spec.model import ProxyPool
from forebay_operator import objects
from forebay_operator.document import Document, render
from forebay_operator.settings import Settings


class Built(NamedTuple):
    """An object, and the digest of it."""

    body: objects.Object
    digest: str


class Blueprint:
    """Raises DocumentError. The same arguments give the same answers; the objects built last are kept."""

    def __init__(self, raw: Mapping[str, Any], settings: Settings) -> None:
        self.pool: ProxyPool = parse(raw, form="cluster")
        if self.pool.spec.listen.port == objects.ADMIN_PORT:
            expected = "expected another port: this is the admin port of every pod"
            raise DocumentError((Problem("spec.listen.port", str(objects.ADMIN_PORT), expected),))
        self.document: Document = render(self.pool, raw["metadata"]["namespace"])
        self.terms: Mapping[str, Terms] = terms(self.pool.spec)
        self.grace: float = objects.grace(self.pool)
        self.generation: int = raw["metadata"]["generation"]
        self._namespace: str = raw["metadata"]["namespace"]
        self._uid: str = raw["metadata"]["uid"]
        self._settings = settings
        self._last: tuple[tuple[str, int], tuple[Built, ...]] = (("", -1), ())
        self.built("", 0)  # what can't be built is a bad document

    def built(self, token: str, replicas: int) -> tuple[Built, ...]:
        """All objects but the Secret, in the order to apply them."""
        if self._last[0] != (token, replicas):
            made = objects.build(self._wanted(token, replicas))
            self._last = (token, replicas), tuple(Built(body, digest(body)) for body in made)
        return self._last[1]

    def secret(self, token: str) -> objects.Object:
        return objects.secret(self._wanted(token, 0))

    def _wanted(self, token: str, replicas: int) -> objects.Wanted:
        return objects.Wanted(self.pool, self._namespace, self._uid, self.document, token, replicas, self._settings)


def digest(body: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(body, sort_keys=True).encode()).hexdigest()
