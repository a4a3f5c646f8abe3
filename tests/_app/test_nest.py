"""The short way of plain children: the same jobs, ids, times and order as by the long way."""

from __future__ import annotations

import asyncio
import sys
import threading
from contextvars import copy_context
from functools import partial
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any

import anyio
import anyio.lowlevel
import pytest

import qanat
from qanat import JobCancelledError
from qanat._app.spawning import Spawner
from qanat._core.dispatcher import straight
from qanat._core.job import ENDED, Job
from qanat._engine import carrier, leaves
from qanat._engine.carrier import Carrier
from qanat._engine.context import running_carrier
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextvars import Context

    from qanat._app.handle import Handle
    from qanat._core.branch import FamilyJob


async def many(level: int) -> int:
    """Spawn in one go."""
    for _ in range(4 if level < 2 else 0):
        qanat.current_job().spawn(level + 1)
    return level


async def with_a_callback(level: int) -> int:
    """Spawn with a callback that wants the values, in the order in which they were spawned."""
    job = qanat.current_job()
    if level < 2:
        for place in range(4):
            job.spawn(level + 1, id="own" if place == 2 and not level else None)
        job.after_children(with_a_callback.add, gather=True)  # type: ignore[attr-defined]
    return level


async def add(children: qanat.Children[int]) -> Any:
    return [children.done, *children.values()]


with_a_callback.add = add  # type: ignore[attr-defined]


async def in_turns(level: int) -> int:
    """Spawn while others do, and wait in between."""
    for _ in range(3 if level < 3 else 0):
        qanat.current_job().spawn(level + 1)
        await anyio.sleep(0.25 * level)
    return level


async def mixed(level: int) -> int:
    """Spawn plainly and otherwise, in any order."""
    job = qanat.current_job()
    if level < 2:
        job.spawn(level + 1)
        job.spawn(level + 1)
        job.spawn(level + 1, delay=1.0)
        job.spawn(level + 1)
        job.spawn(level + 1, priority=-1.0)
        job.spawn(level + 1, key=f"key of {job.id}")
        job.spawn(level + 1)
        job.spawn(level + 1, failure="fail")
        job.spawn(level + 1)
    await anyio.sleep(0.5)
    return level


async def again(level: int) -> int:
    """Spawn the same once more at each attempt, and one more."""
    job = qanat.current_job()
    for place in range(3 + job.attempt if level < 2 else 0):
        job.spawn(10 * level + place if level else 1)
    if job.attempt < 3:
        raise ValueError(level)
    return level


async def with_own_ids(level: int) -> int:
    """Give an id that is that of a place: of one that has been, and of one that comes."""
    job = qanat.current_job()
    if level < 2:
        first = job.spawn(level + 1)
        second = job.spawn(level + 1)
        assert job.spawn(level + 1, id=second.id).id == second.id
        assert job.spawn(level + 1, id=f"{job.id}/7").id != first.id
        for _ in range(9):
            job.spawn(level + 1)
    return level


async def another_lane(level: int) -> int:
    """Leave the lone lane."""
    job = qanat.current_job()
    if level < 2:
        job.spawn(level + 1)
        job.spawn(level + 1)
        job.spawn(level + 1, lane="one")
        job.spawn(level + 1)
    return level


async def another_handler(level: int) -> int:
    """Let jobs of another handler come in."""
    job = qanat.current_job()
    if level < 2:
        job.spawn(level + 1)
        job.spawn(level + 1)
        job.spawn(level + 1, handler=many)
        job.spawn(level + 1)
    return level


async def cancelling(level: int) -> int:
    """Cancel one that waits, and await one."""
    job = qanat.current_job()
    if level < 2:
        handles = [job.spawn(level + 1) for _ in range(4)]
        assert handles[2].cancel()
        with pytest.raises(JobCancelledError):
            await handles[2]
        assert (await handles[1].outcome()).ok
    return level


async def in_a_thread(level: int) -> int:
    """Spawn on the loop and in a thread that the handler waits for."""
    job = qanat.current_job()
    if level < 1:
        job.spawn(level + 1)
        job.spawn(level + 1)
        thread = threading.Thread(target=job.spawn, args=(level + 1,))
        thread.start()
        thread.join()
        job.spawn(level + 1)
    return level


async def with_failing_callbacks(level: int) -> int:
    """Let callbacks raise, and give what nobody can await."""
    job = qanat.current_job()
    if level < 2:
        for _ in range(3):
            job.spawn(level + 1)
        job.after_children([raising, coroutine, raising_at_once][level], gather=bool(level))
    return level


