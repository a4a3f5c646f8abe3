"""What stands between limits with checks and whoever calls these, called by hand."""

from __future__ import annotations

from operator import itemgetter
from random import Random
from typing import TYPE_CHECKING, Any

import pytest

from qanat._core.dispatcher.noting import Unreadable
from qanat._core.dispatcher.recording import RecordingDispatcher
from qanat._core.dispatcher.replaying import Replay
from qanat._core.flight import Flight, opening
from qanat._core.limits import CircuitBreaker
from qanat._core.orders import ORDERS
from qanat._core.retry import Retry
from tests._core.dispatcher.test_recording import HEADER
from tests._core.dispatcher.world import job

if TYPE_CHECKING:
    from collections.abc import Callable


class Driver:
    """A driver that calls checks."""

    def __init__(self) -> None:
        self.parts: list[Any] = []
        self.wanted: list[Any] = []
        self.is_open = False

    def bound(self, limit: Any) -> None:
        for part in limit.checked_parts():
            self.parts.append(part)
            if self.is_open:
                part.add_checker(self)

    def forgotten(self, limit: Any) -> None:
        for part in limit.checked_parts():
            part.remove_checker(self)

    def open(self) -> None:
        self.is_open = True
        for part in self.parts:
            part.add_checker(self)

    def check_wanted(self, limit: Any) -> None:
        self.wanted.append(limit)


def test_a_check_that_is_called_no_more_is_called_no_more_in_a_replay():
    content, driver = opening(HEADER), Driver()

    def write(block: bytes) -> None:
        nonlocal content
        content += block

    dispatcher = RecordingDispatcher(write=write, rng=Random(7), capacity=2, keeper=driver)

    def breaker(_lane: object) -> CircuitBreaker:
        return CircuitBreaker(1, cooldown=2.0, check=bool)

    task: Any = dispatcher.add_task(
        "task", None, make_order=ORDERS["fifo"], retry=Retry(0), lane_limits=breaker, uses_lanes=True
    )
    dispatcher.offer(job(task, 0, lane="a"), 0.0)
    driver.open()
    part = driver.parts[0]
    assert str(part) == "1 failure, closed"
    failing = dispatcher.next(0.0)
    assert failing is not None
    dispatcher.finish(failing, None, OSError(), 1.0)
    assert driver.wanted == [part]
    assert (part.check, part.check_due_at) == (bool, 3.0)
    part.check_ended(False, 3.0)
    dispatcher.offer(job(task, 1, lane="a"), 4.0)
    assert dispatcher.next(6.0) is None
    part.remove_checker(driver)
    part.remove_checker(driver)
    # Nobody calls the check, so the cooldown alone counts.
    started = dispatcher.next(6.0)
    assert started is not None
    dispatcher.finish(started, None, None, 7.0)
    dispatcher.offer(job(task, 2, lane="b"), 500.0)
    dispatcher.detach()
    found = Replay(Flight(content), Random(7)).run()
    assert found.difference is None
    assert found.decisions > 4


@pytest.mark.parametrize("read", [len, list, itemgetter(0)])
def test_what_stands_for_no_answer_raises_however_it_is_read(read: Callable[[Any], object]):
    with pytest.raises(LookupError, match="nothing"):
        read(Unreadable(LookupError("nothing")))
