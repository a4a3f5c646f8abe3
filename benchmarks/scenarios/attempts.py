"""What a timeout and a retry cost."""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.crew import Contender, in_turns
from benchmarks.figures import median, ratio
from benchmarks.report import Table, Wanted, number
from benchmarks.scenarios.overhead import FLOORS, OURS, PEERS

if TYPE_CHECKING:
    from benchmarks.crew import Plan
    from benchmarks.figures import Sample

WITH = ", timeout"
TIMED = (
    ("deque loop", f"{FLOORS}:deque_loop", f"{FLOORS}:deque_timeout"),
    ("qanat.collect", f"{OURS}:collect", f"{OURS}:collect_timeout"),
    ("aqute", f"{PEERS}:aqute", f"{PEERS}:aqute_timeout"),
)
"""Name, way without and way with a timeout; the deque loop uses `asyncio.timeout`."""

RETRIED = (
    ("deque loop, by hand", f"{FLOORS}:deque_loop", f"{FLOORS}:deque_retry"),
    ("qanat.collect", f"{OURS}:collect", f"{OURS}:collect_retry"),
    ("tenacity in a deque loop", f"{PEERS}:tenacity_retry", f"{PEERS}:tenacity_retry"),
    ("aqute", f"{PEERS}:aqute", f"{PEERS}:aqute_retry"),
)
"""Name, way of items that do not fail, and way of items that fail once."""

NEWER_TIMED = (
    ("qanat.collect", f"{OURS}:collect", f"{OURS}:collect_timeout"),
    ("werkpool", f"{PEERS}:werkpool", f"{PEERS}:werkpool_timeout"),
)
NEWER_RETRIED = (
    ("qanat.collect", f"{OURS}:collect", f"{OURS}:collect_retry"),
    ("werkpool", f"{PEERS}:werkpool", f"{PEERS}:werkpool_retry"),
)

Ways = tuple[tuple[str, str, str], ...]


def _pairs(plan: Plan, ways: Ways, second: str, python: str | None = None) -> list[Contender]:
    """Return each way twice: plainly, and with what is measured."""
    # The same handler where it may fail, so that what it costs itself is in both.
    first = "never fails" if second == "fails once" else "no-op"
    usual = {"items": plan.items, "concurrency": 10}
    found: list[Contender] = []
    for name, plain, other in ways:
        found.append(Contender(name, {"way": plain, "handler": first, **usual}, python=python))
        found.append(Contender(name + WITH, {"way": other, "handler": second, **usual}, python=python))
    return found


def _rows(samples: dict[str, list[Sample]], ways: Ways, place: str, *, more: bool) -> list[list[str]]:
    """Return a row for each pair that came through: both costs, and what the second is of the first."""
    found: list[list[str]] = []
    for name, _, _ in ways:
        plain, other = samples.get(name), samples.get(name + WITH)
        if plain is None or other is None:
            continue
        times = ratio(other, plain)
        found.append(
            [
                name + place,
                number(median(run.cpu for run in plain) * 1e6),
                number(median(run.cpu for run in other) * 1e6),
                number(times - 1.0) if more else number(times),
            ]
        )
    return found


def _both(
    plan: Plan, ways: Ways, newer: Ways, handler: str, *, more: bool
) -> tuple[list[list[str]], list[str], dict[str, list[Sample]]]:
    """Measure the pairs, on this Python and on the newer one."""
    samples, failed = in_turns(_pairs(plan, ways, handler), plan.runs)
    rows = _rows(samples, ways, "", more=more)
    if plan.newer is None:
        failed.append("werkpool, which needs Python 3.12 (`make bench NEWER=python3.12`)")
    else:
        others, also_failed = in_turns(_pairs(plan, newer, handler, plan.newer), plan.runs)
        rows += _rows(others, newer, f" (Python {plan.newer_version})", more=more)
        failed += also_failed
    return rows, failed, samples


def _about(plan: Plan, what: str) -> str:
    return f"{plan.items:,} items, {what}, concurrency 10, median of {plan.runs} interleaved runs."


def timeouts(plan: Plan) -> list[Table]:
    """Measure items with a timeout that never strikes, beside items without."""
    rows, failed, samples = _both(plan, TIMED, NEWER_TIMED, "no-op", more=False)
    wanted: list[Wanted] = []
    if {"qanat.collect", "qanat.collect" + WITH} <= samples.keys():
        figure = ratio(samples["qanat.collect" + WITH], samples["qanat.collect"])
        wanted.append(Wanted("collect with a timeout, against without,", figure, most=1.1, unit=" x"))
    return [
        Table(
            "A timeout for each item", _about(plan, "a timeout of 30 s that never strikes"),
            ("", "CPU us without", "CPU us with", "ratio"), rows, wanted, failed,
        )
    ]  # fmt: skip


def retries(plan: Plan) -> list[Table]:
    """Measure items that fail once and are tried again at once, beside items that do not fail."""
    rows, failed, samples = _both(plan, RETRIED, NEWER_RETRIED, "fails once", more=True)
    wanted: list[Wanted] = []
    if {"qanat.collect", "qanat.collect" + WITH} <= samples.keys():
        figure = ratio(samples["qanat.collect" + WITH], samples["qanat.collect"]) - 1.0
        wanted.append(Wanted("collect, a retry", figure, most=1.0, unit=" items"))
    return [
        Table(
            "A retry for each item", _about(plan, "each failing once and tried again without delay"),
            ("", "CPU us, no failure", "CPU us, one retry", "a retry, in items"), rows, wanted, failed,
        )
    ]  # fmt: skip
