"""The journal: a rerun does what is left, and gives the old values for the rest."""

from __future__ import annotations

import dataclasses
import datetime as dt
import enum
import os
import sqlite3
from collections import Counter, OrderedDict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import qanat
from qanat import Batch, JournalError, Pool, Retry, SerialisationError, StoreFull
from qanat._app.journaling import ValueCodec
from qanat._engine import commits as commits_module
from qanat._engine import keeper as keeper_module
from qanat._stores import journal as journal_module
from qanat._stores.sqlite import opener as opener_module
from qanat.errors import JobCancelledError, PoolDeadlockError, outcomes_of
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator

    from qanat.testing import VirtualTime


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "run.db"


class Calls:
    """A handler's calls, of all runs."""

    def __init__(self) -> None:
        self.items: list[Any] = []
        self.fails: Callable[[Any], bool] = lambda item: False

    async def double(self, item: Any) -> Any:
        self.items.append(item)
        await anyio.sleep(0.5)
        if self.fails(item):
            raise OSError(f"no {item}")
        return [item, item]

    def taken(self) -> list[Any]:
        items, self.items = self.items, []
        return items


@pytest.fixture
def calls() -> Calls:
    return Calls()


# --- reruns ----------------------------------------------------------------------------------


async def test_rerun_calls_nothing_again_and_gives_the_same(virtual_time: VirtualTime, calls, path):
    first = await qanat.collect(calls.double, range(30), journal=path)
    assert sorted(calls.taken()) == list(range(30))
    began = virtual_time.now()
    again = await qanat.collect(calls.double, range(30), journal=path)
    assert calls.taken() == []
    assert virtual_time.now() == began
    assert again.values() == first.values() == [[n, n] for n in range(30)]
    assert [outcome.index for outcome in again] == list(range(30))
    assert [outcome.recalled for outcome in first + again] == [False] * 30 + [True] * 30
    assert [(outcome.attempts, outcome.waited, outcome.started_at) for outcome in again] == [
        (1, 0.0, None)
    ] * 30
    assert again.summary().recalled == 30
    assert "30 taken from the journal" in str(again.summary())
    assert "journal" not in str(first.summary())


async def test_input_may_be_reordered_and_extended(virtual_time: VirtualTime, calls, path):
    await qanat.map(calls.double, ["b", "a"], journal=path)
    calls.taken()
    assert await qanat.map(calls.double, ["a", "c", "b"], journal=path) == [
        ["a", "a"],
        ["c", "c"],
        ["b", "b"],
    ]
    assert calls.taken() == ["c"]


async def test_run_that_was_cut_short_goes_on(virtual_time: VirtualTime, calls, path):
    with anyio.move_on_after(1.25):
        await qanat.collect(calls.double, range(10), journal=path, concurrency=2)
    assert len(calls.taken()) == 6
    outcomes = await qanat.collect(calls.double, range(10), journal=path, concurrency=2)
    assert sorted(calls.taken()) == list(range(4, 10))
    assert outcomes.values() == [[n, n] for n in range(10)]


async def test_handlers_and_versions_are_kept_apart(virtual_time: VirtualTime, calls, path):
    async def other(item: int) -> str:
        return f"other {item}"

    assert await qanat.map(calls.double, [1], journal=path) == [[1, 1]]
    assert await qanat.map(other, [1], journal=path) == ["other 1"]
    assert await qanat.map(calls.double, [1], journal=path, version=2) == [[1, 1]]
    assert await qanat.map(calls.double, [1], journal=path, version="2") == [[1, 1]]
    assert calls.taken() == [1, 1]


async def test_key_says_what_an_item_is(virtual_time: VirtualTime, path):
    seen: list[int] = []

    async def size(page: dict[str, Any]) -> int:
        seen.append(page["n"])
        return int(page["n"])

    pages = [{"url": "a", "n": 1}, {"url": "b", "n": 2}]
    assert await qanat.map(size, pages, journal=path, key=lambda page: page["url"]) == [1, 2]
    pages = [{"url": "b", "n": 3}, {"url": "c", "n": 4}]
    assert await qanat.map(
        size, pages, journal=path, key=lambda page: ("c", 1) if page["n"] == 4 else "b"
    ) == [2, 4]
    assert sorted(seen) == [1, 2, 4]


async def test_failed_ones_run_again(virtual_time: VirtualTime, calls, path):
    calls.fails = lambda item: item % 3 == 0
    first = await qanat.collect(calls.double, range(6), journal=path, retry=1)
    assert [outcome.item for outcome in first.failed] == [0, 3]
    assert len(calls.taken()) == 8
    calls.fails = lambda item: item == 3
    second = await qanat.collect(calls.double, range(6), journal=path)
    assert sorted(calls.taken()) == [0, 3]
    assert [outcome.item for outcome in second.failed] == [3]
    assert [outcome.attempts for outcome in second] == [1] * 6


