"""aqueue: what its documentation shows, and what it must not do."""

from __future__ import annotations

import asyncio
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, ClassVar

import anyio
import pytest

from qanat import JobCancelledError
from qanat.compat.aqueue import Item, Ordering, VisOptions, async_run_queue, run_queue

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")

TREE = {"root": ["a", "b"], "a": ["a1", "a2"], "b": ["b1"]}


@dataclass
class Page(Item):
    name: str
    log: list[str] = field(default_factory=list)
    seconds: float = 0.0

    async def process(self) -> None:
        self.set_worker_desc(f"reading {self.name}")
        await anyio.sleep(self.seconds)
        self.log.append(self.name)
        for name in TREE.get(self.name, ()):
            self.enqueue(Page(name, self.log, self.seconds))


async def run(*items: Any, **options: Any) -> None:
    await async_run_queue(initial_items=items, visualize=False, **options)


# --- orders ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "log"),
    [
        ({}, "root b b1 a a2 a1"),
        ({"order": "lifo"}, "root b b1 a a2 a1"),
        ({"queue_type_name": "stack"}, "root b b1 a a2 a1"),
        ({"order": "fifo"}, "root a b a1 a2 b1"),
        ({"queue_type_name": "queue"}, "root a b a1 a2 b1"),
    ],
)
async def test_the_orders_of_a_tree(virtual_time: VirtualTime, options: dict[str, Any], log: str):
    page = Page("root")
    await run(page, num_workers=1, **options)
    assert " ".join(page.log) == log


async def test_priorities_are_smaller_first(virtual_time: VirtualTime):
    log: list[str] = []

    class Petty(Item):
        priority = 2

        async def process(self) -> None:
            log.append(type(self).__name__)

    class Important(Petty):
        priority = 1

    class Usual(Petty):
        priority = 0

        async def process(self) -> None:
            await super().process()
            self.enqueue(Petty(), Important())

    await run(Petty(), Important(), Usual(), num_workers=1, order="priority")
    assert log == ["Usual", "Important", "Important", "Petty", "Petty"]


async def test_so_many_are_processed_at_once(virtual_time: VirtualTime):
    began = virtual_time.now()
    await run(*[Page("leaf", seconds=1.0) for _ in range(10)], num_workers=5)
    assert virtual_time.now() - began == 2.0


# --- forms of items --------------------------------------------------------------------------------


async def test_an_async_generator_enqueues_what_it_yields(virtual_time: VirtualTime):
    log: list[str] = []

    class ChildItem(Item):
        track_overall: ClassVar[bool] = True

        async def process(self) -> None:
            self.set_worker_desc("Processing ChildItem")
            assert isinstance(self.parent, RootItem)
            log.append("child")

    class RootItem(Item):
        async def process(self) -> AsyncIterator[Item]:
            self.set_worker_desc("Processing RootItem")
            for _ in range(3):
                yield ChildItem()

        async def after_children_processed(self) -> None:
            log.append("All done!")

    root = RootItem()
    await run(root, num_workers=2)
    assert log == ["child", "child", "child", "All done!"]
    assert root.parent is None


async def test_process_may_be_told_enqueue_and_set_desc(virtual_time: VirtualTime):
    log: list[Any] = []

    class Old(Item):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def process(self, enqueue: Any, set_desc: Any) -> None:
            set_desc(f"depth {self.depth}")
            log.append((self.depth, None if self.parent is None else self.parent.depth))  # type: ignore[attr-defined]
            if self.depth < 2:
                enqueue(Old(self.depth + 1), Old(self.depth + 1))

    await run(Old(0), num_workers=1)
    assert log == [(0, None), (1, 0), (2, 1), (2, 1), (1, 0), (2, 1), (2, 1)]


async def test_any_object_with_process_will_do(virtual_time: VirtualTime):
    log: list[str] = []

    class Plain:
        def __init__(self, children: int) -> None:
            self.children = children

        async def process(self, enqueue: Any, set_desc: Any) -> None:
            for _ in range(self.children):
                enqueue(Plain(0))

        async def after_children_processed(self) -> None:
            log.append(f"after {self.children}")

    await run(Plain(2))
    assert log == ["after 0", "after 0", "after 2"]


