"""Work that finds more work: `job.spawn`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import JobCancelledError, PoolClosedError, PoolDeadlockError, Priority
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")

TREE: dict[str, list[str]] = {"a": ["b", "c"], "b": ["d", "e"], "c": ["f"]}


async def grow(name: str) -> str:
    job = qanat.current_job()
    for child in TREE.get(name, ()):
        job.spawn(child)
    await anyio.sleep(1.0)
    return name.upper()


def ids(outcomes: Any) -> list[Any]:
    return [outcome.id for outcome in outcomes]


async def test_spawned_jobs_are_outcomes_of_the_run(virtual_time: VirtualTime):
    outcomes = await qanat.collect(grow, ["a"], concurrency=1)
    assert [outcome.item for outcome in outcomes] == ["a", "b", "c", "d", "e", "f"]
    assert outcomes.values() == ["A", "B", "C", "D", "E", "F"]
    assert str(outcomes.summary()).startswith("6 of 6 done")


async def test_ids_tell_the_way_from_the_root(virtual_time: VirtualTime):
    outcomes = await qanat.collect(grow, ["x", "a"], concurrency=1)
    assert ids(outcomes) == [0, 1, "1/0", "1/1", "1/0/0", "1/0/1", "1/1/0"]
    assert [outcome.parent for outcome in outcomes] == [None, None, 1, 1, "1/0", "1/0", "1/1"]
    assert [outcome.index for outcome in outcomes] == [0, 1, 1, 1, 1, 1, 1]


async def test_ids_of_deep_trees_stay_short(virtual_time: VirtualTime):
    async def deeper(depth: int) -> None:
        if depth:
            qanat.current_job().spawn(depth - 1)

    outcomes = await qanat.collect(deeper, [200])
    assert len(outcomes) == len(set(ids(outcomes))) == 201
    assert all(len(str(id)) <= 64 for id in ids(outcomes))


async def test_fifo_is_breadth_first_and_lifo_depth_first(virtual_time: VirtualTime):
    for order, expected in (("fifo", "abcdef"), ("lifo", "acfbed")):
        diary = Diary(virtual_time)

        async def note(name: str, diary: Diary = diary) -> None:
            await diary.taking(0.0)(name)
            for child in TREE.get(name, ()):
                qanat.current_job().spawn(child)

        rules: Any = {"order": order, "concurrency": 1}
        await qanat.collect(note, ["a"], **rules)
        assert "".join(map(str, diary.items)) == expected


async def test_map_gives_the_values_of_the_roots(virtual_time: VirtualTime):
    assert await qanat.map(grow, ["a", "c"]) == ["A", "C"]


async def test_map_raises_the_first_failure_of_any_job(virtual_time: VirtualTime):
    async def fail_below(name: str) -> None:
        if name == "d":
            raise OSError("no d")
        for child in TREE.get(name, ()):
            qanat.current_job().spawn(child)

    with pytest.raises(OSError, match="no d") as caught:
        await qanat.map(fail_below, ["a"])
    assert caught.value.__notes__ == ["job 0/0/0 with item 'd', after 1 attempt"]


async def test_stream_yields_all_and_ordered_keeps_the_roots_in_order(virtual_time: VirtualTime):
    async def slow_first(name: str) -> str:
        if name == "slow":
            await anyio.sleep(5.0)
        elif name != "leaf":
            qanat.current_job().spawn("leaf")
        return name

    async with qanat.stream(slow_first, ["slow", "quick"], ordered=True) as outcomes:
        assert [outcome.item async for outcome in outcomes] == ["leaf", "slow", "quick"]
    async with qanat.stream(slow_first, ["slow", "quick"]) as outcomes:
        assert [outcome.item async for outcome in outcomes] == ["quick", "leaf", "slow"]


async def test_a_handle_can_be_awaited(virtual_time: VirtualTime):
    async def fibonacci(n: int) -> int:
        if n < 2:
            return n
        job = qanat.current_job()
        first, second = job.spawn(n - 1), job.spawn(n - 2)
        total: int = await first + await second
        return total

    assert await qanat.map(fibonacci, [7], concurrency=100) == [13]


async def test_jobs_that_all_wait_for_their_children_find_out(virtual_time: VirtualTime):
    async def wait(n: int) -> None:
        if n < 4:
            await qanat.current_job().spawn(n + 1)

    (first, *_) = await qanat.collect(wait, [0], concurrency=3)
    assert isinstance(first.error, PoolDeadlockError)


async def test_another_handler_has_the_same_rules(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    read = diary.taking(1.0)

    async def listing(page: int) -> None:
        for number in range(3):
            qanat.current_job().spawn(number, handler=read)

    outcomes = await qanat.collect(listing, [0], rate="1/10s")
    assert diary.times == [10.0, 20.0, 30.0]
    assert ids(outcomes) == [0, "0/0", "0/1", "0/2"]


async def test_a_job_of_another_handler_spawns_jobs_of_that_handler(virtual_time: VirtualTime):
    seen: list[str] = []

    async def inner(n: int) -> None:
        seen.append(f"inner {n}")
        if n:
            qanat.current_job().spawn(n - 1)

    async def outer(n: int) -> None:
        qanat.current_job().spawn(n, handler=inner)

    await qanat.collect(outer, [2])
    assert seen == ["inner 2", "inner 1", "inner 0"]


async def test_handlers_without_jobs_are_forgotten(virtual_time: VirtualTime):
    tasks: list[int] = []

    async def spawn_many(n: int) -> None:
        job = qanat.current_job()
        for number in range(200):

            async def one(item: int) -> None:
                assert pool._engine is not None
                tasks.append(len(pool._engine.dispatcher.tree.tasks))

            await job.spawn(number, handler=one)

    async with qanat.Pool(spawn_many) as pool:
        await pool.submit(0)
    assert max(tasks) <= 66


async def test_what_is_given_is_the_jobs(virtual_time: VirtualTime):
    async def root(item: str) -> None:
        if item == "root":
            qanat.current_job().spawn(
                "child", id="mine", lane="lane", priority=3, metadata={"a": 1}, delay=5.0
            )

    _, child = await qanat.collect(root, ["root"])
    assert (child.id, child.lane, child.metadata) == ("mine", "lane", {"a": 1})
    assert child.started_at == 5.0
    assert child.waits == {"delay": 5.0}


async def test_the_rules_functions_are_asked_for_spawned_items(virtual_time: VirtualTime):
    async def root(item: str) -> None:
        if item == "root":
            qanat.current_job().spawn("child")
            qanat.current_job().spawn("other", lane="given")

    outcomes = await qanat.collect(root, ["root"], lane=lambda item: item[0])
    assert [outcome.lane for outcome in outcomes] == ["r", "c", "given"]


async def test_a_function_of_the_rules_that_raises_fails_the_spawned_job(virtual_time: VirtualTime):
    def lane(item: str) -> str:
        return {"root": "r"}[item]

    async def root(item: str) -> None:
        qanat.current_job().spawn("child")

    _, child = await qanat.collect(root, ["root"], lane=lane)
    assert isinstance(child.error, KeyError)


@pytest.mark.parametrize(
    ("inherit", "expected"),
    [(True, ["low", "high", "high/0", "low/0"]), (False, ["low", "high", "low/0", "high/0"])],
)
async def test_a_priority_is_inherited_if_wanted(
    virtual_time: VirtualTime, inherit: bool, expected: list[str]
):
    seen: list[str] = []

    async def note(name: str) -> None:
        await anyio.sleep(1.5 if name == "high" else 1.0)
        seen.append(name)
        if "/" not in name:
            qanat.current_job().spawn(f"{name}/0")

    async with qanat.Pool(note, concurrency=2, order=Priority(inherit=inherit)) as pool:
        pool.submit("low", priority=9)
        pool.submit("high", priority=1)
        await anyio.sleep(0.5)
        pool.resize(1)
    assert seen == expected


async def test_a_priority_of_its_own_wins(virtual_time: VirtualTime):
    seen: list[str] = []

    async def note(name: str) -> None:
        seen.append(name)
        if name == "root":
            qanat.current_job().spawn("inherits")
            qanat.current_job().spawn("own", priority=-5)

    await qanat.collect(note, ["root"], concurrency=1, order=Priority(inherit=True))
    assert seen == ["root", "own", "inherits"]


# --- keys ------------------------------------------------------------------------------------


async def test_pages_that_link_in_circles_are_visited_once(virtual_time: VirtualTime):
    links = {"/": ["/a", "/b"], "/a": ["/b", "/"], "/b": ["/a", "/b"]}

    async def crawl(page: str) -> str:
        for link in links[page]:
            qanat.current_job().spawn(link, key=link)
        return page

    # The root has no key, so its page is visited once more.
    outcomes = await qanat.collect(crawl, ["/"])
    assert sorted(outcomes.values()) == ["/", "/", "/a", "/b"]
    outcomes = await qanat.collect(crawl, ["/"], key=lambda page: page)
    assert sorted(outcomes.values()) == ["/", "/a", "/b"]


async def test_the_second_handle_of_a_key_is_that_of_the_first_job(virtual_time: VirtualTime):
    async def root(name: str) -> Any:
        if name == "leaf":
            await anyio.sleep(1.0)
            return "value"
        handle = qanat.current_job().spawn("leaf", key=("leaf", 1))
        return handle.id, await handle

    first, second, leaf = await qanat.collect(root, ["x", "y"])
    assert first.value == second.value == ("0/('leaf', 1)", "value")
    assert leaf.parent == 0


async def test_roots_of_one_key_end_alike(virtual_time: VirtualTime):
    calls: list[str] = []

    async def note(name: str) -> str:
        calls.append(name)
        await anyio.sleep(1.0)
        if name == "bad":
            raise OSError("bad")
        return name.upper()

    outcomes = await qanat.collect(note, ["A", "b", "a", "bad", "BAD"], key=str.lower)
    assert sorted(calls) == ["A", "b", "bad"]
    assert [outcome.value for outcome in outcomes] == ["A", "B", "A", None, None]
    assert [outcome.state for outcome in outcomes] == ["done", "done", "done", "dead", "dead"]
    assert ids(outcomes) == [0, 1, 2, 3, 4]
    assert await qanat.map(note, iter(["x", "y", "X"]), key=str.lower, concurrency=1) == ["X", "Y", "X"]


async def test_a_pool_visits_a_key_once_in_its_life(virtual_time: VirtualTime):
    async with qanat.Pool(grow, key=lambda name: name) as pool:
        first = pool.submit("f")
        assert await first == "F"
        again = pool.submit("f")
        assert again.job is first.job
        assert again.done
        assert pool.stats().done == 1


async def test_simulate_visits_a_key_once(virtual_time: VirtualTime):
    simulation = qanat.simulate([1, 2, 1, 1], latency=1.0, concurrency=1, key=lambda item: item)
    assert simulation.makespan == 2.0
    assert simulation.outcomes["done"] == 4


@pytest.mark.parametrize("key", [1.5, True, ["a"], ("a", 1.5), {"a"}], ids=str)
async def test_a_key_of_another_kind_is_refused(virtual_time: VirtualTime, key: Any):
    async def root(name: str) -> None:
        qanat.current_job().spawn("child", key=key)

    (outcome,) = await qanat.collect(root, ["root"])
    assert isinstance(outcome.error, TypeError)
    assert str(outcome.error).startswith("key must be")


# --- bounds ----------------------------------------------------------------------------------


async def test_what_is_spawned_too_deep_is_not_taken(virtual_time: VirtualTime):
    errors: list[str] = []

    async def deeper(depth: int) -> None:
        handle = qanat.current_job().spawn(depth + 1)
        if handle.done:
            with pytest.raises(JobCancelledError) as caught:
                await handle
            errors.append(str(caught.value))

    outcomes = await qanat.collect(deeper, [0], max_depth=2)
    assert [outcome.item for outcome in outcomes] == [0, 1, 2]
    assert errors == ["the job was not taken: max_depth=2 leaves no room for it"]
    assert outcomes.summary().left_out == {"max_depth": 1}
    assert "1 spawned jobs were left out: max_depth" in str(outcomes.summary())


async def test_what_is_spawned_beyond_so_many_jobs_is_not_taken(virtual_time: VirtualTime):
    async def double(n: int) -> None:
        for _ in range(2):
            qanat.current_job().spawn(n + 1)

    outcomes = await qanat.collect(double, [0, 0], max_jobs=7)
    assert len(outcomes) == 7
    assert outcomes.summary().left_out == {"max_jobs": 9}


async def test_a_key_that_was_left_out_may_be_visited_from_elsewhere(virtual_time: VirtualTime):
    async def visit(name: str) -> str:
        job = qanat.current_job()
        if name == "deep":
            job.spawn("x", key="x")
        elif name == "root":
            job.spawn("deep", key="deep")
            job.spawn("later", key="later", delay=1.0)
        return name

    outcomes = await qanat.collect(visit, ["root", "x"], max_depth=1, key=lambda name: name)
    assert sorted(outcomes.values()) == ["deep", "later", "root", "x"]


# --- retries ---------------------------------------------------------------------------------


async def test_what_a_retry_spawns_again_is_the_same_job(virtual_time: VirtualTime):
    handles: list[list[Any]] = []
    calls: list[str] = []

    async def fail_once(name: str) -> None:
        calls.append(name)
        job = qanat.current_job()
        if name == "root":
            handles.append([job.spawn("one"), job.spawn("two", key="2"), job.spawn("three", id="x")])
            await anyio.sleep(1.0)
            if job.attempt == 1:
                raise OSError("once")

    outcomes = await qanat.collect(fail_once, ["root"], retry=1)
    assert sorted(calls) == ["one", "root", "root", "three", "two"]
    assert ids(outcomes) == [0, "0/0", "0/'2'", "x"]
    first, second = handles
    assert [handle.job for handle in first] == [handle.job for handle in second]


@pytest.mark.parametrize("journal", [False, True])
async def test_an_id_that_is_given_to_two_items_is_refused(virtual_time: VirtualTime, journal, tmp_path):
    refused: list[str] = []

    async def twice(name: str) -> None:
        if name != "root":
            return
        job = qanat.current_job()
        first = job.spawn("one", id="x")
        assert job.spawn("one", id="x").job is first.job
        try:
            job.spawn("two", id="x")
        except ValueError as error:
            refused.append(str(error))

    outcomes = await qanat.collect(twice, ["root"], journal=tmp_path / "run.db" if journal else None)
    assert ids(outcomes) == [0, "x"]
    (said,) = refused
    assert said.startswith(
        "id must be another one for each item that an attempt spawns, got 'x' for 'two' and"
    )


async def test_children_of_a_job_that_failed_go_on(virtual_time: VirtualTime):
    async def fail(name: str) -> str:
        if name == "root":
            qanat.current_job().spawn("child")
            raise OSError("for good")
        return name

    root, child = await qanat.collect(fail, ["root"])
    assert root.state == "dead"
    assert child.value == "child"


# --- where and when --------------------------------------------------------------------------


async def test_spawning_is_allowed_while_a_pool_drains(virtual_time: VirtualTime):
    async with qanat.Pool(grow, max_waiting=1) as pool:
        pool.submit("a")
    assert pool._count == 1


async def test_what_was_spawned_in_a_pool_is_counted_there(virtual_time: VirtualTime):
    async with qanat.Pool(grow) as pool:
        reader = pool.outcomes()
        pool.submit("a")
        await pool.drain()
        assert pool.stats().done == 6
    assert sorted([outcome.item async for outcome in reader]) == list("abcdef")


async def test_a_call_of_a_pool_spawns_jobs_of_the_pool(virtual_time: VirtualTime):
    async def starter(name: str) -> None:
        qanat.current_job().spawn(name)

    async with qanat.Pool(grow) as pool:
        await pool.call(starter, "f")
        await pool.drain()
        assert pool.stats().done == 2


async def test_a_pool_without_a_handler_needs_one_to_spawn(virtual_time: VirtualTime):
    async def starter() -> None:
        qanat.current_job().spawn("f")

    async with qanat.Pool() as pool:
        with pytest.raises(TypeError, match="handler must be given"):
            await pool.call(starter)


async def test_a_job_that_has_ended_cannot_spawn(virtual_time: VirtualTime):
    kept: list[Any] = []

    async def keep(name: str) -> None:
        kept.append(qanat.current_job())

    async with qanat.Pool(keep) as pool:
        await pool.submit("a")
        with pytest.raises(RuntimeError, match="does not run any more"):
            kept[0].spawn("b")
        with pytest.raises(RuntimeError, match="does not run any more"):
            kept[0].after_children(keep)
    with pytest.raises(PoolClosedError, match="is over"):
        kept[0].spawn("b")


async def test_a_task_that_a_handler_started_may_spawn_for_it(virtual_time: VirtualTime):
    async def root(name: str) -> None:
        if name == "root":
            job = qanat.current_job()
            async with anyio.create_task_group() as group:
                group.start_soon(anyio.sleep, 1.0)
                job.spawn("child")

    assert len(await qanat.collect(root, ["root"])) == 2


async def test_a_batch_spawns_from_its_members(virtual_time: VirtualTime):
    async def handle(items: list[int]) -> list[int]:
        batch = qanat.current_job()
        with pytest.raises(RuntimeError, match="needs one job"):
            batch.spawn(1)
        for member in batch.members:
            if member.item > 0:
                member.spawn(member.item - 1)
        return items

    outcomes = await qanat.collect(handle, [2, 1], batch=qanat.Batch(2))
    assert outcomes.values() == [2, 1, 1, 0, 0]


async def test_a_recorded_run_refuses_to_spawn(virtual_time: VirtualTime, tmp_path: Any):
    async def root(name: str) -> None:
        qanat.current_job().spawn("child")

    (outcome,) = await qanat.collect(root, ["root"], record=tmp_path / "run.trace")
    assert isinstance(outcome.error, RuntimeError)
    assert "record=" in str(outcome.error)


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"delay": -1.0}, ValueError, "delay must be at least 0"),
        ({"delay": "1"}, TypeError, "delay must be"),
        ({"priority": "x"}, TypeError, "priority must be"),
        ({"lane": []}, TypeError, "lane must be hashable"),
        ({"id": 1.5}, TypeError, "id must be"),
        ({"metadata": 3}, TypeError, "metadata must be a mapping"),
        ({"failure": "stop"}, ValueError, "failure must be"),
        ({"failure": 0.5}, TypeError, "failure must be"),
        ({"handler": 3}, TypeError, "handler must be a function"),
        ({"handler": lambda: None}, TypeError, "handler must take exactly one argument"),
    ],
    ids=[
        "delay below 0", "delay a text", "priority", "lane", "id", "metadata", "failure", "failure a number",
        "handler", "handler without an argument",
    ],
)  # fmt: skip
async def test_wrong_arguments_are_refused_at_the_call(
    virtual_time: VirtualTime, options: dict[str, Any], error: type[Exception], message: str
):
    async def root(name: str) -> None:
        qanat.current_job().spawn(None, **options)

    (outcome,) = await qanat.collect(root, ["root"])
    assert type(outcome.error) is error
    assert str(outcome.error).startswith(message)


async def test_an_item_may_be_none(virtual_time: VirtualTime):
    async def root(name: str | None) -> None:
        if name is not None:
            qanat.current_job().spawn(None)

    assert len(await qanat.collect(root, ["root"])) == 2


async def test_a_chain_of_many_jobs_is_worked_off(virtual_time: VirtualTime):
    async def deeper(depth: int) -> None:
        if depth:
            job = qanat.current_job()
            job.spawn(depth - 1)

    outcomes = await qanat.collect(deeper, [5_000])
    assert len(outcomes) == 5_001
