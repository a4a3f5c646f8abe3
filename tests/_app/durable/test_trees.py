"""Trees in queues: children come with the end of their parent, once, and it goes on when they have ended."""

from __future__ import annotations

import random
import threading
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import current_job
from qanat._app.durable import brood as brood_module
from qanat._app.durable import holding
from qanat._app.durable.lineage import After, read_after
from qanat.errors import JobCancelledError
from tests._app.durable.faulty import put_in_place

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

FOLDERS = {"/": ["/a", "/b"], "/a": ["/a/1", "/a/2"], "/b": []}


async def size(path: str) -> int:
    job = current_job()
    if path not in FOLDERS:
        return 10
    for each in FOLDERS[path]:
        job.spawn(each)
    job.after_children(add_up, gather=True)
    return 0


async def add_up(children: qanat.Children[int]) -> int:
    return sum(children.values()) + 1


async def ended(queue: qanat.Queue[Any], job: qanat.QueueJob[Any]) -> qanat.QueueJob[Any]:
    found = await queue.get(job.id)
    assert found is not None
    return found


@pytest.mark.parametrize("keep", [0.0, 60.0])
async def test_a_callback_adds_up_a_whole_tree(virtual_time: VirtualTime, keep: float):
    """Also where nothing is kept of the children otherwise."""
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=keep)
        await queue.put("/", id="root")
        totals: list[int] = []

        async def add(children: qanat.Children[int]) -> int:
            totals.append(sum(children.values()) + 1)
            return totals[-1]

        async def handler(path: str) -> int:
            if path not in FOLDERS:
                return 10
            for each in FOLDERS[path]:
                current_job().spawn(each)
            current_job().after_children(add, gather=True)
            return 0

        await qanat.consume(queue, handler, handlers=[add], burst=True)
        assert sorted(totals) == [1, 21, 23]
        counts = await queue.counts()
        assert (counts.done, counts.waiting, counts.put) == (5, 0, 5)


