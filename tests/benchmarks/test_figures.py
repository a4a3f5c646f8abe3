from __future__ import annotations

import pytest

from benchmarks.figures import Sample, median, most_in_window, ratio, share_of_ideal


def test_median_lies_in_the_middle():
    assert median([3.0, 1.0, 2.0]) == 2.0
    assert median(iter([1.0, 2.0])) == 1.5


def test_median_of_nothing_is_refused():
    with pytest.raises(ValueError, match="must not be empty"):
        median([])


def test_ratio_is_taken_within_each_round():
    """A machine that was slow in one round was slow for both."""
    base = [Sample(1.0, 1.0), Sample(9.0, 10.0), Sample(1.0, 1.0)]
    twice = [Sample(5.0, 2.0), Sample(5.0, 20.0), Sample(5.0, 2.0)]
    assert ratio(twice, base) == 2.0


def test_ratio_needs_the_same_rounds():
    with pytest.raises(ValueError, match="shorter"):
        ratio([Sample(1.0, 1.0)], [])


@pytest.mark.parametrize(
    ("times", "most"),
    [
        pytest.param([], 0, id="none"),
        pytest.param([5.0], 1, id="one"),
        pytest.param([0.0, 0.5, 1.0], 2, id="half open"),
        pytest.param([1.0, 0.0, 0.5, 0.9], 3, id="any order"),
        pytest.param([0.0, 0.9, 1.1, 1.2, 1.8], 4, id="in the middle"),
    ],
)
def test_most_in_window_counts_the_fullest_window(times: list[float], most: int):
    assert most_in_window(times, 1.0) == most


def test_share_of_ideal_is_what_was_reached():
    assert share_of_ideal([0.0, 5.0, 2.0], ideal=4.0) == 0.8
