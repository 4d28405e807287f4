"""Strict JSON schemas for kubeconform, made from sources that are Go modules: Kubernetes' own OpenAPI document, and the
definitions that the Prometheus operator ships. No schema is fetched from a web site that may be away."""

import functools
import json
import subprocess
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml
from tests.support.process import need

Schema = dict[str, Any]

KUBERNETES = "k8s.io/kubernetes@v1.34.4"
PROMETHEUS_OPERATOR = "github.com/prometheus-operator/prometheus-operator@v0.85.0"
LOCATION = "{{.ResourceKind}}.json"  # of a schema in the directory, as kubeconform puts it together


def module(path: str) -> Path:
    """Where a Go module is, downloaded if need be. Skips the test where there is no go, or no way to the module."""
    done = subprocess.run([need("go"), "mod", "download", "-json", path], text=True, capture_output=True, cwd="/")
    if done.returncode != 0:
        pytest.skip(f"needs the Go module {path}: {done.stderr or json.loads(done.stdout)['Error']}")
    return Path(json.loads(done.stdout)["Dir"])


def write(directory: Path, *definitions: Path) -> None:
    """One file per kind: those of Kubernetes, the Prometheus operator's, and those of the given definitions."""
    for kind, schema in kubernetes().items():
        _write(directory, kind, schema)
    shipped = module(PROMETHEUS_OPERATOR) / "example" / "prometheus-operator-crd"
    for definition in (*shipped.glob("*_podmonitors.yaml"), *shipped.glob("*_prometheusrules.yaml"), *definitions):
        for kind, schema in custom(yaml.safe_load(definition.read_text())):
            _write(directory, kind, schema)


def _write(directory: Path, kind: str, schema: Schema) -> None:
    (directory / f"{kind.lower()}.json").write_text(json.dumps(schema))


@functools.cache
def kubernetes() -> Mapping[str, Schema]:
    """By kind, in its newest stable version; each with all definitions."""
    document = json.loads((module(KUBERNETES) / "api" / "openapi-spec" / "swagger.json").read_text())
    definitions = {name: strict(schema) for name, schema in document["definitions"].items()}
    found: dict[str, Schema] = {}
    for name, schema in document["definitions"].items():
        for kind in schema.get("x-kubernetes-group-version-kind", ()):
            if kind["version"] in ("v1", "v2"):
                needed = {part: definitions[part] for part in reached(name, definitions)}
                found[kind["kind"]] = {"$ref": f"#/definitions/{name}", "definitions": needed}
    return found


def reached(name: str, definitions: Mapping[str, Schema]) -> set[str]:
    """The names of this definition and of all that it refers to."""
    found: set[str] = set()
    rest = [name]
    while rest:
        one = rest.pop()
        if one not in found:
            found.add(one)
            rest += references(definitions[one])
    return found


def references(schema: Any) -> Iterable[str]:
    if isinstance(schema, dict):
        if isinstance(target := schema.get("$ref"), str):
            yield target.removeprefix("#/definitions/")
        schema = list(schema.values())
    if isinstance(schema, list):
        for part in schema:
            yield from references(part)


def custom(definition: Mapping[str, Any]) -> Iterable[tuple[str, Schema]]:
    """The kind of a CustomResourceDefinition, with the schema of its first version. What the API server adds to every
    object, metadata, is not in there."""
    schema = strict(definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"])
    for free in ("apiVersion", "kind", "metadata"):
        schema["properties"][free] = {}
    yield definition["spec"]["names"]["kind"], schema


def strict(schema: Any) -> Any:
    """The same in JSON Schema, refusing fields that are not declared."""
    if isinstance(schema, list):
        return [strict(part) for part in schema]
    if not isinstance(schema, dict):
        return schema
    if schema.get("format") == "int-or-string" or schema.get("x-kubernetes-int-or-string") is True:
        return {"type": ["integer", "string"]}
    made = {key: strict(value) for key, value in schema.items() if key != "properties"}
    if "properties" in schema:
        made["properties"] = {name: strict(part) for name, part in schema["properties"].items()}
        if schema.get("x-kubernetes-preserve-unknown-fields") is not True:
            made.setdefault("additionalProperties", False)
    return made
