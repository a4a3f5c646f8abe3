"""The flags of the commands of operators, read by cyclopts."""

from __future__ import annotations

from collections.abc import Callable
from typing import Annotated, Any, Literal

from cyclopts import App, Group, Parameter

from qanat._cli.flags import INPUT, flag, plain, whole

QUEUES = Group("Durable queues", sort_key=2)
"""Where these commands stand in the help."""

_QUEUE = Group("The queue", sort_key=1)
_WHAT = Group("What", sort_key=2)
_OUT = Group("Output", sort_key=3)

_STATE = Literal["scheduled", "ready", "leased", "waiting", "done", "dead", "cancelled"]


def _store(command: str) -> Parameter:
    return Parameter(
        name="--store", env_var=[f"QANAT_{command}_STORE", "QANAT_STORE"], group=_QUEUE, negative="",
        help="URL of the store, such as sqlite:///work.db; one with a password goes into QANAT_STORE.",
    )  # fmt: skip


def _queue(command: str, help: str = "Its name; not needed if there is one alone.") -> Parameter:  # noqa: A002
    return Parameter(
        name="--queue",
        env_var=[f"QANAT_{command}_QUEUE", "QANAT_QUEUE"],
        group=_QUEUE,
        negative="",
        help=help,
    )


def _json(command: str) -> Parameter:
    return flag("json", group=_OUT, help="Print JSON instead of text.", command=command)


def _said(text: str | None) -> str | None:
    """Return what was given, where a lone dash is no file."""
    return None if text is None else plain(text)


def _ids(ids: tuple[str, ...]) -> tuple[str, ...]:
    return tuple(plain(each) for each in ids)


def put(
    *items: Annotated[str, Parameter(help="Items, each a text, or JSON with --format jsonl.")],
    store: Annotated[str, _store("PUT")],
    queue: Annotated[str, _queue("PUT", "Its name; it is made if it is not there.")],
    file: Annotated[
        tuple[str, ...] | None,
        flag("file", "-f", group=INPUT, command="PUT", help="File with items, - is stdin; may come again."),
    ] = None,
    format: Annotated[  # noqa: A002 - the flag's name
        Literal["txt", "jsonl", "csv"] | None,
        flag("format", group=INPUT, command="PUT", help="How input is read; by suffix."),
    ] = None,
    lane: Annotated[
        str | None,
        flag("lane", group=_WHAT, command="PUT", help="Field of csv or jsonl items; for texts the lane."),
    ] = None,
    priority: Annotated[
        str | None,
        flag("priority", group=_WHAT, command="PUT", help="A number, or the field with it; smaller first."),
    ] = None,
    delay: Annotated[
        str | None, flag("delay", group=_WHAT, command="PUT", help="Time before they may run, such as 10m.")
    ] = None,
    id: Annotated[
        str | None, flag("id", group=_WHAT, command="PUT", help="Field with the id; a known one stays.")
    ] = None,
    key: Annotated[
        str | None, flag("key", group=_WHAT, command="PUT", help="Field with what is unique, with --unique.")
    ] = None,
    handler: Annotated[
        str | None, flag("handler", group=_WHAT, command="PUT", help="Name of the handler that runs them.")
    ] = None,
    unique: Annotated[
        Literal["pending", "active", "forever"] | None,
        flag("unique", group=_QUEUE, command="PUT", help="At first use: how long a key keeps others away."),
    ] = None,
    keep: Annotated[
        str | None,
        flag("keep", group=_QUEUE, command="PUT", help="At first use: how long done jobs are kept; 0."),
    ] = None,
    max_attempts: Annotated[
        int | None,
        flag(
            "max-attempts", group=_QUEUE, command="PUT", converter=whole,
            help="At first use: how often a job is tried at most; 20.",
        ),
    ] = None,
    json: Annotated[bool, _json("PUT")] = False,
) -> int:  # fmt: skip
    """Store items as jobs of a durable queue.

    Prints the ids of items given as arguments, and how many were stored.

        qanat put --store sqlite:///work.db --queue emails -f mails.jsonl
    """
    from qanat._cli.put_command import PutOptions, run_put
    from qanat._cli.usage import UsageError
    from qanat._core.arguments import duration

    settings: dict[str, Any] = {"unique": unique, "max_attempts": max_attempts}
    if keep is not None:
        try:
            settings["keep"] = 0.0 if keep.strip() in {"0", "0s"} else duration(keep, "keep")
        except ValueError as error:
            raise UsageError(str(error)) from None
    return run_put(
        PutOptions(
            store=store,
            queue=queue,
            items=tuple(plain(each) for each in items),
            files=tuple(plain(each) for each in file or ()),
            format=format,
            lane=_said(lane) or None,
            priority=_said(priority) or None,
            delay=delay or None,
            id=_said(id) or None,
            key=_said(key) or None,
            handler=_said(handler) or "",
            settings={name: value for name, value in settings.items() if value is not None},
            json=json,
        )
    )


