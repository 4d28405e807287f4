"""The CustomResourceDefinition, from the model: `python -m forebay_core.spec.crd` prints it.

A structural schema (apiextensions v1): no markers, no local-only fields, CEL for the rules over several
fields. A field that some protocol refuses, or has another default for, has no `default` in it, or the API server
would set what it then must refuse, or what another protocol takes; its description names the default. Objects have
none either: what is absent stays absent in the stored object.
"""

import copy
import sys
from collections.abc import Iterator
from typing import Any

import yaml

from forebay_core.spec.model import API_VERSION
from forebay_core.spec.rules import RULES
from forebay_core.spec.schema import document_schema, tree
from forebay_core.spec.status import Status
from forebay_core.spec.values import Json

GROUP, VERSION = API_VERSION.split("/")
COLUMNS = (
    ("Ready", "string", '.status.conditions[?(@.type=="Ready")].status', "Whether the pool can serve."),
    ("Replicas", "integer", ".status.replicas", "Replicas there are."),
    ("Granted", "integer", ".status.granted", "Connections granted, of the upstream that waits longest."),
    ("Budget", "integer", ".status.budget", "Connections that may be granted, of that upstream."),
    ("Waiting", "integer", ".status.waiting", "Requests that wait for a connection of that upstream."),
    ("WaitP95", "string", ".status.waitP95", "95 of 100 requests waited less for a connection of it."),
    ("LimitedBy", "string", ".status.limitedBy", "Why they wait."),
    ("Age", "date", ".metadata.creationTimestamp", "Time since the pool was made."),
)
# What apiextensions v1 allows in a schema, of what ours has; everything that is no marker must be in here.
_ALLOWED = {"type", "description", "default", "enum", "pattern", "format", "example", "required", "minimum"}
_ALLOWED |= {"maximum", "minLength", "maxLength", "minItems", "maxItems", "maxProperties"}


def crd() -> Json:
    """The CustomResourceDefinition as plain values."""
    return {
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {"name": f"proxypools.{GROUP}"},
        "spec": {
            "group": GROUP,
            "scope": "Namespaced",
            "names": {
                "kind": "ProxyPool",
                "listKind": "ProxyPoolList",
                "plural": "proxypools",
                "singular": "proxypool",
                "shortNames": ["pp"],
            },
            "versions": [
                {
                    "name": VERSION,
                    "served": True,
                    "storage": True,
                    "schema": {"openAPIV3Schema": _document()},
                    "subresources": {
                        "status": {},
                        "scale": {
                            "specReplicasPath": ".spec.replicas",
                            "statusReplicasPath": ".status.replicas",
                            "labelSelectorPath": ".status.selector",
                        },
                    },
                    "additionalPrinterColumns": [
                        {"name": name, "type": kind, "jsonPath": path, "description": description}
                        for name, kind, path, description in COLUMNS
                    ],
                }
            ],
        },
    }


def _document() -> Json:
    source = copy.deepcopy(document_schema())
    properties = source["properties"]
    spec = properties["spec"]
    for checked in RULES:
        if checked.cel:
            _add_rule(_at_scope(source, checked.scope), {"rule": checked.cel, "message": checked.message})
    for rule in _protocol_rules(spec, ()):
        _add_rule(spec, rule)
    name = properties["metadata"]["properties"]["name"]
    document: Json = _structural(source)
    document["properties"] |= {
        # Kubernetes' own; of metadata a schema may bound nothing but the name.
        "apiVersion": {"type": "string", "description": properties["apiVersion"]["description"]},
        "kind": {"type": "string", "description": properties["kind"]["description"]},
        "metadata": {"type": "object", "properties": {"name": _structural(name)}},
        "status": _structural(tree(Status)),
    }
    document["required"] = ["metadata", "spec"]
    return document


def _at_scope(node: Json, scope: str) -> Json:
    for part in scope.split("."):
        node = node["properties"][part.removesuffix("[]")]
        if part.endswith("[]"):
            node = node["items"]
    return node


def _add_rule(node: Json, rule: Json) -> None:
    node.setdefault("x-kubernetes-validations", []).append(rule)


def _protocol_rules(node: Json, path: tuple[str, ...]) -> Iterator[Json]:
    """A rule of the spec for every field below `node`, at `path`, that is only for one protocol."""
    for name, child in node.get("properties", {}).items():
        place = (*path, name)
        if "x-protocol" in child:
            only = child["x-protocol"]
            yield {
                "rule": f"self.protocol in {only} || {_absent(place)}",
                "message": f"expected {'.'.join(place)} only with protocol {' or '.join(only)}",
            }
        if child.get("type") == "array":
            yield from _protocol_rules(child["items"], (*path, f"{name}[]"))
        else:
            yield from _protocol_rules(child, place)


def _absent(path: tuple[str, ...], holder: str = "self") -> str:
    """CEL that is true where nothing stands at `path` below `holder`."""
    part, *rest = path
    name = part.removesuffix("[]")
    here = f"{holder}.{name}"
    if part.endswith("[]"):
        inner = f"{here}.all(item, {_absent(tuple(rest), 'item')})"
    elif rest:
        inner = _absent(tuple(rest), here)
    else:
        return f"!has({here})"
    return f"(!has({here}) || {inner})"


def _structural(node: Any) -> Any:
    """`node` as a structural schema."""
    flat: Json = {}
    for key, value in node.items():
        if key == "properties":
            fields = {name: child for name, child in value.items() if child.get("x-form") != "local"}
            flat[key] = {name: _structural(child) for name, child in fields.items()}
        elif key == "items" or (key == "additionalProperties" and isinstance(value, dict)):
            flat[key] = _structural(value)
        elif key == "default":
            if node.get("type") == "object" or value == []:
                continue
            if not {"x-protocol", "x-defaults"} & set(node):
                flat[key] = value
        elif key == "additionalProperties":  # the API server drops unknown fields, or refuses them, by itself
            continue
        elif key in _ALLOWED or key.startswith("x-kubernetes-"):
            flat[key] = value
        elif not key.startswith("x-"):
            raise ValueError(f"a schema of the API server can't have {key}")
    if "x-protocol" in node or "x-defaults" in node:
        flat["description"] += _stated_default(node)
    if "x-protocol" in node:
        flat["description"] += f" Only with {' or '.join(node['x-protocol'])}."
    return flat


def _stated_default(node: Json) -> str:
    default = node.get("default")
    if default is None or isinstance(default, dict | list):
        return ""
    others = "".join(f"; with {protocol} {value}" for protocol, value in node.get("x-defaults", {}).items())
    return f" Default: {default}{others}."


def render() -> str:
    """The CustomResourceDefinition as YAML, with a note on where it comes from."""
    return "# Made by `python -m forebay_core.spec.crd`. Don't edit.\n" + yaml.safe_dump(
        crd(), sort_keys=False, width=110, allow_unicode=True
    )


if __name__ == "__main__":
    sys.stdout.write(render())
