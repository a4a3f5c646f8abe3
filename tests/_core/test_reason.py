"""A reason in words."""

from __future__ import annotations

import pytest

from qanat._core.reason import Reason


@pytest.mark.parametrize(
    ("reason", "text"),
    [
        pytest.param(Reason("turn", None, None, 0.0, None), "turn", id="cause"),
        pytest.param(Reason("rate", "10/s", None, 0.0, 1.0), "rate 10/s", id="limit"),
        pytest.param(Reason("delay", None, "eu", 0.0, 1.0), "delay, lane eu", id="lane"),
        pytest.param(Reason("rate", "10/s", 7, 0.0, 1.0), "rate 10/s, lane 7", id="both"),
    ],
)
def test_a_reason_is_told_in_one_line(reason: Reason, text: str):
    assert str(reason) == text


def test_reasons_are_values():
    assert Reason("turn", None, None, 0.0, None) == Reason("turn", None, None, 0.0, None)
