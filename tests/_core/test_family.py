"""Trees of jobs, without a dispatcher."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.branch import (
    MOST_ID,
    AfterJob,
    Branch,
    Children,
    FamilyJob,
    Quorum,
    checked_failure,
    checked_key,
    child_id,
    key_text,
)
from qanat._core.family import Family, nothing
from qanat._core.job import Job, Task
from qanat._core.outcome import Outcome
from qanat._core.retry import Retry

TASK = Task("task", None, None, Retry(0))


def root(number: int = 0) -> Job[Any]:
    return Job(number, f"item {number}", number, TASK)


def done(
    job: Job[Any], now: float = 1.0, value: Any = None, error: BaseException | None = None
) -> Outcome[Any, Any]:
    state: Any = "done" if error is None else "dead"
    return Outcome(
        job.id, job.index, job.item, value, error, state, 1, None, None, job.parent, 0.0, 0.0, now, now
    )


def spawn(family: Family, parent: Job[Any], item: Any = None, **options: Any) -> Any:
    """Let a job spawn, and its child arrive."""
    branch = family.branch(parent)
    child, is_new = family.adopt(branch, item, TASK, **options)
    if is_new:
        branch.born += 1
    return child


@pytest.mark.parametrize(
    ("key", "text"),
    [
        ("page", "page"), ("a-b_c", "a-b_c"), ("0", "'0'"), ("", "''"), ("a/b", "'a/b'"), ("#1", "'#1'"),
        (b"page", "b'page'"), ("b'page'", '"b\'page\'"'), (1, "#1"), (-1, "#-1"), (("a", 1), "('a', 1)"),
    ],
)  # fmt: skip
def test_each_key_has_a_text_of_its_own(key: Any, text: str):
    assert key_text(checked_key(key)) == text


@pytest.mark.parametrize("key", [True, 1.0, None, [1], ("a", 1.0), ("a", ("b", None))], ids=str)
def test_what_is_no_key_is_refused(key: Any):
    with pytest.raises(TypeError, match="key must be a str, bytes, an int or a tuple of these"):
        checked_key(key)


def test_nested_tuples_are_keys():
    assert checked_key(("a", (b"b", 3))) == ("a", (b"b", 3))


def test_ids_are_short_and_differ():
    ids = {0: "0"}
    for depth in range(1, 100):
        ids[depth] = child_id(ids[depth - 1], depth)
    assert max(map(len, ids.values())) <= MOST_ID
    assert len(set(ids.values())) == 100
    assert child_id(7, 0) == "7/0"
    assert child_id("7/0", 3) == "7/0/3"
    assert child_id("x" * 70, "\ud800") == child_id("x" * 70, "\ud800")


def test_failures_are_three_kinds():
    assert checked_failure("continue") == "continue"
    assert checked_failure("fail") == "fail"
    assert checked_failure(Quorum(0.5)) == Quorum(0.5)
    assert str(Quorum(0.5)) == "50% of the children"


def test_children_count_and_may_have_values():
    assert Children(1, 2, 3, (4,)).values() == [4]
    with pytest.raises(RuntimeError, match="gather=True"):
        Children(1, 2, 3).values()


def test_a_job_outside_of_families_ends_as_it_is():
    family, job = Family(), root()
    outcome = done(job)
    assert family.end(job, outcome, 1.0) is outcome


def test_a_parent_is_held_until_all_below_is_done():
    family, job = Family(), root()
    child = spawn(family, job)
    grandchild = spawn(family, child)
    family.register(family.branch(job), "callback", gather=False)
    assert family.end(job, done(job), 1.0) is None
    assert family.end(child, done(child), 2.0) is not None
    assert family.due == []
    family.end(grandchild, done(grandchild), 3.0)
    (branch,) = family.due
    assert branch.told() == Children(1, 0, 0)
    branch.after = AfterJob(0, None, 0, TASK)
    family.due.clear()
    family.conclude(branch, "value", None, 4.0, ran=1.0, cancelled=False)
    ((ended, outcome),) = family.ready
    assert ended is job
    assert (outcome.value, outcome.ended_at, outcome.ran) == ("value", 4.0, 2.0)
    assert outcome.waits == {"children": 2.0}
    assert family.roots == {}


def test_a_chain_of_100_000_is_complete_without_recursion():
    family, job = Family(), root()
    top = job
    family.register(family.branch(top), "callback", gather=False)
    chain: list[Any] = [top]
    for _ in range(100_000):
        chain.append(spawn(family, chain[-1]))
    assert family.end(top, done(top), 1.0) is None
    for each in chain[1:-1]:
        family.end(each, done(each), 1.0)
    assert family.due == []
    last = chain[-1]
    family.end(last, done(last), 2.0)
    assert len(family.due) == 1
    assert all(each._branch is None for each in chain[1:])


def test_a_chain_of_100_000_policies_fails_without_recursion():
    family, job = Family(), root()
    chain = [job]
    for _ in range(100_000):
        chain.append(spawn(family, chain[-1], failure="fail"))
    for each in chain[:-1]:
        assert family.end(each, done(each), 1.0) is None
    family.end(chain[-1], done(chain[-1], error=OSError()), 2.0)
    assert [outcome.state for _, outcome in family.ready] == ["dead"] * 100_000


def test_a_later_attempt_gets_what_an_earlier_one_spawned():
    family, job = Family(), root()
    first = [spawn(family, job), spawn(family, job, key="key"), spawn(family, job, id=5)]
    family.again(job)
    assert [spawn(family, job), spawn(family, job, key="key"), spawn(family, job, id=5)] == first
    assert family.spawned == 3


class Opaque:
    pass


class Picky(Opaque):
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


def test_an_id_is_of_one_item_in_an_attempt():
    family, job = Family(), root()
    first = spawn(family, job, "a", id="x")
    assert spawn(family, job, "a", id="x") is first
    assert spawn(family, job, ["l"], id="l") is spawn(family, job, ["l"], id="l")
    with pytest.raises(
        ValueError, match="id must be another one for each item .* got 'x' for 'b' and, before"
    ):
        spawn(family, job, "b", id="x")
    with pytest.raises(ValueError, match="got '0/1'"):
        spawn(family, job, "c", id="0/1"), spawn(family, job, "d", id="0/1")
    assert spawn(family, job, Opaque(), id="y") is spawn(family, job, Opaque(), id="y")
    assert spawn(family, job, Picky(), id="z") is spawn(family, job, Picky(), id="z")
    family.again(job)
    assert spawn(family, job, "b", id="x") is first
    assert family.spawned == 5


def test_policies_are_those_of_the_last_attempt():
    family, job = Family(), root()
    child = spawn(family, job, failure="fail")
    family.end(child, done(child, error=OSError()), 1.0)
    family.again(job)
    outcome = done(job, 2.0)
    assert family.end(job, outcome, 2.0) is outcome


def test_a_child_that_failed_in_an_earlier_attempt_counts_if_it_is_spawned_again():
    family, job = Family(on_end=lambda job, outcome: setattr(job, "_waiter", outcome)), root()
    child = spawn(family, job, failure="fail")
    child._status = 4
    family.end(child, done(child, error=OSError()), 1.0)
    family.again(job)
    assert spawn(family, job, failure="fail") is child
    outcome = family.end(job, done(job), 2.0)
    assert outcome is not None
    assert outcome.state == "dead"


def test_a_parent_that_has_ended_takes_no_child():
    family, job = Family(), root()
    branch = family.branch(job)
    family.end(job, done(job), 1.0)
    with pytest.raises(RuntimeError, match="does not run any more"):
        family.adopt(branch, None, TASK)


def test_a_bound_leaves_out_and_counts():
    family = Family(max_depth=1, max_jobs=3)
    job = root()
    child = spawn(family, job, count_roots=lambda: 1)
    assert spawn(family, child)._waiter.state == "cancelled"
    spawn(family, job, count_roots=lambda: 1)
    left = spawn(family, job, count_roots=lambda: 1)
    assert "max_jobs=3" in str(left._waiter.error)
    assert family.left_out == {"max_depth": 1, "max_jobs": 1}
    assert nothing() == 0


def test_a_root_of_a_known_key_ends_as_the_first():
    family = Family(on_end=lambda job, outcome: setattr(job, "_waiter", outcome))
    first, second, third = (FamilyJob(number, "item", number, TASK, _key="key") for number in range(3))
    assert family.first(first) is first
    assert family.first(second) is first
    family.join(second, first)
    assert family.ready == []
    family.end(first, done(first, value="value"), 1.0)
    family.join(third, first)
    assert [(job, outcome.id, outcome.value) for job, outcome in family.ready] == [
        (second, 1, "value"), (third, 2, "value")
    ]  # fmt: skip


def test_cancelling_a_job_that_is_not_held_does_nothing():
    family, job = Family(), root()
    branch = family.branch(job)
    assert not family.cancel_held(branch, 1.0)
    assert not branch.is_cancelled


def test_a_branch_knows_how_deep_it_is():
    above = Branch(root(), None)
    assert (above.depth, Branch(root(), above).depth) == (0, 1)
