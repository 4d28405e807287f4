"""The model's JSON schema as one tree: no `$ref`, no `anyOf` with null, markers kept (see `values`).

The generators of the custom resource and of the reference read it, as do the messages about bad documents.
"""

import functools
from typing import Any

from forebay_core.spec.model import ProxyPool
from forebay_core.spec.values import Json, Model

Loc = tuple[str | int, ...]


@functools.cache
def document_schema() -> Json:
    """The schema of a whole ProxyPool document, status left out. Not to be changed by the caller."""
    return tree(ProxyPool)


def tree(model: type[Model]) -> Json:
    """The schema of `model` as one tree."""
    # Serialization mode renders defaults as a document writes them: 20ms, 64Ki.
    schema = model.model_json_schema(mode="serialization")
    definitions = schema.pop("$defs", {})
    flat: Json = _flatten(schema, definitions)
    return flat


def _flatten(node: Any, definitions: Json) -> Any:
    if isinstance(node, list):
        return [_flatten(item, definitions) for item in node]
    if not isinstance(node, dict):
        return node
    if "$ref" in node:  # what is said beside a reference, a field's description say, beats what it refers to
        target = definitions[node["$ref"].removeprefix("#/$defs/")]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _flatten({**target, **beside}, definitions)
    if "anyOf" in node:  # the model has no other unions than `X | None`
        (target,) = (option for option in node["anyOf"] if option != {"type": "null"})
        rest = {key: value for key, value in node.items() if key != "anyOf"}
        if rest.get("default", ...) is None:
            del rest["default"]
        return _flatten({**target, **rest}, definitions)
    flat = {
        key: {name: _flatten(child, definitions) for name, child in value.items()}
        if key == "properties"
        else _flatten(value, definitions)
        for key, value in node.items()
        if key != "title"
    }
    if "const" in flat:
        flat["enum"] = [flat.pop("const")]
    return flat


def node_at(loc: Loc) -> Json:
    """The schema at a place of the document; empty where the schema knows no such place."""
    node = document_schema()
    for part in loc:
        if isinstance(part, int):
            node = node.get("items", {})
        else:
            values = node.get("additionalProperties")  # of a mapping from any name
            node = node.get("properties", {}).get(part, values if isinstance(values, dict) else {})
    return node


def describe(node: Json) -> str:
    """What a valid value is, as a noun phrase: `an integer from 1 to 65535`."""
    if "x-expected" in node:
        return str(node["x-expected"])
    if "enum" in node:
        return ("one of " if len(node["enum"]) > 1 else "") + ", ".join(node["enum"])
    match node.get("type"):
        case "boolean":
            return "true or false"
        case "integer":
            return f"an integer{_range(node, 'minimum', 'maximum')}"
        case "number":
            return f"a number{_range(node, 'minimum', 'maximum')}"
        case "array":
            return f"a list{_range(node, 'minItems', 'maxItems')}"
        case "object":
            required = ", ".join(node.get("required", ()))
            return f"a mapping with {required}" if required else "a mapping"
        case "string":
            return f"text{_range(node, 'minLength', 'maxLength')}"
    return "a valid value"


def _range(node: Json, least: str, most: str) -> str:
    unit = {"maxItems": " items", "maxLength": " characters"}.get(most, "")
    low, high = node.get(least), node.get(most)
    if low is not None and high is not None:
        return f" from {low} to {high}" if not unit else f" of {low} to {high}{unit}"
    if high is not None:
        return f" of at most {high}{unit}"
    return "" if low is None else f" of at least {low}{unit}"


def placeholder(node: Json) -> Any:
    """Some valid value. Stands in for a bad one so that the rest of a document can still be checked."""
    if "enum" in node:
        return node["enum"][0]
    match node.get("type"):
        case "object":
            return {name: placeholder(node["properties"][name]) for name in node.get("required", ())}
        case "array":
            return [placeholder(node["items"])] * node.get("minItems", 0)
        case "integer" | "number":
            return node.get("minimum", 0)
        case "string":
            return node.get("example", "x")
    raise LookupError(f"no placeholder for {node}")
