from __future__ import annotations

from math import inf, nextafter
from random import Random
from typing import Any

import pytest

from qanat._core.limits import Spacing
from qanat._core.limits.border import border
from tests._core.limits.properties import JOB, OUTCOME, SEED, Ear, bound


def test_gap_counts_from_the_start():
    limit = Spacing(2.0)
    limit.take(JOB, 10.0)
    assert limit.ready_at(JOB, 10.5) == 12.0
    limit.give_back(JOB, OUTCOME, 11.0)
    assert limit.ready_at(JOB, 11.0) == 12.0


def test_gap_counts_from_the_finish_if_asked():
    limit = Spacing(2.0, after="finish")
    limit.take(JOB, 10.0)
    assert limit.ready_at(JOB, 10.5) == inf
    limit.give_back(JOB, OUTCOME, 11.0)
    assert limit.ready_at(JOB, 11.0) == 13.0


@pytest.mark.parametrize(("after", "heard"), [("start", 0), ("finish", 1)])
def test_finish_wakes_those_who_wait_for_it(after: Any, heard: int):
    limit, ear = Spacing(2.0, after=after), Ear()
    limit.listen(ear)
    limit.take(JOB, 10.0)
    limit.give_back(JOB, OUTCOME, 11.0)
    assert ear.heard == heard


def test_lost_time_is_not_made_up_for():
    limit = Spacing(2.0)
    limit.take(JOB, 0.0)
    limit.take(JOB, 100.0)
    assert limit.ready_at(JOB, 100.0) == 102.0


@pytest.mark.parametrize("after", ["start", "finish"])
def test_jitter_lengthens_the_gap_and_is_drawn_anew_for_each_job(after: Any):
    limit, twin, now = bound(Spacing(2.0, after=after, jitter=4.0)), Random(SEED), 0.0
    for _ in range(3):
        limit.take(JOB, now)
        limit.give_back(JOB, OUTCOME, now)
        expected = now + (2.0 + 4.0 * twin.random())
        now = limit.ready_at(JOB, now)
        assert now == expected


def test_without_jitter_no_randomness_is_needed():
    limit = Spacing("250ms")
    limit.take(JOB, 1.0)
    assert limit.ready_at(JOB, 1.0) == 1.25


def test_spacing_is_fresh_when_its_gap_is_over():
    limit = Spacing(2.0, after="finish")
    assert limit.fresh_at(5.0) <= 5.0
    limit.take(JOB, 5.0)
    assert limit.fresh_at(5.0) == inf
    limit.give_back(JOB, OUTCOME, 6.0)
    assert limit.fresh_at(6.0) == 8.0


WRONG: dict[str, tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = {
    "no gap": ((0,), {}, ValueError, "seconds must be greater than 0, got 0"),
    "less than no jitter": ((1,), {"jitter": -1}, ValueError, "jitter must be at least 0, got -1"),
    "after what": ((1,), {"after": "end"}, ValueError, """after must be "start" or "finish", got 'end'"""),
    "after no text": ((1,), {"after": 1}, TypeError, 'after must be "start" or "finish", got 1'),
}


@pytest.mark.parametrize(("args", "kwargs", "error", "message"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused(
    args: tuple[Any, ...], kwargs: dict[str, Any], error: type[Exception], message: str
):
    with pytest.raises(error) as caught:
        Spacing(*args, **kwargs)
    assert str(caught.value) == message


@pytest.mark.parametrize(
    ("limit", "words", "code"),
    [
        (Spacing(2), "2s apart", "Spacing(2, after='start', jitter=0)"),
        (Spacing(0.01, jitter=0.25), "0.01s to 0.26s apart", "Spacing(0.01, after='start', jitter=0.25)"),
        (Spacing("2m", after="finish"), "2m after a finish", "Spacing(120, after='finish', jitter=0)"),
    ],
    ids=["plain", "jitter", "finish"],
)
def test_spacing_is_said_in_words(limit: Spacing, words: str, code: str):
    assert str(limit) == words
    assert repr(limit) == code
    assert limit.cause == "spacing"


@pytest.mark.parametrize(
    ("start", "length", "expected"),
    [
        pytest.param(0.25, 0.5, 0.75, id="exact"),
        pytest.param(0.1, 0.2, 0.1 + 0.2, id="rounded up"),
        pytest.param(0.7, 0.1, nextafter(0.7 + 0.1, inf), id="rounded down"),
        pytest.param(1e17, 1.0, 1e17 + 16, id="too small to add"),
        pytest.param(0.2, 1.0, 1.2, id="rounded down, and so is the difference"),
    ],
)
def test_border_is_the_first_float_that_is_really_so_much_later(start: float, length: float, expected: float):
    assert border(start, length) == expected
    assert expected - start >= length
