"""A table of Prometheus metrics: its rows, their samples, its reference. Only the shells know the client library."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from itertools import accumulate
from typing import Any, Generic, NamedTuple, TypeVar

from forebay_core.histogram import SECONDS

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
PREFIX = "forebay_"
LE = [*(repr(bound) for bound in SECONDS), "+Inf"]

Source = TypeVar("Source")
Readings = Iterable[tuple[tuple[str, ...], Any]]  # label values, and a number or a histogram (counts, sum)
Sample = tuple[str, dict[str, str], float]  # name, labels, value


class Row(NamedTuple, Generic[Source]):
    """One metric. `read` yields its samples' values; where two have the same labels, `combine` makes one of them
    (None: they are added)."""

    name: str  # without the prefix
    type: str
    labels: tuple[str, ...]
    help: str
    read: Callable[[Source], Readings]
    combine: Callable[[Any, Any], Any] | None = None

    @property
    def series(self) -> list[str]:
        """The names of its time series."""
        suffixes = ("_bucket", "_count", "_sum") if self.type == "histogram" else ("",)
        return [f"{PREFIX}{self.name}{suffix}" for suffix in suffixes]

    def samples(self, labels: Mapping[str, str], value: Any) -> Iterator[Sample]:
        """One value's: a number's own, a histogram's cumulated buckets, count and sum."""
        if self.type != "histogram":
            yield PREFIX + self.name, dict(labels), value
            return
        counts, total = value
        cumulated = list(accumulate(counts))
        for le, number in zip(LE, cumulated, strict=True):
            yield f"{PREFIX}{self.name}_bucket", {**labels, "le": le}, number
        yield f"{PREFIX}{self.name}_count", dict(labels), cumulated[-1]
        yield f"{PREFIX}{self.name}_sum", dict(labels), total


def reference(head: str, rows: Sequence[Row[Any]]) -> str:
    """The table as Markdown, under `head`."""
    lines = (
        f"| `{PREFIX}{row.name}` | {row.type} | {', '.join(f'`{label}`' for label in row.labels)} | {row.help} |\n"
        for row in rows
    )
    bounds = ", ".join(f"{bound:g}" for bound in SECONDS)
    return f"{head}{''.join(lines)}\nThe buckets of every histogram, upper bounds in seconds: {bounds}.\n"
