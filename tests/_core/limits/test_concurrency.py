from __future__ import annotations

from math import inf

import pytest

from qanat._core.limits import Concurrency
from tests._core.limits.properties import JOB, OUTCOME, Ear


def full(n: int) -> tuple[Concurrency, Ear]:
    limit, ear = Concurrency(n), Ear()
    limit.listen(ear)
    for _ in range(n):
        assert limit.ready_at(JOB, 1.0) == 1.0
        limit.take(JOB, 1.0)
    return limit, ear


def test_starts_n_and_then_waits_for_a_finish():
    limit, _ = full(2)
    assert limit.ready_at(JOB, 5.0) == inf


def test_finish_makes_room_and_wakes_who_waits():
    limit, ear = full(2)
    limit.give_back(JOB, OUTCOME, 5.0)
    assert limit.ready_at(JOB, 5.0) == 5.0
    assert ear.heard == 1


def test_finish_wakes_nobody_when_there_was_room():
    limit, ear = full(2)
    limit.give_back(JOB, OUTCOME, 5.0)
    limit.give_back(JOB, OUTCOME, 5.0)
    assert ear.heard == 1


def test_growing_wakes_who_waits():
    limit, ear = full(2)
    limit.resize(3)
    assert limit.ready_at(JOB, 5.0) == 5.0
    assert limit.at_once == 3
    assert ear.heard == 1


def test_shrinking_lets_what_runs_go_on_and_starts_nothing_until_fewer_run():
    limit, ear = full(3)
    limit.resize(1)
    limit.give_back(JOB, OUTCOME, 5.0)
    limit.give_back(JOB, OUTCOME, 5.0)
    assert limit.ready_at(JOB, 5.0) == inf
    assert ear.heard == 0
    limit.give_back(JOB, OUTCOME, 6.0)
    assert limit.ready_at(JOB, 6.0) == 6.0
    assert ear.heard == 1


def test_at_once_is_read_only():
    with pytest.raises(AttributeError):
        Concurrency(1).at_once = 2  # type: ignore[misc]  # the point of the test


def test_fresh_only_while_nothing_runs():
    limit, _ = full(1)
    assert limit.fresh_at(5.0) == inf
    limit.give_back(JOB, OUTCOME, 5.0)
    assert limit.fresh_at(5.0) == 5.0


def test_never_fresh_once_resized():
    """A lane that is forgotten would come back with the number that it was made with."""
    limit = Concurrency(1)
    limit.resize(2)
    assert limit.fresh_at(5.0) == inf
    limit.resize(1)
    assert limit.fresh_at(5.0) == 5.0


@pytest.mark.parametrize("n", [0, -1])
def test_less_than_one_is_refused(n: int):
    with pytest.raises(ValueError, match=f"^n must be at least 1, got {n}$"):
        Concurrency(n)
    with pytest.raises(ValueError, match=f"^n must be at least 1, got {n}$"):
        Concurrency(1).resize(n)


def test_is_said_in_words():
    assert str(Concurrency(10)) == "10 at once"
    assert repr(Concurrency(10)) == "Concurrency(10)"
    assert Concurrency.cause == "concurrency"