async def test_retry_failed_runs_those_only(virtual_time: VirtualTime, calls, path):
    calls.fails = lambda item: item == 1
    await qanat.collect(calls.double, range(3), journal=path)
    calls.taken()
    outcomes = await qanat.collect(calls.double, range(5), journal=path, retry_failed=True)
    assert calls.taken() == [1]
    assert [outcome.state for outcome in outcomes] == ["done", "dead", "done", "cancelled", "cancelled"]
    assert isinstance(outcomes[3].error, JobCancelledError)
    assert "the job was left out" in str(outcomes[3].error)
    calls.fails = lambda item: False
    assert await qanat.map(calls.double, range(5), journal=path, retry_failed=True) == [
        [n, n] for n in range(3)
    ]


async def test_attempts_are_remembered(virtual_time: VirtualTime, path):
    async def flaky(item: int) -> int:
        await anyio.sleep(0.25)
        if qanat.current_job().attempt < 3:
            raise OSError
        return item

    retry = Retry(2, backoff=qanat.constant(0.0))
    for _ in range(2):
        outcomes = await qanat.collect(flaky, [7], journal=path, retry=retry)
        assert [(outcome.attempts, outcome.ran) for outcome in outcomes] == [(3, 0.75)]


# --- values ----------------------------------------------------------------------------------


@dataclasses.dataclass(frozen=True)
class Page:
    url: str
    at: dt.datetime


async def test_values_come_back_as_they_are_annotated(virtual_time: VirtualTime, path):
    async def fetch(url: str) -> Page | None:
        return Page(url, dt.datetime(2026, 1, 2, tzinfo=dt.UTC)) if url else None

    first = await qanat.map(fetch, ["a", ""], journal=path)
    assert await qanat.map(fetch, ["a", ""], journal=path) == first
    assert type(first[0]) is Page


async def test_first_value_that_cannot_be_kept_stops_the_run(virtual_time: VirtualTime, path):
    async def pair(item):
        await anyio.sleep(item)
        return (item, item)

    with pytest.raises(
        SerialisationError, match=r"it would come back as \[0, 0\]: annotate the handler's return type"
    ):
        await qanat.collect(pair, range(100), journal=path, concurrency=1)


async def test_later_value_that_cannot_be_kept_fails_its_job(virtual_time: VirtualTime, path):
    async def odd(item: int) -> Any:
        return item if item != 2 else {1: "a"}

    outcomes = await qanat.collect(odd, range(4), journal=path, concurrency=1)
    assert [outcome.state for outcome in outcomes] == ["done", "done", "dead", "done"]
    assert isinstance(outcomes[2].error, SerialisationError)
    assert outcomes.summary().failed == 1


@pytest.mark.parametrize(
    "value",
    [b"bytes", {1, 2}, object(), "\ud800", 10**5000, {"a": (1,)}, dt.date(2026, 1, 1)],
    ids=["bytes", "set", "object", "surrogate", "digits", "tuple", "date"],
)
async def test_values_that_json_has_no_form_for_are_refused(virtual_time: VirtualTime, path, value):
    async def odd(item):
        return value

    with pytest.raises(SerialisationError, match="cannot be kept in the journal, as .*: annotate"):
        await qanat.collect(odd, [1], journal=path)


@pytest.mark.parametrize("value", [float("nan"), [1.0, float("inf")], {"a": [{"b": -float("inf")}]}], ids=str)
async def test_values_that_json_has_no_number_for_are_told(virtual_time: VirtualTime, path, value):
    async def odd(item):
        return value

    async def spawns(item: str) -> None:
        qanat.current_job().spawn(value, handler=odd)

    told = "as JSON has neither NaN nor infinity: {} None or a text in its place"
    with pytest.raises(SerialisationError, match=told.format("return")):
        await qanat.collect(odd, [1], journal=path)
    (outcome,) = await qanat.collect(spawns, ["a"], journal=path)
    assert told.format("spawn") in str(outcome.error)


class Color(enum.StrEnum):
    RED = "red"


class Level(enum.IntEnum):
    LOW = 1


class Many(list[int]):
    pass


class Pair(NamedTuple):
    a: int
    b: int


@pytest.mark.parametrize(
    ("value", "back"),
    [
        (Color.RED, "'red'"), (Many([1]), "[1] of type list"), (Level.LOW, "1"),
        (OrderedDict(a=1), "{'a': 1}"), (Counter("a"), "{'a': 1}"), (Pair(1, 2), "[1, 2]"),
        ([[Color.RED]], "[['red']]"), ({"a": {"b": Many()}}, "{'a': {'b': []}} of type dict"),
        ({Color.RED: 1}, "{'red': 1}"),
    ],
    ids=["text enum", "list", "int enum", "ordered", "counter", "named tuple", "in lists", "in dicts", "key"],
)  # fmt: skip
async def test_values_that_are_only_equal_to_json_are_refused_or_annotated(
    virtual_time: VirtualTime, path, value, back
):
    async def odd(item):
        return value

    async def said(item):
        return value

    with pytest.raises(SerialisationError) as caught:
        await qanat.collect(odd, [1], journal=path)
    assert f"it would come back as {back}: annotate the handler's return type" in str(caught.value)
    said.__annotations__["return"] = type(value)
    if type(value) in {Color, Pair}:
        for _ in range(2):
            (found,) = await qanat.map(said, [1], journal=path)
            assert (found, type(found)) == (value, type(value))


