"""The flight recorder, and the replay of what it wrote."""

from __future__ import annotations

import logging
from array import array
from contextlib import suppress
from math import inf, nan
from random import Random
from typing import TYPE_CHECKING, Any

import anyio
import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat import Concurrency, Limit, Retry, Spacing
from qanat._app.replaying import read_flight
from qanat._cli.plan_command import PlanOptions, run_plan
from qanat._cli.replay_command import run_replay
from qanat._cli.usage import UsageError
from qanat._core.dispatcher.dispatcher import Dispatcher
from qanat._core.flight import DONE, FORMAT, MAGIC, framed
from qanat._core.orders import Fifo
from qanat.errors import InputError
from qanat.testing import replay, virtual_time

if TYPE_CHECKING:
    from pathlib import Path


class Odd(Exception):
    """An error of the user's own."""


class Own(Limit):
    """A limit of the user's own."""

    def ready_at(self, job, now):
        return now


def in_lanes(lane: str) -> Any:
    return [] if lane == "a" else [Spacing(0.25, jitter=0.5)]


async def run_pool(path: Path) -> None:
    calls: dict[int, int] = {}

    async def handler(item: int) -> int:
        calls[item] = calls.get(item, 0) + 1
        await anyio.sleep(0.25)
        if calls[item] == 1:
            problems = [Odd(), qanat.Throttled(1.0), qanat.RetryLater(0.5), qanat.Discard(), None]
            if (problem := problems[item % 5]) is not None:
                raise problem
        return item

    async def other(_first: int, _second: int) -> None:
        await anyio.sleep(0.25)

    async with qanat.Pool(
        handler, concurrency=3, rate="8/s", record=path, lane_limits=in_lanes,
        retry=Retry(2, on=(Odd, OSError), when=lambda _error, attempt: attempt < 2, backoff=lambda n: n / 4),
        priority=lambda item: 1 // (item - 30), order="priority",
    ) as pool:  # fmt: skip
        for item in range(32):
            pool.submit(item, lane="ab"[item % 2], delay=0.5 * (item % 3), retry=item % 4 or None)
        first = pool.submit(99, timeout=0.125)
        pool.call(other, 1, 2, retry=1)
        await anyio.sleep(0.1)
        first.cancel()
        pool.resize(2)
        await anyio.sleep(0.1)
        pool.pause()
        await anyio.sleep(0.1)
        pool.resume()


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_each_decision_of_a_pool_is_made_once_more(tmp_path: Path, backend: Any) -> None:
    path = tmp_path / "run.trace"
    with virtual_time(backend) as time:
        time.run(run_pool, path)
    found = replay(path)
    assert found.difference is None
    assert found.decisions > 100
    assert found.torn == 0
    assert str(found).endswith(f"{found.decisions:,} decisions, all the same")


async def test_runs_and_streams_are_recorded(virtual_time, tmp_path: Path) -> None:
    async def handler(item: int) -> int:
        await anyio.sleep(0.5)
        return item

    path = tmp_path / "run.trace"
    assert await qanat.map(handler, range(200), record=path, concurrency=7) == list(range(200))
    assert (read_flight(path).header.name, replay(path).difference) == ("run", None)
    async with qanat.stream(handler, iter(range(20)), record=str(path), buffer=3) as outcomes:
        assert len([outcome async for outcome in outcomes]) == 20
    assert (read_flight(path).header.name, replay(path).difference) == ("stream", None)


async def test_a_run_that_is_stopped_is_recorded_to_its_end(virtual_time, tmp_path: Path) -> None:
    async def handler(item: int) -> int:
        await anyio.sleep(item)
        raise OSError

    path = tmp_path / "run.trace"
    with pytest.raises(qanat.TooManyFailuresError):
        await qanat.collect(
            handler, list(range(20)), record=path, max_failures=3, concurrency=5, order="lifo"
        )
    assert replay(path).difference is None


@given(
    seed=st.integers(0, 99), slots=st.integers(1, 4), rate=st.sampled_from([None, "3/s", "2/s evenly"]),
    lanes=st.integers(0, 3), retry=st.integers(0, 2), timeout=st.sampled_from([None, 0.5]),
    budget=st.sampled_from([None, 0.2]), order=st.sampled_from(["fifo", "lifo", "priority"]),
)  # fmt: skip
@settings(max_examples=60)
def test_whatever_the_rules_a_simulation_is_replayed(
    tmp_path_factory, seed, slots, rate, lanes, retry, timeout, budget, order
):
    path = tmp_path_factory.mktemp("flight") / "run.trace"
    qanat.simulate(
        40, latency=lambda _item, rng, _running: rng.random(), failures=0.3, seed=seed, record=path,
        concurrency=slots, rate=rate, timeout=timeout, retry=Retry(retry, budget=budget), order=order,
        lane=(lambda item: item % lanes) if lanes else None, limits=Spacing(0.01, jitter=0.1),
        lane_limits=(lambda lane: Concurrency(1 + lane)) if lanes else None,
    )  # fmt: skip
    assert replay(path).difference is None


