"""Messages of the log as lines."""

import logging
import sys
from typing import Any

import pytest

from forebay_core.log_lines import LineFormatter


def written(message: object, *args: object, exc_info: Any = None) -> str:
    record = logging.LogRecord("forebay", logging.WARNING, "", 0, message, args, exc_info)
    return LineFormatter("forebay: ").format(record)


@pytest.mark.parametrize(
    ("words", "escaped"),
    [
        ("plain", "plain"),
        ("Müller 東京 \\", "Müller 東京 \\"),
        ("no\nforebay: FAKE", "no\\nforebay: FAKE"),
        ("\r\x1b[2K\x00\x7f", "\\r\\x1b[2K\\x00\\x7f"),
        ("\x85\u2028\u202e", "\\x85\\u2028\\u202e"),
        ("\udcff", "\\udcff"),
    ],
)
def test_others_words_stay_in_their_line(words: str, escaped: str) -> None:
    assert written("upstream %s: %s", "db", words) == f"forebay: upstream db: {escaped}"
    assert written(words.replace("\n", " ")) == f"forebay: {escaped.replace(chr(92) + 'n', ' ')}"


def test_lines_that_are_meant_are_indented() -> None:
    """So that none of them looks like the beginning of a message."""
    assert written("%s is not taken:\n%s", "pool.yaml", "spec.a: no\nforebay: \x1b") == (
        "forebay: pool.yaml is not taken:\n  spec.a: no\n  forebay: \\x1b"
    )


def test_a_traceback_is_indented() -> None:
    try:
        raise ValueError("no\nforebay: FAKE")
    except ValueError:
        lines = written("it failed", exc_info=sys.exc_info()).split("\n")
    assert lines[0] == "forebay: it failed"
    assert lines[1] == "  Traceback (most recent call last):"
    assert all(line.startswith("  ") for line in lines[1:])
    assert lines[-1] == "  forebay: FAKE"
