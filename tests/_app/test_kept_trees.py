"""Trees of jobs in a run with a journal: a rerun recalls whole trees and does what is left."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import ChildrenFailedError, Pool, SerialisationError

if TYPE_CHECKING:
    from pathlib import Path

    from qanat.testing import VirtualTime

TREE: dict[str, list[str]] = {"a": ["b", "c"], "b": ["d", "e"], "c": ["f"]}
seen: list[str] = []
failing: set[str] = set()


@pytest.fixture(autouse=True)
def _fresh() -> None:
    seen.clear()
    failing.clear()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


def taken() -> list[str]:
    """Return what was called since, in order of names."""
    found = sorted(seen)
    seen.clear()
    return found


async def walk(name: str) -> str:
    seen.append(name)
    for child in TREE.get(name, ()):
        qanat.current_job().spawn(child)
    await anyio.sleep(1)
    if name in failing:
        raise OSError(name)
    return name.upper()


async def leaf(name: str) -> str:
    seen.append(f"leaf {name}")
    return name


async def fork(name: str) -> str:
    seen.append(name)
    qanat.current_job().spawn(name, handler=leaf)
    return name


def facts(outcomes: Any) -> list[tuple[Any, ...]]:
    return sorted(
        (str(each.id), each.item, str(each.parent), each.index, each.state, each.value) for each in outcomes
    )


async def test_rerun_recalls_a_whole_tree(virtual_time: VirtualTime, path):
    first = await qanat.collect(walk, ["a"], journal=path)
    assert taken() == list("abcdef")
    began = virtual_time.now()
    again = await qanat.collect(walk, ["a"], journal=path)
    assert (taken(), virtual_time.now()) == ([], began)
    assert facts(again) == facts(first)
    assert [each.recalled for each in again] == [True] * 6


@pytest.mark.parametrize("executor", ["thread", "process"])
async def test_threads_and_processes_spawn_what_is_kept(virtual_time: VirtualTime, path, executor):
    for recalled in (0, 3):
        outcomes = await qanat.collect(plain, ["x"], journal=path, executor=executor)
        assert sorted((str(each.id), each.value) for each in outcomes) == [
            ("0", "x"), ("0/0", "x1"), ("0/k", "x2"),
        ]  # fmt: skip
        assert outcomes.summary().recalled == recalled


def plain(name: str) -> str:
    if len(name) == 1:
        job = qanat.current_job()
        job.spawn(name + "1")
        job.spawn(name + "2", key="k", handler=plain)
    return name


PRIORITIES = {"late": 9.0, "middle": 5.0, "early": 1.0}


def urgent(item: str) -> float:
    return PRIORITIES.get(item, 0.0)


def sprout(item: str) -> str:
    time.sleep(0.02)
    if item in {"late", "early"}:
        for number in range(2):
            qanat.current_job().spawn(f"{item}/{number}")
    return item


async def sprout_on_loop(item: str) -> str:
    await anyio.sleep(0.02)
    return sprout(item)


@pytest.mark.real
@pytest.mark.parametrize("journal", [False, True], ids=["plain", "journal"])
@pytest.mark.parametrize(
    ("executor", "handler"), [("loop", sprout_on_loop), ("thread", sprout), ("process", sprout)]
)
def test_a_priority_is_inherited_wherever_a_job_runs(path: Path, executor: Any, handler: Any, journal: bool):
    rules: dict[str, Any] = {
        "order": qanat.Priority(inherit=True), "priority": urgent, "concurrency": 1, "executor": executor,
    }  # fmt: skip
    kept = path if journal else None
    ended: list[str] = []

    async def run() -> None:
        async with qanat.stream(handler, ["late", "middle", "early"], journal=kept, **rules) as outcomes:
            async for outcome in outcomes:
                if not outcome.recalled:
                    ended.append(outcome.item)

    def children() -> list[str]:
        return [item for item in ended if "/" in item]

    expected = ["early/0", "early/1", "late/0", "late/1"]
    anyio.run(run)
    assert children() == expected
    if journal:
        with sqlite3.connect(path) as file:
            file.execute("DELETE FROM jobs WHERE spawned IS NULL")
        file.close()
        ended.clear()
        anyio.run(run)
        assert children() == expected


async def long_child(name: str) -> str:
    seen.append(name)
    await anyio.sleep(10)
    raise OSError(name)


async def strict_parent(name: str) -> str:
    seen.append(name)
    qanat.current_job().spawn("child", handler=long_child, failure="fail")
    return name


@pytest.mark.parametrize("attempt", range(10))
async def test_no_parent_is_done_because_its_run_was_cut_short(
    virtual_time: VirtualTime, path: Path, attempt: int
):
    # Trio cancels tasks in any order: the child's may be first, or the one that hears that the run is over.
    with anyio.move_on_after(5):
        await qanat.collect(strict_parent, ["parent"], journal=path)
    assert taken() == ["child", "parent"]
    outcomes = await qanat.collect(strict_parent, ["parent"], journal=path)
    assert taken() == ["child", "parent"]
    assert [(each.item, each.state) for each in outcomes] == [("parent", "dead"), ("child", "dead")]


async def test_failed_and_cancelled_children_run_again(virtual_time: VirtualTime, path):
    failing.add("f")
    with anyio.move_on_after(2.5):
        await qanat.collect(walk, ["a"], journal=path, concurrency=2)
    assert taken() == list("abcdef")
    assert (await qanat.collect(walk, ["a"], journal=path)).summary().failed == 1
    assert taken() == ["e", "f"]
    failing.clear()
    assert (await qanat.collect(walk, ["a"], journal=path)).summary().done == 6
    assert taken() == ["f"]


async def test_retry_failed_runs_failed_children_of_recalled_parents(virtual_time: VirtualTime, path):
    failing.add("f")
    with anyio.move_on_after(4.5):
        await qanat.collect(walk, ["a"], journal=path, concurrency=1, order="lifo")
    assert taken() == ["a", "b", "c", "e", "f"]
    failing.clear()
    outcomes = await qanat.collect(walk, ["a"], journal=path, retry_failed=True)
    assert taken() == ["f"]
    states = {each.item: each.state for each in outcomes}
    assert states == {**dict.fromkeys("abcf", "done"), "d": "cancelled", "e": "cancelled"}


async def test_retry_failed_does_what_a_failed_job_finds_now(virtual_time: VirtualTime, path):
    failing.add("c")
    await qanat.collect(walk, ["a"], journal=path)
    taken()
    failing.clear()
    TREE["c"] = ["f", "g"]
    try:
        outcomes = await qanat.collect(walk, ["a"], journal=path, retry_failed=True)
    finally:
        TREE["c"] = ["f"]
    assert taken() == ["c", "g"]
    assert {each.state for each in outcomes} == {"done"}


async def test_left_out_is_as_before_and_found_again_with_more_room(virtual_time: VirtualTime, path):
    async def endless(number: int) -> int:
        seen.append(str(number))
        for child in (2 * number, 2 * number + 1):
            qanat.current_job().spawn(child)
        return number

    for called in (7, 0):
        summary = (await qanat.collect(endless, [1], journal=path, max_depth=2)).summary()
        assert (summary.total, summary.left_out) == (7, {"max_depth": 8})
        assert len(taken()) == called
    summary = (await qanat.collect(endless, [1], journal=path, max_depth=3)).summary()
    assert (summary.total, summary.left_out) == (15, {"max_depth": 16})
    # Those at the former bound are called again, and say what they had found.
    assert len(taken()) == 4 + 8
    for _ in range(2):
        summary = (await qanat.collect(endless, [1], journal=path, max_depth=3)).summary()
        assert (summary.total, summary.left_out, taken()) == (15, {"max_depth": 16}, [])
    summary = (await qanat.collect(endless, [1], journal=path, max_depth=0)).summary()
    assert (summary.total, summary.left_out) == (1, {"max_depth": 2})


async def test_other_handlers_are_kept_under_their_own_names(virtual_time: VirtualTime, path):
    first = await qanat.collect(fork, ["a", "b"], journal=path)
    assert taken() == ["a", "b", "leaf a", "leaf b"]
    again = await qanat.collect(fork, ["a", "b"], journal=path)
    assert taken() == []
    assert facts(again) == facts(first)
    assert (await qanat.map(leaf, ["b", "c"], journal=path), taken()) == (["b", "c"], ["leaf c"])


async def test_parent_of_an_unknown_handler_is_called_again(virtual_time: VirtualTime, path):
    async def inner(name: str) -> str:
        seen.append(f"inner {name}")
        return name

    async def outer(name: str) -> str:
        seen.append(name)
        qanat.current_job().spawn(name, handler=inner)
        return name

    first = await qanat.collect(outer, ["a"], journal=path)
    assert taken() == ["a", "inner a"]
    again = await qanat.collect(outer, ["a"], journal=path)
    assert taken() == ["a"]
    assert facts(again) == facts(first)


@pytest.mark.parametrize(
    "name",
    ["os:system", "tests._app.not_there:fn", f"{__name__}:Calls", f"{__name__}:gone", "nonsense"],
)
async def test_journal_names_no_function_but_those_of_the_program(virtual_time: VirtualTime, path, name):
    await qanat.collect(fork, ["echo"], journal=path)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE jobs SET spawned=replace(spawned, ?, ?)", (f"{__name__}:leaf", name))
    file.close()
    taken()
    outcomes = await qanat.collect(fork, ["echo"], journal=path)
    assert taken() == ["echo"]
    assert [each.state for each in outcomes] == ["done", "done"]


async def test_record_that_is_no_record_calls_the_handler_again(virtual_time: VirtualTime, path):
    await qanat.collect(fork, ["a"], journal=path)
    with sqlite3.connect(path) as file:
        file.execute("UPDATE jobs SET spawned='{\"spawned\":3}' WHERE spawned IS NOT NULL")
    file.close()
    taken()
    await qanat.collect(fork, ["a"], journal=path)
    assert taken() == ["a"]
    await qanat.collect(fork, ["a"], journal=path)
    assert taken() == []


async def test_handler_without_a_name_is_refused_at_spawn(virtual_time: VirtualTime, path):
    async def spawns(name: str) -> str:
        qanat.current_job().spawn(name, handler=partial(leaf))
        return name

    (outcome,) = await qanat.collect(spawns, ["a"], journal=path)
    assert "version must say which handler this is" in str(outcome.error)
    assert len(await qanat.collect(spawns, ["a"], journal=path, version=1)) == 2


@dataclass(frozen=True)
class Page:
    url: str


async def typed(page: Page) -> str:
    seen.append(page.url)
    return page.url


async def untyped(item: Any) -> str:
    seen.append(str(item))
    return "it"


async def pages(name: str) -> str:
    job = qanat.current_job()
    job.spawn(Page(name), handler=typed, metadata={"n": 1}, lane=("l", 1, b"x"), priority=3)
    job.spawn({"url": 1.0}, handler=untyped, id="mine", key=("k", b"\0", 2))
    return name


async def test_items_come_back_as_the_parameter_is_annotated(virtual_time: VirtualTime, path):
    first = await qanat.collect(pages, ["x"], journal=path)
    assert taken() == ["x", "{'url': 1.0}"]
    again = await qanat.collect(pages, ["x"], journal=path)
    assert taken() == []
    assert [(each.item, each.lane, each.metadata, each.id, each.recalled) for each in again] == [
        (each.item, each.lane, each.metadata, each.id, True) for each in first
    ]


async def test_items_without_a_form_in_json_fail_their_parent_or_have_a_key(virtual_time: VirtualTime, path):
    async def index(name: str) -> str:
        seen.append(name)
        item = ("tuple", name)
        qanat.current_job().spawn(item, handler=untyped, key="k" if name == "keyed" else None)
        return name

    outcomes = await qanat.collect(index, ["bare", "keyed"], journal=path)
    taken()
    assert type(outcomes[0].error) is SerialisationError
    assert "cannot be kept in the journal, as its item would come back from JSON as something else" in str(
        outcomes[0].error
    )
    assert "give key=" in str(outcomes[0].error)
    outcomes = await qanat.collect(index, ["keyed"], journal=path)
    assert taken() == ["keyed"]
    assert [(each.item, each.recalled) for each in outcomes] == [("keyed", False), (("tuple", "keyed"), True)]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"item": object()}, "give spawn() a key= that says what it is"),
        ({"item": "x", "metadata": {"a": object()}}, "its metadata have no form in JSON"),
        ({"item": "x", "metadata": {"a": (1,)}}, "its metadata would come back from JSON as something else"),
        ({"item": "x", "lane": frozenset()}, "is no key or lane that JSON can hold"),
    ],
    ids=["item", "metadata", "metadata that change", "lane"],
)
async def test_what_cannot_be_recorded_is_told(virtual_time: VirtualTime, path, options, message):
    async def index(name: str) -> str:
        qanat.current_job().spawn(**options, handler=untyped)
        return name

    (outcome,) = await qanat.collect(index, ["x"], journal=path)
    assert message in str(outcome.error)


async def test_value_that_cannot_be_kept_counts_as_failed_for_its_parent(virtual_time: VirtualTime, path):
    async def bad(item: int):
        return (item,) if item else item

    async def index(name: str) -> str:
        for item in range(2):
            qanat.current_job().spawn(item, handler=bad, failure="fail")
        return name

    outcomes = await qanat.collect(index, ["x"], journal=path, concurrency=1)
    assert type(outcomes[0].error) is ChildrenFailedError
    assert [each.state for each in outcomes[1:]].count("dead") == 1


@pytest.mark.parametrize("rule", [None, str])
async def test_circles_end_with_callbacks_and_without_keys(virtual_time: VirtualTime, path, rule):
    """An item that is found again is the job that there is, also a root, and nobody waits for itself."""

    async def circle(name: str) -> str:
        seen.append(name)
        job = qanat.current_job()
        for other in "ab":
            job.spawn(other)
        job.after_children(told)
        return name

    async def told(children: Any) -> str:
        return f"{children.done} done"

    for called in (["a", "b", "c"], []):
        outcomes = await qanat.collect(circle, ["c", "a"], journal=path, key=rule, concurrency=1)
        assert taken() == called
        # A root that comes after another found its item has an outcome of its own.
        assert {each.item for each in outcomes} == {"a", "b", "c"}


async def test_handle_of_a_root_that_is_found_again_can_be_awaited(virtual_time: VirtualTime, path):
    async def waits(name: str) -> str:
        if name == "a":
            found: str = await qanat.current_job().spawn("b")
            return name + found
        await anyio.sleep(1)
        return name

    assert await qanat.map(waits, ["a", "b"], journal=path) == ["ab", "b"]


async def test_stopped_tree_is_gone_on_with(virtual_time: VirtualTime, path):
    values: list[Any] = []
    for stop in (1.5, 2.5, 100):
        async with Pool(tree_size, journal=path, concurrency=1) as pool:
            handle = pool.submit("a")
            with anyio.move_on_after(stop):
                values.append(await handle)
            if not handle.done:
                pool.cancel()
    assert values == [6]
    assert sorted(set(seen)) == list("abcdef")
    assert taken().count("a") == 3


async def tree_size(name: str) -> int:
    seen.append(name)
    job = qanat.current_job()
    for child in TREE.get(name, ()):
        job.spawn(child)
    job.after_children(total, gather=True)
    await anyio.sleep(0.5)
    return 1


async def total(children: Any) -> int:
    below: int = sum(children.values())
    return 1 + below


async def test_what_a_schedule_or_call_spawns_is_not_kept(virtual_time: VirtualTime, path):
    async def spawns() -> None:
        qanat.current_job().spawn("x", handler=leaf)

    for _ in range(2):
        async with Pool(walk, journal=path) as pool:
            pool.call(spawns)
    assert taken() == ["leaf x", "leaf x"]


SCRIPT = """
import sys, time
from pathlib import Path
import qanat

