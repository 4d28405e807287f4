"""The ledger as it is kept in `status.ledger`, with what is known of each life beside its grants.

    {sequence: 7, lives: [{life, pod, podUID, node, ended, upstreams: {orders: {grant, bound, since}}}]}

A list, because a merge patch replaces lists whole: what is left out is gone.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from forebay_core.ledger import EMPTY, Entry, Ledger


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose life it is, and whether its process is proven dead."""

    pod: str
    uid: str
    node: str
    ended: bool = False


@dataclass(frozen=True, slots=True)
class Book:
    """The ledger, and the owner of every life in it."""

    ledger: Ledger
    owners: Mapping[str, Owner]


BLANK = Book(EMPTY, {})


def read(record: object) -> Book | None:
    """The book in `status.ledger`; None where there is none, or where somebody has made it unreadable: both are
    a lost ledger, never an empty one."""
    if not isinstance(record, Mapping):
        return None
    try:
        owners, entries = {}, {}
        for row in record["lives"]:
            life = str(row["life"])
            owners[life] = Owner(str(row["pod"]), str(row["podUID"]), str(row["node"]), bool(row.get("ended", False)))
            for upstream, entry in row["upstreams"].items():
                entries[life, str(upstream)] = Entry(int(entry["grant"]), int(entry["bound"]), int(entry["since"]))
        return Book(Ledger(int(record["sequence"]), entries), owners)
    except (KeyError, TypeError, ValueError, AttributeError):
        return None


def write(book: Book) -> dict[str, Any]:
    """What `read` takes."""
    lives: dict[str, dict[str, Any]] = {}
    for (life, upstream), entry in book.ledger.entries.items():
        owner = book.owners[life]
        row = lives.setdefault(
            life, {"life": life, "pod": owner.pod, "podUID": owner.uid, "node": owner.node, "upstreams": {}}
        )
        if owner.ended:
            row["ended"] = True
        row["upstreams"][upstream] = {"grant": entry.grant, "bound": entry.bound, "since": entry.since}
    return {"sequence": book.ledger.sequence, "lives": list(lives.values())}