async def test_json_types_come_back_without_an_annotation(virtual_time: VirtualTime, path):
    values = [True, 1, 1.0, -0.0, "a", None, [], {}, {"a": [1, 2.5, None, {"b": False}]}]

    async def give(item):
        return values[item]

    for _ in range(2):
        found = await qanat.map(give, range(len(values)), journal=path)
        assert list(map(repr, found)) == list(map(repr, values))


async def test_depth_and_size_of_values_are_bounded(virtual_time: VirtualTime, path, monkeypatch):
    monkeypatch.setattr("qanat._app.journaling.MOST_BYTES", 100)

    async def grow(kind):
        deep: Any = []
        for _ in range(100_000):
            deep = [deep]
        return {"text": "x" * 101, "list": ["x" * 100], "deep": deep, "ok": 1}[kind]

    outcomes = await qanat.collect(grow, ["ok", "text", "list", "deep"], journal=path, concurrency=1)
    assert [outcome.state for outcome in outcomes] == ["done"] + ["dead"] * 3
    assert str(outcomes[1].error) == "the value is larger than 100 bytes, more than a journal takes"


@pytest.mark.parametrize("items", [[1], [1, 2, 1]], ids=["each alone", "equal ones"])
async def test_value_that_does_not_fit_a_new_annotation_fails_its_job(virtual_time: VirtualTime, path, items):
    async def handler(item: int) -> int:
        return item

    await qanat.map(handler, items, journal=path)
    handler.__annotations__["return"] = str
    outcomes = await qanat.collect(handler, items, journal=path)
    assert [outcome.index for outcome in outcomes.failed] == list(range(len(items)))
    for outcome in outcomes:
        assert "the value in the journal is none that the handler returns now" in str(outcome.error)
        assert "version=" in str(outcome.error)
    assert outcomes.summary().recalled == 0


def annotated(hint: Any) -> Any:
    async def handler(item): ...

    handler.__annotations__["return"] = hint
    return handler


class Strange:
    def __eq__(self, other: object) -> bool:
        raise ZeroDivisionError

    __hash__ = None  # type: ignore[assignment]


async def returns_awaitable(item: int) -> tuple[int, int]:
    return (item, item)


@pytest.mark.parametrize(
    "hint",
    [Any, int, str, bool, float, None, int | None, float | int | str, Literal["1", 1], dt.date, list[int]],
    ids=str,
)
@pytest.mark.parametrize(
    "value",
    [
        0,
        -(2**63),
        2**63,
        2**64,
        True,
        None,
        1.0,
        -0.0,
        1e300,
        float("inf"),
        float("nan"),
        "",
        "1",
        "é\x00",
        "\ud800",
    ],
    ids=repr,
)
def test_values_that_are_not_read_back_would_come_back_the_same(hint, value):
    def handler(item: int) -> Any: ...

    handler.__annotations__["return"] = hint
    codec, careful = ValueCodec(handler, batch=False), ValueCodec(handler, batch=False)
    careful._plain = frozenset()
    found: list[Any] = []
    for each in (codec, careful):
        try:
            content = each.encode(value)
        except qanat.SerialisationError as error:
            found.append(str(error))
        else:
            back = each.decode(content)
            assert (type(back), repr(back)) == (type(value), repr(value)) or back == value
            found.append(content)
    assert found[0] == found[1]


def test_annotations_are_looked_through():
    from collections.abc import Awaitable, Coroutine, Sequence
    from typing import TypeVar

    from qanat._app.journaling import ValueCodec

    def back(hint: Any, value: Any, *, batch: bool = False) -> Any:
        codec = ValueCodec(annotated(hint), batch=batch)
        return codec.decode(codec.encode(value))

    assert back(Awaitable[tuple[int, ...]], (1, 2)) == (1, 2)
    assert back(Coroutine[Any, Any, set[int]], {1}) == {1}
    assert back(list[tuple[int, int] | ValueError], (1, 2), batch=True) == (1, 2)
    assert back(Sequence[bytes | BaseException], b"x", batch=True) == b"x"
    assert back(list[ValueError], [1], batch=True) == [1]
    assert back(list[ValueError | OSError], [1], batch=True) == [1]
    assert back(list, [1], batch=True) == [1]
    assert back(TypeVar("T"), {"a": 1}) == {"a": 1}
    assert back(object, None) is None
    assert back("missing", 1) == 1
    with pytest.raises(SerialisationError, match="its annotations cannot be looked up"):
        back("missing", (1,))
    with pytest.raises(SerialisationError, match="cannot be read back"):
        back(str | bytes, b"x")
    with pytest.raises(SerialisationError, match="it is annotated to return int, so return that"):
        back(int, "a")
    with pytest.raises(SerialisationError, match="it is annotated to return .*Strange"):
        back(Strange, Strange())
    codec = ValueCodec(partial(returns_awaitable), batch=False)
    assert codec.decode(codec.encode((1, 1))) == (1, 1)


