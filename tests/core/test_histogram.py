"""Latency histograms."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from forebay_core.histogram import SECONDS, Histogram, HistogramSnapshot

VALUES = st.lists(st.floats(0, 100), max_size=50)


def of(values: list[float], bounds: tuple[float, ...] = SECONDS) -> Histogram:
    histogram = Histogram(bounds)
    for value in values:
        histogram.observe(value)
    return histogram


def test_a_value_on_a_bound_belongs_to_it() -> None:
    histogram = of([0.5, 1.0, 1.5, 9.0], (1.0, 2.0))
    assert histogram.snapshot() == HistogramSnapshot((2, 1, 1), 12.0)
    assert histogram.count == 4


def test_the_default_bounds_rise_and_hold_the_default_target() -> None:
    assert list(SECONDS) == sorted(set(SECONDS))
    assert (SECONDS[0], SECONDS[-1]) == (50e-6, 60.0)
    assert 0.02 in SECONDS


@pytest.mark.parametrize(
    ("values", "q", "expected"),
    [
        ([], 0.5, None),
        ([0.5] * 4, 0.5, 0.5),
        ([0.5] * 4, 1.0, 1.0),
        ([1.5] * 4, 0.25, 1.25),
        ([0.5, 0.5, 1.5, 1.5], 0.75, 1.5),
        ([9.0], 0.5, 2.0),
        ([0.5, 9.0], 0.99, 2.0),
    ],
)
def test_quantile(values: list[float], q: float, expected: float | None) -> None:
    assert of(values, (1.0, 2.0)).quantile(q) == expected


@given(VALUES, VALUES)
def test_merge_adds_and_delta_takes_away(first: list[float], second: list[float]) -> None:
    both, older = of(first + second), of(first)
    assert both.delta(older).counts == of(second).counts
    merged = of(first)
    merged.merge(of(second))
    assert merged.counts == both.counts
    assert merged.sum == pytest.approx(both.sum)


@given(VALUES)
def test_a_snapshot_restores(values: list[float]) -> None:
    histogram = of(values)
    restored = Histogram(start=histogram.snapshot())
    assert restored.snapshot() == histogram.snapshot()
    restored.observe(1.0)
    assert restored.count == histogram.count + 1, "a restored one counts apart"


def test_what_does_not_fit_is_refused() -> None:
    with pytest.raises(ValueError, match="different bounds"):
        of([1.0]).merge(of([1.0], (1.0,)))
    with pytest.raises(ValueError, match="counts more than the newer"):
        of([]).delta(of([1.0]))
    with pytest.raises(ValueError, match="2 counts for 3 bounds"):
        Histogram((1.0, 2.0, 3.0), HistogramSnapshot((0, 0), 0.0))
