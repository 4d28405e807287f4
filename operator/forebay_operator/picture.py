"""What passes between looking, planning and doing: one immutable picture of a pool, and what is to be done about it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from forebay_core.budget.decide import Decision
from forebay_core.budget.ledger import Ledger
from forebay_core.scale.verdict import ScalerState, Verdict
from forebay_operator.blueprint import Blueprint
from forebay_operator.budgeting import Look, Push
from forebay_operator.objects import Object
from forebay_operator.past import Past
from forebay_operator.troubles import Lasting, Trouble


class Applied(NamedTuple):
    """An object as it was last applied by this process: the digest of what was sent, the generation that came back."""

    digest: str
    generation: int


class Event(NamedTuple):
    """`type`: Normal or Warning."""

    type: str
    reason: str
    message: str


class Apply(NamedTuple):
    """An object to apply. `again`: somebody else has changed it since it was applied. `event`: once it is applied."""

    body: Object
    digest: str
    again: bool
    event: Event | None = None


@dataclass(frozen=True, slots=True)
class Gathered:
    """What is seen. `raw`: the ProxyPool; `blueprint`: what its last good document asks for, None where none is known;
    `invalid`: why the present one can't be used, "" where it is the good one; `token`: the one in the Secret, None
    where there is no Secret, `fresh_token` is for it then; `applied` by (kind, name);
    `refused`: what the API server said of what was applied last; `mishaps`: by UID, what the events of pods tell that
    have been starting for long; `stamp`: the time, RFC 3339; `status_age`: seconds since this process last wrote the
    status.
    """

    raw: Mapping[str, Any]
    blueprint: Blueprint | None
    invalid: str
    look: Look
    past: Past
    deployment: Mapping[str, Any] | None
    token: str | None
    fresh_token: str
    applied: Mapping[tuple[str, str], Applied]
    refused: str
    mishaps: Mapping[str, Trouble]
    stamp: str
    status_age: float


@dataclass(frozen=True, slots=True)
class Plan:
    """In the order of doing: make the Secret, apply, write the status (with the ledger), and only then push, and
    delete pods (name, UID).

    `past`: to be remembered, whatever becomes of the rest. `sequence`: of the ledger in `status`. `open`: connections
    by upstream, as replicas say. `busy`: there is somebody to look at every tick; `soon`: what was written is to be
    answered, look again at once.
    """

    past: Past
    create: Object | None = None
    apply: tuple[Apply, ...] = ()
    annotate: tuple[str, ...] = ()
    document: str = ""
    status: Mapping[str, Any] | None = None
    sequence: int = 0
    pushes: tuple[Push, ...] = ()
    delete: tuple[tuple[str, str], ...] = ()
    events: tuple[Event, ...] = ()
    open: Mapping[str, int] = field(default_factory=dict)
    busy: bool = False
    soon: bool = False


class Turns(NamedTuple):
    """What was decided: by the autoscaler, then by the ledger. `ledger`: the one that holds once it is written;
    `troubles`: of pods that don't start, as they last."""

    verdict: Verdict
    scaler: ScalerState
    decision: Decision
    ledger: Ledger | None
    troubles: Mapping[str, Lasting]
