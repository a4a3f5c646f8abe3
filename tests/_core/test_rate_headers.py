"""How long responses ask to wait, in the words of many services."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.rate_headers import seconds_asked

WALL = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110
DAY = 86400.0

ASKED: dict[str, tuple[dict[str, str], float | None]] = {
    "nothing": ({}, None),
    "seconds": ({"retry-after": "120"}, 120.0),
    "fractions": ({"retry-after": " 1.5 "}, 1.5),
    "no time at all": ({"retry-after": "0"}, 0.0),
    "a date": ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT"}, 30.0),
    "a past date": ({"retry-after": "Sun, 06 Nov 1994 08:49:07 GMT"}, 0.0),
    "a date by the other side's clock": (
        {"retry-after": "Sun, 06 Nov 1994 10:00:30 GMT", "date": "Sun, 06 Nov 1994 10:00:00 GMT"}, 30.0,
    ),
    "a clock that makes no sense": ({"retry-after": "Sun, 06 Nov 1994 08:50:07 GMT", "date": "noon"}, 30.0),
    "milliseconds": ({"retry-after-ms": "250", "retry-after": "1"}, 0.25),
    "milliseconds of another cloud": ({"x-ms-retry-after-ms": "1500"}, 1.5),
    "retry-after before resets": ({"retry-after": "3", "x-ratelimit-reset": "9"}, 3.0),
    "lengths, one used up": (
        {
            "x-ratelimit-remaining-requests": "59", "x-ratelimit-reset-requests": "1s",
            "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "6m0s",
        }, 360.0,
    ),
    "lengths, the other used up": (
        {
            "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-remaining-tokens": "9", "x-ratelimit-reset-tokens": "1h2m3.5s",
        }, 0.12,
    ),
    "both used up": (
        {
            "x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "120ms",
            "x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1h2m3.5s",
        }, 3723.5,
    ),
    "none used up": ({"x-ratelimit-remaining": "3", "x-ratelimit-reset": "7"}, 7.0),
    "what is left is not told": ({"x-ratelimit-reset-a": "7", "x-ratelimit-reset-b": "8"}, 8.0),
    "dates of RFC 3339": (
        {
            "anthropic-ratelimit-requests-remaining": "7",
            "anthropic-ratelimit-requests-reset": "1994-11-06T08:59:37Z",
            "anthropic-ratelimit-tokens-remaining": "0",
            "anthropic-ratelimit-tokens-reset": "1994-11-06T09:49:57.5+01:00",
        }, 20.5,
    ),
    "an epoch": ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "1784111777"}, None),
    "an epoch by the response's date": (
        {
            "x-ratelimit-remaining": "0", "x-ratelimit-reset": "1784111777",
            "date": "Wed, 15 Jul 2026 10:36:00 GMT",
        }, 17.0,
    ),
    "milliseconds since the epoch": (
        {"x-ratelimit-reset": "1784111777500", "date": "Wed, 15 Jul 2026 10:36:00 GMT"}, 17.5,
    ),
    "an epoch of before": ({"x-rate-limit-reset": "1000000000", "date": "Wed, 15 Jul 2026 10:36:00 GMT"}, None),
    "after": (
        {"x-ratelimit-remaining": "0", "x-ratelimit-reset-after": "1.5", "x-ratelimit-bucket": "abc"}, 1.5,
    ),
    "the draft": ({"ratelimit": '"burst";r=5;t=1, "daily";r=0;t=900', "ratelimit-policy": "x"}, 900.0),
    "the draft before": ({"ratelimit": "limit=100, remaining=0, reset=50"}, 50.0),
    "the draft before that": ({"ratelimit-limit": "9", "ratelimit-remaining": "0", "ratelimit-reset": "40"}, 40.0),
    "the draft, garbled": ({"ratelimit": '"a";r=x;t=;q, ,;;=,"b";t=3'}, 3.0),
    "a reset at this moment": ({"x-ratelimit-remaining": "0", "x-ratelimit-reset": "0"}, None),
    "too long": ({"retry-after": "86401"}, None),
    "too long, and another": ({"retry-after": "9" * 25, "x-ratelimit-reset": "5"}, 5.0),
    "too long in milliseconds": ({"retry-after-ms": "9" * 25, "retry-after": "5"}, 5.0),
    "negative": ({"retry-after": "-1", "x-ratelimit-reset": "-5"}, None),
    "not numbers": ({"retry-after": "nan", "retry-after-ms": "inf", "x-ratelimit-reset": "1e3"}, None),
    "a length that is none": ({"x-ratelimit-reset": "1.2.3s"}, None),
    "digits of another script": ({"retry-after": "\u0663"}, None),
    "no such day": ({"retry-after": "Sun, 99 Nov 1994 08:49:37 GMT"}, None),
    "a year beyond all": ({"x-ratelimit-reset": "99999-01-01T00:00:00Z"}, None),
    "another header": ({"x-reset": "5", "x-ratelimit-limit": "7", "ratelimit-policy": "5;w=9"}, None),
}  # fmt: skip


@pytest.mark.parametrize(("headers", "asked"), ASKED.values(), ids=ASKED)
def test_what_is_asked_is_understood(headers: dict[str, str], asked: float | None):
    assert seconds_asked(headers, WALL, DAY) == asked


NAMES = st.sampled_from(
    ["retry-after", "retry-after-ms", "date", "ratelimit", "x-ratelimit-reset", "x-ratelimit-remaining"]
)
VALUES = st.text(max_size=40) | st.text('0189.:-+,;="rtTZhms SunNovGMT', max_size=60)


@given(st.dictionaries(NAMES, VALUES), st.floats(-1e12, 1e12))
def test_whatever_comes_is_a_time_to_wait_or_unknown(headers: dict[str, str], wall: float):
    asked = seconds_asked(headers, wall, DAY)
    assert asked is None or 0.0 <= asked <= DAY


def test_long_values_take_no_long_time():
    seconds_asked({"ratelimit": "t=1;" * 100_000, "x-ratelimit-reset": "1s" * 100_000}, WALL, DAY)
