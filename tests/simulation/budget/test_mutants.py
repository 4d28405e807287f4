"""Each rule, taken away, is caught: the schedule of the mutant's seed opens more than the budget in force allows."""

from pathlib import Path

import pytest
from tests.simulation.budget import moves
from tests.simulation.budget.mutants import MUTANTS, Mutant, build, caught, table

PAGE = Path(__file__).parents[3] / "docs/explanation/ledger.md"


@pytest.mark.parametrize("mutant", MUTANTS, ids=lambda mutant: mutant.rule.replace(" ", "-"))
def test_a_rule_taken_away_is_caught(mutant: Mutant) -> None:
    module = build(mutant)
    with pytest.raises(module.Violation):
        module.run(mutant.seed)
    assert not caught(moves, mutant.seed), "the real rules fail on this seed too"


def test_an_edit_that_does_not_fit_is_an_error() -> None:
    wrong = Mutant("no such rule", 0, (MUTANTS[0].edits[0]._replace(old="no such line"),))
    with pytest.raises(ValueError, match="no such rule"):
        build(wrong)


def test_the_page_lists_the_mutants_and_their_seeds() -> None:
    page = PAGE.read_text("utf-8")
    assert table() in page, "stale: `python -m tests.simulation.budget.mutants` prints the table"