def visit(n):
    with open("seen.txt", "a") as file:
        file.write(f"{n}\\n")
    if 2 * n + 1 < 127:
        for child in (2 * n + 1, 2 * n + 2):
            qanat.current_job().spawn(child, handler=other if n % 2 else visit)
    time.sleep(0.01)
    return n

def other(n):
    return visit(n)

if __name__ == "__main__":
    outcomes = qanat.run(visit, [0], journal="run.db", concurrency=2, executor=sys.argv[1], progress=False)
    print(outcomes.summary().total, outcomes.summary().done, sum(outcomes.values()))
"""


@pytest.mark.real
@pytest.mark.parametrize("executor", ["thread", "process"])
def test_script_that_is_killed_goes_on(tmp_path: Path, executor: str):
    (tmp_path / "script.py").write_text(SCRIPT)
    log = tmp_path / "seen.txt"
    log.touch()
    command = [sys.executable, "script.py", executor]

    def have_begun(enough: int) -> bool:
        return len(log.read_text().split()) >= enough

    for enough in (20, 60):
        process = subprocess.Popen(command, cwd=tmp_path, start_new_session=True)
        _wait(log, enough)
        os.killpg(process.pid, 9)
        process.wait(10)
    file = sqlite3.connect(tmp_path / "run.db")
    (recorded,) = file.execute("SELECT count(*) FROM jobs").fetchone()
    file.close()
    log.write_text("")
    ran = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=60, check=True)
    assert ran.stdout.split() == ["127", "127", str(sum(range(127)))]
    assert len(log.read_text().split()) == 127 - recorded
    assert recorded


def _wait(log: Path, enough: int) -> None:
    by = time.monotonic() + 30
    while len(log.read_text().split()) < enough:
        assert time.monotonic() < by
        time.sleep(0.005)
