"""The flags of `qanat plan`, read by cyclopts."""

from __future__ import annotations

from typing import Annotated, Literal

from cyclopts import Parameter

from qanat._cli.flags import INPUT, RULES, RUN, flag, plain, whole, whole_or_range
from qanat._cli.plan_command import PlanOptions, run_plan


def plan(
    *items: Annotated[str, Parameter(help="A number of items, or files with them. - is stdin.")],
    latency: Annotated[
        str | None,
        flag(
            "latency",
            group=INPUT,
            command="PLAN",
            help="What an attempt takes: 0.5, 500ms, 0.5..2, or p50=0.4,p99=3.",
        ),
    ] = None,
    failures: Annotated[
        str | None,
        flag("failures", group=INPUT, command="PLAN", help="Share of attempts that fail, such as 5%; 0."),
    ] = None,
    seed: Annotated[
        int,
        flag("seed", group=INPUT, command="PLAN", help="What randomness begins with; 0.", converter=whole),
    ] = 0,
    concurrency: Annotated[
        int | str | None,
        flag(
            "concurrency",
            "-j",
            group=RULES,
            command="PLAN",
            help="How many run at once; 10. 1..200 finds it out between the two.",
            converter=whole_or_range,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        flag(
            "rate",
            group=RULES,
            command="PLAN",
            help='How many start in a time, such as 100/s, "300/15m evenly".',
        ),
    ] = None,
    retries: Annotated[
        int | None,
        flag(
            "retries",
            group=RULES,
            command="PLAN",
            help="More attempts for what failed; 0.",
            converter=whole,
        ),
    ] = None,
    timeout: Annotated[
        str | None, flag("timeout", group=RULES, command="PLAN", help="For one attempt, such as 30s, 5m.")
    ] = None,
    order: Annotated[
        Literal["fifo", "lifo", "priority", "deadline", "shuffle"] | None,
        flag("order", group=RULES, command="PLAN", help="Which item is next; fifo."),
    ] = None,
    priority: Annotated[
        str | None,
        flag(
            "priority",
            group=RULES,
            command="PLAN",
            help="Field of csv or jsonl items; with --order priority, smaller first.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        flag(
            "deadline",
            group=RULES,
            command="PLAN",
            help="Field of csv or jsonl items, seconds; with --order deadline, soonest first.",
        ),
    ] = None,
    lane: Annotated[
        str | None,
        flag("lane", group=RULES, command="PLAN", help="Field of csv or jsonl items; its values take turns."),
    ] = None,
    halt: Annotated[
        str | None,
        flag(
            "halt",
            group=RULES,
            command="PLAN",
            help="Stop when more fail: a number, or a share such as 5%.",
        ),
    ] = None,
    rules: Annotated[
        str | None,
        flag("rules", group=RULES, command="PLAN", help="TOML file with rules by their names."),
    ] = None,
    format: Annotated[  # noqa: A002 - the flag's name
        Literal["txt", "jsonl", "csv"] | None,
        flag("format", group=INPUT, command="PLAN", help="How files are read; by suffix."),
    ] = None,
    from_: Annotated[
        str | None,
        flag(
            "from",
            group=INPUT,
            command="PLAN",
            help="Recording whose items, latencies and rules to begin with; the rules here replace its own.",
        ),
    ] = None,
    json: Annotated[
        bool, flag("json", group=RUN, command="PLAN", help="Print one JSON object instead of text.")
    ] = False,
) -> int:
    """Find out how long items would take under rules, and what to change. Nothing is run.

    qanat plan 1000000 --latency 0.5..2 -j 20 --rate 300/15m
    """  # fmt: skip
    flags = {
        "concurrency": concurrency, "rate": rate, "retry": retries, "timeout": timeout, "order": order,
        "lane": lane, "priority": priority, "deadline": deadline, "max_failures": halt,
    }  # fmt: skip
    return run_plan(
        PlanOptions(
            items=tuple(plain(each) for each in items),
            flags={name: value or None if isinstance(value, str) else value for name, value in flags.items()},
            latency=latency or None,
            failures=failures or None,
            seed=seed,
            rules=rules or None,
            format=format,
            json=json,
            past=from_ or None,
        )
    )
