from __future__ import annotations

import pickle
from random import Random
from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.backoff import Backoff, constant, exponential, linear

if TYPE_CHECKING:
    from collections.abc import Callable

SERIES: dict[str, tuple[Backoff, list[float]]] = {
    "constant": (constant(2), [2, 2, 2]),
    "at once": (constant(0), [0, 0, 0]),
    "linear": (linear(1, 2, 4), [1, 3, 4, 4]),
    "linear by default": (linear(), [1, 2, 3]),
    "exponential": (exponential(1, 3, 20), [1, 3, 9, 20, 20]),
    "exponential by default": (exponential(), [0.5, 1, 2, 4, 8, 16, 32, 60, 60]),
    "factor of one": (exponential(1, 1, 20), [1, 1, 1]),
}


@pytest.mark.parametrize(("backoff", "delays"), SERIES.values(), ids=SERIES)
def test_delays_grow_up_to_the_cap(backoff: Backoff, delays: list[float]):
    assert [backoff(attempt) for attempt in range(1, len(delays) + 1)] == delays


@pytest.mark.parametrize("attempt", [2_000, 10**18, 10**400], ids=["factor", "float", "int"])
@pytest.mark.parametrize(
    ("backoff", "most"),
    [
        pytest.param(constant(2), 2, id="constant"),
        pytest.param(linear(1, 1e300, 1e305), 1e305, id="linear"),
        pytest.param(linear(1, 0, 60), 1, id="no step"),
        pytest.param(exponential(0.5, 2, 60), 60, id="exponential"),
        pytest.param(exponential(1e308, 1.5, 1e308), 1e308, id="large"),
    ],
)
def test_huge_attempts_meet_the_cap(backoff: Backoff, most: float, attempt: int):
    if most == 1e305 and attempt == 2_000:
        most = 1 + 1e300 * 1_999
    assert backoff(attempt) == most


@pytest.mark.parametrize(
    ("backoff", "kind"),
    [(constant(1), "none"), (linear(), "none"), (exponential(), "full")],
    ids=["constant", "linear", "exponential"],
)
def test_only_exponential_has_jitter_unless_asked(backoff: Backoff, kind: str):
    assert backoff.jitter == kind


class At:
    """A source of randomness that always gives the same."""

    def __init__(self, value: float) -> None:
        self.value = value

    def random(self) -> float:
        return self.value


@pytest.mark.parametrize(
    ("jitter", "delays"),
    [("none", [8, 8, 8]), ("full", [0, 2, 4]), ("equal", [4, 5, 6])],
    ids=["none", "full", "equal"],
)
def test_jitter_draws_from_all_or_the_second_half_of_the_delay(jitter: Any, delays: list[float]):
    backoff = exponential(1, 2, 8, jitter=jitter)
    assert [backoff.drawn(5, At(value)) for value in (0.0, 0.25, 0.5)] == delays
    assert backoff(5) == 8


@given(st.floats(0, 1e6), st.sampled_from(["none", "full", "equal"]), st.integers())
def test_drawn_delay_is_never_longer(seconds: float, jitter: Any, seed: int):
    drawn = constant(seconds, jitter=jitter).drawn(1, Random(seed))
    assert (seconds / 2 if jitter == "equal" else 0) <= drawn <= seconds


WRONG: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "negative": (lambda: constant(-1), ValueError, "seconds must be at least 0, got -1"),
    "no first": (lambda: exponential(0), ValueError, "first must be greater than 0, got 0"),
    "shrinking": (lambda: exponential(factor=0.5), ValueError, "factor must be at least 1, got 0.5"),
    "step back": (lambda: linear(step=-1), ValueError, "step must be at least 0, got -1"),
    "low cap": (lambda: linear(2, cap=1), ValueError, "cap must be at least 2, got 1"),
    "no cap": (
        lambda: exponential(cap=float("inf")),
        ValueError,
        "cap must be a finite number, got inf",
    ),
    "jitter": (
        lambda: constant(1, jitter="some"),  # type: ignore[arg-type]  # the point of the test
        ValueError,
        """jitter must be "none" or "full" or "equal", got 'some'""",
    ),
    "attempt": (lambda: constant(1)(0), ValueError, "attempt must be at least 1, got 0"),
    "bool": (lambda: constant(True), TypeError, "seconds must be a number, got True"),
}


@pytest.mark.parametrize(("make", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused(make: Callable[[], Any], error: type[Exception], message: str):
    with pytest.raises(error) as caught:
        make()
    assert str(caught.value) == message


def test_equal_backoffs_are_equal_and_cross_processes():
    assert exponential() == exponential(0.5, 2, 60) != exponential(1, 2, 60)
    assert pickle.loads(pickle.dumps(exponential())) == exponential()  # noqa: S301 - our own bytes


@pytest.mark.parametrize(
    ("backoff", "words"),
    [
        (constant(2), "2s"),
        (constant(90, jitter="equal"), "90s, equal jitter"),
        (linear(1, 2, 60), "1s, each time 2s more, at most 1m"),
        (exponential(), "0.5s, each time 2 times as long, at most 1m, full jitter"),
    ],
    ids=["constant", "jitter", "linear", "exponential"],
)
def test_backoff_is_said_in_words(backoff: Backoff, words: str):
    assert str(backoff) == words
