"""The limit on a backend that is slow because too much is asked of it at a time: give back, by a gradient, what costs
nothing to give back.

The gradient is that of Netflix's concurrency-limits (`Gradient2Limit`): the limit is multiplied by
`TOLERANCE / slowdown`, at most halved, with some room to grow again. It differs in that it only gives back: above the
knee of its capacity curve a backend serves no more for having more connections, so any step down is free; where a step
has cost completions in proportion, the backend was slow but not saturated, and the step is taken back.
"""

from typing import NamedTuple

from forebay_core.scale.windows import PANIC

TOLERANCE = 1.5  # slowdown that is not yet called saturation
ROOM = 0.1  # of the limit, added at each step: keeps a queue at the backend, so that what it can serve stays visible
SETTLE = 10.0  # seconds after a step until its effect can be judged
REST = 300.0  # seconds without a step after one that was taken back
LARGE = 0.3  # of the limit: a step that shows whether it was free ...
MANY = 100  # ... where so many completed in a window before it
NEARLY = 0.8  # of what a proportional loss would be
GROWTH = 1.2  # per tick, when the backend has recovered


class Relief(NamedTuple):
    """Connections that all lives together should use at most, and the step that is being judged."""

    limit: int
    before: int  # the limit before the last step
    rate: float  # completions per second before the last step
    stepped_at: float
    free: bool = False  # a step has cost nothing: above its limit the backend is saturated

    def carried_out(self, leased: float) -> bool:
        """Whether about as many fewer are in use, on average."""
        return leased <= (self.before + self.limit) / 2


def begin(in_use: int, rate: float, now: float) -> Relief:
    """Freeze at what is in use: nothing is added from now on."""
    return Relief(max(1, in_use), max(1, in_use), rate, now)


def step(relief: Relief, slowdown: float, leased: float, rate: float, now: float) -> Relief:
    """The next limit, never above the one before the last step. `slowdown` as in `forebay_core.scale.baseline`;
    `leased`: on average. A step that was not carried out (there is no budget, or leases last) can't have cost anything.
    """
    if now - relief.stepped_at < SETTLE:
        return relief
    carried_out = relief.carried_out(leased)
    if carried_out and costs(relief.before, relief.limit, relief.rate, rate):
        return Relief(relief.before, relief.before, rate, now + REST, relief.free)
    gradient = min(1.0, max(0.5, TOLERANCE / slowdown))
    limit = max(1, min(relief.limit, int(relief.limit * (gradient + ROOM))))
    return Relief(limit, relief.limit, rate, now, relief.free or (carried_out and relief.limit < relief.before))


def idle_backend(relief: Relief, leased: float, rate: float, now: float) -> bool:
    """Whether the first step, a large one, carried out and judged now, has cost nearly all that it could: then nothing
    has queued at the backend, however long leases last. Small steps, and few completions, can't tell; and a later one
    may just have gone below the knee."""
    share = (relief.before - relief.limit) / relief.before
    return (
        not relief.free
        and now - relief.stepped_at >= SETTLE
        and share >= LARGE
        and relief.rate * PANIC >= MANY
        and relief.carried_out(leased)
        and rate <= relief.rate * (1 - NEARLY * share)
    )


def costs(before: int, after: int, rate_before: float, rate_after: float) -> bool:
    """Whether completions fell by more than a third of what they would where connections were all that was missing."""
    return after < before and rate_after < rate_before * (1 - (before - after) / before / 3)


def gains(before: float, after: float, rate_before: float, rate_after: float) -> bool:
    """Whether completions rose by at least half as much, in proportion, as the connections did."""
    return rate_after >= rate_before * (1 + 0.5 * (after - before) / before)


def grown(relief: Relief) -> Relief:
    """The backend is fast again: let it have more, in steps that it can answer to."""
    return relief._replace(limit=int(relief.limit * GROWTH) + 1)


class Trial(NamedTuple):
    """Where there is no baseline: a step of connections, kept only if completions rise with it."""

    before: float  # connections in use before the step, on average
    rate: float  # completions per second before the step
    limit: int
    begun_at: float
    most: int  # connections in use before the step, at most: what a step that fails goes back to
    failed: bool = False

    @property
    def binding(self) -> bool:
        """Whether more than `limit` would spoil what is tried; before the first step there is nothing to spoil."""
        return self.failed or self.limit > self.before


def held_off(in_use: int, rate: float, now: float) -> Trial:
    """Before the first step: how many complete without it has to be known, over a whole window of waiting."""
    return Trial(max(1, in_use), rate, max(1, in_use), now, max(1, in_use))


def trial_from(in_use: int, leased: float, rate: float, now: float) -> Trial:
    """Try half as many again as are `in_use` at most; `leased`: on average."""
    return Trial(max(1.0, leased), rate, in_use + max(1, in_use // 2), now, max(1, in_use))


def judged(trial: Trial, in_use: int, leased: float, waiting: int, rate: float, now: float) -> Trial:
    """The trial after another tick: the same, the next one, or failed.

    It is judged SETTLE after the step is carried out: when about as many more are in use, on average. Where what comes
    can be served with less, they never are, and completions, which can't rise then, show nothing of the backend. It
    begins anew, but is not raised, whenever nobody waits.

    A failed one holds until the same connections complete many more: the backend has recovered.
    """
    if trial.failed:
        return trial_from(in_use, leased, rate, now) if rate > trial.rate * TOLERANCE else trial
    stepped = trial.limit > trial.before
    if stepped and not waiting:
        return trial_from(in_use, leased, rate, now)._replace(limit=trial.limit)
    if stepped and leased < (trial.before + trial.limit) / 2:
        return trial._replace(begun_at=now)
    if now - trial.begun_at < (SETTLE if stepped else PANIC):
        return trial
    if stepped and not gains(trial.before, leased, trial.rate, rate):
        return trial._replace(limit=trial.most, failed=True, begun_at=now)
    return trial_from(in_use, leased, rate, now)
