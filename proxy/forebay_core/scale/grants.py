"""From a verdict to the ledger: what the autoscaler asks of the budget, in the ledger's words.

The only place where the two meet. Neither knows the other's rules: the autoscaler says what each life could use, the
ledger decides what may be granted, and when.
"""

from collections.abc import Mapping
from typing import NamedTuple

from forebay_core.budget.ledger import Key
from forebay_core.scale.verdict import Verdict


class Wanted(NamedTuple):
    """`demand`, `besides` and `capped` as in `forebay_core.budget.decide.Seen`."""

    demand: Mapping[Key, int]  # connections by life and upstream; no entry: nothing is known, so it keeps what it has
    capped: frozenset[str]  # upstreams that have no use for more than the demand
    besides: Mapping[Key, int] = {}  # what is in the demand, and serves nobody


def grants_wanted(verdict: Verdict) -> Wanted:
    """What the verdict asks the ledger for."""
    demand = {(life, name): n for name, upstream in verdict.upstreams.items() for life, n in upstream.wanted.items()}
    besides = {(life, name): n for name, upstream in verdict.upstreams.items() for life, n in upstream.besides.items()}
    return Wanted(demand, frozenset(name for name, each in verdict.upstreams.items() if each.capped), besides)
