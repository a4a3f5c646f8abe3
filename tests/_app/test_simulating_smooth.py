"""Simulations in which each attempt ends well go a short way: it must come to the same as the long one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import qanat
from qanat import Adaptive, Concurrency, FixedWindow, SlidingWindow, Spacing, TokenBucket
from qanat._core.dispatcher import Dispatcher

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qanat import Limit, Simulation
    from qanat._core.ports import Random

LIMITS: list[Callable[[], Limit]] = [
    lambda: SlidingWindow(5, 1.0),
    lambda: SlidingWindow(40, 0.7),
    lambda: TokenBucket(12.5, burst=4),
    lambda: FixedWindow(20, 1.0),
    lambda: Spacing(0.03),
    lambda: Spacing(0.02, after="finish"),
    lambda: Concurrency(3),
    lambda: Adaptive(1, 20),
    lambda: SlidingWindow(1000, 1.0),
    lambda: TokenBucket(1000, burst=7),
]


def drawn(_item: int, rng: Random, running: int) -> float:
    share = rng.random()
    return (0.1 if share < 0.3 else 0.25 if share < 0.6 else share) * (1 + running // 8)


KEYED: dict[str, Any] = {"key": lambda item: item % 5, "id": str}


def both(items: Callable[[], Any], limits: tuple[int, ...], **options: Any) -> tuple[Simulation, Simulation]:
    """Simulate the short way, and the long way: an attempt might be ended by a timeout there."""
    short, long = (
        qanat.simulate(items(), limits=[LIMITS[number]() for number in limits], timeout=timeout, **options)
        for timeout in (None, 1e6)
    )
    return short, long


def assert_same(short: Simulation, long: Simulation) -> None:
    assert short.trace == long.trace
    assert (short.items, short.left, short.most_running) == (long.items, long.left, long.most_running)
    assert (short.makespan, short.outcomes) == (long.makespan, long.outcomes)
    assert short.waits == pytest.approx(long.waits)
    assert (short.wait, short.run) == (long.wait, long.run)
    assert short.busy == pytest.approx(long.busy)


@settings(max_examples=60)
@given(
    jobs=st.integers(0, 200),
    limits=st.lists(st.integers(0, len(LIMITS) - 1), max_size=4).map(tuple),
    concurrency=st.sampled_from((1, 2, 10, 100)),
    latency=st.sampled_from((0.0, 0.1, 0.5, drawn)),
    made=st.sampled_from((range, lambda jobs: list(range(jobs)), lambda jobs: (n for n in range(jobs)))),
    options=st.fixed_dictionaries(
        {},
        optional={
            "buffer": st.sampled_from((1, 3, 50)),
            "order": st.sampled_from(("fifo", "lifo")),
            "lane": st.sampled_from((None, lambda item: item % 3)),
            "id": st.sampled_from((None, str)),
        },
    ),
)
def test_the_short_way_comes_to_the_same_as_the_long_one(
    jobs: int,
    limits: tuple[int, ...],
    concurrency: int,
    latency: Any,
    made: Any,
    options: dict[str, Any],
):
    short, long = both(lambda: made(jobs), limits, concurrency=concurrency, latency=latency, **options)
    assert_same(short, long)


@pytest.mark.parametrize("limits", [(), (0,), (1, 2, 4)])
def test_a_source_that_raises_is_heard_of_once_all_before_has_ended(limits: tuple[int, ...]):
    ended: list[int] = []

    def items() -> Iterator[int]:
        yield from range(7)
        raise OSError("no more")

    def latency(item: int, _rng: Random, _running: int) -> float:
        ended.append(item)
        return 0.5

    with pytest.raises(OSError, match="no more"):
        qanat.simulate(items(), latency=latency, concurrency=2, limits=[LIMITS[n]() for n in limits])
    assert ended == list(range(7))


class Broken(list[int]):
    """A list that cannot be read to its end, and whose iterator takes no time."""

    def __iter__(self) -> Iterator[int]:
        shrinking = dict.fromkeys(range(5))
        numbers = iter(shrinking)
        shrinking[9] = None
        return numbers


def test_what_a_quick_source_raises_is_heard_of():
    with pytest.raises(RuntimeError, match="changed size"):
        qanat.simulate(Broken(), latency=0.5, concurrency=2)


def test_an_item_whose_function_raises_fails_and_the_others_go_on():
    def name(item: int) -> str:
        return str(12 // item)

    short, long = both(lambda: [1, 2, 0, 3, 4], (0,), concurrency=2, latency=1.0, id=name)
    assert_same(short, long)
    assert short.outcomes == {"done": 4, "dead": 1, "cancelled": 0}
    assert short.errors == {"ZeroDivisionError": 1}


def test_slots_and_rates_that_are_waited_for_in_turn_are_counted_alike():
    short, long = both(lambda: 300, (1,), concurrency=7, latency=0.3)
    assert_same(short, long)
    assert short.waits["concurrency"] > 0.0
    short, long = both(lambda: 300, (1, 2), concurrency=7, latency=0.3)
    assert_same(short, long)
    assert short.waits["rate"] > 0.0


@pytest.mark.parametrize("concurrency", [1, 20])
@pytest.mark.parametrize("latency", [0.0, 0.5])
@pytest.mark.parametrize("limits", [(), (8,), (8, 9), (8, 9, 4), (8, 9, 9, 8), (0, 9)])
def test_slots_that_go_from_one_job_to_the_next_are_counted_alike(
    limits: tuple[int, ...], latency: float, concurrency: int
):
    assert_same(*both(lambda: 90, limits, concurrency=concurrency, latency=latency))


def test_an_inbox_is_simulated_once_it_is_closed():
    inbox: qanat.Inbox[int] = qanat.Inbox()
    inbox.add_all(range(5))
    with pytest.raises(ValueError, match=r"^items must not be an Inbox that is open, .*: close it first$"):
        qanat.simulate(inbox, latency=1.0, concurrency=2)
    inbox.close()
    assert qanat.simulate(inbox, latency=1.0, concurrency=2).makespan == 3.0


def test_items_of_one_key_come_to_the_same():
    assert_same(*both(lambda: range(20), (), concurrency=2, latency=1.0, **KEYED))


def test_a_dispatcher_that_wants_to_be_asked_for_ever_is_an_error(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(Dispatcher, "wake_at", property(lambda dispatcher: dispatcher.now))
    with pytest.raises(RuntimeError, match=r"nothing starts at 0\.0"):
        qanat.simulate(2, latency=1.0, limits=SlidingWindow(1, 1.0))