# --- equal items -----------------------------------------------------------------------------


async def test_equal_items_run_once_and_each_has_an_outcome(virtual_time: VirtualTime, calls, path):
    outcomes = await qanat.collect(calls.double, ["a", "b", "a", "a"], journal=path)
    assert sorted(calls.taken()) == ["a", "b"]
    assert [outcome.index for outcome in outcomes] == [0, 1, 2, 3]
    assert outcomes.values() == [["a", "a"], ["b", "b"], ["a", "a"], ["a", "a"]]
    assert outcomes.summary().done == 4


async def test_equal_items_share_a_failure(virtual_time: VirtualTime, calls, path):
    calls.fails = lambda item: True

    async def items() -> AsyncIterator[str]:
        yield "a"
        yield "a"
        await anyio.sleep(10)
        yield "a"

    outcomes = await qanat.collect(calls.double, items(), journal=path)
    assert calls.taken() == ["a"]
    assert [repr(outcome.error) for outcome in outcomes] == ["OSError('no a')"] * 3
    assert [outcome.index for outcome in outcomes] == [0, 1, 2]


async def test_failures_are_not_remembered_without_end(virtual_time: VirtualTime, calls, path, monkeypatch):
    monkeypatch.setattr(keeper_module, "MOST_FAILURES", 2)
    calls.fails = lambda item: True

    async def items() -> AsyncIterator[str]:
        for item in "abcac":
            yield item
            await anyio.sleep(10)

    await qanat.collect(calls.double, items(), journal=path)
    assert calls.taken() == ["a", "b", "c", "a"]


# --- every form of run -----------------------------------------------------------------------


async def test_stream_gives_outcomes_as_they_are_recorded(virtual_time: VirtualTime, calls, path):
    for ordered in (False, True, True):
        async with qanat.stream(calls.double, range(20), journal=path, buffer=3, ordered=ordered) as outcomes:
            found = [outcome.item async for outcome in outcomes]
        assert sorted(found) == list(range(20))
        assert found == sorted(found) or not ordered
    assert sorted(calls.taken()) == list(range(20))


async def test_outcome_comes_after_its_commit(virtual_time: VirtualTime, calls, path):
    async with qanat.stream(calls.double, range(20), journal=path) as outcomes:
        async for _ in outcomes:
            reader = sqlite3.connect(path)
            seen = reader.execute("SELECT count(*) FROM jobs").fetchone()[0]
            reader.close()
            assert seen >= 1
            break


async def test_commit_that_comes_while_the_run_is_left_calls_nobody(virtual_time: VirtualTime, calls, path):
    """The task group may be closed by then, and an error in a callback ends all of trio."""
    async with qanat.stream(calls.double, range(3), journal=path, concurrency=2) as outcomes:
        async for _ in outcomes:
            break
        engine = outcomes._engine
        assert engine is not None
        assert engine._group is not None
        engine._group.cancel_scope.cancel()
        engine.idle.clear()
        engine.carriers.clear()
        engine.called = False
        engine.poke()
        assert not engine.carriers


async def test_endless_input_is_looked_up_as_it_is_read(virtual_time: VirtualTime, calls, path):
    def numbers() -> Any:
        number = 0
        while True:
            yield number
            number += 1

    for number in (5, 8):
        async with qanat.stream(calls.double, numbers(), journal=path, buffer=4, ordered=True) as outcomes:
            found = []
            async for outcome in outcomes:
                found.append(outcome.item)
                if len(found) == number:
                    break
        assert found == list(range(number))
    assert Counter(calls.taken())[0] == 1


@pytest.mark.parametrize("buffer", [1, 2, 4, 8, 40])
async def test_reading_many_outcomes_at_once_makes_room_for_as_many(
    virtual_time: VirtualTime, calls, path, buffer
):
    """The engine hears once of several outcomes that were read in one turn of the loop."""
    for rounds in (3, 6):
        items = iter(range(1000))
        async with qanat.stream(calls.double, items, journal=path, buffer=buffer, ordered=True) as outcomes:
            found = []
            for _ in range(rounds):
                await anyio.sleep(1.0)
                found += [(await anext(outcomes)).item for _ in range(buffer)]
        assert found == list(range(rounds * buffer))


@pytest.mark.parametrize("rules", [
    {"lane": lambda n: n % 3},
    {"order": "lifo"},
    {"order": "priority", "priority": lambda n: -n},
    {"rate": "10/s"},
    {"id": lambda n: f"job {n}"},
    {"buffer": 1},
    {"concurrency": qanat.Adaptive(1, 10)},
])  # fmt: skip
@pytest.mark.parametrize("items", [range(12), iter(range(12))], ids=["sized", "unsized"])
async def test_rules_hold_beside_a_journal(virtual_time: VirtualTime, calls, path, rules, items):
    items = list(items) if not isinstance(items, range) else items
    for chosen in (items, iter(items)):
        outcomes = await qanat.collect(calls.double, chosen, journal=path, **rules)
        assert outcomes.values() == [[n, n] for n in items]
        if "id" in rules:
            assert [outcome.id for outcome in outcomes] == [f"job {n}" for n in items]
    assert sorted(calls.taken()) == list(items)