async def raising(_children: qanat.Children[int]) -> None:
    await anyio.sleep(0.5)
    raise ValueError("late")


async def coroutine(_children: qanat.Children[int]) -> Any:
    return anyio.lowlevel.checkpoint()


def raising_at_once(_children: qanat.Children[int]) -> None:
    raise ValueError("at once")


async def leaves_that_wait(level: int) -> int:
    """Spawn leaves that take long, each as long as its neighbours."""
    if level < 2:
        for _ in range(4):
            qanat.current_job().spawn(level + 1)
    else:
        await anyio.sleep(0.5)
    return level


async def leaves_that_are_due_meanwhile(level: int) -> int:
    """Spawn leaves that take long, and some of them later."""
    job = qanat.current_job()
    if level == 0:
        for place in range(8):
            job.spawn(1, delay=0.75 if place % 4 == 3 else 0.0)
    else:
        await anyio.sleep(0.5)
    return level


async def leaves_not_awaited(level: int) -> Any:
    """Give back a coroutine, as who forgets to await does."""
    job = qanat.current_job()
    if level == 0:
        for _ in range(4):
            job.spawn(1)
    elif str(job.id).endswith("/2"):
        return add(qanat.Children(0, 0, 0, ()))
    return level


PROGRAMS: dict[str, tuple[Callable[[int], Any], dict[str, Any]]] = {
    "many": (many, {}),
    "one at a time": (many, {"concurrency": 1}),
    "depth first": (many, {"order": "lifo"}),
    "by priority": (mixed, {"order": "priority", "concurrency": 2}),
    "with a callback": (with_a_callback, {}),
    "in turns": (in_turns, {"concurrency": 3}),
    "mixed": (mixed, {"concurrency": 2}),
    "so deep": (many, {"max_depth": 1}),
    "so many": (many, {"max_jobs": 9}),
    "again": (again, {"retry": qanat.Retry(2, backoff=qanat.constant(1.0))}),
    "again at once": (again, {"retry": qanat.Retry(2, backoff=qanat.constant(0.0))}),
    "with own ids": (with_own_ids, {}),
    "another lane": (another_lane, {"concurrency": 1}),
    "another handler": (another_handler, {"concurrency": 1}),
    "under a rate": (many, {"rate": "2/s"}),
    "cancelling": (cancelling, {"concurrency": 40}),
    "in a thread": (in_a_thread, {}),
    "callbacks that fail": (with_failing_callbacks, {"concurrency": 2, "retry": 1}),
    "leaves that wait": (leaves_that_wait, {"concurrency": 3}),
    "leaves that wait, by priority": (leaves_that_wait, {"concurrency": 3, "order": "priority"}),
    "leaves that wait, depth first": (leaves_that_wait, {"concurrency": 3, "order": "lifo"}),
    "leaves that are due meanwhile": (leaves_that_are_due_meanwhile, {"concurrency": 1, "order": "lifo"}),
    "leaves not awaited": (leaves_not_awaited, {}),
}


def ended(handler: Callable[[int], Any], rules: dict[str, Any]) -> list[Any]:
    """Return who started, in that order, and how all ended."""
    started: list[Any] = []

    async def logged(level: int) -> Any:
        started.append(qanat.current_job().id)
        return await handler(level)

    with virtual_time("asyncio") as time:
        outcomes = time.run(lambda: qanat.collect(logged, [0, 0, 0, 0], **rules))
        return started + [
            (each.id, each.index, each.item, each.value, repr(each.error), each.state, each.attempts, each.lane,
             each.parent, each.offered_at, each.started_at, each.ended_at, each.ran, dict(each.waits))
            for each in outcomes
        ]  # fmt: skip


@pytest.mark.parametrize("name", PROGRAMS)
def test_the_short_way_and_the_long_one_come_to_the_same(name: str, monkeypatch: pytest.MonkeyPatch):
    handler, rules = PROGRAMS[name]
    short = ended(handler, rules)
    monkeypatch.setattr(Spawner, "_build_nest", lambda *_: None)
    spawned_the_long_way = ended(handler, rules)
    monkeypatch.setattr(carrier, "carry_leaves", carry_one)
    monkeypatch.setattr(straight, "hold_end", lambda *_: False)
    monkeypatch.setattr(straight, "finish_after", lambda *_: False)
    monkeypatch.setattr(Carrier, "_takes_in_told", lambda *_: False)
    assert short == spawned_the_long_way == ended(handler, rules)


