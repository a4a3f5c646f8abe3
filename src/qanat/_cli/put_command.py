"""`qanat put`: store the lines of files, or items given as arguments, as jobs of a durable queue."""

from __future__ import annotations

import json
import os
import select
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from qanat._app.durable.chunks import Chunk
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.stopping import Stopping
from qanat._app.text import safe_text
from qanat._cli.operators import MOST, opened, say, say_json, tell, without_secrets
from qanat._cli.reading import Kind, Record
from qanat._cli.sources import Watch, find_sources, records
from qanat._cli.usage import UsageError
from qanat._core.arguments import duration
from qanat._core.store.finding import number_of
from qanat._core.store.values import NewJob
from qanat._stores.url import parse_url
from qanat.errors import InputError, PutUnknown, SerialisationError, StoreError

PAUSE = 0.2
"""Seconds without input after which what was read is stored, full chunk or not."""
SHOW = 0.5
"""Seconds between two looks at how far it is, on a terminal."""

ARGUMENT = "argument"
"""Where an item came from that was given on the command line."""


@dataclass(frozen=True, slots=True)
class PutOptions:
    """What a `qanat put` was asked for."""

    store: str
    queue: str
    items: tuple[str, ...] = ()
    files: tuple[str, ...] = ()
    format: Kind | None = None
    lane: str | None = None
    priority: str | None = None
    delay: str | None = None
    id: str | None = None
    key: str | None = None
    handler: str = ""
    settings: dict[str, Any] = field(default_factory=dict[str, Any])
    json: bool = False


def run_put(options: PutOptions) -> int:
    """Store items as jobs: 0, or 130 and the like if it was stopped in between.

    Raises:
        UsageError: If it cannot be done as it was asked for; what was stored before is told.
        InputError: If an input cannot be read any further; the same.
    """
    reading = _Reading(options)
    with Stopping() as stopping, opened(options.store, make=True) as store:
        queue = store.queue(options.queue, **options.settings)
        putting = _Putting(queue, reading, show=sys.stderr.isatty() and not options.json)
        stopping.last_words = putting.last_words
        try:
            for record in reading.records(partial(_wait, putting, stopping)):
                if stopping.times:
                    putting.next = record
                    break
                putting.add(record)
            putting.flush()
        except InputError as error:
            putting.flush()
            putting.end_line()
            raise InputError(error.path, error.line, f"{error.problem}; {putting.told()}") from None
        except (StoreError, ValueError, TypeError) as error:
            putting.end_line()
            raise UsageError(f"{_words(error, options.store)}; {putting.told(unknown=error)}") from None
    putting.end_line()
    _say(putting, options, stopped=stopping.signal is not None)
    return stopping.status or 0


def _say(putting: _Putting, options: PutOptions, *, stopped: bool) -> None:
    if options.json:
        ids = {"ids": putting.ids} if options.items else {}
        say_json(
            {
                "queue": options.queue,
                "stored": putting.stored,
                "there": putting.there,
                "stopped": stopped,
                **ids,
            }
        )
        return
    for id in putting.ids if options.items else ():
        say(safe_text(id, MOST))
    tell(("stopped: " if stopped else "") + putting.told(before=False))