@pytest.mark.parametrize(
    "rules", [{"lane": lambda n: n % 3}, {"order": "lifo"}, {}], ids=["lanes", "lifo", "plain"]
)
async def test_buffer_is_filled_again_as_jobs_start(virtual_time: VirtualTime, calls, path, rules):
    """Some of the jobs start when no commit is near; nobody has to wait for the input meanwhile."""
    read: list[float] = []

    def source() -> Any:
        for number in range(120):
            read.append(virtual_time.now())
            yield number

    begun = virtual_time.now()
    outcomes = await qanat.collect(calls.double, source(), journal=path, buffer=40, concurrency=10, **rules)
    assert len(outcomes.values()) == 120
    assert virtual_time.now() == begun + 6.0
    # Never more than the buffer beside what has started, and none later than when a slot was free for it.
    for number, at in enumerate(read):
        assert number < 10 * (1 + 2 * (at - begun)) + 40
        assert at - begun <= number // 10 / 2


async def test_members_of_a_batch_are_kept_one_by_one(virtual_time: VirtualTime, path):
    seen: list[list[int]] = []

    async def squares(items: list[int]) -> list[tuple[int, int] | Exception]:
        seen.append(items)
        return [(n, n * n) if n != 3 else ValueError("no three") for n in items]

    first = await qanat.collect(squares, range(5), journal=path, batch=Batch(2))
    assert [outcome.ok for outcome in first] == [True, True, True, False, True]
    second = await qanat.collect(squares, range(7), journal=path, batch=Batch(2))
    assert [each for part in seen[3:] for each in part] == [3, 5, 6]
    assert second.values() == [(n, n * n) for n in (0, 1, 2, 4, 5, 6)]


def plain(item: int) -> list[int]:
    return [item, os.getpid()]


@pytest.mark.parametrize("executor", ["thread", pytest.param("process", marks=pytest.mark.real)])
async def test_threads_and_processes_are_kept(virtual_time: VirtualTime, path, executor):
    first = await qanat.map(plain, range(5), journal=path, executor=executor)
    assert await qanat.map(plain, range(5), journal=path, executor=executor) == first


def test_run_takes_a_journal(path):
    for _ in range(2):
        for backend in ("asyncio", "trio"):
            assert qanat.run(plain_double, range(5), journal=str(path), backend=backend).values() == [
                0,
                2,
                4,
                6,
                8,
            ]


def plain_double(item: int) -> int:
    return item * 2


async def test_source_that_raises_keeps_what_was_done(virtual_time: VirtualTime, calls, path):
    def items() -> Any:
        yield from range(3)
        raise ZeroDivisionError

    for _ in range(2):
        with pytest.raises(ZeroDivisionError) as raised:
            await qanat.collect(calls.double, items(), journal=path)
        assert [outcome.item for outcome in outcomes_of(raised.value)] == [0, 1, 2]
    assert sorted(calls.taken()) == [0, 1, 2]


async def test_source_that_is_slow_is_read_item_by_item(virtual_time: VirtualTime, calls, path, monkeypatch):
    monkeypatch.setattr("qanat._engine.kept_intake.LONG", -1.0)
    assert len(await qanat.map(calls.double, iter(range(50)), journal=path)) == 50


async def test_first_failure_of_map_is_raised(virtual_time: VirtualTime, calls, path):
    calls.fails = lambda item: item == 2
    with pytest.raises(OSError, match="no 2"):
        await qanat.map(calls.double, range(30), journal=path, concurrency=1)
    # The failure is told when it is recorded; until then the next one has begun.
    assert calls.taken() == [0, 1, 2, 3]
    calls.fails = lambda item: False
    assert await qanat.map(calls.double, range(5), journal=path) == [[n, n] for n in range(5)]
    assert calls.taken() == [2, 3, 4]


async def test_too_many_failures_count_those_of_equal_items(virtual_time: VirtualTime, calls, path):
    calls.fails = lambda item: True
    with pytest.raises(qanat.TooManyFailuresError):
        await qanat.collect(calls.double, range(30), journal=path, max_failures=3)


# --- Pool ------------------------------------------------------------------------------------


async def test_pool_keeps_its_jobs(virtual_time: VirtualTime, calls, path):
    pool: Pool[str, list[str]] = Pool(calls.double, journal=path)
    for _ in range(2):
        async with pool:
            handles = [pool.submit(item) for item in ("a", "b", "a")]
            assert pool.stats().waiting == 3
            assert [await handle for handle in handles] == [["a", "a"], ["b", "b"], ["a", "a"]]
            await pool.drain()
            assert pool.stats().done == 3
    assert sorted(calls.taken()) == ["a", "b"]