def test_a_decision_that_is_another_one_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "run.trace"
    qanat.simulate(9, latency=1.0, concurrency=2, record=path)
    assert replay(path, concurrency=2).difference is None
    before = Dispatcher.next

    def stubborn(dispatcher: Dispatcher, now: float) -> Any:
        return None if now >= 2.0 else before(dispatcher, now)

    monkeypatch.setattr(Dispatcher, "next", stubborn)
    found = replay(path)
    assert found.difference is not None
    assert found.difference.endswith("at 2.0, start job 4: recorded 4, now nothing")
    assert "decisions are the same, then: entry" in str(found)


def test_a_torn_tail_is_cut_off_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat._core.dispatcher.recording.BLOCK", 10)
    path = tmp_path / "run.trace"
    qanat.simulate(50, latency=1.0, record=path)
    whole = replay(path)
    content = path.read_bytes()
    path.write_bytes(content[:-5])
    found = replay(path)
    assert found.difference is None
    assert 0 < found.decisions < whole.decisions
    assert found.torn > 0
    assert f"cut off: the last {found.torn} bytes are torn" in str(found)
    spoilt = bytearray(content)
    spoilt[-5] ^= 1
    path.write_bytes(bytes(spoilt))
    assert replay(path).decisions == found.decisions


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"something else", "this is not a recording"),
        (MAGIC, "ends before it has begun"),
        (
            MAGIC + framed({"format": 99, "version": "7.0"}),
            "format 99, made by qanat '7.0', and this version",
        ),
        (MAGIC + framed([1]), "format None"),
        (MAGIC + framed({"format": FORMAT}), "missing required field"),
    ],
)
def test_what_is_no_recording_is_refused(tmp_path: Path, content: bytes, message: str) -> None:
    path = tmp_path / "run.trace"
    path.write_bytes(content)
    with pytest.raises(InputError, match=message):
        replay(path)


def recorded_blocks(path: Path) -> list[Any]:
    """Simulate and return what was recorded: the header, and blocks of codes, times and notes."""
    rules: dict[str, Any] = {
        "rate": "5/s",
        "lane": lambda item: item % 3,
        "lane_limits": lambda lane: Spacing(0.5),
    }
    rules["failures"] = lambda item, rng, attempt: OSError() if item % 5 == 1 else None
    qanat.simulate(20, latency=1.0, record=path, retry=2, **rules)
    content, blocks, at = path.read_bytes(), [], len(MAGIC)
    while at < len(content):
        size = int.from_bytes(content[at : at + 4], "big")
        blocks.append(msgspec.msgpack.decode(content[at + 8 : at + 8 + size]))
        at += 8 + size
    return blocks


def planned(path: Path) -> None:
    run_plan(PlanOptions(items=(), flags={}, past=str(path)))


@pytest.mark.parametrize(
    "change",
    [
        lambda blocks: blocks.append(3),
        lambda blocks: blocks[0].update(precision=float("nan")),
        lambda blocks: blocks[0].update(capacity=-1.0),
        lambda blocks: blocks[1].__setitem__(0, blocks[1][0][:-3]),
        lambda blocks: blocks[1].__setitem__(0, array("q", [DONE | 99 << 4]).tobytes()),
        lambda blocks: blocks[1].__setitem__(1, blocks[1][1][:8]),
        lambda blocks: blocks[1].__setitem__(2, blocks[1][2][:1]),
        lambda blocks: blocks[1].__setitem__(2, [[None] * len(note) for note in blocks[1][2]]),
        lambda blocks: blocks[1].__setitem__(2, [{} for _ in blocks[1][2]]),
    ],
    ids=["no block", "header", "capacity", "codes", "no job", "times", "few notes", "empty notes", "other notes"],
)  # fmt: skip
def test_nonsense_behind_a_good_checksum_is_refused(tmp_path: Path, change: Any) -> None:
    path = tmp_path / "run.trace"
    blocks = recorded_blocks(path)
    change(blocks)
    path.write_bytes(MAGIC + b"".join(map(framed, blocks)))
    with pytest.raises(InputError, match="that a run records|is none that a run"):
        replay(path)
    with pytest.raises((InputError, UsageError), match="that a run"):
        planned(path)


