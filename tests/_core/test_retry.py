from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.backoff import constant, exponential
from qanat._core.retry import Retry

if TYPE_CHECKING:
    from collections.abc import Callable

RNG = Random(7)


def test_number_of_retries_means_a_retry():
    assert Retry.of(3) == Retry(3) == Retry(times=3)
    retry = Retry(2, deadline=5)
    assert Retry.of(retry) is retry


@pytest.mark.parametrize("value", [True, 1.5, None, "3"])
def test_other_things_mean_no_retry(value: Any):
    with pytest.raises(TypeError, match=f"^retry must be a whole number, got {value!r}$"):
        Retry.of(value)


def test_retry_gives_up_after_the_last_attempt():
    assert [Retry(2).allows(OSError(), attempt) for attempt in (1, 2, 3)] == [True, True, False]


ALLOWED: dict[str, tuple[Retry, BaseException, bool]] = {
    "any exception": (Retry(1), ValueError(), True),
    "not others": (Retry(1), KeyboardInterrupt(), False),
    "others if named": (Retry(1, on=KeyboardInterrupt), KeyboardInterrupt(), True),
    "one class": (Retry(1, on=OSError), TimeoutError(), True),
    "not of the class": (Retry(1, on=OSError), ValueError(), False),
    "of several": (Retry(1, on=(OSError, ValueError)), ValueError(), True),
    "never_on wins": (Retry(1, on=OSError, never_on=TimeoutError), TimeoutError(), False),
    "never_on several": (Retry(1, never_on=(TimeoutError, ValueError)), ValueError(), False),
    "when says yes": (Retry(1, when=lambda error, attempt: attempt == 1), ValueError(), True),
    "when says no": (Retry(1, when=lambda error, attempt: attempt != 1), ValueError(), False),
}


@pytest.mark.parametrize(("retry", "error", "allowed"), ALLOWED.values(), ids=ALLOWED)
def test_error_decides_whether_there_is_another_attempt(retry: Retry, error: BaseException, allowed: bool):
    assert retry.allows(error, 1) is allowed


def test_when_is_asked_last_and_what_it_raises_comes_through():
    def when(error: BaseException, attempt: int) -> bool:
        raise LookupError

    retry = Retry(1, on=OSError, when=when)
    assert retry.allows(ValueError(), 1) is False
    assert retry.allows(OSError(), 2) is False
    with pytest.raises(LookupError):
        retry.allows(OSError(), 1)


async def coroutine_function(*args: object) -> None:
    """Be a function that must be awaited."""


CLASSES = "must be an exception class or a tuple of them"
WRONG: dict[str, tuple[dict[str, Any], type[Exception], str]] = {
    "times": ({"times": -1}, ValueError, "times must be at least 0, got -1"),
    "bool": ({"times": True}, TypeError, "times must be a whole number, got True"),
    "on": ({"on": OSError()}, TypeError, f"on {CLASSES}, got OSError()"),
    "on a list": ({"on": [OSError]}, TypeError, f"on {CLASSES}, got [<class 'OSError'>]"),
    "never_on": ({"never_on": (int,)}, TypeError, f"never_on {CLASSES}, got (<class 'int'>,)"),
    "when": ({"when": 3}, TypeError, "when must be a plain function, got 3"),
    "async when": (
        {"when": coroutine_function},
        TypeError,
        f"when must be a plain function, got {coroutine_function!r}",
    ),
    "backoff": ({"backoff": 3}, TypeError, "backoff must be a plain function, got 3"),
    "deadline": ({"deadline": 0}, ValueError, "deadline must be greater than 0, got 0"),
    "no budget": ({"budget": 0}, ValueError, "budget must be greater than 0 and at most 1, got 0"),
    "budget": ({"budget": 1.1}, ValueError, "budget must be greater than 0 and at most 1, got 1.1"),
    "throttles": ({"max_throttles": -1}, ValueError, "max_throttles must be at least 0, got -1"),
}


