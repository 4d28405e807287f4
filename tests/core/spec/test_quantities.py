"""Durations and sizes."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.spec.quantities import format_duration, format_size, parse_duration, parse_size


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("0s", 0),
        ("20ms", 0.02),
        ("5s", 5),
        ("1m30s", 90),
        ("1h", 3600),
        ("90m", 5400),
        ("1s1s", 2),
        ("1h2m3s4ms", 3723.004),
    ],
)
def test_a_duration_is_seconds(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize(
    "text",
    [
        "",
        "5",
        "s",
        "5S",
        "5 s",
        " 5s",
        "5s\n",
        "1.5s",
        "-5s",
        "+5s",
        "1d",
        "1us",
        "123456s",
        "1h1h1h1h1h",
        "\N{ARABIC-INDIC DIGIT FIVE}s",
    ],
)
def test_what_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="no duration"):
        parse_duration(text)


@given(st.integers(0, 8760 * 3_600_000))
def test_a_written_duration_reads_as_itself(milliseconds: int) -> None:
    assert parse_duration(format_duration(milliseconds / 1000)) == milliseconds / 1000


@pytest.mark.parametrize(
    ("value", "size"),
    [(0, 0), (65536, 65536), ("65536", 65536), ("64Ki", 65536), ("10Mi", 10 << 20), ("1Gi", 1 << 30)],
)
def test_a_size_is_bytes(value: int | str, size: int) -> None:
    assert parse_size(value) == size


@pytest.mark.parametrize("value", ["", "Ki", "1k", "1K", "1M", "1m", "1.5Mi", "-1", -1, "1Ki\n", " 1", "1e3", "1Ti"])
def test_what_is_no_size_is_refused(value: int | str) -> None:
    with pytest.raises(ValueError, match="no size"):
        parse_size(value)


@given(st.integers(0, 1 << 40))
def test_a_written_size_reads_as_itself(size: int) -> None:
    assert parse_size(format_size(size)) == size
