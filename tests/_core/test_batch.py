"""What a Batch may be, and what a handler's return value means for its members."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.batch import Batch, answers_in, sum_of


@pytest.mark.parametrize(
    ("given", "kind", "message"),
    [
        ({"size": 0}, ValueError, "^size must be at least 1, got 0$"),
        ({"size": 2.0}, TypeError, "^size must be a whole number, got 2.0$"),
        ({"size": True}, TypeError, "^size must be a whole number, got True$"),
        ({"size": 2, "within": -1}, ValueError, "^within must be at least 0, got -1$"),
        ({"size": 2, "within": "1s"}, TypeError, "^within must be a number, got '1s'$"),
        ({"size": 2, "within": float("inf")}, ValueError, "^within must be a finite number"),
        ({"size": 2, "max_cost": 0}, ValueError, "^max_cost must be greater than 0, got 0$"),
        ({"size": 2, "on_error": "halve"}, ValueError, '^on_error must be "fail" or "split", got \'halve\'$'),
        ({"size": 2, "on_error": None}, TypeError, '^on_error must be "fail" or "split", got None$'),
    ],
)
def test_a_wrong_batch_is_refused_where_it_is_made(given: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=message):
        Batch(**given)


def test_a_batch_says_itself_in_words():
    assert str(Batch(3)) == "batches of 3"
    assert str(Batch(3, within=0.5, max_cost=100, on_error="split")) == (
        "batches of 3 or a cost of 100 within 0.5 s, split on errors"
    )


class Array:
    """Has a length and items one by one, as arrays have, and is no Sequence."""

    def __len__(self) -> int:
        return 2

    def __getitem__(self, place: int) -> str:
        return ["a", "b"][place]


@pytest.mark.parametrize("value", [["a", "b"], ("a", "b"), Array()], ids=["list", "tuple", "array"])
def test_any_sequence_is_an_answer(value: Any):
    assert answers_in(value, 2) == [("a", None), ("b", None)]


def test_an_exception_is_a_members_error_and_a_class_of_them_is_a_value():
    error = ValueError("bad")
    assert answers_in([error, ValueError], 2) == [(None, error), (ValueError, None)]


@pytest.mark.parametrize(
    "value",
    [None, "ab", b"ab", {"a": 1, "b": 2}, {1, 2}, iter([1, 2]), 3, object],
    ids=lambda v: type(v).__name__,
)
def test_what_is_no_sequence_is_no_answer(value: Any):
    with pytest.raises(TypeError, match="^handler must return a sequence of 2, a value or an exception"):
        answers_in(value, 2)


def test_too_few_and_too_many_are_no_answer():
    for value in ([1], [1, 2, 3]):
        with pytest.raises(ValueError, match=rf"got {len(value)}: \["):
            answers_in(value, 2)


def test_costs_add_up_by_currency():
    assert sum_of([1.0, 2.5, 2]) == 5.5
    assert sum_of([{"a": 1.0}, {"b": 2.0, "a": 3.0}]) == {"a": 4.0, "b": 2.0}
    assert sum_of([{"a": 1.0}, 2.0]) == {"a": 3.0}
