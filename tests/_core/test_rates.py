from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.limits import SlidingWindow
from qanat._core.rates import parse_rate
from qanat._core.shown import shown

RATES = {
    "100/s": "SlidingWindow(100, 1.0)",
    "300/15m": "SlidingWindow(300, 900.0)",
    "1000/h": "SlidingWindow(1000, 3600.0)",
    "5/2d": "SlidingWindow(5, 172800.0)",
    "10/0.5s": "SlidingWindow(10, 0.5)",
    "0.05/s": "SlidingWindow(1, 20.0)",
    "2.5/s": "SlidingWindow(5, 2.0)",
    "0.1/s": "SlidingWindow(1, 10.0)",
    "2.5/15m": "SlidingWindow(5, 1800.0)",
    "100.0/s": "SlidingWindow(100, 1.0)",
    " 100 / 15 m ": "SlidingWindow(100, 900.0)",
    "100/s evenly": "Spacing(0.01, after='start', jitter=0)",
    "3/s  evenly": "Spacing(0.3333333333333333, after='start', jitter=0)",
    "0.05/s evenly": "Spacing(20, after='start', jitter=0)",
    "300/15m evenly": "Spacing(3, after='start', jitter=0)",
}


@pytest.mark.parametrize(("text", "limit"), RATES.items(), ids=RATES)
def test_rate_names_a_limit(text: str, limit: str):
    assert repr(parse_rate(text)) == limit


@pytest.mark.parametrize(
    "text",
    [
        "",
        "100",
        "100/",
        "/s",
        "100/x",
        "100/ms",
        "-1/s",
        "1e3/s",
        "100/s even",
        "100/sevenly",
        "100/S",
        "a/s",
        "9" * 5000 + "/s",
    ],
)
def test_other_texts_are_no_rates(text: str):
    with pytest.raises(ValueError, match="must be a text such as") as caught:
        parse_rate(text)
    assert str(caught.value) == (
        f'rate must be a text such as "100/s", "300/15m", "0.05/s" or "100/s evenly", got {shown(text)}'
    )


@pytest.mark.parametrize("rate", [100, 2.5, None, True])
def test_rate_is_a_text(rate: Any):
    with pytest.raises(TypeError, match=f"^requests must be a text such as .*, got {rate!r}$"):
        parse_rate(rate, "requests")


@pytest.mark.parametrize("text", ["0/s", "0.0/m", "0/s evenly"])
def test_rate_is_greater_than_zero(text: str):
    with pytest.raises(ValueError, match=f"^rate must be greater than 0, got '{text}'$"):
        parse_rate(text)


@pytest.mark.parametrize("text", ["1/0s", "1/0s evenly", "1/" + "9" * 400 + "d"])
def test_time_of_a_rate_is_greater_than_zero_and_finite(text: str):
    with pytest.raises(ValueError, match=f"^rate must be greater than 0 and finite, got '{text}'$"):
        parse_rate(text)


@given(st.integers(1, 10**9), st.integers(1, 10**5), st.sampled_from("smhd"))
def test_words_of_a_rate_are_a_rate(n: int, every: int, unit: str):
    limit = parse_rate(f"{n}/{every}{unit}")
    assert isinstance(limit, SlidingWindow)
    assert repr(parse_rate(str(limit))) == repr(limit)
