"""Why requests wait, told once it lasts: conditions and an event, each with the upstreams that it is so of. Pure."""

import re
from collections.abc import Iterable, Mapping
from typing import Any

from forebay_core.scale.diagnosis import Cause
from forebay_core.scale.verdict import Verdict
from forebay_operator.past import Signal
from forebay_operator.status import State

Signals = Mapping[str, Mapping[str, Signal]]  # by name, then by upstream

# What is said only once it lasts, and of which cause. `ConnectFailing` is told by an event alone.
SIGNALS = {"BudgetExhausted": Cause.BUDGET, "BackendSaturated": Cause.BACKEND, "ConnectFailing": Cause.CONNECT}
CALM = {
    "BudgetExhausted": ("WithinBudget", "the budget is enough for what is asked of it"),
    "BackendSaturated": ("NotSaturated", "no upstream is slower for being asked by more connections"),
}


def after(verdict: Verdict, before: Signals, conditions: Iterable[Mapping[str, Any]], now: float) -> Signals:
    """The signals of the upstreams that there are. `conditions`: as they stand, which a new leader goes on from."""
    stand = {condition["type"]: condition for condition in conditions}
    signals: dict[str, dict[str, Signal]] = {}
    for name, cause in SIGNALS.items():
        known, named = before.get(name, {}), _named(stand.get(name))
        signals[name] = {
            upstream: known.get(upstream, Signal(upstream in named)).after(each.cause is cause, now)
            for upstream, each in verdict.upstreams.items()
        }
    return signals


def state(name: str, verdict: Verdict, signals: Mapping[str, Signal], old: Mapping[str, Any] | None) -> State:
    """A condition. Its words stand as long as they name the same upstreams: figures are in the columns. `old`: as it is
    now."""
    holds = {upstream for upstream, signal in signals.items() if signal.holds}
    if old is not None and (old["status"] == "True") == bool(holds) and _named(old) == holds:
        return State(name, bool(holds), old["reason"], old["message"])
    if not holds:
        return State(name, False, *CALM[name])
    return State(name, True, str(SIGNALS[name]), because(name, verdict, signals))


def because(name: str, verdict: Verdict, signals: Mapping[str, Signal]) -> str:
    """The upstreams that it is said of, and why. With one of them it may be well just now."""
    cause, found = SIGNALS[name], [upstream for upstream, signal in signals.items() if signal.holds]
    whys = {name: each.message for name, each in verdict.upstreams.items() if each.cause is cause}
    return "; ".join(f"{upstream}: {whys.get(upstream, 'it was so a moment ago')}" for upstream in found)


def _named(condition: Mapping[str, Any] | None) -> set[str]:
    """The upstreams that `because` has named in a condition that holds."""
    if condition is None or condition["status"] != "True":
        return set()
    return set(re.findall(r"(?:^|; )([a-z0-9-]+): ", condition["message"]))
