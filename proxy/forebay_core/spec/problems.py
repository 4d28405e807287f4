"""What is wrong with a document, in plain words: path, value, and what was expected."""

import difflib
import json
import re
from collections.abc import Mapping
from typing import Any, NamedTuple

from pydantic_core import ErrorDetails

from forebay_core.spec.model import UNBUILT
from forebay_core.spec.schema import Loc, describe, node_at

_USERINFO = re.compile(r"//.*@")
_PLAIN = re.compile(r"[\w-]+\Z", re.ASCII)
_LONGEST = 60  # characters of a value that are shown


class Problem(NamedTuple):
    """One thing wrong. `value` is as people may see it: shortened, `missing`, empty for an unknown field."""

    path: str
    value: str
    expected: str

    def __str__(self) -> str:
        return ": ".join(part for part in self if part)


class DocumentError(Exception):
    """A document is refused; `problems` holds everything that is wrong with it."""

    def __init__(self, problems: tuple[Problem, ...]) -> None:
        super().__init__(problems)
        self.problems = problems

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))


def path_of(loc: Loc) -> str:
    """`("spec", "upstreams", 0)` as `spec.upstreams[0]`; the whole document as `document`."""
    path = "".join(
        f".{part}" if isinstance(part, str) and _PLAIN.match(part) else f"[{_shorten(json.dumps(part))}]"
        for part in loc
    )
    return path.lstrip(".") or "document"


def shown(value: Any) -> str:
    """A value for a message: one short line, a URL without its user and password."""
    if isinstance(value, Mapping):
        return "a mapping"
    if isinstance(value, list | tuple):
        return f"a list of {len(value)}"
    return _shorten(json.dumps(_USERINFO.sub("//(not shown)@", value) if isinstance(value, str) else value))


def _shorten(text: str) -> str:
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}..."


def from_pydantic(error: ErrorDetails) -> Problem:
    """The problem that pydantic found, with what the schema expects at that place."""
    loc = error["loc"]
    path = path_of(loc)
    if error["type"] == "missing":
        return Problem(path, "missing", f"expected {describe(node_at(loc))}")
    if error["type"] == "extra_forbidden":  # its value says nothing, and may be a password
        return Problem(path, "", _unknown(loc))
    if error["type"] == "value_error":  # the model's own words
        return Problem(path, shown(error["input"]), str(error["ctx"]["error"]))
    return Problem(path, shown(error["input"]), f"expected {describe(node_at(loc))}")


def _unknown(loc: Loc) -> str:
    *parent, name = loc
    if name in UNBUILT:
        return f"{name} is not built yet"
    known = list(node_at(tuple(parent)).get("properties", ()))
    by_lower = {field.lower(): field for field in known}
    close = difflib.get_close_matches(str(name).replace("_", "").lower(), by_lower, n=1, cutoff=0.75)
    if close:
        return f"unknown field, did you mean {by_lower[close[0]]}?"
    return f"unknown field, expected one of {', '.join(known)}" if known else "unknown field"
