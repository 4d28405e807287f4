"""What a pool's loop keeps between two looks beside `past`: what need not be asked, parsed or applied again."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from time import monotonic
from typing import Any

from forebay_core.budget.ledger import Ledger
from forebay_core.budget.record import RecordError, load
from forebay_core.spec.load import DocumentError
from forebay_operator.blueprint import Blueprint
from forebay_operator.nodes import Kubelets
from forebay_operator.observed import Pod
from forebay_operator.past import Past
from forebay_operator.picture import Applied
from forebay_operator.settings import Settings

NEVER = float("-inf")


@dataclass(slots=True)
class Memory:
    """`stale`: look afresh, past the watches. `inquired`: when the events of a starting pod were last asked for, by
    UID. `_blueprint`: of the last good document; `_judged`: the present one, and why it can't be used."""

    uid: str = ""
    stale: bool = True
    token: str | None = None
    applied: dict[tuple[str, str], Applied] = field(default_factory=dict)
    refused: str = ""
    status_written: float = NEVER
    past: Past = field(default_factory=Past)
    kubelets: Kubelets = field(default_factory=Kubelets)
    inquired: dict[str, float] = field(default_factory=dict)
    _blueprint: Blueprint | None = None
    _judged: tuple[object, str] = (None, "")
    _ledger: tuple[object, Ledger | None] = (None, None)
    _pods: dict[str, tuple[object, Pod]] = field(default_factory=dict)

    def belongs_to(self, uid: str, now: float) -> None:
        """A pool that was deleted and made anew is another pool. Sequences go on: its replicas may be the same."""
        if self.uid != uid:
            if self.uid:
                self.token, self.applied, self.refused, self._blueprint = None, {}, "", None
            self.past = Past(began=now, highest=self.past.highest)
            self.uid = uid

    def wrote(self, sequence: int) -> None:
        """The status has been written, with the ledger of this sequence."""
        self.status_written = monotonic()
        self.past = replace(self.past, highest=max(self.past.highest, sequence))

    def resync(self) -> None:
        """Look and apply everything anew."""
        self.stale, self.token, self.applied = True, None, {}

    def blueprint(self, raw: Mapping[str, Any], settings: Settings) -> tuple[Blueprint | None, str]:
        """What the last document asks for that could be used, None where none is known; and why the present one can't
        be."""
        version = raw["metadata"]["uid"], raw["metadata"]["generation"]
        if self._judged[0] != version:
            try:
                self._blueprint, self._judged = Blueprint(raw, settings), (version, "")
            except DocumentError as error:
                self._judged = version, str(error)
        return self._blueprint, self._judged[1]

    def ledger(self, raw: Mapping[str, Any]) -> Ledger | None:
        """The one in its status; None: there is none, or somebody has made it unreadable, which is to have lost it."""
        record = raw.get("status", {}).get("ledger")
        if record is not self._ledger[0]:
            try:
                self._ledger = record, load(record)
            except RecordError:
                self._ledger = record, None
        return self._ledger[1]

    def pods(self, raws: Sequence[Mapping[str, Any]]) -> dict[str, Pod]:
        """By UID."""
        known, self._pods = self._pods, {}
        for raw in raws:
            uid = raw["metadata"]["uid"]
            before = known.get(uid)
            self._pods[uid] = before if before is not None and before[0] is raw else (raw, Pod.of(raw))
        return {uid: pod for uid, (_, pod) in self._pods.items()}
