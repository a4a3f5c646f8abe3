"""What every limit has without doing anything for it."""

from __future__ import annotations

from math import inf
from random import Random
from typing import Any, cast

import pytest

from qanat._core.limit import Limit, Refused
from tests._core.limits.properties import JOB, OUTCOME, Ear


class Own(Limit):
    """A limit of a user's, which calls no `super().__init__()`."""

    def __init__(self, n: int) -> None:
        self.n = n


def test_a_limit_must_say_when_a_job_may_start():
    with pytest.raises(NotImplementedError, match=r"Own must define ready_at\(job, now\)"):
        Own(1).ready_at(JOB, 0.0)


def test_the_other_methods_do_nothing():
    limit = Own(1)
    limit.take(JOB, 0.0)
    limit.give_back(JOB, OUTCOME, 0.0)
    assert limit.fresh_at(0.0) == inf
    assert limit.cause == "rate"


def test_all_who_listen_hear_of_a_change():
    limit, ears = Own(1), (Ear(), Ear())
    for ear in ears:
        limit.listen(ear)
    limit.changed()
    limit.unlisten(ears[0])
    limit.changed()
    assert [ear.heard for ear in ears] == [1, 2]


def test_who_never_listened_may_stop_listening():
    Own(1).unlisten(Ear())


def test_randomness_is_there_from_the_first_use_on():
    limit, rng = Own(1), Random(1)
    with pytest.raises(RuntimeError, match="draw in take, not in __init__"):
        _ = limit.rng
    limit.bind(1, rng, 0.25)
    assert limit.rng is rng
    assert limit.precision == 0.25


def test_the_first_use_gives_the_randomness_and_the_least_precise_one_the_precision():
    limit, first = Own(1), Random(1)
    limit.bind(1, first)
    limit.bind(1, Random(2), 0.5)
    limit.bind(1, Random(3), 0.25)
    assert limit.rng is first
    assert limit.precision == 0.5


def test_another_thread_is_refused_with_the_remedy():
    limit = Own(1)
    limit.bind(1, Random(1))
    with pytest.raises(RuntimeError, match="make one limit object for each thread"):
        limit.bind(2, Random(1))


def test_limits_share_nothing():
    first, second = Own(1), Own(1)
    first.listen(Ear())
    assert second._listeners == []


def test_refusing_names_the_error():
    error = LookupError("never")
    refused = Refused(error)
    assert refused.error is error
    assert str(refused) == "never"
    assert isinstance(cast("Any", refused), Exception)
