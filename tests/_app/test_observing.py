"""Observers: told of every event in order, and dropped when they keep failing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Retry, Throttled, constant
from qanat._core.events import JobEnded, JobParked, JobRetried, JobStarted, RunEnded, RunStarted
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat._core.events import Event
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


class Observing:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.closed = 0

    def event(self, event: Event) -> None:
        self.events.append(event)

    def close(self) -> None:
        self.closed += 1

    @property
    def story(self) -> list[tuple[Any, ...]]:
        told: list[tuple[Any, ...]] = []
        for event in self.events:
            if isinstance(event, JobEnded):
                told.append(("ended", event.at, event.outcome.index, event.outcome.state))
            elif isinstance(event, JobRetried):
                told.append(("retried", event.at, event.job.index, event.again_at, type(event.error)))
            elif isinstance(event, JobParked):
                told.append(("parked", event.at, event.job.index, event.reason.cause, event.reason.until))
            elif isinstance(event, JobStarted):
                told.append(("started", event.at, event.job.index))
            elif isinstance(event, RunEnded):
                told.append(("run ended", event.at, event.counts))
            else:
                told.append(("run started", event.at, event.name))
        return told


async def test_a_run_is_told_from_its_beginning_to_its_end(virtual_time: VirtualTime):
    observer = Observing()
    await qanat.collect(Diary(virtual_time).taking(1.0), list("ab"), concurrency=1, observers=observer)
    assert observer.story == [
        ("run started", 0.0, "run"),
        ("started", 0.0, 0),
        ("ended", 1.0, 0, "done"),
        ("started", 1.0, 1),
        ("ended", 2.0, 1, "done"),
        ("run ended", 2.0, {"done": 2, "failed": 0, "cancelled": 0, "retried": 0}),
    ]
    assert observer.closed == 1


async def test_what_waits_for_a_slot_is_told(virtual_time: VirtualTime):
    observer = Observing()
    async with qanat.Pool(Diary(virtual_time).taking(1.0), concurrency=1, observers=observer) as pool:
        for item in range(3):
            pool.submit(item)
    assert observer.story[1:-1] == [
        ("started", 0.0, 0),
        ("parked", 0.0, 1, "concurrency", None),
        ("ended", 1.0, 0, "done"),
        ("started", 1.0, 1),
        ("parked", 1.0, 2, "concurrency", None),
        ("ended", 2.0, 1, "done"),
        ("started", 2.0, 2),
        ("ended", 3.0, 2, "done"),
    ]


async def test_retries_are_told_with_their_error_and_time(virtual_time: VirtualTime):
    observer = Observing()
    await qanat.collect(
        Diary(virtual_time).failing([KeyError()]),
        ["a"],
        retry=Retry(1, backoff=constant(2.0)),
        observers=[observer],
    )
    assert observer.story[1:-1] == [
        ("started", 0.0, 0),
        ("retried", 0.0, 0, 2.0, KeyError),
        ("started", 2.0, 0),
        ("ended", 2.0, 0, "done"),
    ]


async def test_what_waits_at_a_limit_is_told_with_the_reason(virtual_time: VirtualTime):
    observer = Observing()
    await qanat.collect(Diary(virtual_time).taking(0.0), list("ab"), rate="1/5s", observers=observer)
    assert ("parked", 0.0, 1, "rate", 5.0) in observer.story


async def test_a_throttled_lane_is_told(virtual_time: VirtualTime):
    observer = Observing()
    await qanat.collect(Diary(virtual_time).failing([Throttled(5.0)]), list("a"), observers=observer)
    assert observer.story[1:-1] == [
        ("started", 0.0, 0),
        ("retried", 0.0, 0, 0.0, Throttled),
        ("parked", 0.0, 0, "throttled", 5.0),
        ("started", 5.0, 0),
        ("ended", 5.0, 0, "done"),
    ]


async def test_failures_and_cancellations_are_told(virtual_time: VirtualTime):
    observer = Observing()
    with pytest.raises(KeyError):
        await qanat.map(
            Diary(virtual_time).failing([None, KeyError()]), [1] * 9, concurrency=1, observers=observer,
            order="lifo",
        )  # fmt: skip
    assert observer.story[-1] == ("run ended", 0.0, {"done": 1, "failed": 1, "cancelled": 7, "retried": 0})


async def test_a_job_whose_callback_failed_is_told(virtual_time: VirtualTime):
    observer = Observing()
    await qanat.collect(Diary(virtual_time).taking(0.0), [0], lane=lambda item: 1 // item, observers=observer)
    assert observer.story[1:-1] == [("ended", 0.0, 0, "dead")]


async def test_pools_and_streams_are_told_by_their_names(virtual_time: VirtualTime):
    observer = Observing()
    async with qanat.Pool(anyio.sleep, observers=observer) as pool:
        pool.submit(1.0)
    async with qanat.stream(anyio.sleep, [1.0], observers=observer) as outcomes:
        _ = [outcome async for outcome in outcomes]
    names = [event.name for event in observer.events if isinstance(event, RunStarted)]
    assert names == ["pool", "stream"]
    assert observer.closed == 2


async def test_the_end_is_told_when_a_run_is_cancelled(virtual_time: VirtualTime):
    observer = Observing()
    with anyio.move_on_after(1.0):
        await qanat.collect(anyio.sleep, [10.0] * 3, concurrency=1, observers=observer)
    assert isinstance(observer.events[-1], RunEnded)
    assert observer.events[-1].counts["done"] == 0
    assert observer.closed == 1


async def test_all_observers_are_told(virtual_time: VirtualTime):
    observers = [Observing(), Observing()]
    await qanat.collect(Diary(virtual_time).taking(1.0), list("ab"), observers=observers)
    assert observers[0].story == observers[1].story != []


async def test_the_times_of_jobs_are_the_same_with_an_observer(virtual_time: VirtualTime):
    starts: list[list[float]] = []
    for observers in ([], [Observing()]):
        diary, began = Diary(virtual_time), virtual_time.now()
        await qanat.collect(
            diary.failing([None, KeyError(), None, Throttled(3.0)]), range(9), rate="2/s", concurrency=3,
            retry=Retry(1, backoff=constant(0.5)), observers=observers,
        )  # fmt: skip
        starts.append([at - began for at in diary.times])
    assert starts[0] == starts[1]


async def test_nothing_is_built_without_an_observer(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    class Built(Exception):
        """Raised where an event would be made."""

    def build(*_: object) -> None:
        raise Built

    events = {JobStarted, JobEnded, JobRetried, JobParked, RunStarted, RunEnded}
    for name, module in list(sys.modules.items()):
        if name.startswith(("qanat._core.dispatcher", "qanat._engine")):
            for event in events & set(filter(callable, vars(module).values())):
                monkeypatch.setattr(module, event.__name__, build)
    outcomes = await qanat.collect(
        Diary(virtual_time).failing([KeyError(), Throttled(1.0)]), range(9), rate="2/s",
        retry=Retry(1, backoff=constant(0.5)),
    )  # fmt: skip
    assert outcomes.values() == list(range(9))
    with pytest.raises(Built):
        await qanat.collect(Diary(virtual_time).taking(0.0), range(9), observers=Observing())


class Raising(Observing):
    def __init__(self, kind: type[BaseException] = KeyError) -> None:
        super().__init__()
        self._kind = kind

    def event(self, event: Event) -> None:
        super().event(event)
        raise self._kind


async def test_an_observer_that_raises_is_dropped_after_ten_times_and_harms_nobody(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    raising, fine = Raising(), Observing()
    outcomes = await qanat.collect(Diary(virtual_time).taking(0.0), range(50), observers=[raising, fine])
    assert outcomes.values() == list(range(50))
    assert len(raising.events) == 10
    assert (raising.closed, fine.closed) == (1, 1)
    assert len([event for event in fine.events if isinstance(event, JobEnded)]) == 50
    first, last = caplog.records
    assert "KeyError" in first.message
    assert "dropped" in last.message


async def test_an_observer_that_raises_now_and_then_is_kept(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    raising = Raising()
    await qanat.collect(Diary(virtual_time).taking(0.0), range(3), observers=raising)
    assert len(raising.events) == 8
    assert len(caplog.records) == 1


async def test_an_observer_whose_close_raises_harms_nobody(virtual_time: VirtualTime):
    class Closing(Observing):
        def close(self) -> None:
            raise KeyError

    assert len(await qanat.collect(Diary(virtual_time).taking(0.0), range(3), observers=Closing())) == 3
