"""What a rule over several fields is, and what it finds."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from forebay_core.spec.schema import Loc
from forebay_core.spec.values import Form


@dataclass(frozen=True, slots=True)
class Finding:
    """A broken rule: where (relative to the rule's scope), what was expected, what else it rests on."""

    loc: Loc
    expected: str
    needs: tuple[Loc, ...] = ()


Check = Callable[[Any, Form], Iterator[Finding]]


@dataclass(frozen=True, slots=True)
class Rule:
    """A check of the objects at `scope`, and its CEL; none where the API server has other means, or where the
    rule is about local mode."""

    scope: str
    check: Check
    cel: str = ""
    # The API server's. Without numbers: the cost that it estimates for string(int) in CEL is over its limit.
    message: str = ""


class Named(Protocol):
    @property
    def name(self) -> str: ...


def names_differ(field: str, items: Sequence[Named]) -> Iterator[Finding]:
    """The items of a list whose name an earlier one has."""
    first: dict[str, int] = {}
    for index, item in enumerate(items):
        earlier = first.setdefault(item.name, index)
        if earlier != index:
            expected = f"expected a name of its own, {field}[{earlier}] has this one"
            yield Finding((field, index, "name"), expected, ((field, earlier, "name"),))
