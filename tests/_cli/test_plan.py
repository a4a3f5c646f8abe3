"""`qanat plan` from end to end, and what it is made of."""

from __future__ import annotations

import json
from random import Random
from typing import TYPE_CHECKING

import pytest

from qanat._app.advice import advise, sample_size, twice
from qanat._app.rules import Rules
from qanat._app.simulating import simulate
from qanat._cli.chart import bars, can_show
from qanat._cli.plan_model import read_failures, read_latency
from qanat._cli.usage import UsageError
from qanat._core.dispatcher import Dispatcher
from qanat._core.orders import Lifo
from tests._cli.shell import call

if TYPE_CHECKING:
    from pathlib import Path

    from qanat._app.simulation import Simulation


@pytest.mark.real
def test_it_says_how_long_what_for_and_what_to_change(tmp_path: Path) -> None:
    ran = call(tmp_path, "plan", "900", "--latency", "0.5", "-j", "20", "--rate", "300/15m")
    assert ran.returncode == 0
    assert ran.stdout.splitlines() == [
        "900 items, 20 at once, at most 300/15m",
        "",
        "900 of 900 done in 30 m 8 s, 29.9/min",
        "at once: 0.2 on average, 20 of 20 at most",
        "ran: half within 0.50 s, 90% within 0.50 s, 99% within 0.50 s, the longest 0.50 s",
        "waited: half within 0.50 s, 90% within 1.50 s, 99% within 14 m 54 s, the longest 14 m 54 s",
        ran.stdout.splitlines()[6],
        "",
        *ran.stdout.splitlines()[8:11],
        "",
        "What to change",
        "  the rate decides: with a rate of 600/15m it would take about 15 m 8 s instead of 30 m 8 s",
        "  40 at once would change nothing",
        "  5 at once would do: no slower than 20",
    ]
    assert ran.stdout.splitlines()[6].startswith("waited ")
    assert ran.stdout.splitlines()[8].startswith("ended a second  █")
    assert ran.stderr == ""


@pytest.mark.real
def test_as_json_it_is_one_object(tmp_path: Path) -> None:
    (tmp_path / "in.csv").write_text("host,rank\na,2\nb,1\na,0\n")
    ran = call(
        tmp_path, "plan", "in.csv", "--latency", "1", "-j", "1", "--lane", "host", "--order", "priority",
        "--priority", "rank", "--failures", "0%", "--json", QANAT_PLAN_SEED="3",
    )  # fmt: skip
    assert (ran.returncode, ran.stderr) == (0, "")
    said = json.loads(ran.stdout)
    assert said["makespan"] == 3.0
    assert said["seed"] == 3
    assert said["outcomes"] == {"done": 3, "dead": 0, "cancelled": 0}
    assert len(said["over_time"]) == 60
    assert [change["rules"] for change in said["changes"]] == ["2 at once"]


@pytest.mark.real
@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--latency", "1"], "name a number of items or a file"),
        (["10"], "--latency is needed"),
        (["9" * 19, "--latency", "1"], "up to 18 digits of items, got 19"),
        (["9" * 5000, "--latency", "1"], "up to 18 digits of items, got 5000"),
        (["10", "--latency", "fast"], "--latency must be a time such as"),
        (["10", "--latency", "2..1"], "--latency must be a time such as"),
        (["10", "--latency", "p50=3,p99=1"], "--latency must be a time such as"),
        (["10", "--latency", "1", "--failures", "5x"], "--failures must be a share"),
        (["10", "--latency", "1", "--failures", "110%"], "--failures must be a share"),
        (["10", "--latency", "1", "--seed", "-1"], "--seed must be at least 0"),
        (["10", "--latency", "1", "--rate", "fast"], "rate must be a text such as"),
        (["10", "--latency", "1", "--lane", "host"], "a number of them has none: name a file"),
        (["in.txt", "--latency", "1", "--lane", "host"], "'host' needs items with fields"),
        (["none.txt", "--latency", "1"], "none.txt"),
        (["10", "--wrong"], "Try: qanat plan --help"),
    ],
)
def test_what_makes_no_sense_is_told(tmp_path: Path, arguments: list[str], message: str) -> None:
    (tmp_path / "in.txt").write_text("a\n")
    ran = call(tmp_path, "plan", *arguments)
    assert ran.returncode == 2
    assert ran.stdout == ""
    assert message in ran.stderr


@pytest.mark.real
def test_nothing_to_do_needs_no_advice(tmp_path: Path) -> None:
    ran = call(tmp_path, "plan", "0", "--latency", "1")
    assert (ran.returncode, "What to change" in ran.stdout) == (0, False)


