"""Intervals between two bounds follow what is found at each visit."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat import Between


def test_a_change_shortens_and_no_change_lengthens():
    every = Between(10, 100, factor=2)
    assert every.after(40.0, changed=True) == 20.0
    assert every.after(40.0, changed=False) == 80.0
    assert every.after(40.0, changed=None) == 40.0


@given(st.lists(st.sampled_from([True, False, None]), max_size=50), st.floats(0.1, 1e6))
def test_no_interval_is_beyond_the_bounds(visits: list[bool | None], interval: float):
    every = Between(10, 100)
    for changed in visits:
        interval = every.after(interval, changed=changed)
        assert 10 <= interval <= 100


def test_as_many_changes_as_none_come_back_to_the_same():
    every = Between(1, 1024, factor=2)
    interval = 32.0
    for changed in (True, False, False, True, True, False):
        interval = every.after(interval, changed=changed)
    assert interval == 32.0


def test_it_is_said_in_words():
    assert str(Between(900, 7 * 86400)) == "every 15m to 7d"


@pytest.mark.parametrize(
    ("lowest", "highest", "factor", "error", "message"),
    [
        (0, 1, 2, ValueError, "lowest must be greater than 0"),
        (5, 4, 2, ValueError, "highest must be at least lowest, 5.0, got 4.0"),
        (1, 2, 1, ValueError, "factor must be more than 1, got 1"),
        (1, 1e10, 2, ValueError, "highest must be more than 0 and at most 1e"),
        ("1h", 2, 2, TypeError, "lowest must be"),
        (True, 2, 2, TypeError, "lowest must be"),
        (1, 2, float("nan"), ValueError, "factor must be"),
    ],
)
def test_bounds_that_are_none_are_refused(lowest, highest, factor, error, message):
    with pytest.raises(error, match=f"^{message}"):
        Between(lowest, highest, factor=factor)