def ls(*, store: Annotated[str, _store("LS")], json: Annotated[bool, _json("LS")] = False) -> int:
    """Show the queues of a store, and how many jobs each has."""
    from qanat._cli.looking_commands import run_ls

    return run_ls(store, as_json=json)


def jobs(
    *,
    store: Annotated[str, _store("JOBS")],
    queue: Annotated[str | None, _queue("JOBS")] = None,
    state: Annotated[
        _STATE | None, flag("state", group=_WHAT, command="JOBS", help="Only those in this state.")
    ] = None,
    lane: Annotated[
        str | None, flag("lane", group=_WHAT, command="JOBS", help='Only those of this lane; "" is no lane.')
    ] = None,
    limit: Annotated[
        int, flag("limit", "-n", group=_WHAT, command="JOBS", help="How many at most; 20.", converter=whole)
    ] = 20,
    after: Annotated[
        str | None, flag("after", group=_WHAT, command="JOBS", help="Go on where the page before ended.")
    ] = None,
    json: Annotated[bool, _json("JOBS")] = False,
) -> int:
    """Show jobs of a queue: what runs first, then what waits, then what has ended.

    qanat jobs --store sqlite:///work.db --queue emails --state dead
    """  # fmt: skip
    from qanat._cli.looking_commands import run_jobs

    return run_jobs(
        store, queue or None, state=state, lane=_said(lane), limit=limit, after=after or None, as_json=json
    )


def show(
    *ids: Annotated[str, Parameter(help="Ids of jobs.")],
    store: Annotated[str, _store("SHOW")],
    queue: Annotated[str | None, _queue("SHOW")] = None,
    json: Annotated[bool, _json("SHOW")] = False,
) -> int:
    """Show all that is known of a job, its reason and its traceback too."""
    from qanat._cli.looking_commands import run_show

    return run_show(store, queue or None, _ids(ids), as_json=json)


def why(
    *ids: Annotated[str, Parameter(help="Ids of jobs.")],
    store: Annotated[str, _store("WHY")],
    queue: Annotated[str | None, _queue("WHY")] = None,
    json: Annotated[bool, _json("WHY")] = False,
) -> int:
    """Say why a job does not run."""
    from qanat._cli.looking_commands import run_why

    return run_why(store, queue or None, _ids(ids), as_json=json)


def retry(
    *ids: Annotated[str, Parameter(help="Ids of jobs.")],
    store: Annotated[str, _store("RETRY")],
    queue: Annotated[str | None, _queue("RETRY")] = None,
    every: Annotated[bool, flag("all", group=_WHAT, command="RETRY", help="All jobs of a state.")] = False,
    state: Annotated[
        _STATE | None, flag("state", group=_WHAT, command="RETRY", help="With --all: which state; dead.")
    ] = None,
    json: Annotated[bool, _json("RETRY")] = False,
) -> int:
    """Let jobs that were given up run again, from their first attempt.

    Also those that are done or cancelled, if they are kept; scheduled ones run now.

        qanat retry --store sqlite:///work.db --queue emails --all
    """
    from qanat._cli.mending_commands import run_retry

    return run_retry(store, queue or None, _ids(ids), every=every, state=state, as_json=json)


def cancel(
    *ids: Annotated[str, Parameter(help="Ids of jobs.")],
    store: Annotated[str, _store("CANCEL")],
    queue: Annotated[str | None, _queue("CANCEL")] = None,
    every: Annotated[
        bool, flag("all", group=_WHAT, command="CANCEL", help="All jobs that have not ended.")
    ] = False,
    state: Annotated[
        _STATE | None, flag("state", group=_WHAT, command="CANCEL", help="With --all: only this state.")
    ] = None,
    yes: Annotated[bool, flag("yes", "-y", group=_WHAT, command="CANCEL", help="Do not ask.")] = False,
    json: Annotated[bool, _json("CANCEL")] = False,
) -> int:
    """Cancel jobs that have not ended; the workers of running ones are asked to stop them."""
    from qanat._cli.mending_commands import run_cancel

    return run_cancel(store, queue or None, _ids(ids), every=every, state=state, yes=yes, as_json=json)