@pytest.mark.parametrize(("options", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_options_are_refused_where_they_are_given(
    options: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        Retry(**{"times": 1, **options})
    assert str(caught.value) == message


def test_options_come_back_checked():
    retry = Retry(1, on=OSError, never_on=TimeoutError, deadline=5, budget=1)
    assert (retry.on, retry.never_on) == ((OSError,), (TimeoutError,))
    assert (retry.deadline, type(retry.deadline)) == (5.0, float)
    assert (retry.budget, retry.max_throttles) == (1.0, 100)


class Steps:
    """A backoff of a user's that is an object."""

    def __call__(self, attempt: int) -> float:
        return attempt * 1.5


@pytest.mark.parametrize(
    ("retry", "words"),
    [
        (Retry(0), "no retries"),
        (Retry(1, backoff=constant(2)), "1 retry after 2s"),
        (Retry(3), f"3 retries after {exponential()}"),
        (Retry(3, backoff=Steps()), "3 retries after Steps"),
        (Retry(3, backoff=abs), "3 retries after abs"),
    ],
    ids=["none", "one", "several", "object", "function"],
)
def test_retry_is_said_in_words(retry: Retry, words: str):
    assert str(retry) == words


def delay(backoff: Any, attempt: int = 1, elapsed: float = 0.0) -> float:
    return Retry(5, backoff=backoff).delay_for(OSError("lost"), attempt, RNG, elapsed)


def test_default_backoff_doubles_from_half_a_second_up_to_a_minute_with_full_jitter():
    assert Retry(1).backoff == exponential(first=0.5, factor=2, cap=60, jitter="full")


def test_jitter_is_drawn_from_the_source_given():
    expected = 8 * Random(3).random()
    backoff = constant(8, jitter="full")
    assert Retry(1, backoff=backoff).delay_for(OSError(), 1, Random(3), 0.0) == expected


def test_backoff_may_be_any_function_of_the_attempt():
    assert delay(lambda attempt: attempt * 2, attempt=3) == 6.0
    assert delay(Steps(), attempt=2) == 3.0


@pytest.mark.parametrize(
    ("returned", "error", "message"),
    [
        (-1, ValueError, "backoff(2) must be at least 0, got -1"),
        (float("nan"), ValueError, "backoff(2) must be a finite number, got nan"),
        (None, TypeError, "backoff(2) must be a number, got None"),
        (True, TypeError, "backoff(2) must be a number, got True"),
    ],
    ids=["negative", "nan", "none", "bool"],
)
def test_backoff_that_returns_no_time_is_named(returned: Any, error: type[Exception], message: str):
    with pytest.raises(error) as caught:
        delay(lambda attempt: returned, attempt=2)
    assert str(caught.value) == message


class TenacityWait:
    """Like tenacity's: called with a state. Users' own are subclasses of those."""

    def __init__(self, wait: Callable[[Any], float]) -> None:
        self._wait = wait

    def __call__(self, retry_state: Any) -> float:
        return self._wait(retry_state)


TenacityWait.__module__ = "tenacity.wait"


class UsersWait(TenacityWait):
    pass


@pytest.mark.parametrize("kind", [TenacityWait, UsersWait])
def test_wait_of_tenacity_is_called_with_a_state(kind: type[TenacityWait]):
    states = list[Any]()

    def wait(state: Any) -> float:
        states.append(state)
        return 2

    assert delay(kind(wait), attempt=3, elapsed=7.5) == 2.0
    [state] = states
    assert (state.attempt_number, state.seconds_since_start, state.idle_for) == (3, 7.5, 0.0)
    assert state.outcome.failed
    assert repr(state.outcome.exception()) == "OSError('lost')"


def test_wait_of_tenacity_that_returns_no_time_is_named():
    with pytest.raises(ValueError, match=r"^backoff after attempt 1 must be at least 0, got -1$"):
        delay(TenacityWait(lambda state: -1))
