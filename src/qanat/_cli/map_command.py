"""`qanat map`: a function or a command over the items of files."""

from __future__ import annotations

import json
import os
import re
import select
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import Any

import anyio
from msgspec import structs

from qanat._app.handler_names import handler_name
from qanat._app.handlers import check_handler
from qanat._app.progress.view import Progress
from qanat._app.rules import Rules
from qanat._app.run import Backend, backend_of
from qanat._app.stopping import Stopping
from qanat._app.text import safe_text
from qanat._cli.commands import Command
from qanat._cli.completing import Completion
from qanat._cli.loading import is_function_name, load
from qanat._cli.map_rules import make_rules
from qanat._cli.map_run import MapRun, Plan, Result
from qanat._cli.reading import Kind, Record
from qanat._cli.results import AsyncCall, PlainCall
from qanat._cli.sources import Source, count, find_sources, records
from qanat._cli.usage import UsageError
from qanat._cli.writing import Output, check_apart, check_output, open_output, stdout_for_data
from qanat._engine.callee import callee_of, is_coroutine_function
from qanat.errors import InputError, JournalError, StoreError

_FILE_NAMED = re.compile(r"([\w./]*\w)\.py:([\w.]+)")

QUICK = 64 * 2**20
"""Bytes of input that are counted in less than a second."""


@dataclass(frozen=True, slots=True)
class MapOptions:
    """What `qanat map` was given, flags and environment together; None was not given.

    Attributes:
        inputs: APP:FN and files, or files alone if there is a command.
        command: What came after `--`; None if there was no `--`.
        flags: Rules by their names.
    """

    inputs: tuple[str, ...]
    command: tuple[str, ...] | None
    flags: dict[str, Any]
    output: str | None = None
    rules: str | None = None
    format: Kind | None = None
    loop: Backend = "asyncio"
    keep_order: bool = False
    append: bool = False
    overwrite: bool = False
    fresh: bool = False
    dry_run: bool = False
    json: bool = False
    graceful: bool = True


def run_map(options: MapOptions) -> int:
    """Carry out a `qanat map` and return its exit status.

    Raises:
        UsageError: If it cannot be carried out as it was asked for; before any work starts.
        InputError: If an input cannot be read.
    """
    files = options.inputs if options.command is not None else options.inputs[1:]
    rules, named = make_rules(options.flags, options.rules)
    try:
        backend, backend_options = backend_of(options.loop)
    except ValueError as error:
        raise UsageError(str(error)) from None
    path = None if options.output == "-" else options.output
    check_apart(path, files, options.rules)
    completes = _completes(options, rules)
    check_output(path, append=options.append or (completes and path is not None), overwrite=options.overwrite)
    with ExitStack() as stack:
        output: Output = stack.enter_context(stdout_for_data())
        # Only now: what a module prints while it is imported is no data.
        title, handler, name = _handler(options, rules)
        sources = find_sources(files, options.format)
        if named.named and all(source.kind == "txt" for source in sources):
            which = next(
                name for name in ("lane", "priority", "deadline") if getattr(named, name) is not None
            )
            raise UsageError(f"{which} {named.named[0]!r} needs items with fields: csv or jsonl")
        plan = Plan(handler, sources, rules, named, options.keep_order, name, options.fresh)
        total = _Total(sources)
        progress = Progress(
            title, shown=rules.progress, total=total.get, machine=options.json, item_of=_value_of
        )
        if options.dry_run:
            return _dry_run(plan, path, progress)
        if rules.journal is not None:
            _check_journal(plan)
        completion: Completion | None = None
        if path is not None and completes and Path(path).is_file():
            completion = Completion(path)
            output = completion.open()
            stack.callback(output.close)
        elif path is not None:
            output = open_output(
                path, append=options.append, overwrite=options.overwrite, shared=options.append
            )
            stack.callback(output.close)
        elif progress.redraws and os.isatty(output.fd):
            output.show = progress.say
        if progress.is_shown or options.json:
            total.find()
        stopping = Stopping(
            lambda: _say_last(progress, run.last_words(), as_json=options.json), graceful=options.graceful
        )
        run = MapRun(plan, output, progress, stopping, completion)
        stack.enter_context(stopping)
        try:
            anyio.run(run.run, backend=backend, backend_options=backend_options)
        except (JournalError, StoreError) as error:  # it could be opened before, and now it cannot
            raise UsageError(str(error)) from None
        if completion is not None and run.result.is_whole:
            paths = [source.path for source in sources]
            completion.tidy(
                (lambda file: 0 if file is None else paths.index(file)) if options.keep_order else None
            )
        return _concluded(run.result, output, progress, stopping, plan, total)


