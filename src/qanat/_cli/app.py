"""What the command line takes: its commands and their flags, read by cyclopts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from cyclopts import App, CycloptsError, Parameter

from qanat._cli.flags import INPUT, RULES, RUN, STDIN, flag, plain, whole, whole_or_range
from qanat._cli.map_command import MapOptions, run_map
from qanat._cli.usage import UsageError


def _map(
    *inputs: Annotated[
        str, Parameter(help="APP:FN and files; or files, and a command after --. - is stdin.")
    ],
    output: Annotated[str | None, flag("output", "-o", group=INPUT, help="Where results go; stdout.")] = None,
    concurrency: Annotated[
        int | str | None,
        flag(
            "concurrency",
            "-j",
            group=RULES,
            help="How many run at once; 10. 1..200 finds it out between the two.",
            converter=whole_or_range,
        ),
    ] = None,
    rate: Annotated[
        str | None,
        flag("rate", group=RULES, help='How many start in a time, such as 100/s, "300/15m evenly".'),
    ] = None,
    retries: Annotated[
        int | None, flag("retries", group=RULES, help="More attempts for what failed; 0.", converter=whole)
    ] = None,
    timeout: Annotated[
        str | None, flag("timeout", group=RULES, help="For one attempt, such as 30s, 5m.")
    ] = None,
    order: Annotated[
        Literal["fifo", "lifo", "priority", "deadline", "shuffle"] | None,
        flag("order", group=RULES, help="Which item is next; fifo."),
    ] = None,
    priority: Annotated[
        str | None,
        flag(
            "priority",
            group=RULES,
            help="Field of csv or jsonl items; with --order priority, smaller first.",
        ),
    ] = None,
    deadline: Annotated[
        str | None,
        flag(
            "deadline",
            group=RULES,
            help="Field of csv or jsonl items, seconds; with --order deadline, soonest first.",
        ),
    ] = None,
    lane: Annotated[
        str | None, flag("lane", group=RULES, help="Field of csv or jsonl items; its values take turns.")
    ] = None,
    halt: Annotated[
        str | None, flag("halt", group=RULES, help="Stop when more fail: a number, or a share such as 5%.")
    ] = None,
    rules: Annotated[
        str | None, flag("rules", group=RULES, help="TOML file with rules by their names.")
    ] = None,
    format: Annotated[  # noqa: A002 - the flag's name
        Literal["txt", "jsonl", "csv"] | None,
        flag("format", group=INPUT, help="How input is read; by suffix."),
    ] = None,
    keep_order: Annotated[
        bool, flag("keep-order", group=INPUT, help="Write results in the order of the input.")
    ] = False,
    append: Annotated[bool, flag("append", group=INPUT, help="Add to what the output file holds.")] = False,
    overwrite: Annotated[
        bool, flag("overwrite", group=INPUT, help="Replace what the output file holds.")
    ] = False,
    record: Annotated[
        str | None, flag("record", group=INPUT, help="File for every decision, for qanat replay.")
    ] = None,
    journal: Annotated[
        str | None,
        flag("journal", group=RUN, help="File of what is done; the same call again does the rest."),
    ] = None,
    retry_failed: Annotated[
        bool, flag("retry-failed", group=RUN, help="Run only what failed before, with --journal.")
    ] = False,
    fresh: Annotated[
        bool, flag("fresh", group=RUN, help="Forget what the journal has of this handler.")
    ] = False,
    dry_run: Annotated[
        bool, flag("dry-run", group=RUN, help="Import, check, read and count; start nothing.")
    ] = False,
    json: Annotated[
        bool, flag("json", group=RUN, help="Progress and summary as JSON lines on stderr.")
    ] = False,
    loop: Annotated[
        Literal["asyncio", "uvloop", "trio"], flag("loop", group=RUN, help="The event loop.")
    ] = "asyncio",
    progress: Annotated[
        bool | None,
        flag("progress", group=RUN, help="Show progress; on a terminal.", negative="--no-progress"),
    ] = None,
    graceful: Annotated[
        bool,
        flag(
            "graceful",
            group=RUN,
            help="Let running jobs finish at the first Ctrl-C; else it cancels them.",
            negative="--no-graceful",
        ),
    ] = True,
    command: Annotated[tuple[str, ...] | None, Parameter(parse=False)] = None,
) -> int:
    """Run a function or a command over the items of files.

    Writes a JSON line for each item as soon as its job has ended:
    {"id":1,"item":…,"ok":true,"value":…,"error":null,"attempts":1,"waited":0.0,"seconds":0.12}

        qanat map app:fetch urls.txt -o out.jsonl -j 50 --rate 100/s --retries 3

        qanat map -o out.jsonl urls.txt -- curl -s {}
    """
    flags = {
        "concurrency": concurrency, "rate": rate, "retry": retries, "timeout": timeout, "order": order,
        "lane": lane, "priority": priority, "deadline": deadline, "max_failures": halt, "progress": progress,
        "record": record, "journal": journal, "retry_failed": retry_failed or None,
    }  # fmt: skip
    return run_map(
        MapOptions(
            inputs=tuple(plain(each) for each in inputs),
            command=command,
            flags={name: value or None if isinstance(value, str) else value for name, value in flags.items()},
            output=plain(output) if output else None,
            rules=rules or None,
            format=format,
            loop=loop,
            keep_order=keep_order,
            append=append,
            overwrite=overwrite,
            fresh=fresh,
            dry_run=dry_run,
            json=json,
            graceful=graceful,
        )
    )


def _replay(
    file: Annotated[str, Parameter(help="What --record or record= wrote.")],
    /,
    json: Annotated[bool, flag("json", group=RUN, help="Print one JSON object.", command="REPLAY")] = False,
) -> int:
    """Make every decision of a recording once more, and tell the first that is another one now."""
    from qanat._cli.replay_command import run_replay

    return run_replay(plain(file), as_json=json)


def _demo() -> int:
    """See qanat at work: 300 pages from a difficult server on this machine, in a quarter of a minute."""
    from qanat._cli.demo_command import run_demo

    return run_demo()


def make_app(version: Callable[[], str]) -> App:
    """Return the command line."""
    from qanat._cli.operator_flags import QUEUES, add_commands
    from qanat._cli.plan_flags import plan
    from qanat._cli.worker_flags import worker

    app = App(
        name="qanat",
        help="From a for-loop to a fleet without a rewrite: run a function or a command over many items.",
        version=version,
        help_format="plaintext",
    )
    app.command(_map, name="map")
    app.command(plan, name="plan")
    app.command(_replay, name="replay")
    app.command(worker, name="worker", group=QUEUES)
    app.command(_demo, name="demo")
    add_commands(app)
    return app


def read_call(arguments: list[str], version: Callable[[], str]) -> Callable[[], Any]:
    """Return what is to be called for these arguments.

    Raises:
        UsageError: If they are wrong.
    """
    command: tuple[str, ...] | None = None
    if arguments[:1] == ["map"] and "--" in arguments:
        at = arguments.index("--")
        arguments, command = arguments[:at], tuple(arguments[at + 1 :])
    tokens = [STDIN if argument == "-" else argument for argument in arguments]
    app = make_app(version)
    try:
        function, bound, ignored = app.parse_args(tokens, exit_on_error=False, print_error=False)
    except CycloptsError as error:
        from qanat._cli.operators import without_secrets

        where = f"qanat {arguments[0]}" if arguments and arguments[0] in app else "qanat"
        raise UsageError(f"{without_secrets(plain(str(error)))} Try: {where} --help") from None
    more = {"command": command} if "command" in ignored else {}
    return lambda: function(*bound.args, **bound.kwargs, **more)
