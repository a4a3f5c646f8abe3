"""Keys that are under way: a plain job stands for itself until something is to be said of it."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.job import NEW, RUNNING, WAITING, Job
from qanat._core.kept import ASKING, KEEPING, WITH_DISPATCHER, Entry
from qanat._engine.under_way import UnderWay

TASK: Any = None


def jobs(number: int) -> list[Job[Any]]:
    return [Job(each, each, each, TASK, 5.0) for each in range(number)]


KEYS: list[Any] = [b"a", b"b", b"c"]


def test_plain_jobs_have_no_entries():
    here, plain = UnderWay(), jobs(3)
    assert here.add_plain(plain, [*KEYS])
    assert here.entries == dict(zip(KEYS, plain, strict=True))
    assert here.by_job == dict(zip(plain, KEYS, strict=True))
    assert here.leaders() == list(zip(KEYS, plain, strict=True))


@pytest.mark.parametrize("keys", [[b"a", b"c"], [b"d", b"d"]], ids=["under way", "twice"])
def test_jobs_of_a_key_that_somebody_has_are_not_plain(keys):
    here, plain = UnderWay(), jobs(3)
    here.add_plain(plain[:1], KEYS[:1])
    assert not here.add_plain(plain[1:], keys)
    assert len(here.entries) == len(here.by_job) == 1


@pytest.mark.parametrize(("status", "where"), [
    (NEW, ASKING), (WAITING, WITH_DISPATCHER), (RUNNING, WITH_DISPATCHER), (None, KEEPING),
])  # fmt: skip
def test_plain_job_gets_an_entry_that_says_where_it_is(status, where):
    here, (job,) = UnderWay(), jobs(1)
    here.add_plain([job], KEYS[:1])
    if status is None:
        del here.by_job[job]
    else:
        job._status = status
    entry = here.entry_at(b"a")
    assert (entry.key, entry.job, entry.began, entry.delay, entry.offered_at) == (b"a", job, job, 0.0, 5.0)
    assert entry.where == where
    assert here.entry_at(b"a") is entry
    assert here.entry_of(job) is (None if status is None else entry)
    assert here.leaders() == [(b"a", job)]


def test_jobs_with_something_to_say_have_entries_at_once():
    here, (job, other) = UnderWay(), jobs(2)
    entry = here.add(("h", b"a"), job, 2.0, 7.0)
    assert type(entry) is Entry
    assert here.entry_of(job) is here.entry_at(("h", b"a")) is entry
    assert (entry.delay, entry.offered_at, entry.where) == (2.0, 7.0, ASKING)
    assert here.entry_of(other) is None


def test_entry_of_a_plain_job_is_made_when_it_is_asked_for():
    here, (job,) = UnderWay(), jobs(1)
    here.add_plain([job], KEYS[:1])
    assert here.entry_of(job) is here.entries[b"a"]
    assert here.by_job[job] is here.entries[b"a"]