def _value_of(record: Record) -> Any:
    return record.value


def _say_last(progress: Progress, text: str, *, as_json: bool) -> None:
    progress.last_words()
    _say_at_once(text, as_json=as_json)


def _completes(options: MapOptions, rules: Rules) -> bool:
    """Whether an output that is there is completed.

    Raises:
        UsageError: If flags that go with a journal were given without one.
    """
    if options.fresh and rules.journal is None:
        raise UsageError("--fresh goes with --journal FILE")
    if options.fresh and rules.retry_failed:
        raise UsageError("--fresh and --retry-failed exclude each other")
    return rules.journal is not None and not (options.append or options.overwrite or options.fresh)


def _check_journal(plan: Plan) -> None:
    """Open the journal once, so that one that cannot be used is told before anything is touched.

    Raises:
        UsageError: If it cannot.
    """
    from qanat._stores.journal import JournalConnection

    try:
        JournalConnection(plan.rules.journal or "", plan.name, plan.version).close()
    except (JournalError, StoreError) as error:
        raise UsageError(str(error)) from None


def _say_at_once(text: str, *, as_json: bool) -> None:
    """Say something just before the process ends, past everything that may hold a lock."""
    said = json.dumps({"event": "note", "text": text}) if as_json else f"qanat: {text}"
    try:
        if select.select([], [2], [], 0.1)[1]:  # a terminal may be stopped
            os.write(2, f"\n{said}\n".encode())
    except (OSError, ValueError):
        pass  # nobody to hear it


def _handler(options: MapOptions, rules: Rules) -> tuple[str, Callable[[Record], Any], str]:
    """Return the title of the run, what is called with each record, and its name in a journal."""
    name = ""
    if options.command is not None:
        named = options.inputs[:1]
        if named and is_function_name(named[0]) and not Path(named[0]).exists():
            raise UsageError("give either a function or a command after --, not both")
        command = Command(options.command)
        handler: Callable[[Record], Any] = AsyncCall(command)
        title = command.__qualname__
        name = f"$ {json.dumps(options.command)}"
    else:
        if not options.inputs:
            raise UsageError("name a function such as app:fetch, or a command after --")
        title = options.inputs[0]
        file = _FILE_NAMED.fullmatch(title)
        if file is not None:
            module = file.group(1).removeprefix("./").replace("/", ".")
            raise UsageError(f"write {safe_text(module)}:{safe_text(file.group(2))}, without .py")
        if not is_function_name(title):
            raise UsageError(
                f"{safe_text(title)!r} is no function such as app:fetch; a command goes after the files: "
                "qanat map urls.txt -- curl -s {}"
            )
        function = load(title)
        try:
            check_handler(function)
            if rules.journal is not None:
                name = handler_name(function, rules.version)
        except (TypeError, ValueError) as error:
            raise UsageError(str(error)) from None
        handler = AsyncCall(function) if is_coroutine_function(function) else PlainCall(function)
    try:
        callee_of(handler, rules.executor)
    except TypeError as error:
        raise UsageError(str(error)) from None
    return safe_text(title, 60), handler, name


class _Total:
    """How many items there are, counted in a thread beside the run."""

    def __init__(self, sources: list[Source]) -> None:
        self._sources = sources
        self._total: int | None = None

    def find(self) -> None:
        Thread(target=self._count, name="qanat-count", daemon=True).start()

    def get(self) -> int | None:
        return self._total

    def now(self) -> int | None:
        """Return how many items there are, counting now if that is quickly done."""
        if self._total is None and sum(source.size or 0 for source in self._sources) <= QUICK:
            self._count()
        return self._total

    def _count(self) -> None:
        self._total = count(self._sources)


def _dry_run(plan: Plan, path: str | None, progress: Progress) -> int:
    number = sum(1 for _ in records(plan.sources, plan.fields))
    names = _names(plan.sources)
    where = "standard output" if path is None else safe_text(path)
    items = "1 item" if number == 1 else f"{number:,} items"
    progress.say(
        f"dry run: {items} in {names}; {_rules_words(plan.rules)}; results to {where}; nothing was started"
    )
    return 0


