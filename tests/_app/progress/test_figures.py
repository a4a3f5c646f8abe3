"""The figures of a run at one moment, and its errors by type."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._app.progress.shapes import MOST_GROUPS, MOST_SHAPES, ErrorTally, shape_of
from qanat._core.job import Job
from qanat._core.outcome import Outcome
from tests._app.progress.figures import some


def failed(error: BaseException, id: int = 0) -> Outcome[Any, Any]:
    return Outcome(id, id, None, None, error, "dead", 1, None, None, None, 0.0, 0.0, 1.0, 1.0)


def job(id: int) -> Job[Any]:
    return Job(id, None, id, None)  # type: ignore[arg-type]  # nobody looks at its task


def test_ended_and_left() -> None:
    figures = some(done=3, failed=2, cancelled=1, total=10)
    assert (figures.ended, figures.left) == (6, 4)
    assert some(done=3).left is None
    assert some(done=3, total=2).left == 0


class TestErrorTally:
    def test_failures_are_counted_by_type_and_shape_with_the_last_as_a_sample(self) -> None:
        tally = ErrorTally()
        for number, error in enumerate(
            [ValueError("page 1"), OSError("a"), ValueError("page 22"), OSError("b")]
        ):
            tally.add(failed(error, number))
        groups = [(group.name, group.count, group.sample, group.id) for group in tally.groups()]
        assert groups == [("ValueError", 2, "page 22", 2), ("OSError", 1, "a", 1), ("OSError", 1, "b", 3)]

    def test_attempts_that_are_tried_again_are_counted_apart(self) -> None:
        tally = ErrorTally()
        tally.add_retry(job(7), OSError("reset 1"), 5.0)
        tally.add(failed(OSError("reset 2"), 8))
        (group,) = tally.groups()
        assert (group.count, group.again, group.id, group.last_at) == (1, 1, 8, 1.0)

    def test_memory_is_bounded(self) -> None:
        tally = ErrorTally()
        for number in range(MOST_GROUPS + 5):
            tally.add(failed(type(f"Error{number}", (Exception,), {})("x" * 10**6)))
        assert len(tally.groups()) == MOST_GROUPS
        assert tally.others == 5
        assert max(len(group.sample) for group in tally.groups()) <= 500

    def test_a_type_with_many_shapes_leaves_room_for_others(self) -> None:
        tally = ErrorTally()
        for letter in "abcdefghij":
            tally.add(failed(ValueError(letter)))
        tally.add(failed(OSError("k")))
        assert len(tally.groups()) == MOST_SHAPES + 2
        assert sum(group.count for group in tally.groups()) == 11

    def test_an_error_without_words_is_no_trouble(self) -> None:
        class OddError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        tally = ErrorTally()
        tally.add(failed(OddError()))
        assert tally.groups()[0].sample == "<its str raised RuntimeError>"


@pytest.mark.parametrize(
    ("message", "shape"),
    [
        ("page 17 of 300", "page # of #"),
        ("no such file: 'a b.txt'", "no such file: #"),
        ("GET https://example.com/17?q=2 failed", "GET # failed"),
        ("object at 0x7f3a9c", "object at #"),
        ("id 550e8400-e29b-41d4-a716-446655440000", "id #"),
        ("took 2.5 s\nand more", "took # s"),
        ("plain words", "plain words"),
    ],
)
def test_the_shape_of_a_message_leaves_out_what_varies(message: str, shape: str) -> None:
    assert shape_of(message) == shape
