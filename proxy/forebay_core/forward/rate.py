"""How many requests an origin gets per second: a token bucket, kept as the one time at which it is full again.

This is the generic cell rate algorithm (ITU-T I.371, virtual scheduling): the same as a bucket of tokens, without a
count to refill. Who comes too early is told when to come, and its place is taken: so waiters go in the order of their
coming, without a queue here.
"""


class TokenBucket:
    """Requests to one origin. Times are monotonic seconds."""

    __slots__ = ("_full_at", "_slack", "_step")

    def __init__(self, rate: float) -> None:
        """`rate` is in requests per second; a second's worth, at least one, may go at once. Raises ValueError: it is
        not above 0.
        """
        if not rate > 0:
            raise ValueError(f"rate of {rate} requests per second: expected above 0")
        self._step = 1 / rate
        self._slack = max(1.0, rate) * self._step - self._step  # how much of the burst is beyond the first request
        self._full_at = 0.0

    def reserve(self, now: float, latest: float) -> float | None:
        """When the next request may go: `now`, or later; its token is taken. None: not until `latest`, and no token
        is taken. A request that is given up leaves its token unused: to its origin that is only kinder.
        """
        full_at = max(self._full_at, now)
        at = max(now, full_at - self._slack)
        if at > latest:
            return None
        self._full_at = full_at + self._step
        return at

    def idle(self, now: float) -> bool:
        """Whether the bucket is full: it can be forgotten, a new one is the same."""
        return self._full_at <= now

    def __repr__(self) -> str:
        return f"<TokenBucket {1 / self._step:g}/s, full at {self._full_at:.3f}>"
