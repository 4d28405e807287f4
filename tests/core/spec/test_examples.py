"""Every example is a document of its form."""

from pathlib import Path

import pytest

from forebay_core.spec.load import DocumentError, load
from forebay_core.spec.values import Form

EXAMPLES = sorted((Path(__file__).parents[3] / "manifests" / "examples").glob("*.yaml"))


def form_of(path: Path) -> Form:
    return "local" if path.stem.endswith("local") else "cluster"


def test_the_examples_are_there() -> None:
    assert {path.stem for path in EXAMPLES} >= {
        "http",
        "tcp",
        "http-routes",
        "tls",
        "local",
        "postgres",
        "postgres-local",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_the_example_loads(path: Path) -> None:
    assert load(path.read_text(), form=form_of(path)).spec.upstreams


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_in_the_other_form_a_hint_says_what_to_change(path: Path) -> None:
    with pytest.raises(DocumentError, match="expected only in"):
        load(path.read_text(), form="cluster" if form_of(path) == "local" else "local")
