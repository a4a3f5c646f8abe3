"""The flags of `qanat worker`, read by cyclopts."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from cyclopts import Group, Parameter

from qanat._cli import flags
from qanat._cli.flags import RULES, RUN, whole, whole_or_range
from qanat._cli.operator_flags import _QUEUE, _queue, _store


def flag(name: str, help: str, *short: str, group: Group = RULES, **more: Any) -> Parameter:  # noqa: A002
    return flags.flag(name, *short, group=group, help=help, command="WORKER", **more)


def worker(
    *functions: Annotated[str, Parameter(help="APP:FN; more of them for jobs that name them.")],
    store: Annotated[str, _store("WORKER")],
    queue: Annotated[str | None, _queue("WORKER", "Its name.")] = None,
    rotation: Annotated[
        str | None, flag("rotation", "The name of a rotation, instead of a queue.", group=_QUEUE)
    ] = None,
    every: Annotated[
        str | None,
        flag("every", "When its items are due again, such as 36h; 1h..7d finds it out.", group=_QUEUE),
    ] = None,
    lease: Annotated[
        str | None,
        flag(
            "lease", "Time until a lost worker's jobs are taken over; 30s, of a rotation 10m.", group=_QUEUE
        ),
    ] = None,
    require: Annotated[
        str | None,
        flag("require", "Refuse one that promises less: process, ~1s, fsync, replicas(n).", group=_QUEUE),
    ] = None,
    burst: Annotated[bool, flag("burst", "End when the queue is empty.", group=RUN)] = False,
    grace: Annotated[
        str | None, flag("grace", "How long jobs may go on when it is stopped; 25s.", group=RUN)
    ] = None,
    stall_limit: Annotated[
        str | None,
        flag("stall-limit", "How long a job may block the loop and keep its lease; 60s.", group=RUN),
    ] = None,
    exit_on_stall: Annotated[
        bool, flag("exit-on-stall", "End then, for a supervisor to start it anew.", group=RUN)
    ] = False,
    concurrency: Annotated[
        int | str | None,
        flag(
            "concurrency",
            "How many run at once; 10. 1..200 finds it out between the two.",
            "-j",
            converter=whole_or_range,
        ),
    ] = None,
    rate: Annotated[str | None, flag("rate", "How many start in a time, such as 100/s.")] = None,
    retries: Annotated[
        int | None, flag("retries", "More attempts for what failed; 0.", converter=whole)
    ] = None,
    timeout: Annotated[str | None, flag("timeout", "For one attempt, such as 30s, 5m.")] = None,
    halt: Annotated[
        str | None, flag("halt", "Stop when more are given up: a number, or a share such as 5%.")
    ] = None,
    rules: Annotated[str | None, flag("rules", "TOML file with rules by their names.")] = None,
    loop: Annotated[
        Literal["asyncio", "uvloop", "trio"], flag("loop", "The event loop.", group=RUN)
    ] = "asyncio",
    progress: Annotated[
        bool | None, flag("progress", "Show progress.", group=RUN, negative="--no-progress")
    ] = None,
) -> int:
    """Work a durable queue off, or go round a rotation, until told to stop.

    The first SIGTERM or Ctrl-C leases nothing more and lets jobs end, the
    second cancels them, the third ends the process.

        qanat worker app:send --store sqlite:///work.db --queue emails -j 20
        qanat worker app:visit --store sqlite:///w.db --rotation feeds --every 1h
    """
    from qanat._cli.worker_command import WorkerOptions, run_worker

    flags = {
        "concurrency": concurrency, "rate": rate, "retry": retries, "timeout": timeout,
        "max_failures": halt, "progress": progress,
    }  # fmt: skip
    return run_worker(
        WorkerOptions(
            functions=functions,
            flags={name: value or None if isinstance(value, str) else value for name, value in flags.items()},
            store=store,
            queue=queue,
            rotation=rotation,
            every=every,
            lease=lease,
            require=require or None,
            burst=burst,
            grace=grace,
            stall_limit=stall_limit,
            exit_on_stall=exit_on_stall,
            rules=rules or None,
            loop=loop,
        )
    )