def junk(rng: Random) -> Any:
    return rng.choice([None, -1, 10**6, 1.5, nan, inf, "x", b"x", [], {}, [1], True, 0, {"kind": "x"}])


def changed(value: Any, rng: Random) -> Any:
    """Return a value with junk somewhere in it."""
    if isinstance(value, list | dict) and value and rng.random() < 0.9:
        place = rng.choice(range(len(value)) if isinstance(value, list) else list(value))
        copy = value.copy()
        if rng.random() < 0.1:
            copy.pop(place)
        else:
            copy[place] = changed(copy[place], rng)
        return copy
    return junk(rng)


@pytest.mark.slow
def test_whatever_lies_in_a_recording_it_is_read_or_refused(tmp_path: Path, capsys: Any) -> None:
    path, rng = tmp_path / "run.trace", Random(1)
    whole = recorded_blocks(path)
    for _ in range(60):
        blocks = list(whole)
        place = rng.randrange(len(blocks))
        if place:
            blocks[place] = [*blocks[place][:2], changed(blocks[place][2], rng)]
        else:
            blocks[0] = changed(blocks[0], rng)
        path.write_bytes(MAGIC + b"".join(map(framed, blocks)))
        with suppress(InputError, UsageError):
            run_replay(str(path), as_json=False)
        with suppress(InputError, UsageError):
            planned(path)


def test_a_file_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="No such file"):
        replay(tmp_path / "none.trace")
    with pytest.raises(FileNotFoundError):
        qanat.simulate(1, latency=1.0, record=tmp_path / "none" / "run.trace")


@pytest.mark.parametrize("path", [5, b"run.trace", ""])
def test_a_record_that_is_no_path_is_refused(path: Any) -> None:
    with pytest.raises(TypeError, match="record must be the path of a file"):
        qanat.Rules(record=path)


@pytest.mark.parametrize(
    ("what", "rules"),
    [
        ("limits", lambda: {"limits": Own()}),
        ("order", lambda: {"order": lambda: Fifo()}),
        ("lane_limits", lambda: {"lane": lambda item: item % 2, "lane_limits": lambda _lane: Own()}),
    ],
)
def test_objects_of_the_users_own_are_to_be_given_again(tmp_path: Path, what: str, rules: Any) -> None:
    path = tmp_path / "run.trace"
    qanat.simulate(9, latency=1.0, record=path, **rules())
    with pytest.raises(
        ValueError, match=rf"{what} of the run are objects of your own .* qanat.testing.replay"
    ):
        replay(path)
    assert replay(path, **rules()).difference is None


def test_a_limit_that_was_used_before_is_not_the_same(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    limit = Concurrency(2)
    qanat.simulate(3, latency=1.0, limits=limit)
    qanat.simulate(3, latency=1.0, limits=limit, record=path)
    with pytest.raises(ValueError, match="limits of the run"):
        replay(path)


def test_a_disk_that_is_full_ends_the_recording_and_not_the_run(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "run.trace"

    def remove(item: int, _rng: Any, _running: int) -> float:
        if item == 500:
            path.unlink()
            path.mkdir()
        return 1.0

    with caplog.at_level(logging.ERROR, "qanat"):
        assert qanat.simulate(20_000, latency=remove, record=path).items == 20_000
    assert [record.message for record in caplog.records] == [
        f"the recording {path} ends here: [Errno 21] Is a directory: '{path}'"
    ]


def test_items_values_and_messages_are_not_written(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    qanat.simulate(
        ["secret item"], latency=1.0, record=path, failures=lambda _i, _r, _n: Odd("secret message")
    )
    assert b"secret" not in path.read_bytes()


def test_numbers_of_another_byte_order_are_read(tmp_path: Path) -> None:
    from array import array

    path = tmp_path / "run.trace"
    qanat.simulate(5, latency=1.0, record=path)
    flight = read_flight(path)
    header = msgspec.structs.replace(
        flight.header, byteorder="big" if flight.header.byteorder == "little" else "little"
    )
    swapped = MAGIC + framed(header)
    for payload in flight._blocks:
        codes, times, notes = msgspec.msgpack.decode(payload)
        parts = array("q", codes), array("d", times)
        for part in parts:
            part.byteswap()
        swapped += framed((parts[0].tobytes(), parts[1].tobytes(), notes))
    path.write_bytes(swapped)
    assert replay(path).difference is None
