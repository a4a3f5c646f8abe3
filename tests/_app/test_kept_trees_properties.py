"""Random trees and graphs with a journal, cut short again and again, against an undisturbed run."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat import Quorum
from qanat._core.content_key import content_key
from qanat._stores import journal as journal_module
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

POLICIES = ("continue", "continue", "fail", Quorum(0.5))


@dataclass
class Node:
    """What a job of a tree does."""

    seconds: int
    fails: bool
    calls_back: bool
    callback_fails: bool
    policy: Any
    keyed: bool
    other: bool
    children: list[Node]
    name: str = ""

    def all(self) -> Iterator[Node]:
        yield self
        for child in self.children:
            yield from child.all()

    def state(self) -> str:
        """Return how it ends: the model."""
        if self.fails or (self.calls_back and self.callback_fails):
            return "dead"
        states = [(child.policy, child.state()) for child in self.children]
        if any(policy == "fail" and state == "dead" for policy, state in states):
            return "dead"
        quorum = [state for policy, state in states if isinstance(policy, Quorum)]
        return "dead" if quorum and quorum.count("done") < 0.5 * len(quorum) else "done"


@dataclass
class World:
    """All jobs of a test, what was called in a run, and what of it was recorded."""

    nodes: dict[str, Node]
    commits: int = 10**9
    calls: Counter[str] = field(default_factory=Counter)
    callbacks: Counter[str] = field(default_factory=Counter)
    done: set[str] = field(default_factory=set)
    by_key: dict[bytes, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.by_key = {content_key(name): name for name in self.nodes}

    def keep(self, connection: Any, asked: list[Any]) -> list[None]:
        """Commit a batch, unless the run has crashed by then."""
        self.commits -= 1
        if self.commits < 0:
            return [None] * len(asked)
        for key, state, *_ in asked:
            if state == 1:
                self.done.add(self.by_key[key if isinstance(key, bytes) else key[1]])
        return REAL_KEEP(connection, asked)


REAL_KEEP = journal_module.JournalConnection._keep
world: World


async def visit(name: str) -> str:
    node = world.nodes[name]
    world.calls[name] += 1
    assert name not in world.done, "what was recorded ran again"
    job = qanat.current_job()
    for place, child in enumerate(node.children):
        if place == len(node.children) // 2:
            await anyio.sleep(node.seconds / 2)
        job.spawn(
            child.name, failure=child.policy, key=child.name if child.keyed else None,
            handler=other if child.other else visit,
        )  # fmt: skip
    if node.calls_back:
        job.after_children(lambda children: called(node, children))
    await anyio.sleep(node.seconds)
    if node.fails:
        raise OSError("it was to fail")
    return name


async def other(name: str) -> str:
    return await visit(name)


async def called(node: Node, children: Any) -> str:
    world.callbacks[node.name] += 1
    assert node.name not in world.done, "the callback of what was recorded was called again"
    await anyio.sleep(1)
    if node.callback_fails:
        raise OSError("it was to fail")
    return f"{node.name}: {children.done}"


async def go(roots: list[str], path: Path, cut: float, options: dict[str, Any]) -> qanat.Outcomes[str, str]:
    """Run until all is done, or it is cut short."""
    with anyio.move_on_after(cut):
        return await qanat.collect(visit, roots, journal=path, **options)
    return qanat.Outcomes()


def run_all(
    nodes: dict[str, Node], roots: list[str], path: Path, backend: Any, crashes: list[tuple[int, float]],
    options: dict[str, Any],
) -> qanat.Outcomes[str, str]:  # fmt: skip
    """Run again and again, cut short each time but the last, and return what came of that."""
    global world  # noqa: PLW0603 - handlers are found by their names, so they are no closures
    world = World(nodes)
    with pytest.MonkeyPatch.context() as patch, virtual_time(backend) as time:
        patch.setattr(journal_module.JournalConnection, "_keep", lambda *args: world.keep(*args))
        for commits, cut in crashes:
            world.commits = commits
            time.run(go, roots, path, cut, options)
            world.calls.clear()
            world.callbacks.clear()
        world.commits = 10**9
        return time.run(go, roots, path, 10**6, options)


def nodes(children: Any) -> Any:
    return st.builds(
        Node, seconds=st.integers(0, 3), fails=st.sampled_from([False, False, False, True]),
        calls_back=st.booleans(), callback_fails=st.sampled_from([False, False, True]),
        policy=st.sampled_from(POLICIES), keyed=st.booleans(), other=st.booleans(), children=children,
    )  # fmt: skip


trees = st.recursive(nodes(st.just([])), lambda below: nodes(st.lists(below, max_size=4)), max_leaves=12)
crashes = st.lists(st.tuples(st.integers(0, 12), st.sampled_from([1.25, 3.25, 6.25, 10**6])), max_size=3)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    roots=st.lists(trees, min_size=1, max_size=3), crashes=crashes, concurrency=st.integers(1, 4),
    backend=st.sampled_from(["asyncio", "trio"]),
)  # fmt: skip
def test_trees_end_as_if_nothing_had_happened(tmp_path_factory, roots, crashes, concurrency, backend):
    found: dict[str, Node] = {}
    for root in roots:
        for node in root.all():
            node.name = f"node {len(found)}"
            found[node.name] = node
    names = [root.name for root in roots]
    options = {"concurrency": concurrency}
    path = tmp_path_factory.mktemp("trees") / "run.db"
    outcomes = run_all(found, names, path, backend, crashes, options)
    undisturbed = run_all(found, names, path.with_name("other.db"), backend, [], options)
    for ends in (outcomes, undisturbed):
        assert sorted((each.item, each.state) for each in ends) == sorted(
            (node.name, node.state()) for node in found.values()
        )
    facts = [
        {each.item: (each.id, each.parent, each.index, each.value, type(each.error)) for each in ends}
        for ends in (outcomes, undisturbed)
    ]
    assert facts[0] == facts[1]
    # Of the undisturbed run: each was called once, and its callback.
    assert world.calls == Counter(found.keys())
    assert world.callbacks == Counter(name for name, node in found.items() if node.calls_back)


@pytest.mark.slow
@settings(max_examples=60)
@given(
    data=st.data(), number=st.integers(1, 8), crashes=crashes, concurrency=st.integers(1, 4),
    keyed=st.booleans(), backend=st.sampled_from(["asyncio", "trio"]), rule=st.booleans(),
)  # fmt: skip
def test_graphs_are_visited_once_whatever_happens(
    tmp_path_factory, data, number, crashes, concurrency, keyed, backend, rule
):
    names = [f"node {each}" for each in range(number)]
    draw = data.draw
    found = {
        name: Node(draw(st.integers(0, 2)), draw(st.sampled_from([False, False, True])), draw(st.booleans()),
                   False, "continue", keyed, False, [], name)
        for name in names
    }  # fmt: skip
    for node in found.values():
        node.children = [found[each] for each in draw(st.lists(st.sampled_from(names), max_size=4))]
    options: dict[str, Any] = {"concurrency": concurrency}
    if rule:
        options["key"] = str
    path = tmp_path_factory.mktemp("graphs") / "run.db"
    outcomes = run_all(found, names[:1], path, backend, crashes, options)
    assert max(world.calls.values(), default=1) == 1
    undisturbed = run_all(found, names[:1], path.with_name("other.db"), backend, [], options)
    assert sorted((each.item, each.state) for each in outcomes) == sorted(
        (each.item, each.state) for each in undisturbed
    )
    assert world.calls == Counter(each.item for each in undisturbed)
