"""Durations and sizes as a document writes them, and as the program uses them.

A duration is a Gateway API duration (GEP-2257): one to four numbers of up to five digits, each with a unit
of h, m, s or ms. It becomes seconds (float). A size is an integer, or one with the binary suffix Ki, Mi or Gi
(the Kubernetes quantities that have one meaning only: `1M` and `1m` are refused). It becomes bytes (int).
"""

import re

DURATION_PATTERN = r"^([0-9]{1,5}(h|m|s|ms)){1,4}$"
DURATION_LENGTH = 28  # four times five digits and `ms`
SIZE_PATTERN = r"^[0-9]{1,16}(Ki|Mi|Gi)?$"
SIZE_LENGTH = 18

# `\Z` where the schema has `$`: in Python that one lets a final newline pass.
_DURATION = re.compile(DURATION_PATTERN.removesuffix("$") + r"\Z", re.ASCII)
_PART = re.compile(r"([0-9]{1,5})(ms|h|m|s)", re.ASCII)
_MILLISECONDS = {"h": 3_600_000, "m": 60_000, "s": 1000, "ms": 1}
_SIZE = re.compile(r"([0-9]{1,16})(Ki|Mi|Gi)?\Z", re.ASCII)
_BYTES = {None: 1, "Ki": 1 << 10, "Mi": 1 << 20, "Gi": 1 << 30}


def parse_duration(text: str) -> float:
    """Seconds. Raises ValueError where `text` is no Gateway API duration."""
    if not _DURATION.match(text):
        raise ValueError("no duration")
    # Summed in whole milliseconds: 0.1 + 0.2 in floats would be no round number.
    return sum(int(number) * _MILLISECONDS[unit] for number, unit in _PART.findall(text)) / 1000


def format_duration(seconds: float) -> str:
    """The shortest duration of whole units, largest first: 90.0 is `1m30s`. Rounds to milliseconds."""
    rest = round(seconds * 1000)
    parts = []
    for unit, size in _MILLISECONDS.items():
        number, rest = divmod(rest, size)
        if number:
            parts.append(f"{number}{unit}")
    return "".join(parts) or "0s"


def parse_size(value: int | str) -> int:
    """Bytes. Raises ValueError where `value` is neither a non-negative integer nor one with Ki, Mi or Gi."""
    match = _SIZE.match(str(value))
    if not match:
        raise ValueError("no size")
    return int(match[1]) * _BYTES[match[2]]


def format_size(size: int) -> int | str:
    """Bytes with the largest suffix that leaves a whole number; below 1 KiB, or odd, the plain integer."""
    for suffix in ("Gi", "Mi", "Ki"):
        if size and size % _BYTES[suffix] == 0:
            return f"{size // _BYTES[suffix]}{suffix}"
    return size
