"""Whether the watches are alive: what this process has written must come back through them.

A watch can stay open with nothing coming any more, and nobody says so. kopf begins one anew when nothing has come for
70 s, not even a bookmark (the API server sends one a minute); this is the proof from end to end, for each kind apart:
an object that was written, and whose new version has not been heard of after `PATIENCE`, means that the process is to
be started anew. Versions are compared as numbers: they are decimal and rise (Kubernetes API conventions, 1.35).
"""

from collections.abc import Mapping
from typing import Any

PATIENCE = 60.0  # seconds; with the kubelet's probes a silent watch has ended within 120


class Echo:
    """`kinds`: those that are watched; others are nobody's to hear."""

    def __init__(self, kinds: frozenset[str]) -> None:
        self._kinds = kinds
        self._heard: dict[tuple[str, str, str], int] = {}
        self._since: dict[str, float] = {}

    def wrote(self, raw: Mapping[str, Any], now: float) -> None:
        """The API server's answer to a write, at `now` (monotonic seconds)."""
        kind = raw.get("kind", "")
        if kind in self._kinds and self._heard.get(_key(raw), 0) < _version(raw):
            self._since.setdefault(kind, now)

    def heard(self, raw: Mapping[str, Any], *, deleted: bool = False) -> None:
        """A watch has told of it."""
        self._since.pop(raw["kind"], None)
        if deleted:
            self._heard.pop(_key(raw), None)
        else:
            self._heard[_key(raw)] = _version(raw)

    def silent(self, now: float) -> str:
        """A kind whose watch has been silent for too long, or nothing."""
        return next((kind for kind, since in self._since.items() if now - since > PATIENCE), "")


def _key(raw: Mapping[str, Any]) -> tuple[str, str, str]:
    return raw["kind"], raw["metadata"]["namespace"], raw["metadata"]["name"]


def _version(raw: Mapping[str, Any]) -> int:
    return int(raw["metadata"]["resourceVersion"])
