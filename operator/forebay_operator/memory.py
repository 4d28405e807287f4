"""What a pool's loop remembers between two looks. Nothing that safety rests on: a new process starts without it."""

from dataclasses import dataclass, field

from forebay_operator.plan import Applied

NEVER = float("-inf")


@dataclass(slots=True)
class Memory:
    """`stale`: look afresh, past the watches. `dead_until`: when the linger of a life that is known dead is over,
    by the monotonic clock of this process: a new one waits anew, which is safe."""

    uid: str = ""
    stale: bool = True
    token: str | None = None
    applied: dict[tuple[str, str], Applied] = field(default_factory=dict)
    refused: str = ""
    status_written: float = NEVER
    dead_until: dict[str, float] = field(default_factory=dict)

    def belongs_to(self, uid: str) -> None:
        """A pool that was deleted and made anew is another pool."""
        if self.uid != uid:
            if self.uid:
                self.token, self.applied, self.refused, self.dead_until = None, {}, "", {}
            self.uid = uid

    def resync(self) -> None:
        """Look and apply everything anew."""
        self.stale, self.token, self.applied = True, None, {}

    def mourn(self, dead: dict[str, float], now: float) -> None:
        """`dead`: lives known dead, with their linger in seconds."""
        self.dead_until = {life: self.dead_until.get(life, now + linger) for life, linger in dead.items()}

    def lingered(self, now: float) -> frozenset[str]:
        return frozenset(life for life, until in self.dead_until.items() if now >= until)