async def test_what_works_inside_of_process_does_not_outside(virtual_time: VirtualTime):
    page = Page("leaf")
    await run(page)
    with pytest.raises(RuntimeError, match=r"only be called inside process\(\)"):
        page.enqueue(page)
    with pytest.raises(RuntimeError, match=r"only be called inside process\(\)"):
        page.set_worker_desc("x")


async def test_one_item_does_not_enqueue_as_another(virtual_time: VirtualTime):
    refused: list[str] = []
    other = Page("leaf")

    class Meddler(Item):
        async def process(self) -> None:
            try:
                other.enqueue(Page("leaf"))
            except RuntimeError as error:
                refused.append(str(error))

    await run(Meddler())
    assert refused == ["This function may only be called inside process()"]


async def test_an_item_may_come_once_more(virtual_time: VirtualTime):
    log: list[str] = []

    class Again(Item):
        turn = 0

        async def process(self) -> None:
            self.turn += 1
            log.append(f"turn {self.turn}")
            if self.turn < 3:
                self.enqueue(self)

        async def after_children_processed(self) -> None:
            log.append("after")

    await run(Again())
    assert log == ["turn 1", "turn 2", "turn 3", "after", "after", "after"]


async def test_an_item_may_be_processed_twice_at_once(virtual_time: VirtualTime):
    log: list[str] = []

    class Twice(Page):
        async def after_children_processed(self) -> None:
            log.append("after")

    twice = Twice("twice", log, 1.0)
    await run(twice, twice)
    assert sorted(log) == ["after", "after", "twice", "twice"]


async def test_an_item_that_enqueues_itself_may_go_on(virtual_time: VirtualTime):
    log: list[str] = []

    class Itself(Item):
        turn = 0

        async def process(self) -> None:
            self.turn += 1
            if self.turn == 1:
                self.enqueue(self)
                await anyio.sleep(1.0)
            log.append("process")

        async def after_children_processed(self) -> None:
            log.append("after")

    await run(Itself())
    assert log == ["process", "after", "process", "after"]


async def test_others_may_enqueue_for_an_item_while_it_is_processed(virtual_time: VirtualTime):
    log: list[str] = []

    class Boss(Page):
        async def after_children_processed(self) -> None:
            log.append("after")

    class Helper(Item):
        async def process(self) -> None:
            boss.enqueue(child)
            boss.set_worker_desc("helped")

    boss, child = Boss("boss", log, 2.0), Page("child", log)
    await run(boss, Helper(), order="fifo", num_workers=2)
    assert sorted(log) == ["after", "boss", "child"]
    assert log[-1] == "after"
    assert child.parent is boss


async def test_a_task_of_the_programs_own_may_enqueue_for_an_item(virtual_time: VirtualTime):
    log: list[str] = []
    send, receive = anyio.create_memory_object_stream[tuple[Item, anyio.Event]](1)

    class Asks(Item):
        async def process(self) -> None:
            done = anyio.Event()
            await send.send((self, done))
            await done.wait()

    async def answer() -> None:
        item, done = await receive.receive()
        try:
            item.set_worker_desc("answered")
            item.enqueue(Page("answer", log))
        finally:
            done.set()

    async with anyio.create_task_group() as group, send, receive:
        group.start_soon(answer)
        await run(Asks())
    assert log == ["answer"]


@pytest.mark.parametrize("before", [False, True])
async def test_a_thread_may_enqueue_for_an_item_that_waits_for_it(virtual_time: VirtualTime, before: bool):
    """Nothing takes the context of `process` along there, so what was enqueued was lost."""
    log: list[str] = []

    class Asks(Item):
        async def process(self) -> None:
            if before:
                self.enqueue(Page("before", log))

            def work() -> None:
                self.set_worker_desc("in a thread")
                self.enqueue(Page("thread", log))

            thread = threading.Thread(target=work)
            thread.start()
            thread.join()

    await run(Asks(), order="fifo")
    assert log == (["before", "thread"] if before else ["thread"])


# --- after children --------------------------------------------------------------------------------