async def test_pool_job_is_delayed_from_when_it_was_handed_in(virtual_time: VirtualTime, calls, path):
    async with Pool(calls.double, journal=path) as pool:
        handle = pool.submit("a", delay=5.0)
        outcome = await handle.outcome()
        assert outcome.started_at == 5.0
        began = virtual_time.now()
        assert (await pool.submit("a", delay=5.0).outcome()).recalled
        assert virtual_time.now() == began


async def test_pool_cancels_jobs_that_are_looked_up_or_follow(virtual_time: VirtualTime, calls, path):
    async with Pool(calls.double, journal=path, concurrency=1) as pool:
        first, second, third = (pool.submit("a") for _ in range(3))
        assert first.cancel()
        assert not first.cancel()
        assert third.cancel()
        assert await second == ["a", "a"]
        alone = pool.submit("b")
        assert alone.cancel()
        again = pool.submit("b")
        assert await again == ["b", "b"]
        assert [(await handle.outcome()).state for handle in (first, third, alone)] == ["cancelled"] * 3
        busy, leader, follower = pool.submit("c"), pool.submit("d"), pool.submit("d")
        await virtual_time.advance(0.25)
        assert leader.prioritise(2.0)
        assert leader.cancel()
        assert await follower == ["d", "d"]
        assert await busy == ["c", "c"]
    assert calls.taken() == ["a", "b", "c", "d"]


async def test_pool_gives_a_job_that_is_looked_up_its_new_priority(virtual_time: VirtualTime, calls, path):
    async with Pool(calls.double, journal=path, concurrency=1, order="priority") as pool:
        pool.pause()
        handles = [pool.submit(item, priority=item) for item in (1, 2, 3)]
        assert handles[2].prioritise(0)
        await virtual_time.advance(1)
        pool.resume()
        for handle in handles:
            await handle
    assert calls.taken() == [3, 1, 2]


async def test_pool_counts_jobs_that_are_looked_up(virtual_time: VirtualTime, calls, path):
    async with Pool(calls.double, journal=path, max_waiting=2, concurrency=1) as pool:
        pool.submit("a")
        pool.submit("b")
        with pytest.raises(qanat.PoolFull):
            pool.submit("c")
        assert await (await pool.put("d")) == ["d", "d"]


async def test_pool_runs_scheduled_items_each_time(virtual_time: VirtualTime, calls, path):
    async with Pool(calls.double, journal=path) as pool:
        pool.schedule(qanat.Every(10), "a")
        await anyio.sleep(35)
    assert calls.taken() == ["a"] * 3


async def test_pool_calls_are_not_kept(virtual_time: VirtualTime, calls, path):
    for _ in range(2):
        async with Pool(journal=path) as pool:
            assert await pool.call(calls.double, 1) == [1, 1]
    assert calls.taken() == [1, 1]


async def test_handler_that_waits_for_itself_is_told(virtual_time: VirtualTime, path):
    async def recursive(item: int) -> int:
        return await pool.submit(item)

    async with Pool(recursive, journal=path, concurrency=1) as pool:
        with pytest.raises(PoolDeadlockError):
            await pool.submit(1)


async def test_handlers_that_wait_for_inner_jobs_are_told_only_if_these_cannot_run(
    virtual_time: VirtualTime, path
):
    async def nested(item: int) -> int:
        return item if item >= 2 else await pool.submit(item + 1)

    async with Pool(nested, journal=path, concurrency=3) as pool:
        assert await pool.submit(0) == 2
    async with Pool(nested, journal=path, concurrency=1) as pool:
        assert await pool.submit(0) == 2
    async with Pool(nested, journal=path, concurrency=1, version=2) as pool:
        with pytest.raises(PoolDeadlockError):
            await pool.submit(0)


# --- what goes wrong -------------------------------------------------------------------------


async def test_items_without_a_key_of_their_own_fail_alone(virtual_time: VirtualTime, path):
    async def handler(item: Any) -> int:
        return 1

    outcomes = await qanat.collect(handler, [object(), "ok", "x" * 2_000_000], journal=path)
    assert [outcome.ok for outcome in outcomes] == [False, True, False]
    assert "an item of type object has no content that could be a key: give key=" in str(outcomes[0].error)
    assert "too large for a key: give key=" in str(outcomes[2].error)
    bad = await qanat.collect(handler, [1], journal=path, key=lambda item: 1.5)  # type: ignore[arg-type, return-value]
    assert "key must be a str, bytes, an int or a tuple of these, got 1.5" in str(bad[0].error)


async def test_pool_item_without_a_key_of_its_own_fails_alone(virtual_time: VirtualTime, calls, path):
    async with Pool(calls.double, journal=path) as pool:
        bad, good = pool.submit(object()), pool.submit(1)
        assert await good == [1, 1]
        with pytest.raises(SerialisationError, match="give key="):
            await bad


async def test_source_that_raises_beside_functions_of_items_keeps_what_was_done(
    virtual_time: VirtualTime, calls, path
):
    def source() -> Iterator[int]:
        yield 1
        raise OSError("torn")

    with pytest.raises(OSError, match="torn") as raised:
        await qanat.collect(calls.double, source(), journal=path, lane=lambda item: item)
    assert [outcome.value for outcome in outcomes_of(raised.value) if outcome.ok] == [[1, 1]]


