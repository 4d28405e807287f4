"""From YAML text, or an object of the API server, to a ProxyPool; or to every problem that it has.

YAML is read as JSON's types in YAML 1.2's core schema: `on`, `yes`, `1:30` and dates are text, tags other
than those of JSON's types are refused, and so is a key that stands twice.
"""

import hashlib
import json
import re
from collections.abc import Hashable, Mapping
from typing import Any

import yaml
from pydantic import ValidationError
from pydantic_core import ErrorDetails

from forebay_core.spec.model import ProxyPool
from forebay_core.spec.problems import DocumentError, Problem, from_pydantic, path_of, shown
from forebay_core.spec.rules import findings
from forebay_core.spec.schema import Loc, node_at, placeholder
from forebay_core.spec.values import Form

__all__ = ["DocumentError", "Problem", "document_hash", "load", "parse"]

LARGEST_TEXT = 1 << 20  # characters; what fits into a ConfigMap
DEEPEST = 100  # levels of nesting
MOST_VALUES = 100_000  # counted with aliases resolved, so that a small text can't stand for a huge document

_Base: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)
_KINDS = ("null", "bool", "int", "float", "str", "seq", "map")  # JSON's types, by YAML's names


class _Loader(_Base):  # type: ignore[misc]
    """YAML to plain dicts, lists, strings, numbers, booleans and None."""

    yaml_implicit_resolvers: dict[str, list[tuple[str, re.Pattern[str]]]] = {}
    yaml_constructors = {
        tag: _Base.yaml_constructors[tag] for tag in (*(f"tag:yaml.org,2002:{kind}" for kind in _KINDS), None)
    }

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        try:
            return super().construct_object(node, deep)
        except (ValueError, LookupError, TypeError):  # of a tag that is written out, as in `!!int two`
            problem = f"{shown(node.value)} is no {node.tag.rpartition(':')[2]}"
            raise yaml.constructor.ConstructorError(problem=problem, problem_mark=node.start_mark) from None

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        if not isinstance(node, yaml.MappingNode):
            raise yaml.constructor.ConstructorError(problem="expected a mapping", problem_mark=node.start_mark)
        seen = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise yaml.constructor.ConstructorError(problem="a key must be text", problem_mark=key.start_mark)
            if key.value in seen:
                raise yaml.constructor.ConstructorError(
                    problem=f"the key {shown(key.value)} stands twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        mapping: dict[Hashable, Any] = super().construct_mapping(node, deep)
        return mapping


for _tag, _pattern, _first in (
    ("null", r"(?:~|null|Null|NULL|)\Z", ["~", "n", "N", ""]),
    ("bool", r"(?:true|True|TRUE|false|False|FALSE)\Z", list("tTfF")),
    ("int", r"[-+]?(?:0|[1-9][0-9]{0,17})\Z", list("-+0123456789")),
    (
        "float",
        r"[-+]?(?:\.[0-9]+|(?:0|[1-9][0-9]{0,17})(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]{1,3})?\Z",
        list("-+.0123456789"),
    ),
):
    _Loader.add_implicit_resolver(f"tag:yaml.org,2002:{_tag}", re.compile(_pattern), _first)


def load(text: str, *, form: Form) -> ProxyPool:
    """The document in `text`. Raises DocumentError with every problem that it has."""
    return parse(_yaml(text), form=form)


def parse(document: object, *, form: Form) -> ProxyPool:
    """The document in plain values, as YAML or the API server gives them; `status` is not looked at.
    Raises DocumentError with every problem that it has.
    """
    if not isinstance(document, Mapping):
        raise DocumentError((Problem("document", shown(document), "expected a mapping, a ProxyPool"),))
    plain = _plain({key: value for key, value in document.items() if key != "status"}, ())
    problems: list[Problem] = []
    bad: list[Loc] = []
    pool = _validated(plain, problems, bad)
    for found in findings(pool, form):
        if not any(_overlap(loc, other) for loc in (found.loc, *found.needs) for other in bad):
            value = _at(plain, found.loc)
            text = "missing" if value is None else shown(value)
            problems.append(Problem(path_of(found.loc), text, found.expected))
    if problems:
        raise DocumentError(tuple(problems))
    return pool


def document_hash(pool: ProxyPool) -> str:
    """16 hexadecimal digits, the same for two documents that want the same: order, spelling of durations and
    sizes, and defaults written out make no difference, nor does a field that a later version adds.
    """
    spec = pool.spec.model_dump(mode="json", exclude_defaults=True)
    canonical = json.dumps(spec, sort_keys=True, separators=(",", ":"))
    return hashlib.sha256(canonical.encode()).hexdigest()[:16]


def _yaml(text: str) -> object:
    if len(text) > LARGEST_TEXT:
        raise DocumentError((Problem("document", "", f"expected at most {LARGEST_TEXT} characters"),))
    try:
        _shallow(text)
        documents = list(yaml.load_all(text, Loader=_Loader))
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        place = f"line {mark.line + 1}, column {mark.column + 1}" if mark else "document"
        raise DocumentError((Problem(place, "", f"expected valid YAML: {error.problem}"),)) from None
    except yaml.YAMLError as error:
        first_line = str(error).splitlines()[0]
        raise DocumentError((Problem("document", "", f"expected valid YAML: {first_line}"),)) from None
    if len(documents) != 1:
        expected = f"expected one document, found {len(documents)}"
        raise DocumentError((Problem("document", "", expected),))
    _bounded(documents[0])
    return documents[0]


def _shallow(text: str) -> None:
    """Refuses deep nesting by the stream of events: PyYAML would recurse over it and overflow the C stack."""
    depth = 0
    for event in yaml.parse(text, Loader=_Loader):
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        if depth > DEEPEST:
            raise yaml.YAMLError(f"nested over {DEEPEST} deep")


def _bounded(document: object) -> None:
    """Refuses what is huge, deep or endless once its aliases are resolved."""
    count, stack = 0, [(document, 0)]
    while stack:
        value, depth = stack.pop()
        count += 1
        children = value.values() if isinstance(value, dict) else value if isinstance(value, list) else ()
        stack.extend((child, depth + 1) for child in children)
        if depth > DEEPEST or count + len(stack) > MOST_VALUES:
            expected = f"expected at most {MOST_VALUES} values, {DEEPEST} deep, aliases resolved"
            raise DocumentError((Problem("document", "", expected),))


def _plain(value: Any, loc: Loc) -> Any:
    """A copy in dicts and lists, without what is null: as in the API server, null is absent."""
    if loc == ("spec", "template"):  # passed on as it is
        return value
    if isinstance(value, Mapping):
        return {str(key): _plain(child, (*loc, key)) for key, child in value.items() if child is not None}
    if isinstance(value, list):
        return [_plain(child, (*loc, index)) for index, child in enumerate(value)]
    return value


def _validated(plain: dict[str, Any], problems: list[Problem], bad: list[Loc]) -> ProxyPool:
    """The pool; what is bad in `plain` is noted and mended, so that the rules can still be checked on the rest."""
    while True:
        try:
            return ProxyPool.model_validate(plain, by_alias=True, by_name=False)
        except ValidationError as error:
            errors = [item for item in error.errors(include_url=False) if not _only_by_its_items(item)]
            places = [item["loc"] for item in errors]
            if set(places) <= set(bad):  # a mistake here: what was mended is still bad
                raise
            problems += map(from_pydantic, errors)
            bad += places
            plain = _mended(plain, places)


def _only_by_its_items(error: ErrorDetails) -> bool:
    """Pydantic counts the valid items only, and calls a list too short where the others are bad."""
    return error["type"] == "too_short" and len(error["input"]) >= error["ctx"]["min_length"]


def _mended(document: dict[str, Any], bad: list[Loc]) -> dict[str, Any]:
    """A valid document: what is bad at these places removed, or replaced where something must stand."""
    root: dict[str, Any] = {"": document}
    for loc in sorted(bad, key=len, reverse=True):  # the innermost first: an outer one replaces it
        *outer, last = ("", *loc)
        holder: Any = root
        for part in outer:
            holder = holder[part]
        node = node_at(loc)
        required = isinstance(last, int) or not outer or last in node_at(loc[:-1]).get("required", ())
        if required:
            holder[last] = placeholder(node)
        else:
            holder.pop(last, None)
    mended: dict[str, Any] = root[""]
    return mended


def _overlap(one: Loc, other: Loc) -> bool:
    shorter = min(len(one), len(other))
    return one[:shorter] == other[:shorter]


def _at(document: Any, loc: Loc) -> Any:
    for part in loc:
        try:
            document = document[part]
        except (KeyError, IndexError):
            return None
    return document
