"""Spawning from threads and from child processes."""

from __future__ import annotations

import os
import threading
import time
from typing import TYPE_CHECKING, Any, cast

import anyio
import pytest

import qanat
from qanat import Children, ChildrenFailedError, JobTimeoutError, ProcessDiedError

if TYPE_CHECKING:
    from pathlib import Path

    from qanat.testing import VirtualTime

on_virtual_time = pytest.mark.virtual_time("asyncio", "trio")


def halve(n: int) -> int:
    """Spawn two of half the size, in whatever this runs."""
    job = qanat.current_job()
    if n > 1:
        job.spawn(n // 2)
        job.spawn(n - n // 2)
    job.after_children(total, gather=True)
    return n


def total(children: Children[int]) -> int | None:
    return sum(children.values()) or None


def double(n: int) -> int:
    return 2 * n


async def double_later(n: int) -> int:
    await anyio.sleep(1.0)
    return 2 * n


# --- threads ---------------------------------------------------------------------------------


@on_virtual_time
async def test_a_thread_spawns_and_registers(virtual_time: VirtualTime):
    outcomes = await qanat.collect(halve, [16], concurrency=4)
    assert len(outcomes) == 31
    assert [outcome.state for outcome in outcomes] == ["done"] * 31
    assert outcomes[0].value == 16
    assert len({outcome.id for outcome in outcomes}) == 31


@on_virtual_time
async def test_a_thread_spawns_jobs_of_another_handler(virtual_time: VirtualTime):
    def root(n: int) -> Any:
        return [qanat.current_job().spawn(n, handler=double_later).id for _ in range(3)]

    outcomes = await qanat.collect(root, [4])
    assert outcomes[0].value == ["0/0", "0/1", "0/2"]
    assert outcomes.values()[1:] == [8, 8, 8]


@on_virtual_time
async def test_a_handler_that_is_none_is_refused_in_a_thread(virtual_time: VirtualTime):
    def root(n: int) -> None:
        wrong: Any = lambda: None  # noqa: E731
        qanat.current_job().spawn(n, handler=wrong)

    (outcome,) = await qanat.collect(root, [4])
    assert isinstance(outcome.error, TypeError)


@on_virtual_time
async def test_keys_hold_across_threads(virtual_time: VirtualTime):
    calls: list[int] = []

    def visit(n: int) -> None:
        calls.append(n)
        for other in range(20):
            qanat.current_job().spawn(other, key=other)

    await qanat.collect(visit, range(20), key=lambda n: n, concurrency=8)
    assert sorted(calls) == list(range(20))


@on_virtual_time
async def test_policies_hold_for_threads(virtual_time: VirtualTime):
    def fail(n: int) -> None:
        if n:
            qanat.current_job().spawn(0, failure="fail")
        else:
            raise OSError("no")

    root, child = await qanat.collect(fail, [1])
    assert isinstance(root.error, ChildrenFailedError)
    assert isinstance(child.error, OSError)


@on_virtual_time
async def test_many_threads_of_one_handler_spawn_for_it(virtual_time: VirtualTime):
    def root(n: int) -> None:
        job = qanat.current_job()
        if n:
            threads = [threading.Thread(target=lambda: [job.spawn(0) for _ in range(50)]) for _ in range(4)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()

    outcomes = await qanat.collect(root, [1])
    assert len({outcome.id for outcome in outcomes}) == len(outcomes) == 201


@on_virtual_time
@pytest.mark.parametrize("fails", [False, True], ids=["returns", "raises"])
async def test_what_a_thread_of_the_handlers_own_spawns_is_not_lost(virtual_time: VirtualTime, fails: bool):
    """Even if the handler holds up the loop until that thread has ended, and ends at once."""

    async def hold_up(n: int) -> int:
        job = qanat.current_job()

        def spawn() -> None:
            job.spawn(n, handler=double_later)
            job.after_children(total, gather=True)

        thread = threading.Thread(target=spawn)
        thread.start()
        thread.join()
        if fails:
            raise LookupError(n)
        return n

    outcomes = await qanat.collect(hold_up, [1, 2], concurrency=4)
    children = {(outcome.id, outcome.state, outcome.value) for outcome in outcomes[2:]}
    assert children == {("0/0", "done", 2), ("1/0", "done", 4)}
    assert [outcome.state for outcome in outcomes[:2]] == ["dead" if fails else "done"] * 2
    assert [outcome.value for outcome in outcomes[:2]] == ([None, None] if fails else [2, 4])
    assert [outcome.ended_at for outcome in outcomes[:2]] == [virtual_time.now()] * 2


@pytest.mark.real
@pytest.mark.parametrize("what", ["spawn", "after_children"])
def test_a_thread_whose_attempt_timed_out_cannot_spawn(what: str):
    problems: list[BaseException] = []

    def slow(n: int) -> None:
        job = qanat.current_job()
        time.sleep(0.3)
        try:
            job.spawn(1) if what == "spawn" else job.after_children(total)
        except RuntimeError as error:
            problems.append(error)

    (outcome,) = qanat.run(slow, [0], timeout=0.05)
    assert isinstance(outcome.error, JobTimeoutError)
    assert "does not run any more" in str(problems[0])


# --- processes -------------------------------------------------------------------------------


def try_things(_n: int) -> Any:
    """Do what cannot be done in a process."""
    job = qanat.current_job()
    found = [str(job.id), str(job.attempt), str(job.parent)]
    handle = job.spawn(1, handler=double, key="k")
    found.append(str(handle.id))
    if job.spawn(2, handler=double, key="k") is handle and job.spawn(3, handler=double, id="k2").id == "k2":
        found.append("same")
    tries: list[Any] = [
        lambda: handle.cancel(),
        lambda: job.spawn(threading.Lock()),
        lambda: job.spawn(1, handler=3),  # type: ignore[call-overload]
        lambda: job.spawn(1, delay=-1),
        lambda: job.spawn(4, handler=double, id="k2"),
        lambda: job.after_children(lambda children: None),
        lambda: job.after_children(total, gather=True),
        lambda: job.after_children(total),
        lambda: job.charge("tokens", 1),
    ]
    for each in tries:
        try:
            each()
            found.append("ok")
        except Exception as error:
            found.append(type(error).__name__)
    return found


@pytest.mark.real
def test_a_process_spawns_and_registers():
    outcomes = qanat.run(halve, [4], executor="process", concurrency=2)
    assert [outcome.state for outcome in outcomes] == ["done"] * 7
    assert outcomes[0].value == 4
    assert sorted(str(outcome.id) for outcome in outcomes) == [
        "0",
        "0/0",
        "0/0/0",
        "0/0/1",
        "0/1",
        "0/1/0",
        "0/1/1",
    ]


@pytest.mark.real
def test_what_a_process_cannot_do_is_said_there():
    root, *children = qanat.run(try_things, [0], executor="process", concurrency=1)
    assert root.value == 6 or root.error is None
    assert [child.id for child in children] == ["0/k", "k2"]
    assert [child.value for child in children] == [2, 6]


def keep_what_was_tried(_n: int) -> Any:
    found = try_things(0)
    qanat.current_job().spawn(found, handler=give_back)
    return found


def give_back(found: list[str]) -> list[str]:
    return found


@pytest.mark.real
def test_errors_in_a_process_come_at_the_call():
    outcomes = qanat.run(keep_what_was_tried, [0], executor="process", concurrency=1)
    (tried,) = [outcome for outcome in outcomes if isinstance(cast("Any", outcome.item), list)]
    assert tried.value == [
        "0", "1", "None", "0/k", "same", "RuntimeError", "TypeError", "TypeError", "ValueError", "ValueError",
        "TypeError", "ok", "RuntimeError", "RuntimeError",
    ]  # fmt: skip


def crash_once(path: str) -> None:
    job = qanat.current_job()
    job.spawn(1, handler=double)
    if job.attempt == 1:
        os._exit(3)
    if job.attempt == 2:
        raise OSError("what was spawned before stays")


@pytest.mark.real
def test_what_a_crashed_process_spawned_is_spawned_by_the_retry(tmp_path: Path):
    root, child = qanat.run(crash_once, [str(tmp_path)], executor="process", retry=2)
    assert root.state == "done"
    assert root.attempts == 3
    assert cast("Any", (child.id, child.value)) == ("0/0", 2)


def fail_in_callback(n: int) -> None:
    qanat.current_job().after_children(spawn_in_callback)


def spawn_in_callback(children: Children[Any]) -> None:
    qanat.current_job().spawn(1)


def spawn_and_tell_item(n: int) -> None:
    job = qanat.current_job()
    job.spawn(n + 1, handler=double)
    job.after_children(tell_item, gather=True)


def tell_item(children: Children[Any]) -> list[int]:
    return [qanat.current_job().item, *children.values()]


@pytest.mark.real
def test_a_callback_in_a_process_runs_as_its_job():
    assert qanat.run(spawn_and_tell_item, [3], executor="process")[0].value == [3, 8]


@pytest.mark.real
def test_a_callback_in_a_process_cannot_spawn():
    (outcome,) = qanat.run(fail_in_callback, [0], executor="process")
    assert isinstance(outcome.error, RuntimeError)
    assert "after_children callback" in str(outcome.error)
    assert not isinstance(outcome.error, ProcessDiedError)