class _Reading:
    """The items, and what is said of each: its lane, its key and the like."""

    def __init__(self, options: PutOptions) -> None:
        """Check what is asked for; nothing is read yet.

        Raises:
            UsageError: If it makes no sense.
        """
        self.options = options
        if options.items and options.files:
            raise UsageError("name items, or files with --file, and not both")
        if not options.items and not options.files:
            raise UsageError("name items, or files with --file; --file - is standard input")
        if "-" in options.items:
            raise UsageError("standard input is --file -, and items are named as they are")
        if options.items and options.format == "csv":
            raise UsageError("items of csv come from a file with a header: give --file")
        self.delay = _delay(options.delay)
        self.priority, self.rank = _number(options.priority)
        self.sources = find_sources(options.files, options.format) if options.files else []

    def records(self, watch: Watch) -> Iterator[Record]:
        """Give the items one after the other."""
        if self.sources:
            options = self.options
            fields = (options.id, options.key, options.lane, self.rank)
            yield from records(self.sources, tuple(name for name in fields if name), watch)
            return
        for number, text in enumerate(self.options.items, 1):
            yield Record(number, None, self._parsed(text, number), None)

    def _parsed(self, text: str, number: int) -> Any:
        if self.options.format != "jsonl":
            return text
        try:
            return json.loads(text)
        except (ValueError, RecursionError) as error:
            raise InputError(ARGUMENT, number, f"is not JSON: {error}") from None

    def path(self, record: Record) -> str:
        """Return where an item came from."""
        return record.file or (self.sources[0].path if self.sources else ARGUMENT)

    def new(self, queue: PlainQueue[Any], record: Record) -> NewJob:
        """Return the job of an item.

        Raises:
            InputError: If it cannot be one.
        """
        options = self.options
        try:
            return queue._asking.new(
                record.value,
                id=self._of(record, options.id, "id"),
                key=self._of(record, options.key, "key"),
                lane=self._lane(record),
                priority=self._priority(record),
                delay=self.delay,
                handler=options.handler,
            )
        except (SerialisationError, ValueError, TypeError) as error:
            raise InputError(self.path(record), record.line, str(error)) from None

    def _of(self, record: Record, name: str | None, what: str) -> Any:
        if name is None:
            return None
        item: object = record.value
        if not isinstance(item, dict):
            raise TypeError(f"the item has no fields, and --{what} names the field {name!r} of it")
        fields = cast("dict[str, Any]", item)
        if name not in fields:
            raise ValueError(f"the item has no field {name!r} for --{what}")
        value = fields[name]
        # Numbers are common ids; an id in a store is a text.
        return str(value) if what in {"id", "lane"} and type(value) is int else value

    def _lane(self, record: Record) -> str | None:
        lane = self.options.lane
        # A line of text has no fields, so what is given is the lane itself.
        return lane if lane is None or isinstance(record.value, str) else self._of(record, lane, "lane")

    def _priority(self, record: Record) -> float:
        if self.rank is None:
            return self.priority
        value = self._of(record, self.rank, "priority")
        try:
            return float(value)
        except (TypeError, ValueError):
            raise ValueError(f"priority must be a number, got {value!r}") from None


class _Putting:
    """Store jobs in chunks, and count what became of them."""

    def __init__(self, queue: PlainQueue[Any], reading: _Reading, *, show: bool) -> None:
        self._queue = queue
        self._reading = reading
        self._chunk = Chunk()
        self._first: Record | None = None
        self.next: Record | None = None
        """The first item that was read and left, as it was stopped."""
        self._show = show and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
        self._shown_at = time.monotonic()
        self._line_open = False
        self.stored = 0
        self.there = 0
        self.ids: list[str] = []

    def add(self, record: Record) -> None:
        """Take an item; a full chunk is stored."""
        new = self._reading.new(self._queue, record)
        if self._first is None:
            self._first = record
        if self._chunk.add(new):
            self.flush()

    def flush(self) -> None:
        """Store what was taken."""
        jobs = self._chunk.take()
        if jobs:
            placed = self._queue._put(jobs)
            stored = sum(job.is_new for job in placed)
            self.stored += stored
            self.there += len(placed) - stored
            if self._reading.options.items:
                self.ids += [job.id for job in placed]
        self._first = None
        if self._show and time.monotonic() - self._shown_at >= SHOW:
            self._shown_at = time.monotonic()
            self._line_open = True
            print(f"\rqanat: stored {self.stored}", end="", file=sys.stderr, flush=True)

    def told(self, *, before: bool = True, unknown: Exception | None = None) -> str:
        """Say what is stored, and where to go on."""
        words = f"stored {number_of(self.stored, 'job')} in {self._queue.name}"
        if self.there:
            words += f", {number_of(self.there, 'was', 'were')} there already"
        if before:
            words += " before that"
        rest = self._first if unknown is not None else self.next
        if rest is not None:
            words += f"; go on from {self._reading.path(rest)}, line {rest.line}"
        if isinstance(unknown, PutUnknown):
            words += ", which may be stored all the same"
        return words

    def end_line(self) -> None:
        """Leave the line that shows how far it is."""
        if self._line_open:
            self._line_open = False
            print("\r\x1b[K", end="", file=sys.stderr, flush=True)

    def last_words(self) -> None:
        """Say what is stored when a third signal ends the process."""
        tell(f"stopped: {self.told(before=False)}, and perhaps a chunk more")


def _wait(putting: _Putting, stopping: Stopping, fd: int) -> bool:
    """Wait for input; what was read meanwhile is stored. False if it was stopped."""
    while not stopping.times:
        if select.select([fd], [], [], PAUSE)[0]:
            return True
        putting.flush()
    return False


def _words(error: Exception, url: str) -> str:
    text = without_secrets(str(error))
    return f"{parse_url(url)}: {text}" if isinstance(error, StoreError) else text


def _delay(text: str | None) -> float:
    if text is None or text.strip() in {"0", "0s"}:
        return 0.0
    try:
        return duration(text, "delay")
    except ValueError as error:
        raise UsageError(str(error)) from None


def _number(text: str | None) -> tuple[float, str | None]:
    """Return the priority of all, or the field that has it."""
    if text is None:
        return 0.0, None
    try:
        return float(text), None
    except ValueError:
        return 0.0, text
