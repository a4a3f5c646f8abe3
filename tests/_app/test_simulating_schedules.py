"""`simulate` with work that schedules bring."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import At, Batch, Cron, Every, Simulation
from qanat.testing import virtual_time

if TYPE_CHECKING:
    from collections.abc import Sequence

    Scheduled = Sequence[tuple[At | Every | Cron, Any]]


def starts(simulation: Simulation) -> list[float]:
    return [step.at for step in simulation.trace if step.kind == "start"]


def starts_in_a_pool(schedules: Scheduled, until: float, **rules: Any) -> list[float]:
    """When a Pool starts what the schedules bring, each run 15 seconds long."""
    found: list[float] = []

    async def handler(_item: object) -> None:
        found.append(time.now())
        await anyio.sleep(15.0)

    async def main() -> None:
        async with qanat.Pool(handler, **rules) as pool:
            for schedule, item in schedules:
                pool.schedule(schedule, item)
            await anyio.sleep(until)

    with virtual_time() as time:
        time.run(main)
    return found


@pytest.mark.parametrize(
    "schedules",
    [
        [(Every(10), "a")],
        [(Every(10, overlap="queue"), "a")],
        [(Every(10, overlap="allow"), "a"), (Every(7, overlap="allow"), "b")],
        [(Every(10, fixed="delay"), "a"), (Cron("*/1 * * * *"), "b")],
        [(At(1_767_225_600.0 + 33), "a"), (At(1_767_225_600.0 + 600), "b")],
        [(Cron("*/2 * * * *", tz="Europe/Prague"), "a"), (Every(0.7, overlap="queue", most=3), "b")],
    ],
    ids=["skip", "queue", "allow", "fixed delay", "at", "cron"],
)
@pytest.mark.parametrize("rules", [{}, {"concurrency": 1}, {"rate": "1/20s"}], ids=str)
def test_it_starts_what_a_pool_starts(schedules: Scheduled, rules: dict[str, Any]):
    found = qanat.simulate((), latency=15.0, schedules=schedules, until=299.0, **rules)
    assert starts(found) == pytest.approx(starts_in_a_pool(schedules, 299.0, **rules), abs=1e-6)
    assert found.left == 0


def test_items_and_schedules_share_the_rules():
    found = qanat.simulate(
        ["x", "y", "z"], latency=4.0, concurrency=1, schedules=[(Every(5), "poll")], until=11.0
    )
    assert [(step.at, step.index) for step in found.trace if step.kind == "start"] == [
        (0.0, 0), (4.0, 1), (8.0, 2), (12.0, 3),
    ]  # fmt: skip
    assert (found.items, found.makespan) == (4, 16.0)


def test_a_retry_of_a_run_keeps_the_next_one_away():
    found = qanat.simulate(
        (), latency=1.0, schedules=[(Every(5), "poll")], until=16.0,
        retry=qanat.Retry(1, backoff=qanat.constant(6.0)),
        failures=lambda _item, _rng, attempt: OSError() if attempt == 1 else None,
    )  # fmt: skip
    # The run of 5.0 goes on until 13.0, and the one of 10.0 is left out.
    assert starts(found) == [5.0, 12.0, 15.0, 22.0]


def test_nothing_comes_at_the_end_itself():
    assert starts(qanat.simulate((), latency=0.0, schedules=[(Every(5), "a")], until=10.0)) == [5.0]


def test_the_same_seed_has_the_same_jitter():
    def found(seed: int) -> list[float]:
        schedules = [(Every(10, jitter=5), "a")]
        return starts(qanat.simulate((), latency=1.0, schedules=schedules, until=100.0, seed=seed))

    assert found(1) == found(1) != found(2)


@pytest.mark.parametrize("wall", [1_800_000_000.0, datetime.fromtimestamp(1_800_000_000, UTC)])
def test_the_wall_says_when_a_calendar_comes(wall: float | datetime):
    cron = Cron("0 9 * * *")
    found = qanat.simulate((), latency=1.0, schedules=[(cron, "a")], until=2 * 86_400.0, wall=wall)
    assert starts(found) == [at - 1_800_000_000.0 for at in cron.next_times(1_800_000_000.0, 2)]


def test_a_small_wall_loses_no_time_to_rounding():
    found = qanat.simulate((), latency=0.0, schedules=[(Every(0.1), "a")], until=50.05, wall=0.3)
    assert len(starts(found)) == 500


def test_a_batch_waits_for_what_schedules_bring():
    def found(batch: Batch) -> list[float]:
        schedules = [(Every(1, overlap="allow"), "a")]
        return starts(qanat.simulate(1, latency=0.5, schedules=schedules, until=6.5, batch=batch))

    assert found(Batch(3)) == [2.0, 5.0, 6.5]
    assert found(Batch(9)) == [6.5]


def test_a_run_that_stops_early_is_brought_nothing_more():
    found = qanat.simulate(
        (), latency=1.0, failures=1.0, schedules=[(Every(5), "a")], until=100.0, max_failures=2
    )
    assert (found.items, found.makespan) == (3, 16.0)


def test_a_function_that_raises_ends_that_job():
    found = qanat.simulate((), latency=1.0, schedules=[(Every(5), "a")], until=16.0, lane=lambda _: 1 / 0)
    assert (found.outcomes["dead"], found.errors) == (3, {"ZeroDivisionError": 3})


def test_no_schedules_bring_nothing():
    assert qanat.simulate(2, latency=1.0, schedules=[], until=10.0).items == 2


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"schedules": Every(5)}, TypeError, "schedules must be pairs"),
        ({"schedules": "ab", "until": 5.0}, TypeError, "schedules must be pairs"),
        ({"schedules": [Every(5)], "until": 5.0}, TypeError, "schedules must be pairs"),
        ({"schedules": [("* * * * *", "a")], "until": 5.0}, TypeError, r"write Cron\("),
        ({"schedules": [(Every(5), "a")]}, ValueError, "until must say when schedules end, got None"),
        ({"schedules": [(Every(5), "a")], "until": 0}, ValueError, "until must be greater than 0"),
        ({"until": 5.0}, ValueError, "until must be None without schedules, got 5.0"),
        ({"wall": "now"}, TypeError, "wall must be UTC seconds"),
    ],
)
def test_what_is_no_schedule_is_refused(options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        qanat.simulate(1, latency=1.0, **options)