@pytest.mark.real
def test_many_items_are_announced(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat._cli.plan_command.MANY", 5)
    ran = call(tmp_path, "plan", "1_0", "--latency", "0")
    assert ran.stderr == "qanat: simulating 10 items, which takes a while\n"
    assert ran.stdout.startswith("10 items, 10 at once\n\n10 of 10 done in 0 s")


def test_latencies_are_drawn_as_they_were_described() -> None:
    rng = Random(1)
    uniform, spread = read_latency("1s..3s"), read_latency("p50=0.5, p99=4")
    assert callable(uniform)
    assert callable(spread)
    drawn = sorted(uniform(None, rng, 1) for _ in range(4000))
    assert 1.0 <= drawn[0] < 1.01
    assert 2.99 < drawn[-1] <= 3.0
    drawn = sorted(spread(None, rng, 1) for _ in range(4000))
    assert drawn[2000] == pytest.approx(0.5, rel=0.05)
    assert drawn[3960] == pytest.approx(4.0, rel=0.15)
    assert read_latency("p50=1,p99=1") == 1.0
    assert read_latency("250ms") == 0.25


def test_a_source_of_randomness_may_give_nothing() -> None:
    class Zero:
        def random(self) -> float:
            return 0.0

    spread = read_latency("p50=0.5,p99=4")
    assert callable(spread)
    assert 0.0 < spread(None, Zero(), 1) < 0.5


@pytest.mark.parametrize(("text", "share"), [(None, None), ("5%", 0.05), ("0.25", 0.25), ("100%", 1.0)])
def test_a_share_of_failures_is_read(text: str | None, share: float | None) -> None:
    assert read_failures(text) == share


def test_failures_that_are_no_number_are_refused() -> None:
    with pytest.raises(UsageError):
        read_failures("many")


def test_bars_are_as_high_as_their_values() -> None:
    assert bars([0.0, 0.001, 4.0, 8.0]) == " ▁▄█"
    assert bars([0.0, 9.0], ascii_only=True) == " @"
    assert bars([0.0, 0.0]) == "  "
    assert bars([]) == ""


def test_an_output_is_asked_what_it_can_show() -> None:
    assert can_show("▁", "utf-8")
    assert not can_show("▁", "latin-1")
    assert not can_show("▁", "no such encoding")
    assert can_show("a", None)


@pytest.mark.parametrize(
    ("rate", "doubled"),
    [("100/s", "200/s"), ("300/15m", "600/15m"), ("0.05/s", "0.1/s"), ("10/s evenly", "20/s evenly")],
)
def test_a_rate_is_doubled(rate: str, doubled: str) -> None:
    assert twice(rate) == doubled


def advice_for(items: int, rules: Rules, latency: float = 1.0) -> list[str]:
    seen = simulate(items, latency=latency, rules=rules)
    changes = advise(lambda changed, size: simulate(size, latency=latency, rules=changed), rules, seen)
    return [change.text for change in changes]


def test_slots_that_decide_are_told() -> None:
    (text,) = advice_for(100, Rules(concurrency=10))
    assert text == "10 at once decide: with 20 at once it would take about 5.00 s instead of 10.00 s"


def test_two_limits_of_the_same_width_only_give_way_together() -> None:
    texts = advice_for(1000, Rules(concurrency=10, rate="10/s evenly"))
    assert texts[0].startswith("only both together help: with a rate of 20/s evenly with 20 at once")


def test_nothing_is_advised_on_slots_that_a_limit_counts() -> None:
    from qanat import Concurrency

    assert advice_for(10, Rules(concurrency=Concurrency(2))) == []


def test_what_makes_it_slower_is_told() -> None:
    rules = Rules(concurrency=4)

    def attempt(changed: Rules, size: int) -> Simulation:
        return simulate(size, latency=lambda _item, _rng, running: float(running**2), rules=changed)

    slower, faster = advise(attempt, rules, attempt(rules, 64))
    assert slower.text.startswith("8 at once would make it slower: about ")
    assert faster.text == "1 at once would be faster: about 1 m 4 s"


def test_a_sample_fills_several_windows_of_the_rate() -> None:
    assert sample_size(Rules(rate="50000/h"), 10**6) == 250_000
    assert sample_size(Rules(rate="5/s"), 10**6) == 10_000
    assert sample_size(Rules(), 7) == 7


@pytest.mark.real
def test_a_run_is_recorded_and_replayed(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:upper", "--record", "run.trace", stdin="a\nb\nc\n")
    assert ran.returncode == 0
    ran = call(tmp_path, "replay", "run.trace")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert ran.stdout.startswith("run.trace: 10 at once")
    assert ran.stdout.endswith("decisions, all the same\n")
    said = json.loads(call(tmp_path, "replay", "run.trace", "--json").stdout)
    assert (said["difference"], said["torn"]) == (None, 0)


@pytest.mark.real
def test_what_cannot_be_replayed_is_told(tmp_path: Path) -> None:
    (tmp_path / "other").write_text("nothing")
    simulate(3, latency=1.0, record=tmp_path / "own.trace", order=lambda: Lifo())
    for file, message in (
        ("other", "other: this is not a recording of qanat's"),
        ("none", "none: No such file or directory"),
        ("own.trace", "own.trace: order of the run are objects of your own"),
    ):
        ran = call(tmp_path, "replay", file)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert message in ran.stderr


@pytest.mark.real
def test_another_decision_is_status_1(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    simulate(3, latency=1.0, record=tmp_path / "run.trace")
    monkeypatch.setattr(Dispatcher, "next", lambda _dispatcher, _now: None)
    assert call(tmp_path, "replay", "run.trace").returncode == 1
