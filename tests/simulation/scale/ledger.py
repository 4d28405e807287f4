"""A perfect ledger: grants move at once, and never more than the budget is held. The real one has a model test."""

from collections.abc import Mapping

from forebay_core.budget.shares import fill, floor


def grants(
    wanted: Mapping[str, int],
    current: Mapping[str, int],
    held: Mapping[str, int],
    budget: int,
    *,
    ceiling: int,
    max_replicas: int,
    capped: bool,
) -> dict[str, int]:
    """The next grant per life. `wanted`: connections that each could use; `held`: what is really open, also of lives
    that get nothing any more. `capped`: nobody gets more than it wants.
    """
    share = floor(budget, max_replicas)
    room = budget - sum(count for life, count in held.items() if life not in wanted)
    need = {life: want if capped else max(want, min(share, ceiling)) for life, want in wanted.items()}
    if sum(need.values()) > room:
        goal = fill(room, dict.fromkeys(need, 1) if room >= len(need) else dict.fromkeys(need, 0), need)
    elif capped or all(need[life] <= current.get(life, 0) for life in need):
        goal = need if capped else {life: current[life] for life in need}
    else:
        goal = fill(room, need, dict.fromkeys(need, ceiling))
    made = {life: min(goal[life], current.get(life, 0)) for life in goal}  # shrinks first
    bound = sum(max(made.get(life, 0), count) for life, count in held.items())
    for life in goal:
        more = min(goal[life] - made[life], budget - bound)
        if more > 0:
            before = max(made[life], held.get(life, 0))
            made[life] += more
            bound += max(made[life], held.get(life, 0)) - before
    return made
