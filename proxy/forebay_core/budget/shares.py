"""Shares: how much of the budget each life should have. Policy; safety rests on the ledger's rules alone.

Max-min fairness (Bertsekas and Gallager, Data Networks, 6.5.2): what is scarce is raised for all alike, until somebody
has enough; nobody gets more at the expense of somebody who has less. Demand is a life's recent peak of leases and
waiters. A floor, budget / (maximum of replicas + 1), is what everybody with demand can count on while a rollout adds
one more replica.
"""

from collections.abc import Mapping, Sequence

from forebay_core.budget.ledger import UNKNOWN, Entry, Key, Ledger, Terms


def floor(budget: int, replicas: int) -> int:
    """The share that every replica can count on while a rollout adds one more; 0 where the budget is too small."""
    return budget // (replicas + 1)


def terms(budget: int, replicas: int, *, ceiling: int = UNKNOWN, session: bool = False, linger: float = 0.0) -> Terms:
    """Terms for an upstream. `session`: asking or cancelling takes a connection of its own, beside the `ceiling`, so a
    grant of 1 is no use.

    Raises ValueError, with the arithmetic, where the floor would be too small to be of use.
    """
    least = 2 if session else 1
    share = floor(budget, replicas)
    if share < least:
        raise ValueError(
            f"a budget of {budget} over at most {replicas} replicas and one more during a rollout leaves a floor of "
            f"{budget} // ({replicas} + 1) = {share}; expected at least {least}, so at least {least * (replicas + 1)}"
        )
    return Terms(budget, share, least, ceiling + least - 1, linger)


def shares(
    term: Terms,
    lives: Sequence[str],
    demand: Mapping[str, int],
    current: Mapping[str, int],
    taken: int,
    *,
    besides: Mapping[str, int] | None = None,
    capped: bool = False,
) -> dict[str, int]:
    """The grant for each of `lives` (oldest first).

    `demand` without a life: no reading, so its need is unchanged. `current`: grants now. `taken`: bounds of others.
    `besides`: of the demand, places that serve nobody, such as those of the dead: they are not anybody's share.
    `capped`: the demand is the most that the upstream can bear; nobody gets or keeps more.
    """
    room = max(0, term.budget - taken)
    admitted = lives[: room // term.least]  # more lives than places: oldest first, the others are not ready
    need = {}
    for life in admitted:
        wish = demand.get(life, current.get(life) or term.floor)
        need[life] = min(max(wish, term.least), max(term.ceiling, term.least))
    spare = min(term.least, max(0, room - sum(min(term.floor, n) for n in need.values())))
    pot = room - spare
    grants = dict.fromkeys(lives, 0)
    idle = {life: (besides or {}).get(life, 0) for life in admitted}
    if sum(max(term.least, n) for n in idle.values()) > pot:
        idle = dict.fromkeys(admitted, 0)  # more than there is: a matter of who lets go first
    given = fill(pot, {life: max(term.least, idle[life]) for life in admitted}, need, idle)
    if capped:
        return grants | given
    now = {life: current.get(life, 0) for life in admitted}
    if sum(now.values()) <= pot and all(max(need[x], min(term.floor, term.ceiling)) <= now[x] for x in admitted):
        return grants | now  # everybody has enough: a grant that moves for nothing costs writes and connections
    return grants | fill(pot, given, {life: max(term.ceiling, given[life]) for life in admitted}, idle)


def fill(
    pot: int, low: Mapping[str, int], high: Mapping[str, int], ground: Mapping[str, int] | None = None
) -> dict[str, int]:
    """Water-filling: max(low, min(level, high)) for each, at the highest level at which the sum is within `pot`.

    What remains of `pot` goes out one by one, to the first in order. The sum of `low` must be within `pot`. `ground`:
    what levels are counted from; no more than `low`.
    """

    def at(level: int) -> dict[str, int]:
        return {life: max(low[life], min(level + (ground[life] if ground else 0), high[life])) for life in low}

    lowest, beyond = 0, min(pot, max(high.values(), default=0)) + 1
    while beyond - lowest > 1:
        middle = (lowest + beyond) // 2
        if sum(at(middle).values()) <= pot:
            lowest = middle
        else:
            beyond = middle
    grants = at(lowest)
    rest = pot - sum(grants.values())
    for life, more in at(lowest + 1).items():
        if rest > 0 and more > grants[life]:
            grants[life] = more
            rest -= 1
    return grants


def wishes(
    ledger: Ledger,
    upstream: str,
    term: Terms,
    lives: Sequence[str],
    demand: Mapping[Key, int],
    *,
    besides: Mapping[Key, int] | None = None,
    capped: bool = False,
) -> dict[Key, int]:
    """The grants to wish for: what `shares` says, or nothing while there is a bound of which nothing is known."""
    mine: dict[str, Entry] = {life: entry for (life, name), entry in ledger.entries.items() if name == upstream}
    if any(entry.bound == UNKNOWN for entry in mine.values()):
        return {}
    served = frozenset(lives)
    taken = sum(entry.bound for life, entry in mine.items() if life not in served)
    readings = {life: demand[life, upstream] for life in lives if (life, upstream) in demand}
    idle = {life: count for (life, name), count in (besides or {}).items() if name == upstream}
    now = {life: entry.grant for life, entry in mine.items()}
    grants = shares(term, lives, readings, now, taken, besides=idle, capped=capped)
    return {(life, upstream): grant for life, grant in grants.items()}


def pressing(ledger: Ledger, terms: Mapping[str, Terms], wanted: Mapping[Key, int]) -> frozenset[str]:
    """Upstreams where a shrink is for a floor or a cut: there replicas close what is leased above their grant at the
    drain deadline. A shrink for another's surplus waits for leases to end, however long."""
    urgent = {upstream for upstream, term in terms.items() if ledger.bounds(upstream) > term.budget}
    for key, wish in wanted.items():
        entry = ledger.entries.get(key)
        if (entry.grant if entry is not None else 0) < min(wish, terms[key[1]].floor):
            urgent.add(key[1])
    return frozenset(urgent)
