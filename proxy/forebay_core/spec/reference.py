"""The reference of the document, from the model: `python -m forebay_core.spec.reference` prints it."""

import sys
from collections.abc import Iterator
from typing import Any

import yaml

from forebay_core.spec.rules import RULES
from forebay_core.spec.schema import describe, document_schema, tree
from forebay_core.spec.status import Status
from forebay_core.spec.values import Json

_HEAD = """\
<!-- Made by `python -m forebay_core.spec.reference`. Don't edit. -->
# ProxyPool

The document that `forebay run -f` takes, and the custom resource of the cluster: the same fields, but for
those marked *local mode* or *cluster*. An unknown field (but in `metadata`, where Kubernetes has others: they are
ignored), a value of another type (`"10"` is no integer) and a field that the protocol has no use for are refused. A
document is refused whole, with every problem of its fields; a rule over several fields is checked once these are valid,
so that mending what was told may bring up more. A null field is an absent one.

- A duration is one to four whole numbers with a unit, `h`, `m`, `s` or `ms`: `500ms`, `30s`, `1m30s`.
- A size is a number of bytes, or one with the suffix `Ki`, `Mi` or `Gi`: `65536`, `64Ki`.
- A Secret is named, never quoted: `{name, key}`. In local mode a file takes its place.
- The limit of an upstream in one replica is `size + maxOverflow`, or the connections granted from the budget
  where these are fewer. The maximum of replicas is `autoscaling.maxReplicas`, else `replicas`.

"""


def render() -> str:
    """The reference as Markdown."""
    schema = document_schema()
    sections = ["".join(_section("document", schema, level=2))]
    sections += _sections("metadata", schema["properties"]["metadata"])
    sections += _sections("spec", schema["properties"]["spec"])
    sections.append("## Rules over several fields\n\nBeside the bounds of each field:\n\n" + "".join(_rules()) + "\n")
    sections += _sections("status", tree(Status))
    return _HEAD + "".join(sections).rstrip("\n") + "\n"


def _rules() -> Iterator[str]:
    for rule in RULES:
        if rule.message:
            yield f"- `{rule.scope}`: {rule.message}.\n"


def _sections(path: str, node: Json) -> Iterator[str]:
    """A section for the object, then for each object in it."""
    yield "".join(_section(path, node, level=2 if "." not in path else 3))
    for name, child in node["properties"].items():
        inner, suffix = (child["items"], "[]") if child.get("type") == "array" else (child, "")
        if inner.get("properties"):
            yield from _sections(f"{path}.{name}{suffix}", inner)


def _section(path: str, node: Json, level: int) -> Iterator[str]:
    yield f"{'#' * level} `{path}`\n\n{node['description']}\n\n"
    yield "| field | value | default | |\n|---|---|---|---|\n"
    for name, child in node["properties"].items():
        if "description" in child:
            required = name in node.get("required", ())
            yield f"| `{name}` | {_value(child)} | {_default(child, required)} | {_about(child)} |\n"
    yield "\n"


def _value(node: Json) -> str:
    if node.get("type") == "array":
        items = node["items"]
        inner = "mappings" if items.get("properties") else describe(items).removeprefix("one of ")
        return _cell(f"{describe(node)}: {inner}")
    if node.get("type") == "object":
        return "mapping"
    text = describe(node)
    return _cell(text.removeprefix("a ").removeprefix("an "))


def _default(node: Json, required: bool) -> str:
    if required:
        return "**required**"
    default = node.get("default")
    if default is None or default == {} or (isinstance(default, dict) and node.get("properties")):
        return ""
    others = node.get("x-defaults", {}).items()
    return "; ".join(
        (f"`{_cell(_inline(default))}`", *(f"with {protocol} `{_cell(_inline(value))}`" for protocol, value in others))
    )


def _inline(value: Any) -> str:
    text: str = yaml.safe_dump(value, default_flow_style=True, sort_keys=False, width=1000)
    return text.removesuffix("\n").removesuffix("\n...")


def _about(node: Json) -> str:
    marks = []
    if "x-protocol" in node:
        marks.append(f"*{' and '.join(node['x-protocol'])} only.* ")
    if "x-form" in node:
        marks.append("*local mode.* " if node["x-form"] == "local" else "*cluster.* ")
    return "".join(marks) + _cell(node["description"])


def _cell(text: str) -> str:
    return text.replace("|", "\\|")


if __name__ == "__main__":
    sys.stdout.write(render())