def _rules_words(rules: Rules) -> str:
    """Say the rules, a share of failures as it was given."""
    if not isinstance(rules.max_failures, float):
        return str(rules)
    others = rules.replace(max_failures=None)
    return f"{others}, at most {rules.max_failures * 100.0:g}% failures"


def _names(sources: list[Source]) -> str:
    return ", ".join(_name(source.path) for source in sources)


def _name(path: str) -> str:
    return "standard input" if path == "-" else safe_text(path)


def _concluded(
    result: Result, output: Output, progress: Progress, stopping: Stopping, plan: Plan, total: _Total
) -> int:
    """Say how the run ended and return the exit status."""
    status = 1 if result.failed else 0
    said: list[str] = []
    if result.failure is not None:
        said.append(f"halted: {safe_text(result.failure)}")
        status = 1
    unwritten = [] if output.is_closed_pipe else result.unwritten
    lost = [json.loads(line) for lines in unwritten for line in lines.splitlines()]
    if output.problem is not None and not output.is_closed_pipe:
        results = "1 result is" if len(lost) == 1 else f"{len(lost)} results are"
        said.append(f"{safe_text(output.name)}: {output.problem.strerror}; {results} lost")
        status = 1
    if result.error is not None:
        said.append(safe_text(result.error, 500))
        status = 2
    if stopping.signal is not None and stopping.status is not None:
        said.append(f"stopped by {stopping.signal.name}")
        status = stopping.status
        if plan.rules.journal is not None:
            said.append(
                f"to go on, run the same command again: what is done is in {_name(str(plan.rules.journal))}"
            )
    left_some = result.cut or result.again or result.dropped or not result.read_all
    if lost or (result.error is None and left_some):
        left = _left_words(lost, result, progress, plan, total.now())
        if left and not output.is_closed_pipe:
            said.append(left)
    if progress.last is not None:  # what never started is no part of the run, but is left
        cancelled = result.cut + result.again
        # Waiting that came to nothing says nothing about how long a job waits.
        waits = {
            cause: seconds - result.waits.get(cause, 0.0) for cause, seconds in progress.last.waits.items()
        }
        progress.last = structs.replace(
            progress.last,
            cancelled=cancelled,
            untimed=cancelled,
            waits={k: v for k, v in waits.items() if v > 1e-6},
        )
    if result.last_read is None and result.read_all and result.error is None and not said:
        said.append(f"there are no items in {_names(plan.sources)}")
    rules = plan.rules
    summary = True if rules.progress is None else bool(rules.progress or status)
    if isinstance(result.error, Exception) and not isinstance(result.error, InputError):
        raise result.error
    progress.finish(*(f"qanat: {line}" for line in said), summary=summary)
    return status


def _left_words(
    lost: list[dict[str, Any]], result: Result, progress: Progress, plan: Plan, total: int | None
) -> str:
    """Say what was not done, and from where on; an empty text if all was."""
    figures = progress.last
    parts: list[str] = []
    if lost:
        parts.append(f"{len(lost):,} whose {'result is' if len(lost) == 1 else 'results are'} lost")
    if result.cut:
        parts.append(f"{result.cut:,} cancelled while they ran")
    if result.again:
        parts.append(f"{result.again:,} dropped while they waited for a retry")
    if total is not None and figures is not None:
        left = total - figures.done - figures.failed - result.cut - result.again
        if left > 0:
            parts.append(f"{left:,} not started")
    elif result.dropped or not result.read_all:
        parts.append("what was not started")
    if not parts:
        return ""
    paths = [source.path for source in plan.sources]
    # Where the items are that have no line in the output: the input's number, and the line there.
    places = [(paths.index(each["file"]) if "file" in each else 0, each["id"]) for each in lost]
    if result.first_left is not None:
        record = result.first_left[1]
        places.append((0 if record.file is None else paths.index(record.file), record.line))
    if places:
        number, line = min(places)
        parts.append(f"from line {line} of {_name(paths[number])} on")
    elif result.last_read is not None:
        record = result.last_read
        parts.append(f"after line {record.line} of {_name(record.file or paths[0])}")
    kept = "" if lost else "; what ended has its line in the output"
    return f"not done: {', '.join(parts)}{kept}"