def pause(
    *,
    store: Annotated[str, _store("PAUSE")],
    queue: Annotated[str | None, _queue("PAUSE")] = None,
    json: Annotated[bool, _json("PAUSE")] = False,
) -> int:
    """Let nobody take jobs of a queue; what runs goes on."""
    from qanat._cli.mending_commands import run_pause

    return run_pause(store, queue or None, pause=True, as_json=json)


def resume(
    *,
    store: Annotated[str, _store("RESUME")],
    queue: Annotated[str | None, _queue("RESUME")] = None,
    json: Annotated[bool, _json("RESUME")] = False,
) -> int:
    """Let jobs of a queue be taken again."""
    from qanat._cli.mending_commands import run_pause

    return run_pause(store, queue or None, pause=False, as_json=json)


def purge(
    *,
    store: Annotated[str, _store("PURGE")],
    queue: Annotated[str | None, _queue("PURGE")] = None,
    state: Annotated[_STATE, flag("state", group=_WHAT, command="PURGE", help="Which state.")],
    yes: Annotated[bool, flag("yes", "-y", group=_WHAT, command="PURGE", help="Do not ask.")] = False,
    json: Annotated[bool, _json("PURGE")] = False,
) -> int:
    """Delete all jobs of a state for good."""
    from qanat._cli.mending_commands import run_purge

    return run_purge(store, queue or None, state=state, yes=yes, as_json=json)


def doctor(
    *,
    store: Annotated[str, _store("DOCTOR")],
    queue: Annotated[str | None, _queue("DOCTOR", "Only this queue; all.")] = None,
    require: Annotated[
        str | None,
        flag(
            "require",
            group=_WHAT,
            command="DOCTOR",
            help="What must hold: process, ~1s, fsync, replicas(n).",
        ),
    ] = None,
    check: Annotated[
        bool, flag("check", group=_WHAT, command="DOCTOR", help="Look for contradictions, at every job.")
    ] = False,
    repair: Annotated[
        bool,
        flag("repair", group=_WHAT, command="DOCTOR", help="With --check: mend them; no job goes."),
    ] = False,
    json: Annotated[bool, _json("DOCTOR")] = False,
) -> int:
    """Look whether what a store promises holds, and say what mends it.

    Exit status 1 if a promise does not hold.

        qanat doctor --store redis://localhost --require fsync
    """
    from qanat._cli.doctor_command import run_doctor

    return run_doctor(
        store, queue or None, require=require or None, check=check, repair=repair, as_json=json
    )  # fmt: skip


def import_aiopyrq(
    *names: Annotated[str, Parameter(help="Names of queues and pools.")],
    source: Annotated[
        str,
        Parameter(
            name="--from", env_var="QANAT_IMPORT_AIOPYRQ_FROM", group=_WHAT, negative="",
            help="URL of the server that they are on; one with a password goes into its variable.",
        ),
    ],
    store: Annotated[str, _store("IMPORT_AIOPYRQ")],
    unique: Annotated[
        bool | None,
        flag(
            "unique", group=_WHAT, command="IMPORT_AIOPYRQ", negative="--no-unique",
            help="They are unique queues; found out where items wait.",
        ),
    ] = None,
    json: Annotated[bool, _json("IMPORT_AIOPYRQ")] = False,
) -> int:  # fmt: skip
    """Copy what aio-py-rq keeps in Redis, for qanat.compat.aiopyrq.

    What was taken and not acknowledged comes first, then what waits; items of pools stay due when they
    were. Nobody may take items meanwhile. Nothing is deleted; the same call again stores nothing twice.

        qanat import-aiopyrq emails feeds --from redis://localhost --store sqlite:///work.db
    """
    from qanat._cli.import_command import run_import

    return run_import(tuple(plain(each) for each in names), source, store, unique=unique, as_json=json)


COMMANDS: tuple[Callable[..., int], ...] = (
    put, ls, jobs, show, why, retry, cancel, pause, resume, purge, doctor, import_aiopyrq,
)  # fmt: skip


def add_commands(app: App) -> None:
    """Add the commands of operators to the command line."""
    for command in COMMANDS:
        app.command(command, name=command.__name__.replace("_", "-"), group=QUEUES)
