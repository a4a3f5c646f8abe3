"""Random trees, with failures, retries, policies, callbacks and cancellations, against a simple model."""

from __future__ import annotations

import random
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat import Children, Quorum
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator

RETRIES = 1
POLICIES = ("continue", "fail", Quorum(0.5))


@dataclass(eq=False)
class Node:
    """A job of a tree, and what came of it."""

    seconds: int
    fails: int
    calls_back: bool
    callback_fails: int
    policy: Any
    delay: int
    children: list[Node]
    # What happened.
    called: int = 0
    ended: list[str] = field(default_factory=list)

    def all(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.all()

    def state(self) -> str:
        """Return how it ends if nobody cancels anything: the model."""
        if self.fails > RETRIES or (self.calls_back and self.callback_fails > RETRIES):
            return "dead"
        states = [(child.policy, child.state()) for child in self.children]
        if any(policy == "fail" and state == "dead" for policy, state in states):
            return "dead"
        quorum = [state for policy, state in states if isinstance(policy, Quorum)]
        return "dead" if quorum and quorum.count("done") < 0.5 * len(quorum) else "done"


def nodes(children: Any) -> Any:
    return st.builds(
        Node,
        seconds=st.integers(0, 3),
        fails=st.sampled_from([0, 0, 0, 1, 2]),
        calls_back=st.booleans(),
        callback_fails=st.sampled_from([0, 0, 0, 1, 2]),
        policy=st.sampled_from(POLICIES),
        delay=st.sampled_from([0, 0, 2]),
        children=children,
    )


trees = st.recursive(nodes(st.just([])), lambda below: nodes(st.lists(below, max_size=4)), max_leaves=12)


class World:
    """Run trees, and note what happens."""

    def __init__(self) -> None:
        self.log: list[tuple[str, Node]] = []
        self.by_id: dict[Any, Node] = {}

    async def handle(self, node: Node) -> None:
        job = qanat.current_job()
        self.by_id[job.id] = node
        for place, child in enumerate(node.children):
            if place == len(node.children) // 2:
                await anyio.sleep(node.seconds / 2)
            job.spawn(child, failure=child.policy, delay=child.delay)
        if node.calls_back:
            job.after_children(partial(self.call, node))
        await anyio.sleep(node.seconds)
        if job.attempt <= node.fails:
            raise OSError("the attempt was to fail")

    async def call(self, node: Node, children: Children[Any]) -> None:
        node.called += 1
        await anyio.sleep(1.0)
        if node.called <= node.callback_fails:
            raise OSError("the callback was to fail")
        self.log.append(("called", node))
        below = [each for child in node.children for each in child.all()]
        assert all(each.ended for each in below), "a callback came before an end below"
        states = [each.ended[0] for each in node.children]
        found = (states.count("done"), states.count("dead"), states.count("cancelled"))
        assert (children.done, children.failed, children.cancelled) == found

    def ended(self, outcome: Any) -> None:
        node: Node = outcome.item
        node.ended.append(outcome.state)
        self.log.append(("ended", node))


async def run(
    world: World, roots: list[Node], concurrency: int, cancels: list[tuple[int, int]]
) -> qanat.Stats:
    async with qanat.Pool(
        world.handle,
        concurrency=concurrency,
        retry=qanat.Retry(RETRIES, backoff=qanat.constant(1.0, jitter="none")),
    ) as pool:
        engine = pool._engine
        assert engine is not None
        told = engine._on_outcome
        assert told is not None

        def both(job: Any, outcome: Any) -> None:
            world.ended(outcome)
            told(job, outcome)

        engine._on_outcome = both
        handles = [pool.submit(root) for root in roots]
        for at, which in sorted(cancels):
            await anyio.sleep(max(0.0, at - engine.now()))
            family = engine.dispatcher.family
            live = list(handles)
            if family is not None:
                live += [qanat.Handle(job, engine) for job in _live(family)]
            live[which % len(live)].cancel()
        await pool.drain()
        family = engine.dispatcher.family
        if family is not None:
            book = family.book
            assert not any((book.roots, book.ready, book.due, book.twins, family._waiting))
        dispatcher = engine.dispatcher
        assert (dispatcher.running, dispatcher.waiting, dispatcher.scheduled) == (0, 0, 0)
        return pool.stats()


def _live(family: Any) -> list[Any]:
    """Return the jobs below roots that have not ended."""
    found: list[Any] = []
    todo = list(family.book.roots.values())
    while todo:
        branch = todo.pop()
        for child in (branch.by_id or {}).values():
            if not isinstance(child._waiter, qanat.Outcome):
                found.append(child)
                if child._branch is not None:
                    todo.append(child._branch)
    return found


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(roots=st.lists(trees, min_size=1, max_size=3), concurrency=st.integers(1, 4))
def test_trees_end_as_the_model_says(backend: Any, roots: list[Node], concurrency: int):
    world = World()
    for node in [each for root in roots for each in root.all()]:
        node.called, node.ended = 0, []
    with virtual_time(backend) as time:
        stats = time.run(run, world, roots, concurrency, [])
    check_model(world, roots, stats)


@pytest.mark.slow
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
@settings(max_examples=60)
@given(
    roots=st.lists(trees, min_size=1, max_size=3),
    concurrency=st.integers(1, 4),
    cancels=st.lists(st.tuples(st.integers(0, 12), st.integers(0, 50)), max_size=6),
)
def test_whatever_is_cancelled_all_end_once_and_callbacks_come_after(
    backend: Any, roots: list[Node], concurrency: int, cancels: list[tuple[int, int]]
):
    world = World()
    for node in [each for root in roots for each in root.all()]:
        node.called, node.ended = 0, []
    with virtual_time(backend) as time:
        stats = time.run(run, world, roots, concurrency, cancels)
    spawned = [node for root in roots for node in root.all() if node.ended]
    assert all(len(node.ended) == 1 for node in spawned)
    states = [node.ended[0] for node in spawned]
    assert (stats.done, stats.failed, stats.cancelled) == tuple(
        map(states.count, ("done", "dead", "cancelled"))
    )
    for node in spawned:
        assert node.called <= RETRIES + 1
        if node.calls_back and node.ended == ["done"]:
            assert node.called == node.callback_fails + 1
    _parents_after_descendants(world)


def check_model(world: World, roots: list[Node], stats: qanat.Stats) -> None:
    """Check what came of trees of which nothing was cancelled."""
    for node in [each for root in roots for each in root.all()]:
        assert node.ended == [node.state()]
        assert node.called == (min(node.callback_fails, RETRIES) + 1 if node.calls_back else 0)
    states = [node.ended[0] for root in roots for node in root.all()]
    assert (stats.done, stats.failed, stats.cancelled) == (states.count("done"), states.count("dead"), 0)
    _parents_after_descendants(world)


def _parents_after_descendants(world: World) -> None:
    """Check that whoever has a callback ended after it, and that after all below."""
    place = {(what, id(node)): number for number, (what, node) in enumerate(world.log)}
    for what, node in world.log:
        if what == "called":
            at = place["called", id(node)]
            assert place["ended", id(node)] > at
            for child in node.children:
                assert all(place["ended", id(each)] < at for each in child.all() if each.ended)


def test_the_model_knows_both_states():
    """The trees that are drawn show what they are to show."""
    rng = random.Random(1)
    found = [drawn(rng, 3) for _ in range(200)]
    assert {node.state() for node in found} == {"done", "dead"}


def drawn(rng: random.Random, depth: int) -> Node:
    children = [drawn(rng, depth - 1) for _ in range(rng.randrange(4) if depth else 0)]
    fails = rng.choice((0, 0, 0, 1, 2))
    calls_back, callback_fails = bool(rng.randrange(2)), rng.choice((0, 0, 1))
    return Node(1, fails, calls_back, callback_fails, rng.choice(POLICIES), 0, children)
