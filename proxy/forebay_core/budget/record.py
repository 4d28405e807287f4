"""The ledger as plain JSON, as it stands in the resource's status."""

from collections.abc import Mapping
from typing import Any

from forebay_core.budget.ledger import Entry, Home, Key, Ledger


class RecordError(ValueError):
    """The record is not a ledger; the message says where. To be treated as lost (`rebuild`), never as empty."""


def dump(ledger: Ledger) -> dict[str, Any]:
    """Entries are a list, in the order in which lives joined."""
    return {
        "sequence": ledger.sequence,
        "inForce": dict(ledger.in_force),
        "entries": [
            {"life": life, "upstream": upstream, **entry._asdict(), "home": entry.home._asdict()}
            for (life, upstream), entry in ledger.entries.items()
        ],
    }


def load(record: Any) -> Ledger:
    """Raises RecordError."""
    entries: dict[Key, Entry] = {}
    for index, each in enumerate(_get(record, "ledger", "entries", list)):
        at = f"ledger.entries[{index}]"
        key = _get(each, at, "life", str), _get(each, at, "upstream", str)
        if key in entries:
            raise RecordError(f"{at}: a second entry for life {key[0]!r} and upstream {key[1]!r}")
        home = _get(each, at, "home", dict)
        entries[key] = Entry(
            grant=_count(each, at, "grant"),
            bound=_count(each, at, "bound"),
            since=_count(each, at, "since"),
            home=Home(*(_get(home, f"{at}.home", name, str) for name in Home._fields)),
        )
    forces = _get(record, "ledger", "inForce", dict)
    in_force = {str(name): _count(forces, "ledger.inForce", name) for name in forces}
    return Ledger(_count(record, "ledger", "sequence"), entries, in_force)


def _get(record: Any, at: str, name: str, kind: type) -> Any:
    if not isinstance(record, Mapping):
        raise RecordError(f"{at}: {record!r}; expected a mapping")
    value = record.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise RecordError(f"{at}.{name}: {value!r}; expected {kind.__name__}")
    return value


def _count(record: Any, at: str, name: str) -> int:
    value: int = _get(record, at, name, int)
    if value < 0:
        raise RecordError(f"{at}.{name}: {value}; expected 0 or more")
    return value
