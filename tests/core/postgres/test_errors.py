"""What the proxy says: every sentence can be made, and names what it should."""

import re
import string

import pytest

from forebay_core.postgres import errors
from forebay_core.postgres.errors import said


def facts_of(text: str) -> set[str]:
    return {field for _, field, _, _ in string.Formatter().parse(text) if field}


def test_an_exhausted_pool_names_pool_limit_and_cause() -> None:
    told = said("pool_timeout", upstream="orders", database="d", user="u", timeout=5.0, cause="budget", limit=20)
    assert (told.severity, told.sqlstate) == ("ERROR", "53300")
    assert told.message == (
        'no connection to upstream "orders" for database "d" and user "u" within 5 s: '
        "all 20 connections that the budget grants this replica are in use"
    )


@pytest.mark.parametrize("kind", errors._TABLE)
def test_every_case(kind: str) -> None:
    facts: dict[str, object] = dict.fromkeys(facts_of(errors._TABLE[kind].message), "{x}")
    if "timeout" in facts:
        facts["timeout"] = 0.5
    told = said(kind, **facts)
    assert re.fullmatch("[0-9A-Z]{5}", told.sqlstate)
    assert "\n" not in told.message
    assert len(told.message) < 200


@pytest.mark.parametrize("cause", errors.CAUSES)
def test_every_cause(cause: str) -> None:
    assert "{" not in said("not_ready", cause=cause, limit=3).message


def test_a_users_words_are_not_a_template() -> None:
    assert said("wrong_password", user="{cause}").message == 'password authentication failed for user "{cause}"'


def test_the_sqlstates_that_the_design_names() -> None:
    assert {"53300", "57P01", "57P03", "08006", "08P01", "28P01", "28000", "3D000"} <= {
        entry.sqlstate for entry in errors._TABLE.values()
    }
