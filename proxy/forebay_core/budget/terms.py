"""The terms of a document: what it says about every upstream with a budget, as the ledger takes it."""

from forebay_core.budget import shares
from forebay_core.budget.ledger import Terms
from forebay_core.spec.model import Spec


def terms(spec: Spec) -> dict[str, Terms]:
    """By upstream, of those that are bounded. Floors are of use: `spec.load.parse` has seen to that."""
    return {
        upstream.name: shares.terms(
            upstream.budget.max_connections - upstream.budget.reserved,
            spec.maximum_replicas,
            ceiling=upstream.pool.size + upstream.pool.max_overflow,
            session=spec.session,
            linger=upstream.budget.linger,
        )
        for upstream in spec.upstreams
        if upstream.budget is not None
    }
