"""What a pool and those around it speak of: connections, who asks for one, and why there is none.

The engine (`forebay_core.pool`) owns every attribute of a `Connection`; drivers derive their protocol classes from it.
"""

from dataclasses import dataclass
from math import inf

from forebay_core.balance import Endpoint

OPENING, IDLE, LEASED, CLOSING, CLOSED = range(5)


class LeaseError(RuntimeError):
    """A lease was used after its end, or by somebody who never held it: a mistake in the caller."""


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a waiter gets no connection. `reason` is the metric's label, `detail` a sentence for a person."""

    reason: str
    detail: str


class Refused(Exception):
    """Raised by `acquire` where the answer is known at once."""

    def __init__(self, refusal: Refusal) -> None:
        super().__init__(refusal.detail)
        self.refusal = refusal


QUEUE_FULL = Refusal("queue_full", "the queue for a connection is full")
TIMED_OUT = Refusal("timeout", "no connection became free in time")
NO_ENDPOINT = Refusal("no_endpoint", "no endpoint of the upstream is healthy")
DRAINING = Refusal("draining", "the pool is draining")
PAUSE_TIMED_OUT = Refusal("paused", "the pool stayed paused too long")


class Kind:
    """What a connection has been set up for, where not everybody can use any: a session protocol's user and database.
    Compared by identity. `role` is that of the endpoints it may be opened to; None: to any. `endpoint` is the only one,
    where there is nothing to choose (a forward proxy's origin), and is never out."""

    __slots__ = ("endpoint", "role")

    def __init__(self, role: str | None = None, endpoint: Endpoint | None = None) -> None:
        self.role = role
        self.endpoint = endpoint


class Connection:
    """What the engine knows of one connection; the driver's protocol class derives from it."""

    __slots__ = (
        "counted", "endpoint", "expires_at", "idle_for", "idle_since", "kind", "leased_at", "owner", "retire", "state",
        "uses", "wanted_by",
    )  # fmt: skip

    def __init__(self, endpoint: Endpoint) -> None:
        self.endpoint = endpoint
        self.counted = True  # whether its lease's time is a hold time: a tunnel's says nothing of the upstream
        self.kind: Kind | None = None
        self.state = OPENING
        self.owner: object | None = None
        self.expires_at = inf
        self.idle_since = 0.0  # when its last lease ended, or it was opened
        self.idle_for = inf  # seconds; what the upstream has said of how long it keeps an idle connection
        self.leased_at = 0.0
        self.uses = 0
        self.wanted_by: Waiter | None = None  # whom it is opened for, who may be served by another before
        self.retire: str | None = None  # the reason to close it for when its lease ends

    def stale(self) -> bool:
        """Asked before an idle connection is handed over (`prePing`): True closes it instead."""
        return False


class Waiter:
    """Somebody who asks for a connection. Times are monotonic seconds."""

    __slots__ = ("again_at", "assigned_at", "avoid", "deadline", "first_at", "key", "kind", "ready_at")

    first_at: float  # when it asked at first, and again; only who has asked again has these, and they are stale once
    again_at: float  # it asks anew

    def __init__(self) -> None:
        self.key: bytes | None = None  # what consistent hashing hashes
        self.kind: Kind | None = None  # of the connection that it needs
        self.avoid: Endpoint | None = None  # where opening has just failed for it: a retry goes elsewhere
        self.ready_at = 0.0  # when it has asked, of a retry: again, as what came before was no wait
        self.assigned_at = 0.0  # when the right to open was assigned; 0: not yet
        self.deadline = 0.0  # 0: not set yet; a retry keeps its first one

    @property
    def since(self) -> float:
        """When it asked for the first time: what its deadline, and its place in the queue, go by."""
        return self.first_at if getattr(self, "again_at", None) == self.ready_at else self.ready_at

    def take(self, connection: Connection, now: float) -> bool:
        """Accept the connection (True) or refuse it because it is no longer wanted (False)."""
        raise NotImplementedError

    def refuse(self, refusal: Refusal, now: float) -> None:
        """No connection will come: the waiter is out of the queue."""
        raise NotImplementedError
