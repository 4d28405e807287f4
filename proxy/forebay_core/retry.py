"""How many retries an upstream may get: a share of the requests, so that retries can't double an outage.

As Finagle's RetryBudget and Envoy's retry budgets: over a sliding window of 10 s, retries are at most
``budget_percent`` of the requests, or ``min_per_second`` times the window where that is more (of few requests
a percentage would allow none).
"""

from __future__ import annotations

WINDOW = 10  # seconds, in slots of one


class RetryBudget:
    """Requests and retries of the last 10 s. Times are monotonic seconds, given by the caller."""

    __slots__ = ("_ends", "_floor", "_percent", "_requests", "_retries")

    def __init__(self, budget_percent: float, min_per_second: float) -> None:
        self.configure(budget_percent, min_per_second)
        self._requests = [0] * WINDOW  # per second, the current one last
        self._retries = [0] * WINDOW
        self._ends = float("-inf")  # when the current second is over

    def __repr__(self) -> str:
        return f"<RetryBudget {sum(self._retries)} retries for {sum(self._requests)} requests in {WINDOW} s>"

    def configure(self, budget_percent: float, min_per_second: float) -> None:
        """Take other settings; what the window has seen counts for them too."""
        self._percent = budget_percent
        self._floor = min_per_second * WINDOW

    def request(self, now: float, count: int = 1) -> None:
        """Count requests (not their retries)."""
        if now >= self._ends:
            self._roll(now)
        self._requests[-1] += count

    def may_retry(self, now: float) -> bool:
        """May a request be sent once more? True takes it from the budget, so ask only to do it."""
        if now >= self._ends:
            self._roll(now)
        if sum(self._retries) + 1 > max(self._floor, sum(self._requests) * self._percent / 100):
            return False
        self._retries[-1] += 1
        return True

    def _roll(self, now: float) -> None:
        passed = min(now - self._ends, WINDOW)  # from -inf: a whole window, which is all zero anyway
        seconds = min(int(passed) + 1, WINDOW)
        self._requests = self._requests[seconds:] + [0] * seconds
        self._retries = self._retries[seconds:] + [0] * seconds
        self._ends = float(int(now) + 1)