@pytest.mark.parametrize(("name", "value"), [("AT_ONCE", 3), ("MOST_BYTES", 30)])
async def test_commits_are_bounded_by_number_and_size(
    virtual_time: VirtualTime, calls, path, monkeypatch, name, value
):
    sizes: list[int] = []
    keep = journal_module.JournalConnection._keep

    def counted(self: Any, asked: list[Any]) -> list[Any]:
        sizes.extend(len(rows.keys) for rows in asked)
        return keep(self, asked)

    monkeypatch.setattr(journal_module.JournalConnection, "_keep", counted)
    monkeypatch.setattr(commits_module, name, value)
    outcomes = await qanat.collect(calls.double, range(1000, 1100), journal=path, concurrency=50)
    assert outcomes.values() == [[item] * 2 for item in range(1000, 1100)]
    assert max(sizes) == 3
    assert sum(sizes) == 100


async def test_rules_functions_that_raise_fail_their_job(virtual_time: VirtualTime, calls, path):
    outcomes = await qanat.collect(calls.double, [0, 1], journal=path, lane=lambda n: 1 // n)
    assert [outcome.ok for outcome in outcomes] == [False, True]


@pytest.mark.parametrize("form", ["collect", "stream", "pool"])
async def test_file_that_is_no_journal_is_refused_and_left(virtual_time: VirtualTime, calls, path, form):
    path.write_text("precious " * 1000)
    path.chmod(0o600)
    with pytest.raises(JournalError, match="is no database"):
        if form == "collect":
            await qanat.collect(calls.double, [1], journal=path)
        elif form == "stream":
            async with qanat.stream(calls.double, [1], journal=path):
                pass
        else:
            await Pool(calls.double, journal=path).open()
    assert path.read_text() == "precious " * 1000
    assert calls.taken() == []


def limit_pages(monkeypatch: pytest.MonkeyPatch, more: int) -> None:
    """Let journals that are opened from now on grow by so many pages."""
    opened = opener_module.open_database

    def limited(*args: Any, **options: Any) -> Any:
        database = opened(*args, **options)
        (pages,) = database.execute("PRAGMA page_count").fetchone()
        database.execute(f"PRAGMA max_page_count={pages + more}")
        return database

    monkeypatch.setattr(journal_module, "open_database", limited)


async def test_full_disk_stops_the_run_and_loses_nothing(virtual_time: VirtualTime, path, monkeypatch):
    seen: list[int] = []

    async def large(item: int) -> str:
        seen.append(item)
        await anyio.sleep(1)
        return str(item) * 3000

    with monkeypatch.context() as patch:
        limit_pages(patch, 10)
        with pytest.raises(StoreFull, match="cannot grow") as raised:
            await qanat.collect(large, range(10, 60), journal=path, concurrency=3)
    outcomes = outcomes_of(raised.value)
    done = [outcome.item for outcome in outcomes if outcome.ok]
    assert done
    assert set(done) <= set(seen)
    assert len(seen) < 50
    seen.clear()
    assert len(await qanat.map(large, range(10, 60), journal=path)) == 50
    assert 50 - len(done) <= len(seen) < 50


async def test_journal_that_cannot_be_read_any_more_stops_the_run(
    virtual_time: VirtualTime, calls, path, monkeypatch
):
    def broken(self: Any, asked: list[Any]) -> list[Any]:
        if asked:
            raise qanat.StoreUnavailable("gone")
        return []

    monkeypatch.setattr(journal_module.JournalConnection, "_look", broken)
    with pytest.raises(qanat.StoreUnavailable, match="gone") as raised:
        await qanat.collect(calls.double, range(3), journal=path)
    assert {outcome.state for outcome in outcomes_of(raised.value)} <= {"cancelled"}
    assert calls.taken() == []


async def test_what_ends_after_the_journal_broke_is_handed_over(virtual_time: VirtualTime, path, monkeypatch):
    def broken(self: Any, asked: list[Any]) -> list[Any]:
        if asked:
            raise StoreFull("full")
        return []

    monkeypatch.setattr(journal_module.JournalConnection, "_keep", broken)

    async def stubborn(item: int) -> int:
        with anyio.CancelScope(shield=True):
            await anyio.sleep(item)
        return item

    with pytest.raises(StoreFull) as raised:
        await qanat.collect(stubborn, range(1, 4), journal=path)
    assert [outcome.value for outcome in outcomes_of(raised.value)] == [1, 2, 3]


async def test_nothing_starts_while_too_much_waits_for_its_commit(
    virtual_time: VirtualTime, path, monkeypatch
):
    import threading

    monkeypatch.setattr(commits_module, "MOST_UNKEPT", 5)
    may_go = threading.Event()
    keep = journal_module.JournalConnection._keep

    def held(self: Any, asked: list[Any]) -> list[Any]:
        assert may_go.wait(20)
        return keep(self, asked)

    monkeypatch.setattr(journal_module.JournalConnection, "_keep", held)
    started: list[int] = []

    async def handler(item: int) -> int:
        started.append(item)
        await anyio.sleep(1)
        return item

    results: list[Any] = []

    async def run() -> None:
        results.extend(await qanat.map(handler, range(50), journal=path, concurrency=2))

    async with anyio.create_task_group() as group:
        group.start_soon(run)
        await virtual_time.advance(0.5)
        await virtual_time.advance(30, wait_outside=False)
        assert 5 <= len(started) <= 7
        may_go.set()
    assert results == list(range(50))


# --- rules -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rules", "kind", "message"),
    [
        ({"journal": 5}, TypeError, "journal must be the path of a file, got 5"),
        ({"journal": ""}, TypeError, "journal must be the path of a file, got ''"),
        ({"journal": "a\0b"}, ValueError, "journal must be the path of a file, got 'a"),
        ({"key": 5}, TypeError, "key must be a plain function of the item, got 5"),
        ({"journal": "a", "version": True}, TypeError, "version must be a text or a whole number, got True"),
        ({"journal": "a", "retry_failed": 1}, TypeError, "retry_failed must be True or False, got 1"),
        ({"version": 1}, ValueError, "version goes with a journal, got 1 without one"),
        ({"retry_failed": True}, ValueError, "retry_failed goes with a journal, got True without one"),
        ({"journal": "a", "record": "b"}, ValueError, "record must be None with a journal, got 'b'"),
    ],
)
def test_wrong_rules_are_refused_at_the_call(rules, kind, message):
    with pytest.raises(kind, match=message):
        qanat.Rules(**rules)


