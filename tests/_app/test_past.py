"""Plans that begin with a recording."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Concurrency, Retry, Spacing
from qanat._app.past import Past, simulate_past
from qanat._app.replaying import read_flight
from tests._cli.shell import call

if TYPE_CHECKING:
    from pathlib import Path


def past_of(path: Path, **options: Any) -> tuple[Past, qanat.Simulation]:
    simulation = qanat.simulate(record=path, **options)
    return Past(read_flight(path)), simulation


def test_the_same_rules_come_to_the_same(tmp_path: Path) -> None:
    past, then = past_of(
        tmp_path / "run.trace", items=200, latency=lambda _item, rng, _running: rng.random(), failures=0.2,
        retry=2, concurrency=7, rate="20/s", timeout=0.9, limits=[Spacing(0.01)], seed=5,
        lane=lambda item: item % 3, lane_limits=lambda lane: Spacing(0.1 + lane),
    )  # fmt: skip
    assert past.makespan == then.makespan
    again = simulate_past(past, past.rules, past.items, seed=5)
    assert again.trace == then.trace
    assert again.outcomes == then.outcomes
    assert again.errors == then.errors


def test_other_rules_meet_the_latencies_that_were_seen(tmp_path: Path) -> None:
    past, _ = past_of(tmp_path / "run.trace", items=[3.0, 1.0, 2.0], concurrency=1,
                      latency=lambda item, _rng, _running: item)  # fmt: skip
    assert past.makespan == 6.0
    assert simulate_past(past, past.rules.replace(concurrency=3), 3, 0).makespan == 3.0
    assert simulate_past(past, past.rules.replace(concurrency=2), 3, 0).makespan == 3.0
    assert simulate_past(past, past.rules, 2, 0).makespan == 4.0


def test_attempts_that_were_never_seen_take_as_long_as_those_seen(tmp_path: Path) -> None:
    past, _ = past_of(
        tmp_path / "run.trace", items=[1.0, 2.0], concurrency=1, failures=1.0,
        latency=lambda item, _rng, _running: item,
    )  # fmt: skip
    more = past.rules.replace(retry=Retry(1, backoff=qanat.constant(0)))
    # It died without a retry then, and so nobody can say that it would have been worth one.
    assert simulate_past(past, more, 2, 0).errors == {"JobDiscardedError": 2}
    latency, _ = past.model(0)
    assert [latency(0, None, 1) for _ in range(4)] == [1.0, 1.0, 2.0, 1.0]  # type: ignore[arg-type]


def test_a_limit_counts_slots_as_before(tmp_path: Path) -> None:
    past, _ = past_of(tmp_path / "run.trace", items=4, latency=1.0, concurrency=Concurrency(2))
    assert isinstance(past.rules.concurrency, Concurrency)
    assert simulate_past(past, past.rules, 4, 0).makespan == 2.0


def test_priorities_are_kept(tmp_path: Path) -> None:
    past, then = past_of(
        tmp_path / "run.trace", items=[2, 0, 1], latency=1.0, concurrency=1, order="priority",
        priority=lambda item: item,
    )  # fmt: skip
    assert simulate_past(past, past.rules, 3, 0).trace == then.trace


async def test_the_jobs_of_a_pool_come_when_they_came(virtual_time: Any, tmp_path: Path) -> None:
    async def handler(_item: int) -> None:
        await anyio.sleep(0.5)

    path = tmp_path / "pool.trace"
    async with qanat.Pool(handler, record=path, concurrency=1) as pool:
        pool.submit(0, delay=1.5)
        pool.submit(1)
        await anyio.sleep(4.0)
        pool.submit(2).cancel()
        pool.submit(3)
    past = Past(read_flight(path))
    assert past.arrivals == [(0.0, 1), (1.5, 0), (4.0, 2), (4.0, 3)]
    seen = simulate_past(past, past.rules, past.items, 0)
    assert seen.items == 4
    assert seen.makespan == 5.0
    stopped = simulate_past(past, past.rules.replace(max_failures=1), past.items, 0)
    assert stopped.items == 4


def test_a_recording_without_an_attempt_is_of_no_use(tmp_path: Path) -> None:
    path = tmp_path / "run.trace"
    qanat.simulate(0, latency=1.0, record=path)
    with pytest.raises(ValueError, match="no attempt ended in the recording"):
        Past(read_flight(path))


@pytest.mark.real
def test_the_command_line_says_before_and_after(tmp_path: Path) -> None:
    qanat.simulate(400, latency=0.5, concurrency=10, rate="10/s", record=tmp_path / "run.trace")
    ran = call(tmp_path, "plan", "--from", "run.trace", "--rate", "20/s", "-j", "40")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.splitlines()[:3] == [
        "seen    39.50 s, 400 items, 10 at once, at most 10/s",
        "before  39.50 s, simulated with the latencies that were seen",
        "after   19.50 s, 40 at once, at most 20/s",
    ]
    said = json.loads(call(tmp_path, "plan", "--from", "run.trace", "--json").stdout)
    assert said["seen"] == said["before"]["makespan"] == said["after"]["makespan"] == 39.5


@pytest.mark.real
def test_a_torn_recording_is_planned_with_and_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat._core.dispatcher.recording.BLOCK", 50)
    path = tmp_path / "run.trace"
    qanat.simulate(400, latency=0.5, record=path)
    path.write_bytes(path.read_bytes()[:-3])
    assert "bytes are torn" in call(tmp_path, "plan", "--from", "run.trace").stdout


@pytest.mark.real
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["10"], "items come from the recording"),
        (["--latency", "1"], "latency come from the recording"),
        (["--failures", "1%"], "failures come from the recording"),
        (["--lane", "host"], "--lane cannot be given with --from"),
        (["--rate", "fast"], "rate must be a text"),
    ],
)
def test_what_a_recording_says_already_is_refused(tmp_path: Path, arguments: list[str], message: str) -> None:
    qanat.simulate(4, latency=0.5, record=tmp_path / "run.trace")
    ran = call(tmp_path, "plan", "--from", "run.trace", *arguments)
    assert ran.returncode == 2
    assert message in ran.stderr


@pytest.mark.real
def test_limits_of_ones_own_cannot_be_planned_with(tmp_path: Path) -> None:
    class Own(qanat.Limit):
        def ready_at(self, job: Any, now: float) -> float:
            return now

    qanat.simulate(4, latency=0.5, record=tmp_path / "run.trace", limits=Own())
    ran = call(tmp_path, "plan", "--from", "run.trace")
    assert ran.returncode == 2
    assert "limits of the run are objects of your own" in ran.stderr