async def carry_one(carrier: Carrier, job: FamilyJob, *_: Any) -> Any:
    """Call the handler of a job, and leave its end to whoever calls this."""
    value, error = None, None
    try:
        value = await job._task.direct(job.item)  # type: ignore[misc]
    except BaseException as caught:
        error = caught
    return job, value, error, carrier.engine.now()


def watch(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Note the item of each spawn that goes the long way."""
    taken: list[Any] = []
    spawn = Spawner.spawn

    def watched(self: Spawner, job: Any, item: Any, *options: Any) -> Handle[Any, Any]:
        taken.append(item)
        return spawn(self, job, item, *options)

    monkeypatch.setattr(Spawner, "spawn", watched)
    return taken


@pytest.mark.parametrize(
    "rules", [{}, {"order": "lifo"}, {"retry": 3}, {"max_depth": 5}, {"timeout": 9.0}], ids=str
)
def test_all_but_the_first_go_the_short_way(rules: dict[str, Any], monkeypatch: pytest.MonkeyPatch):
    taken = watch(monkeypatch)
    assert len(ended(many, rules)) == 2 * 4 * (1 + 4 + 16)
    assert taken == [1]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_those_that_spawn_in_turns_go_it_too(virtual_time: Any, monkeypatch: pytest.MonkeyPatch):
    taken = watch(monkeypatch)
    assert len(await qanat.collect(in_turns, [0, 0], concurrency=3)) == 2 * (1 + 3 + 9 + 27)
    assert taken == [1]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_a_late_task_of_a_handler_is_refused_on_the_short_way(virtual_time: Any):
    late: list[Any] = []

    async def handler(item: int) -> None:
        if item == 0:
            job = qanat.current_job()
            job.spawn(1)
            job.spawn(2)
            late.append(job)
        else:
            await anyio.sleep(1.0)
            with pytest.raises(RuntimeError, match="does not run any more"):
                late[0].spawn(3)

    assert (await qanat.collect(handler, [0])).values() == [None, None, None]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_nothing_of_a_job_is_kept_once_it_has_ended(virtual_time: Any):
    async with qanat.Pool(many, concurrency=2) as pool:
        await pool.submit(0).outcome()
        await pool.drain()
        assert pool.stats().done == 1 + 4 + 16
        task: Any = pool._task
        assert task.nest.job is task.nest._branch is task.nest._carrier is None


@pytest.mark.virtual_time("asyncio", "trio")
async def test_wrong_options_are_refused_by_their_names(virtual_time: Any):
    async def handler(_item: int) -> None:
        job: Any = qanat.current_job()
        job.spawn(1)
        with pytest.raises(TypeError, match=r"Job.spawn\(\) got an unexpected keyword argument 'dely'"):
            job.spawn(1, dely=5.0)

    assert not (await qanat.collect(handler, [0], max_depth=1)).failed


@pytest.mark.virtual_time("asyncio", "trio")
@pytest.mark.parametrize("gather", [False, True])
async def test_who_kept_a_handle_or_gathers_has_the_values_of_a_stream_of_failures(
    virtual_time: Any, gather: bool
):
    kept: list[Handle[Any, Any]] = []
    gathered: list[list[int]] = []

    async def handler(item: int) -> int:
        job = qanat.current_job()
        if item == 0:
            for number in range(1, 9):
                handle = job.spawn(number)
                if number % 2:
                    kept.append(handle)
            job.after_children(told, gather=gather)
        if item == 6:
            raise ValueError(item)
        return 10 * item

    async def told(children: qanat.Children[int]) -> None:
        gathered.append(children.values() if gather else [children.done, children.failed])

    async with qanat.stream(handler, [0], concurrency=2, only_failed=True) as stream:
        assert [outcome.item async for outcome in stream] == [6]
    assert gathered == [[10, 20, 30, 40, 50, 70, 80] if gather else [7, 1]]
    assert [await handle for handle in kept] == [10, 30, 50, 70]
    assert {handle.job._status for handle in kept} == {ENDED}


@pytest.mark.virtual_time("asyncio", "trio")
async def test_a_leaf_that_nobody_asks_has_no_outcome_in_a_stream_of_failures(
    virtual_time: Any, monkeypatch: pytest.MonkeyPatch
):
    made: list[Any] = []
    outcome: Any = vars(leaves)["Outcome"]

    def noted(*fields: Any) -> Any:
        made.append(fields[0])
        return outcome(*fields)

    monkeypatch.setattr(leaves, "Outcome", noted)
    async with qanat.stream(with_a_leaf_kept, [0], concurrency=1, only_failed=True) as stream:
        assert [each async for each in stream] == []
    # The first of a row is in more hands than the others, so it is made to be sure.
    assert made == ["0/0", "0/9"]


async def with_a_leaf_kept(item: int) -> None:
    """Spawn some, and keep the handle of one."""
    job = qanat.current_job()
    if item == 0:
        handles = [job.spawn(number) for number in range(1, 20)]
        job.after_children(partial(done_but, handles[9]))


async def done_but(kept: Handle[Any, Any], children: qanat.Children[None]) -> None:
    assert kept.done
    assert children.done == 19


def counted(order: Any) -> list[Any]:
    """Return what each job of a tree sees of the counts."""

    async def main() -> list[Any]:
        seen: list[Any] = []

        async def handler(level: int) -> None:
            job, counts = qanat.current_job(), running_carrier.get().engine.dispatcher
            id = str(job.id)

            def note() -> None:
                seen.append((id, counts.running, counts.waiting, counts.done))

            note()
            for _ in range(4 if level < 2 else 0):
                job.spawn(level + 1)
            if id.endswith(("0", "3")) or (id.startswith("0/2/") and level == 2):
                del job
                await anyio.sleep(0.25)
            note()

        async with qanat.stream(handler, [0, 0], concurrency=3, order=order, only_failed=True) as stream:
            assert [each async for each in stream] == []
        return seen

    with virtual_time("asyncio") as time:
        return time.run(main)


@pytest.mark.parametrize("order", ["fifo", "lifo"])
def test_leaves_see_the_same_counts_on_the_short_way_and_the_long_one(
    order: str, monkeypatch: pytest.MonkeyPatch
):
    short = counted(order)
    assert len(short) == 2 * 2 * 21
    assert {running for _, running, *_ in short} == {1, 2, 3}
    monkeypatch.setattr(Spawner, "_build_nest", lambda *_: None)
    monkeypatch.setattr(carrier, "carry_leaves", carry_one)
    assert short == counted(order)


@pytest.mark.virtual_time("asyncio")
async def test_a_task_that_outlives_its_leaf_finds_that_it_has_ended(virtual_time: Any):
    late: list[Any] = []

    async def later() -> tuple[Any, int]:
        await anyio.sleep(1.0)
        job = qanat.current_job()
        return job.id, job._status

    async def handler(item: int) -> None:
        if item == 0:
            for number in range(1, 5):
                qanat.current_job().spawn(number)
        elif item % 2 == 0:
            # Not the first in a row, so nobody asks what it ended with.
            late.append(asyncio.ensure_future(later()))

    async with qanat.stream(handler, [0], concurrency=2, only_failed=True) as stream:
        assert [outcome async for outcome in stream] == []
    assert await asyncio.gather(*late) == [("0/1", ENDED), ("0/3", ENDED)]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_a_thread_that_asks_while_its_leaf_ends_finds_that_it_has_ended(
    virtual_time: Any, monkeypatch: pytest.MonkeyPatch
):
    copies: list[Context] = []
    asked: list[Any] = []

    def counted(of: Any) -> int:
        found = sys.getrefcount(of) - more
        if copies and isinstance(of, Job):
            # As a thread may that lets go of its context right after, between two counts.
            asked.append(copies.pop().run(qanat.current_job))
        return found

    holder = SimpleNamespace(of=object())
    more = 0
    more = counted(holder.of) - sys.getrefcount(holder.of)
    monkeypatch.setattr(leaves, "count_references", counted)

    async def handler(item: int) -> None:
        if item == 0:
            for number in range(1, 9):
                qanat.current_job().spawn(number)
        elif item % 2 == 0:
            copies.append(copy_context())

    async with qanat.stream(handler, [0], concurrency=1, only_failed=True) as stream:
        assert [outcome async for outcome in stream] == []
    asked += [copy.run(qanat.current_job) for copy in copies]
    assert [job.id for job in asked] == ["0/1", "0/3", "0/5", "0/7"]
    assert {job._status for job in asked} == {ENDED}


@pytest.mark.virtual_time("asyncio", "trio")
async def test_all_of_a_wide_family_have_their_ids(virtual_time: Any):
    async def handler(item: int) -> None:
        if item == 0:
            for _ in range(300):
                qanat.current_job().spawn(1)

    outcomes = await qanat.collect(handler, [0], order="lifo")
    assert sorted(str(each.id) for each in outcomes) == sorted(["0", *(f"0/{place}" for place in range(300))])