def test_rules_say_the_journal_in_words():
    assert str(qanat.Rules(journal=Path("run.db"))) == "10 at once, journal run.db"
    assert str(qanat.Rules(journal="run.db", retry_failed=True)).endswith("journal run.db, only what failed")


class Named:
    def __call__(self, item: int) -> int:
        return item


@pytest.mark.parametrize("handler", [lambda item: item, partial(plain_double), Named()])
async def test_handler_without_a_name_of_its_own_needs_a_version(virtual_time: VirtualTime, path, handler):
    with pytest.raises(ValueError, match="version must say which handler this is, got None"):
        await qanat.collect(handler, [1], journal=path)
    with pytest.raises(ValueError, match="version must say which handler this is, got None"):
        Pool(handler, journal=path)
    assert len(await qanat.map(handler, [1], journal=path, version=1)) == 1


def test_simulation_leaves_the_journal_alone(path):
    simulation = qanat.simulate(10, latency=1.0, journal=path, version=1, retry_failed=True)
    assert simulation.items == 10
    assert not path.exists()


# --- crashes ---------------------------------------------------------------------------------


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    items=st.lists(st.integers(0, 15), max_size=25),
    kills=st.lists(st.floats(0.01, 6.0), max_size=4),
    failing=st.sets(st.integers(0, 15), max_size=3),
    concurrency=st.integers(1, 4),
    backend=st.sampled_from(["asyncio", "trio"]),
)
def test_rerun_after_crashes_is_an_undisturbed_run(
    tmp_path_factory, items, kills, failing, concurrency, backend
):
    """A crash is the file as it was at some moment: what was handed over by then is never lost."""
    where = tmp_path_factory.mktemp("crash")
    path = where / "run.db"
    told: set[int] = set()
    runs: Counter[int] = Counter()

    async def handler(item: int) -> list[int]:
        await anyio.sleep(0.5 + item % 3)
        runs[item] += 1
        if item in failing:
            raise OSError(item)
        return [item]

    async def crash(at: float) -> None:
        nonlocal path
        runs.clear()
        delivered: list[int] = []

        async def consume() -> None:
            async with qanat.stream(handler, items, journal=path, concurrency=concurrency) as outcomes:
                async for outcome in outcomes:
                    if outcome.ok:
                        delivered.append(outcome.item)

        async with anyio.create_task_group() as group:
            group.start_soon(consume)
            await anyio.sleep(at)
            # What is on the disk now is what a kill would leave, whatever the run does later.
            copies = len(list(where.iterdir()))
            copy = where / f"copy-{copies}.db"
            for side in ("-wal", ""):
                source = Path(f"{path}{side}")
                if source.exists():
                    to = Path(f"{copy}{side}")
                    to.touch(0o600)
                    to.write_bytes(source.read_bytes())
            handed_over = set(delivered)
            group.cancel_scope.cancel()
        assert not any(runs[item] for item in told), "what was done ran again"
        told.update(handed_over)
        path = copy

    with virtual_time(backend) as clock:
        for at in kills:
            clock.run(crash, at)
        runs.clear()

        async def last() -> qanat.Outcomes[int, list[int]]:
            return await qanat.collect(handler, items, journal=path, concurrency=concurrency)

        outcomes = clock.run(last)
    assert [outcome.index for outcome in outcomes] == list(range(len(items)))
    assert [outcome.value for outcome in outcomes] == [None if item in failing else [item] for item in items]
    assert not any(runs[item] for item in told)
    assert all(runs[item] <= 1 for item in items)
