"""`qanat plan`: how long items would take under rules, what they would wait for, and what to change."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, cast

from qanat._app.advice import Change, advise
from qanat._app.past import Past, simulate_past, with_new_limits
from qanat._app.replaying import read_flight
from qanat._app.rules import Rules
from qanat._app.simulating import simulate
from qanat._app.simulation import Percentiles, Simulation
from qanat._app.why import duration_words
from qanat._cli.chart import BARS, bars, can_show
from qanat._cli.map_rules import Fields, make_rules, names_given
from qanat._cli.plan_model import read_failures, read_items, read_latency
from qanat._cli.reading import Kind
from qanat._cli.usage import UsageError
from qanat._core.flight import FlightError
from qanat.errors import InputError

WIDTH = 60
"""Characters that a row of the chart is wide, and parts of the makespan in JSON."""
MANY = 200_000
"""Items from which on it takes seconds, and a word on standard error."""


@dataclass(frozen=True, slots=True)
class PlanOptions:
    """What `qanat plan` was given, flags and environment together; None was not given.

    Attributes:
        items: A number of items, or files.
        flags: Rules by their names.
    """

    items: tuple[str, ...]
    flags: dict[str, Any]
    latency: str | None = None
    failures: str | None = None
    seed: int = 0
    rules: str | None = None
    format: Kind | None = None
    json: bool = False
    past: str | None = None


def run_plan(options: PlanOptions) -> int:
    """Carry out a `qanat plan` and return its exit status.

    Raises:
        UsageError: If it cannot be carried out as it was asked for.
        InputError: If a file cannot be read.
    """
    if options.seed < 0:
        raise UsageError(f"--seed must be at least 0, got {options.seed}")
    if options.past is not None:
        return _plan_past(options, options.past)
    rules, fields = make_rules(options.flags, options.rules)
    latency, failures = read_latency(options.latency), read_failures(options.failures)
    items = read_items(options.items, options.format, fields.named)
    rules = with_fields(rules, fields)
    if len(items) > MANY and not options.json:
        print(f"qanat: simulating {len(items):,} items, which takes a while", file=sys.stderr, flush=True)

    def attempt(changed: Rules, size: int) -> Simulation:
        return simulate(
            items[:size],
            latency=latency,
            failures=failures,
            seed=options.seed,
            rules=with_new_limits(changed),
        )

    seen = attempt(rules, len(items))
    changes = advise(attempt, rules, seen)
    if options.json:
        print(json.dumps(as_data(seen, changes)))
    else:
        print(as_text(f"{len(items):,} items, {rules}", seen, changes))
    return 0


def _plan_past(options: PlanOptions, path: str) -> int:
    """Plan with the items and latencies of a recording, as it was and with the rules that were given."""
    for what in ("items", "latency", "failures"):
        if value := getattr(options, what):
            raise UsageError(f"{what} come from the recording with --from, got {value!r}: leave them out")
    for name in ("lane", "priority", "deadline"):
        if options.flags.get(name) is not None:
            raise UsageError(f"--{name} cannot be given with --from: a recording holds no fields of items")
    flight = read_flight(path)
    try:
        past = Past(flight)
        before = past.rules
        changed, _ = make_rules(options.flags, options.rules)
        given = {name: getattr(changed, name) for name in names_given(options.flags, options.rules)}
        if "order" in given:
            given |= past.choice(given["order"])
        rules = before.replace(**given)
    except FlightError as error:
        raise InputError(path, None, str(error)) from None
    except ValueError as error:
        raise UsageError(f"{path}: {error}") from None

    def attempt(tried: Rules, size: int) -> Simulation:
        return simulate_past(past, tried, size, options.seed)

    was = attempt(before, past.items)
    seen = attempt(rules, past.items) if given else was
    changes = advise(attempt, rules, seen)
    if options.json:
        data = {"seen": past.makespan, "before": as_data(was, ()), "after": as_data(seen, changes)}
        print(json.dumps(data))
        return 0
    print(f"seen    {duration_words(past.makespan)}, {past.items:,} items, {flight.header.words}")
    if flight.torn:
        print(f"        the recording was cut off: the last {flight.torn:,} bytes are torn")
    print(f"before  {duration_words(was.makespan)}, simulated with the latencies that were seen")
    if given:
        print(f"after   {duration_words(seen.makespan)}, {rules}")
    print()
    print(as_text(f"{past.items:,} items, {rules}", seen, changes))
    return 0


def with_fields(rules: Rules, fields: Fields) -> Rules:
    """Return the rules with the fields of items as functions of them."""
    changes: dict[str, Any] = {}
    if fields.lane is not None:
        changes["lane"] = partial(_field, fields.lane)
    if fields.priority is not None:
        changes["priority"] = partial(_number, fields.priority)
    if fields.deadline is not None:
        changes["deadline"] = partial(_number, fields.deadline)
    return rules.replace(**changes)


def _field(name: str, item: Any) -> Any:
    """Return a field of an item; None if it has no such field."""
    return cast("dict[str, Any]", item).get(name) if isinstance(item, dict) else None


def _number(name: str, item: Any) -> float:
    """Return a field of an item as a number; one that is none fails its job."""
    return float(_field(name, item))


def as_text(title: str, seen: Simulation, changes: Sequence[Change]) -> str:
    """Say it all in text."""
    lines = [title, "", *str(seen).splitlines()]
    if seen.makespan > 0.0:
        lines += ["", *chart_lines(seen, ascii_only=not can_show(BARS, sys.stdout.encoding))]
    if changes:
        lines += ["", "What to change", *(f"  {change.text}" for change in changes)]
    return "\n".join(lines)


def chart_lines(seen: Simulation, *, ascii_only: bool) -> list[str]:
    """Show how it went over time."""
    parts = seen.over_time(WIDTH)
    speed = [part.throughput for part in parts]
    running = [part.running for part in parts]
    end = duration_words(seen.makespan)
    return [
        f"ended a second  {bars(speed, ascii_only=ascii_only)}  at most {max(speed):,.2f}",
        f"running         {bars(running, ascii_only=ascii_only)}  at most {max(running):,.1f}",
        f"                0 s{end:>{WIDTH - 3}}",
    ]


def as_data(seen: Simulation, changes: Sequence[Change]) -> dict[str, Any]:
    """Return it all as JSON can say it."""
    return {
        "rules": seen.rules, "seed": seen.seed, "items": seen.items, "outcomes": dict(seen.outcomes),
        "left": seen.left, "retried": seen.retried, "errors": dict(seen.errors), "makespan": seen.makespan,
        "throughput": seen.throughput, "most_running": seen.most_running,
        "stopped": None if seen.stopped is None else str(seen.stopped), "waits": dict(seen.waits),
        "why": seen.why, "wait": _percentiles(seen.wait), "run": _percentiles(seen.run),
        "over_time": [part._asdict() for part in seen.over_time(WIDTH)],
        "changes": [
            {"rules": each.rules, "makespan": each.makespan, "ratio": each.ratio, "text": each.text}
            for each in changes
        ],
    }  # fmt: skip


def _percentiles(spread: Percentiles) -> dict[str, float]:
    return spread._asdict()
