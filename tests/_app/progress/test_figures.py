"""The figures of a run at one moment, and its errors by type."""

from __future__ import annotations

from typing import Any

from qanat._app.progress.figures import MOST_TYPES, ErrorTally
from qanat._core.outcome import Outcome
from tests._app.progress.figures import some


def failed(error: BaseException, id: int = 0) -> Outcome[Any, Any]:
    return Outcome(id, id, None, None, error, "dead", 1, None, None, None, 0.0, 0.0, 1.0, 1.0)


def test_ended_and_left() -> None:
    figures = some(done=3, failed=2, cancelled=1, total=10)
    assert (figures.ended, figures.left) == (6, 4)
    assert some(done=3).left is None
    assert some(done=3, total=2).left == 0


class TestErrorTally:
    def test_failures_are_counted_by_type_with_the_first_as_a_sample(self) -> None:
        tally = ErrorTally()
        for number, error in enumerate([ValueError("a"), OSError("b"), OSError("c")]):
            tally.add(failed(error, number))
        groups = [(group.name, group.count, group.sample, group.id) for group in tally.groups()]
        assert groups == [("OSError", 2, "b", 1), ("ValueError", 1, "a", 0)]

    def test_memory_is_bounded(self) -> None:
        tally = ErrorTally()
        for number in range(MOST_TYPES + 5):
            tally.add(failed(type(f"Error{number}", (Exception,), {})("x" * 10**6)))
        assert len(tally.groups()) == MOST_TYPES
        assert tally.others == 5
        assert max(len(group.sample) for group in tally.groups()) <= 500

    def test_an_error_without_words_is_no_trouble(self) -> None:
        class OddError(Exception):
            def __str__(self) -> str:
                raise RuntimeError

        tally = ErrorTally()
        tally.add(failed(OddError()))
        assert tally.groups()[0].sample == "<its str raised RuntimeError>"
