"""The reference is fresh and names every field."""

from pathlib import Path

from forebay_core.spec import reference
from forebay_core.spec.schema import document_schema
from forebay_core.spec.values import Json

FILE = Path(__file__).parents[3] / "docs" / "reference" / "proxypool.md"


def test_the_file_is_fresh() -> None:
    assert FILE.read_text() == reference.render(), "run: python -m forebay_core.spec.reference > docs/reference/..."


def _count(node: Json) -> int:
    fields = node.get("properties", {}).values()
    return sum(1 + _count(field.get("items", field)) for field in fields)


def test_every_field_has_a_row() -> None:
    text = reference.render().split("## Rules")[0]
    rows = [line for line in text.splitlines() if line.startswith("| `")]
    spec = document_schema()["properties"]["spec"]
    assert len(rows) == _count(spec) + 4 + 1  # the document's own four, and the name