async def test_a_parent_waits_for_its_children_and_tells_what_they_are(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        root = await queue.put("root")
        seen: dict[str, Any] = {}

        async def handler(item: str) -> str:
            job = current_job()
            if item == "root":
                handle = job.spawn(
                    "child", metadata={"n": 1}, lane="slow", priority=3.0, delay=50.0, id="given"
                )
                other = job.spawn("other")
                assert (handle.id, handle.done, other.job.parent) == ("given", False, root.id)
                assert str(other.id).startswith(f"{root.id}/")
            else:
                seen[item] = (job.id, job.parent, job.metadata, job.lane, job.priority)
            return item

        await qanat.consume(queue, handler, burst=True)
        assert (await ended(queue, root)).state == "waiting"
        (child,) = (await queue.find(state="scheduled")).jobs
        assert (child.id, child.metadata, child.parent) == ("given", {"n": 1}, root.id)
        await anyio.sleep(50)
        await qanat.consume(queue, handler, burst=True)
        assert (await ended(queue, root)).value == "root"
        assert seen["child"] == ("given", root.id, {"n": 1}, "slow", 3.0)
        assert seen["other"][2:] == (None, None, 0.0)


async def test_an_attempt_that_fails_leaves_no_children(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        root = await queue.put("root")
        ran: list[str] = []
        ids: list[Any] = []

        async def handler(item: str) -> None:
            job = current_job()
            ran.append(item)
            if item == "root":
                ids.append((job.spawn("a").id, job.spawn("b", key="b").id))
                if job.attempt < 3:
                    raise OSError("again")

        retry = qanat.Retry(5, backoff=qanat.constant(1.0))
        await qanat.consume(queue, handler, burst=True, retry=retry)
        assert Counter(ran) == {"root": 3, "a": 1, "b": 1}
        assert len(set(ids)) == 1
        assert (await ended(queue, root)).state == "done"


async def test_equal_keys_are_visited_once_in_a_tree(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        links = {"/": "ab", "a": "ba/", "b": "ac", "c": "c"}
        seen: list[tuple[str, str]] = []

        async def crawl(page: str) -> None:
            seen.append((str(current_job().id)[:1], page))
            for link in links[page]:
                handle = current_job().spawn(link, key=link)
                assert current_job().spawn(link, key=link) is handle

        for name in "12":
            await queue.put("/", id=name)
        await qanat.consume(queue, crawl, burst=True, concurrency=3)
        # The root was put without a key, so it is visited once more by its own.
        assert Counter(seen) == {(name, page): 1 + (page == "/") for name in "12" for page in "/abc"}
        assert (await queue.counts()).done == 10


async def test_a_queue_that_knows_keys_keeps_them_apart_across_trees(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", unique="forever")
        seen: list[str] = []

        async def handler(page: str) -> None:
            seen.append(page)
            if page.startswith("root"):
                current_job().spawn("shared", key="shared")

        await queue.put("root 1")
        await queue.put("root 2")
        await qanat.consume(queue, handler, burst=True)
        assert sorted(seen) == ["root 1", "root 2", "shared"]


async def test_a_job_that_is_put_back_has_children_of_its_own(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=600.0)
        root = await queue.put("root")
        seen: Counter[str] = Counter()

        async def handler(item: str) -> None:
            seen[item] += 1
            if item == "root":
                current_job().spawn("a")
                current_job().spawn("b", key="b")

        await qanat.consume(queue, handler, burst=True)
        await anyio.sleep(1)
        assert await queue.admin.requeue(root.id) == ["ready"]
        await qanat.consume(queue, handler, burst=True)
        assert seen == {"root": 2, "a": 2, "b": 2}


async def test_a_callback_runs_after_a_restart_where_its_name_is_known(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=600.0)
        root = await queue.put("root")
        told: list[qanat.Children[Any]] = []

        async def handler(item: str) -> str:
            if item == "root":
                current_job().spawn("leaf", handler="leaf")
                current_job().after_children("collect it")
            return item

        def collect_it(children: qanat.Children[Any]) -> None:
            told.append(children)
            job = current_job()
            assert (job.id, job.item) == (root.id, "root")
            if job.attempt == 1:
                raise OSError("once more")

        await qanat.consume(queue, handler, burst=True)
        assert "no handler 'leaf' here" in caplog.text
        await anyio.sleep(5)
        await qanat.consume(queue, None, handlers={"leaf": handler}, burst=True)
        assert "no handler 'collect it' here" in caplog.text
        await anyio.sleep(5)
        await qanat.consume(queue, None, handlers={"collect it": collect_it}, burst=True, retry=2)
        # The attempt that found nobody who knows it counts.
        assert told == [qanat.Children(1, 0, 0)]
        assert (await ended(queue, root)).value == "root"


async def test_a_callback_is_tried_again_and_its_error_is_the_jobs(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=600.0)
        root = await queue.put("root")
        calls: list[int] = []

        async def handler(item: str) -> None:
            if item == "root":
                current_job().after_children(collect)
                current_job().spawn("leaf")

        async def collect(children: qanat.Children[Any]) -> object:
            calls.append(current_job().attempt)
            if len(calls) < 3:
                raise OSError("again")
            return handler("x")

        retry = qanat.Retry(5, backoff=qanat.constant(1.0), never_on=TypeError)
        await qanat.consume(queue, handler, handlers=[collect], burst=True, retry=retry)
        assert calls == [1, 2, 3]
        found = await ended(queue, root)
        assert (found.state, found.reason[:50]) == (
            "dead",
            "TypeError: the after_children callback returned a ",
        )


@pytest.mark.parametrize(
    ("failures", "callback", "state", "reason"),
    [
        (["continue"] * 4, True, "done", ""),
        (["fail"] * 4, False, "dead", "children"),
        (["fail", "continue", "fail", "fail"], False, "done", ""),
        (["fail"] * 4, True, "dead", "ChildrenFailedError: 1 of 4 jobs"),
        (["fail", "continue", "fail", "fail"], True, "done", ""),
        ([qanat.Quorum(0.75)] * 4, False, "done", ""),
        ([qanat.Quorum(0.8)] * 4, False, "dead", "ChildrenFailedError: 1 of 4 jobs"),
        ([qanat.Quorum(0.8)] * 4, True, "dead", "ChildrenFailedError: 1 of 4 jobs"),
    ],
)
async def test_a_parent_is_judged_by_its_children(
    virtual_time: VirtualTime, failures: list[Any], callback: bool, state: str, reason: str
):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=600.0)
        root = await queue.put(-1)
        told: list[qanat.Children[Any]] = []

        async def handler(item: int) -> None:
            if item < 0:
                for number, failure in enumerate(failures):
                    current_job().spawn(number, failure=failure)
                if callback:
                    current_job().after_children(told.append)
            elif item == 1:
                raise OSError("no 1")

        await qanat.consume(queue, handler, handlers={"told": told.append}, burst=True)
        found = await ended(queue, root)
        assert (found.state, found.reason[: len(reason)]) == (state, reason)
        assert told == ([qanat.Children(3, 1, 0)] if callback else [])
        assert await store_is_sound(store)


async def store_is_sound(store: qanat.Store) -> bool:
    def check(deeds: Any) -> object:
        return deeds.store.check("q")

    (problems,) = await store.desk.ask("call", [check])
    return not problems


async def test_what_cannot_be_spawned_is_refused_at_the_call(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put("root")
        problems: list[str] = []

        def refused(error: type[Exception], **what: Any) -> None:
            spawn: Any = current_job().spawn
            try:
                spawn(**{"item": 1, **what})
            except error as problem:
                problems.append(str(problem).partition(",")[0])
            else:
                raise AssertionError(what)

        async def handler(item: str) -> None:
            if item != "root":
                return
            job = current_job()
            refused(ValueError, handler=add_up)
            refused(TypeError, handler=5)
            refused(TypeError, id=5)
            refused(TypeError, lane=5)
            refused(TypeError, key=1.5)
            refused(ValueError, delay=-1)
            refused(ValueError, metadata={"qanat.tree": 1})
            refused(ValueError, failure="stop")
            refused(qanat.errors.SerialisationError, item=object())
            job.spawn("first", failure=qanat.Quorum(0.5))
            refused(ValueError, failure="continue")
            refused(ValueError, failure=qanat.Quorum(0.6))
            for callback in (5, add_up, lambda: None):
                try:
                    job.after_children(callback)  # type: ignore[arg-type]
                except (TypeError, ValueError) as problem:
                    problems.append(str(problem).partition(",")[0])
            try:
                await job.spawn("second", failure=qanat.Quorum(0.5))
            except RuntimeError as problem:
                problems.append(str(problem).partition(",")[0])

        await qanat.consume(queue, handler, burst=True)
        assert problems == [
            "handler must be a function that the worker knows",
            "handler must be a function that the worker knows",
            "id must be a text",
            "lane must be a text",
            "key must be a str",
            "delay must be at least 0",
            "metadata must not have the name 'qanat.tree'",
            'failure must be "continue"',
            "value is a object",
            "failure must be the same for all children of a job in a queue if it is a Quorum",
            "failure must be the same for all children of a job in a queue if it is a Quorum",
            "callback must be a function of the Children",
            "callback must be a function that the worker knows",
            "callback must take exactly one argument",
            "a handle of a job that was spawned in a queue cannot be awaited",
        ]
        assert (await queue.counts()).done == 3


async def test_nothing_is_spawned_by_callbacks_batches_and_attempts_that_are_over(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put_many(range(2))
        problems: list[str] = []
        jobs: list[qanat.Job[Any]] = []

        def spawn(job: qanat.Job[Any]) -> None:
            try:
                job.spawn(9)
            except RuntimeError as problem:
                problems.append(str(problem).partition(",")[0])

        async def handler(items: list[int]) -> list[None]:
            spawn(current_job())
            for member in current_job().members:
                if member.item < 2:
                    jobs.append(member)
                    member.spawn(member.item + 10)
                    member.after_children(callback)
            return [None for _ in items]

        async def callback(children: qanat.Children[Any]) -> None:
            spawn(current_job())

        await qanat.consume(queue, handler, handlers=[callback], burst=True, batch=qanat.Batch(2))
        spawn(jobs[0])
        assert Counter(problems) == {
            "spawn() needs one job": 2,
            "spawn() works in the handler": 2,
            "spawn() works while the job runs": 1,
        }
        assert (await queue.counts()).done == 4


async def test_trees_end_at_their_depth(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.put(0)
        refused: list[str] = []

        async def handler(item: int) -> None:
            handle = current_job().spawn(item + 1)
            if handle.done:
                with pytest.raises(JobCancelledError, match="max_depth=3 leaves no room"):
                    await handle
                refused.append(str(handle.id))

        await qanat.consume(queue, handler, burst=True, max_depth=3)
        assert (await queue.counts()).done == 4
        assert len(refused) == 1


async def test_threads_spawn_and_call_back(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        root = await queue.put(0)

        def handler(item: int) -> int:
            if item == 0:
                assert threading.current_thread() is not threading.main_thread()
                for number in range(1, 5):
                    current_job().spawn(number)
                current_job().after_children(total, gather=True)
            return item

        def total(children: qanat.Children[int]) -> list[int]:
            assert threading.current_thread() is not threading.main_thread()
            return children.values()

        await qanat.consume(queue, handler, handlers=[total], burst=True)
        assert (await ended(queue, root)).value == [1, 2, 3, 4]


def grow(item: int) -> int:
    job = current_job()
    if item == 0:
        ids = [job.spawn(1).id, job.spawn(2, key="two").id, job.spawn(2, key="two", handler=grow).id]
        job.describe(" ".join(map(str, ids)))
        job.after_children(grown, gather=True)
        assert ids[1] == ids[2]
        if job.metadata == {"bad": True}:
            job.spawn(3, handler=str)
    return item


def grown(children: qanat.Children[int]) -> list[int]:
    try:
        current_job().spawn(5)
    except RuntimeError:
        return children.values()
    raise AssertionError("a callback spawned")


@pytest.mark.slow
@pytest.mark.real
async def test_processes_hand_in_what_they_spawned():
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        root = await queue.put(0)
        bad = await queue.put(0, metadata={"bad": True})
        await qanat.consume(
            queue, grow, handlers={"grown": grown}, burst=True, executor="process", concurrency=1
        )
        found = await ended(queue, root)
        assert (found.state, found.value) == ("done", [1, 2])
        page = await queue.find(state="done")
        children = {job.id for job in page.jobs if job.parent == root.id}
        assert children == set(found.note.split()) or not found.note
        assert len(children) == 2
        refused = await ended(queue, bad)
        assert refused.reason.startswith("ValueError: handler must be a function that the worker knows")


async def test_more_children_than_one_step_takes_come_once(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    """They are put ahead in chunks, under the parent's lease; a worker lost in between doubles none."""
    monkeypatch.setattr(brood_module, "MOST", 100)
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=10.0)
        await queue.put(-1)
        seen: Counter[int] = Counter()
        totals: list[qanat.Children[int]] = []

        async def handler(item: int) -> int:
            seen[item] += 1
            if item < 0:
                for number in range(250):
                    current_job().spawn(number)
                current_job().after_children(total, gather=True)
            return item

        async def total(children: qanat.Children[int]) -> None:
            totals.append(children)

        faults.refuse["put"] = 2
        faults.lose["put"] = 1
        await qanat.consume(queue, handler, handlers=[total], burst=True, concurrency=50)
        assert max(size for name, size in faults.deeds if name == "put") == 100
        assert seen == Counter(range(-1, 250))
        assert [(each.done, each.values()) for each in totals] == [(250, list(range(250)))]
        assert await store_is_sound(store)


async def test_a_parent_that_is_lost_after_its_first_chunks_counts_each_child_once(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(brood_module, "MOST", 10)
    async with qanat.open("memory://") as store:
        queue = store.queue("q", lease=10.0)
        await queue.put(-1)
        seen: Counter[int] = Counter()
        totals: list[qanat.Children[int]] = []

        async def handler(item: int) -> int:
            seen[item] += 1
            if item < 0:
                for number in range(25):
                    current_job().spawn(number)
                current_job().after_children(total)
                if current_job().attempt == 1:
                    # What the first attempt put ahead, before its worker was lost.
                    chunks = held_of(current_job()).ahead(lease_of(current_job()))
                    await store.desk.ask("put q 0 -", [new for chunk in chunks for new in chunk])
                    raise OSError("lost")
            return item

        async def total(children: qanat.Children[int]) -> None:
            totals.append(children)

        retry = qanat.Retry(1, backoff=qanat.constant(60.0))
        await qanat.consume(queue, handler, handlers=[total], burst=True, retry=retry)
        assert seen == Counter({number: 1 + (number < 0) for number in range(-1, 25)})
        assert totals == [qanat.Children(25, 0, 0)]


def held_of(job: qanat.Job[Any]) -> Any:
    held: Any = holding.held_of(job)
    return held.brood


def lease_of(job: qanat.Job[Any]) -> Any:
    from qanat._core.store.values import Lease

    held: Any = holding.held_of(job)
    return Lease(held.stored.id, held.stored.token)


async def test_cancelling_a_child_sends_its_parent_on(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        root = await queue.put("root")
        told: list[qanat.Children[Any]] = []

        async def handler(item: str) -> None:
            if item == "root":
                current_job().spawn("later", delay=1e6, id="later")
                current_job().after_children("tell")

        async with anyio.create_task_group() as group:

            async def work() -> None:
                await qanat.consume(queue, handler, handlers={"tell": told.append})

            group.start_soon(work)
            await anyio.sleep(1)
            assert await queue.cancel("later") == ["cancelled"]
            await anyio.sleep(1)
            assert told == [qanat.Children(0, 0, 1)]
            group.cancel_scope.cancel()
        assert (await ended(queue, root)).state == "done"


async def test_values_that_are_gone_are_not_taken_for_none(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=60.0)
        root = await queue.put("root")

        async def handler(item: str) -> None:
            if item == "root":
                current_job().spawn("a", id="a")
                current_job().spawn("b")
                current_job().after_children("add_up", gather=True)

        await qanat.consume(queue, handler, burst=True)
        await queue.admin.delete("a")
        await anyio.sleep(5)
        await qanat.consume(queue, handler, handlers=[add_up], burst=True)
        found = await ended(queue, root)
        assert found.reason.startswith("LookupError: 1 of the values of 2 children are gone")


@pytest.mark.parametrize(
    "after",
    [
        After("add_up"),
        After("add_up", gather=True),
        After("what?", fails=True),
        After("a?gather", gather=True, quorum=0.8),
        After("", quorum=1 / 3),
        After("odd?"),
    ],
    ids=str,
)
def test_what_is_to_be_done_after_children_is_read_as_it_was_written(after: After):
    assert read_after(after.text) == after


def random_tree(rng: random.Random) -> dict[str, list[str]]:
    tree: dict[str, list[str]] = {"r": []}
    for number in range(rng.randrange(5, 60)):
        tree[rng.choice(list(tree))].append(f"n{number}")
        tree[f"n{number}"] = []
    return tree


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
async def test_any_tree_is_counted_right_by_any_number_of_workers(virtual_time: VirtualTime, seed: int):
    """Attempts fail at random, children are found twice by their keys, and each callback is heard once."""
    rng = random.Random(seed)
    tree = random_tree(rng)
    names = list(tree)
    luck = {name: rng.randrange(3) for name in names}
    heard: Counter[str] = Counter()
    ran: Counter[str] = Counter()

    async def handler(name: str) -> int:
        job = current_job()
        ran[name] += 1
        for child in tree[name]:
            job.spawn(child, key=child if luck[child] == 2 else None)
            if luck[child] == 2:
                job.spawn(child, key=child)
        job.after_children(total, gather=True)
        await anyio.sleep(rng.random())
        if ran[name] <= luck[name]:
            raise OSError(name)
        return 1

    async def total(children: qanat.Children[int]) -> int:
        name = str(current_job().item)
        if luck[name] == 1 and current_job().attempt == 1:
            raise OSError(name)
        heard[name] += 1
        return 1 + sum(children.values())

    async with qanat.open("memory://") as store:
        queue = store.queue("q", keep=rng.choice([0.0, 1e6]))
        await queue.put("r", id="r")
        totals: list[int] = []

        async def root(children: qanat.Children[int]) -> None:
            totals.extend(children.values())

        async def top(name: str) -> None:
            current_job().spawn(name, handler=handler)
            current_job().after_children(root, gather=True)

        async def work(how_many: int) -> None:
            retry = qanat.Retry(5, backoff=qanat.constant(0.3))
            await qanat.consume(
                queue, top, handlers=[handler, total, root], retry=retry, concurrency=how_many
            )

        async with anyio.create_task_group() as group:
            for _ in range(3):
                group.start_soon(work, rng.randrange(1, 5))
            while not totals:
                await anyio.sleep(1)
            await anyio.sleep(1)
            group.cancel_scope.cancel()
        assert totals == [len(names)]
        assert heard == Counter(names)
        assert ran == {name: luck[name] + 1 for name in names}
        counts = await queue.counts()
        assert (counts.done, counts.waiting, counts.put) == (len(names) + 1, 0, len(names) + 1)
        assert await store_is_sound(store)
