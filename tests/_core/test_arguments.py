from __future__ import annotations

from decimal import Decimal
from fractions import Fraction
from math import inf, nan
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.arguments import (
    at_least,
    duration,
    duration_in_words,
    number,
    one_of,
    plain,
    positive,
    rate_in_words,
    seconds,
    whole,
)

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_NUMBERS = [True, False, None, "1", 1j, Decimal(1), [1]]


@pytest.mark.parametrize(
    "check",
    [number, positive, lambda name, value: at_least(name, value, 0), seconds],
    ids=["number", "positive", "at least", "seconds"],
)
class TestNumbers:
    @pytest.mark.parametrize("value", [1, 1.0, Fraction(1)], ids=repr)
    def test_numbers_come_back_as_floats(self, check: Callable[..., float], value: object):
        result = check("pace", value)
        assert (result, type(result)) == (1.0, float)

    @pytest.mark.parametrize("value", [it for it in NOT_NUMBERS if it != "1"], ids=repr)
    def test_what_is_no_number_is_a_type_error(self, check: Callable[..., float], value: object):
        with pytest.raises(TypeError) as caught:
            check("pace", value)
        assert str(caught.value) == f"pace must be a number, got {value!r}"

    @pytest.mark.parametrize("value", [nan, inf, -inf, 10**400], ids=["nan", "inf", "-inf", "too large"])
    def test_what_is_not_finite_is_a_value_error(self, check: Callable[..., float], value: float):
        with pytest.raises(ValueError, match=f"^pace must be a finite number, got {value!r}$"):
            check("pace", value)


def test_text_is_no_number():
    with pytest.raises(TypeError, match=r"^pace must be a number, got '1'$"):
        number("pace", "1")


@pytest.mark.parametrize("value", [0, 0.0, -1])
def test_positive_refuses_zero_and_less(value: float):
    with pytest.raises(ValueError, match=f"^per must be greater than 0, got {value!r}$"):
        positive("per", value)


def test_at_least_includes_the_least():
    assert at_least("factor", 1, 1) == 1.0
    with pytest.raises(ValueError, match=r"^factor must be at least 1, got 0\.5$"):
        at_least("factor", 0.5, 1)


class Index:
    def __index__(self) -> int:
        return 3


@pytest.mark.parametrize("value", [3, Index()], ids=["int", "index"])
def test_whole_number_comes_back_as_an_int(value: object):
    assert whole("n", value, 3) == 3


@pytest.mark.parametrize("value", [*NOT_NUMBERS, 2.0, nan, int], ids=repr)
def test_what_is_no_whole_number_is_a_type_error(value: object):
    with pytest.raises(TypeError) as caught:
        whole("n", value, 1)
    assert str(caught.value) == f"n must be a whole number, got {value!r}"


def test_whole_number_below_the_least_is_a_value_error():
    with pytest.raises(ValueError, match=r"^burst must be at least 1, got 0$"):
        whole("burst", 0, 1)


def test_one_of_returns_the_choice():
    assert one_of("jitter", "full", ("none", "full")) == "full"


@pytest.mark.parametrize(("value", "error"), [("ful", ValueError), ("", ValueError), ([], TypeError)])
def test_one_of_names_the_choices(value: Any, error: type[Exception]):
    with pytest.raises(error) as caught:
        one_of("jitter", value, ("none", "full"))
    assert str(caught.value) == f'jitter must be "none" or "full", got {value!r}'


DURATIONS = {
    "15m": 900.0,
    "250ms": 0.25,
    "1.5h": 5400.0,
    "2d": 172800.0,
    "0.1s": 0.1,
    "100ms": 0.1,
    ".5s": 0.5,
    "1.s": 1.0,
    "30": 30.0,
    " 30 s ": 30.0,
}


@pytest.mark.parametrize(("text", "expected"), DURATIONS.items(), ids=DURATIONS)
def test_duration_is_read(text: str, expected: float):
    assert duration(text) == seconds("per", text) == expected


@pytest.mark.parametrize(
    "text",
    ["", "m", "1x", "1M", "-1s", "1e3s", "1 m 2", "nan", "infs", "\N{ARABIC-INDIC DIGIT ONE}s", "1,5s"],
)
def test_other_texts_are_no_durations(text: str):
    with pytest.raises(ValueError, match="must be a time such as") as caught:
        duration(text, "per")
    assert str(caught.value) == f'per must be a time such as "30s", "15m" or "1.5h", got {text!r}'


@pytest.mark.parametrize("text", ["0s", "0.0", "9" * 400 + "s", "." + "0" * 400 + "1s"])
def test_duration_is_greater_than_zero_and_finite(text: str):
    with pytest.raises(ValueError, match=f"^duration must be greater than 0 and finite, got '{text}'$"):
        duration(text)


def test_duration_of_no_text_is_a_type_error():
    with pytest.raises(TypeError, match=r"^duration must be a time such as"):
        duration(900)  # type: ignore[arg-type]  # the point of the test


WORDS = {
    900.0: "15m",
    90.0: "90s",
    86400.0: "1d",
    7200.0: "2h",
    1.0: "1s",
    0.25: "0.25s",
    1e-05: "0.00001s",
    0.0: "0s",
}


@pytest.mark.parametrize(("value", "words"), WORDS.items(), ids=WORDS.values())
def test_duration_is_said_in_the_largest_unit_that_fits(value: float, words: str):
    assert duration_in_words(value) == words


@given(
    st.floats(min_value=0, exclude_min=True, allow_infinity=False, allow_subnormal=False)
    | st.integers(1, 10**6)
)
def test_duration_in_words_is_read_back_exactly(value: float):
    assert duration(duration_in_words(float(value))) == value


@pytest.mark.parametrize(
    ("n", "per", "words"), [(100, 1, "100/s"), (300, 900, "300/15m"), (1, 11, "1/11s"), (0.5, 3600, "0.5/h")]
)
def test_rate_is_said_as_it_is_written(n: float, per: float, words: str):
    assert rate_in_words(n, per) == words


@pytest.mark.parametrize(("value", "words"), [(10, "10"), (10.0, "10"), (0.1, "0.1"), (1e22, "1" + "0" * 22)])
def test_number_is_said_plainly(value: float, words: str):
    assert plain(value) == words
