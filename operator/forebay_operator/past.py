"""What a pool's loop carries from one look to the next: plain values, made by `plan`. Nothing that safety rests on: a
new process begins without it, and waits where it has to."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import NamedTuple

from forebay_core.scale.verdict import ScalerState
from forebay_operator.observed import Pod
from forebay_operator.troubles import Lasting

RISE = 10.0  # seconds for which something must be so before it is said ...
FALL = 30.0  # ... and not be so before it is no longer said: a condition that flaps tells nothing


class Signal(NamedTuple):
    """Something that is said to hold or not. `since`: when the contrary was first seen, with no break since then."""

    holds: bool
    since: float | None = None

    def after(self, seen: bool, now: float) -> "Signal":
        if seen == self.holds:
            return Signal(seen)
        since = self.since if self.since is not None else now
        return Signal(seen) if now - since >= (RISE if seen else FALL) else Signal(self.holds, since)


@dataclass(frozen=True, slots=True)
class Past:
    """Times in seconds of the operator's steady clock (`gather.clock`); pods by UID.

    `began`: when this loop did. `highest`: the last sequence read or written. `heard`: pods that have answered.
    `silent`: since when a pod does not answer. `dead_since`: when each life was found dead. `missing`: when a pod's
    object was found to be gone, by a look past the watches. `ended`: pods that lives of the ledger ran in, that have
    ended, and whose object has gone. `scaler`: None until the first verdict. `signals`: by name, then by upstream
    (`causes`); `outages`: by upstream. `troubles`: as `troubles.after` has them. `told`: worries that people know of
    (`events.worries`).
    """

    began: float = 0.0
    highest: int = 0
    heard: frozenset[str] = frozenset()
    silent: Mapping[str, float] = field(default_factory=dict)
    dead_since: Mapping[str, float] = field(default_factory=dict)
    missing: Mapping[str, float] = field(default_factory=dict)
    ended: Mapping[str, Pod] = field(default_factory=dict)
    scaler: ScalerState | None = None
    signals: Mapping[str, Mapping[str, Signal]] = field(default_factory=dict)
    outages: Mapping[str, Signal] = field(default_factory=dict)
    troubles: Mapping[str, Lasting] = field(default_factory=dict)
    spec_replicas: int | None = None
    told: frozenset[str] = frozenset()