async def test_what_comes_after_children_comes_after_those_beside_what_was_refused(virtual_time: VirtualTime):
    log: list[str] = []

    class Careless(Item):
        async def process(self) -> None:
            with pytest.raises(TypeError, match="must have a process method"):
                self.enqueue(Page("child", log, 1.0), "no item")  # type: ignore[arg-type]

        async def after_children_processed(self) -> None:
            log.append("after")

    await run(Careless())
    assert log == ["child", "after"]


async def test_what_is_refused_is_left_as_it_is(virtual_time: VirtualTime):
    page, other = Page("leaf"), Page("leaf")
    await run(page)
    wrong: list[list[Any]] = [[], [other], ["no item"]]
    for items in wrong:
        with pytest.raises(RuntimeError, match=r"only be called inside process\(\)"):
            page.enqueue(*items)
    assert other.parent is None


@pytest.mark.parametrize("children", [0, 1])
async def test_nothing_is_enqueued_once_process_is_over(virtual_time: VirtualTime, children: int):
    refused: list[str] = []

    class Late(Item):
        async def process(self) -> None:
            for _ in range(children):
                self.enqueue(Page("leaf"))

        async def after_children_processed(self) -> None:
            for call in (lambda: self.enqueue(Page("leaf")), lambda: self.set_worker_desc("late")):
                with pytest.raises(RuntimeError) as caught:
                    call()
                refused.append(str(caught.value))

    await run(Late())
    assert refused == ["This function may only be called inside process()"] * 2


async def test_what_comes_after_a_generator_comes_after_all_that_it_enqueued(virtual_time: VirtualTime):
    log: list[str] = []

    class Both(Item):
        def __init__(self, yields: int) -> None:
            self.yields = yields

        async def process(self) -> AsyncIterator[Item]:
            self.set_worker_desc("enqueuing")
            self.enqueue(Page("enqueued", log, 1.0))
            for _ in range(self.yields):
                yield Page("yielded", log, 2.0)

        async def after_children_processed(self) -> None:
            log.append("after")

    await run(Both(1))
    assert log == ["enqueued", "yielded", "after"]
    log.clear()
    await run(Both(0))
    assert log == ["enqueued", "after"]


@dataclass
class Told(Item):
    depth: int
    log: list[tuple[str, int]]

    async def process(self) -> None:
        self.log.append(("process", self.depth))
        await anyio.sleep(1.0)
        if self.depth < 2:
            self.enqueue(Told(self.depth + 1, self.log))
            self.enqueue(Told(self.depth + 1, self.log))

    async def after_children_processed(self) -> None:
        await anyio.sleep(1.0)
        self.log.append(("after", self.depth))


@pytest.mark.parametrize("order", ["fifo", "lifo", "priority"])
async def test_what_comes_after_children_comes_once_and_after_all_of_them(
    virtual_time: VirtualTime, order: Ordering
):
    """FAULT: it ran four times where leaves' callbacks await, or before they had finished."""
    log: list[tuple[str, int]] = []
    await run(Told(0, log), order=order, num_workers=4)
    assert [log.count(("after", depth)) for depth in range(3)] == [1, 2, 4]
    assert log[-1] == ("after", 0)
    assert [kind for kind, depth in log if depth == 2] == ["process"] * 4 + ["after"] * 4 or order == "lifo"


async def test_a_chain_may_be_as_deep_as_it_likes(virtual_time: VirtualTime):
    """FAULT: 1,200 deep was a RecursionError."""
    after: list[int] = []

    class Link(Item):
        def __init__(self, depth: int) -> None:
            self.depth = depth

        async def process(self) -> None:
            if self.depth < 3000:
                self.enqueue(Link(self.depth + 1))

        async def after_children_processed(self) -> None:
            after.append(self.depth)

    await run(Link(0))
    assert after == list(reversed(range(3001)))


# --- failures --------------------------------------------------------------------------------------


async def test_the_first_item_that_fails_ends_the_run_with_its_error(virtual_time: VirtualTime):
    ended: list[str] = []

    class Slow(Item):
        async def process(self) -> None:
            await anyio.sleep(10)
            ended.append("slow")

    class Broken(Item):
        async def process(self) -> None:
            await anyio.sleep(1)
            raise LookupError("broken")

    with pytest.raises(LookupError, match="broken"):
        await run(Slow(), Broken())
    assert ended == []

    class BrokenAfter(Page):
        async def after_children_processed(self) -> None:
            raise LookupError("broken after")

    for name in ("root", "leaf"):
        with pytest.raises(LookupError, match="broken after"):
            await run(BrokenAfter(name))


@pytest.mark.virtual_time("asyncio")
async def test_what_was_cancelled_elsewhere_ends_the_run_with_an_error(virtual_time: VirtualTime):
    """FAULT: the run ended silently, with items unstarted."""
    other: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    other.cancel()

    class Waits(Item):
        async def process(self) -> None:
            await other

    with pytest.raises(JobCancelledError, match="cancelled elsewhere"):
        await run(Waits(), Page("leaf"))


async def test_a_graceful_run_that_is_cancelled_lets_running_items_end(virtual_time: VirtualTime):
    log: list[tuple[str, int]] = []
    with anyio.move_on_after(2.5):
        await run(Told(0, log), order="fifo", num_workers=2)
    assert log == [
        ("process", 0), ("process", 1), ("process", 1), ("process", 2), ("process", 2),
        ("after", 2), ("after", 2), ("after", 1),
    ]  # fmt: skip
    began = virtual_time.now()
    with anyio.move_on_after(0.5):
        await run(Told(0, log), graceful_ctrl_c=False)
    assert virtual_time.now() - began == 0.5


# --- bad input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "options"),
    [
        (KeyError, {"order": "random"}),
        (KeyError, {"queue_type_name": "random"}),
        (ValueError, {"num_workers": 0}),
        (ValueError, {"num_workers": 1.5}),
        (TypeError, {"initial_items": [object()]}),
    ],
)
async def test_what_cannot_work_is_refused_at_once(
    virtual_time: VirtualTime, error: type[Exception], options: dict[str, Any]
):
    with pytest.raises(error):
        await async_run_queue(**{"initial_items": [], "visualize": False, **options})


async def test_only_items_can_be_enqueued(virtual_time: VirtualTime):
    class Wrong(Item):
        async def process(self) -> None:
            self.enqueue("no item")  # type: ignore[arg-type]

    with pytest.raises(TypeError, match="an item must have a process method, got 'no item'"):
        await run(Wrong())


def test_an_item_must_say_how_it_is_processed():
    with pytest.raises(TypeError, match="abstract"):
        Item()  # type: ignore[abstract]


# --- from synchronous code -------------------------------------------------------------------------


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_run_queue_brings_its_own_loop(backend: Any):
    page = Page("root")
    run_queue(initial_items=[page], num_workers=1, visualize=False, async_backend=backend)
    assert len(page.log) == 6


def test_a_run_is_shown_on_a_console():
    rich = pytest.importorskip("rich.console")
    console = rich.Console(file=__import__("io").StringIO(), force_terminal=True, width=80)
    run_queue(initial_items=[Page("root")], visualize=VisOptions(console=console))
    assert "6" in console.file.getvalue()


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_waiting_uses_no_processor(backend: Any):
    """FAULT: it burnt a full core."""
    began = time.process_time()
    run_queue(initial_items=[Page("leaf", seconds=0.5)], visualize=False, async_backend=backend)
    assert time.process_time() - began < 0.3


SCRIPT = """
import sys, anyio
from qanat.compat import aqueue

class Work(aqueue.Item):
    async def process(self):
        print("begin", flush=True)
        await anyio.sleep(0.5)
        print("end", flush=True)
    async def after_children_processed(self):
        print("after", flush=True)

aqueue.run_queue(initial_items=[Work() for _ in range(9)], num_workers=1, graceful_ctrl_c=sys.argv[2] == "True",
                 async_backend=sys.argv[1])
"""


@pytest.mark.real
@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@pytest.mark.parametrize(("graceful", "lines"), [(True, ["end", "after"]), (False, [])])
def test_ctrl_c(backend: str, graceful: bool, lines: list[str]):
    process = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, backend, str(graceful)], stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout is not None
    assert process.stdout.readline() == "begin\n"
    process.send_signal(signal.SIGINT)
    out, err = process.communicate(timeout=20)
    assert out.split() == lines
    assert err.splitlines()[-1] == "KeyboardInterrupt"
