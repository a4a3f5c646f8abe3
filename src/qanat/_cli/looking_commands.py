"""`qanat ls`, `jobs`, `show` and `why`: look at queues and their jobs, and change nothing."""

from __future__ import annotations

import base64
import binascii
from collections.abc import Callable
from typing import Any

from qanat._app.durable.operating import asked, reasons, record, stored_page, time_of
from qanat._app.durable.operating import table as counted
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.store import PlainStore
from qanat._app.text import safe_text
from qanat._cli.operators import (
    MOST,
    STATES,
    chosen,
    decoded,
    moment,
    opened,
    say,
    say_json,
    shown,
    table,
    tell,
    width,
    wrapped,
)
from qanat._cli.usage import UsageError
from qanat._core.store.finding import span_in_words
from qanat._core.store.states import State
from qanat._core.store.values import Conf, StoredJob

PAGE = 100
"""Jobs that are fetched at once: their items may be large."""

_COUNTED: tuple[State, ...] = ("ready", "leased", "scheduled", "waiting", "done", "dead", "cancelled")


def run_ls(store_url: str, *, as_json: bool) -> int:
    """Show all queues of a store, and how many jobs each has."""
    with opened(store_url) as store:
        queues = store.carry(asked(counted), "")
    if as_json:
        say_json(
            {
                "queues": [
                    {
                        "name": name,
                        "paused": counts.paused,
                        **{state: getattr(counts, state) for state in _COUNTED},
                    }
                    for name, counts in queues.items()
                ]
            }
        )
        return 0
    if not queues:
        tell("there is no queue yet: qanat put makes one")
        return 0
    rows = [
        [
            safe_text(name),
            *(str(getattr(counts, state)) for state in _COUNTED),
            "paused" if counts.paused else "",
        ]
        for name, counts in queues.items()
    ]
    for line in table(("queue", *_COUNTED, ""), rows, width(), numbers=True):
        say(line)
    return 0


def run_jobs(
    store_url: str, queue_name: str | None, *, state: State | None, lane: str | None, limit: int,
    after: str | None, as_json: bool,
) -> int:  # fmt: skip
    """Show jobs of a queue, one a line."""
    if limit < 1:
        raise UsageError(f"limit must be at least 1, got {limit}")
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        jobs, more = _gather(store, queue, state, lane, limit, after)
        now = store.carry(asked(time_of), "")
    if as_json:
        say_json({"queue": queue.name, "jobs": [_facts(job) for job in jobs], "next": more})
        return 0
    if not jobs:
        tell(f"{queue.name} has no {'more jobs' if after else 'such jobs' if state or lane else 'jobs'}")
        return 0
    lanes = any(job.lane for job in jobs)
    # Columns that say the same of all are left out: 80 are few beside an id.
    cells: list[tuple[str, Callable[[StoredJob], str]]] = [("id", lambda job: safe_text(job.id, MOST))]
    if state is None:
        cells.append(("state", lambda job: job.state))
    if lanes and lane is None:
        cells.append(("lane", lambda job: safe_text(job.lane, MOST)))
    cells.append(("try", lambda job: str(job.attempt)))
    cells.append(("age", lambda job: _age(job, now)))
    cells.append(("what", _what))
    header = [name for name, _ in cells]
    rows = [[cell(job) for _, cell in cells] for job in jobs]
    for line in table(header, rows, width(), numbers=False):
        say(line)
    if more is not None:
        tell(f"there are more: add --after {more}")
    return 0


def _gather(
    store: PlainStore,
    queue: PlainQueue[Any],
    state: State | None,
    lane: str | None,
    limit: int,
    after: str | None,
) -> tuple[list[StoredJob], str | None]:
    """Return jobs of one state or of all, and where to go on."""
    states: list[State] = list(STATES) if state is None else [state]
    begin, cursor = _place(after, states)
    jobs: list[StoredJob] = []
    for each in states[states.index(begin) :]:
        while True:
            # One more than there is room for, looked at only to know whether there is one.
            room = min(PAGE, limit - len(jobs))
            page = store.carry(
                asked(stored_page, queue.name, each, lane=lane, limit=room or 1, after=cursor), queue.name
            )
            if room == 0 and page.jobs:
                return jobs, _after(each, cursor)
            jobs += page.jobs
            cursor = page.next
            if cursor is None:
                break
    return jobs, None


def _after(state: str, cursor: str | None) -> str:
    # What the store says may hold anything that is in a lane's name.
    return base64.urlsafe_b64encode(f"{state}:{cursor or ''}".encode()).decode().rstrip("=")


def _place(after: str | None, states: list[State]) -> tuple[State, str | None]:
    if after is None:
        return states[0], None
    try:
        text = base64.b64decode(after + "=" * (-len(after) % 4), altchars=b"-_", validate=True).decode()
    except (ValueError, binascii.Error):
        text = ""
    known: dict[str, State] = {state: state for state in states}
    name, _, cursor = text.partition(":")
    if name not in known:
        raise UsageError(f"after must be what the page before said, got {after!r}")
    return known[name], cursor or None


def _age(job: StoredJob, now: float) -> str:
    if job.state == "scheduled" and job.due_at is not None:
        return f"in {_span(job.due_at - now)}" if job.due_at > now else "due"
    at = job.ended_at if job.ended_at is not None else job.started_at if job.state == "leased" else job.put_at
    return _span(now - (job.put_at if at is None else at))


def _span(seconds: float) -> str:
    return span_in_words(seconds).replace(" ", "")


def _what(job: StoredJob) -> str:
    """Return what says most of a job in one line: why it is dead, who has it, or its item."""
    lines = [line.strip() for line in job.error.splitlines() if line.strip()]
    if job.state == "dead":
        return safe_text(": ".join([job.reason or "dead", *lines[-1:]]), 500)
    if job.state == "leased":
        note = f": {job.note}" if job.note else ""
        return safe_text(f"{job.worker}{note}", 500)
    return shown(job.body, 500)


def run_show(store_url: str, queue_name: str | None, ids: tuple[str, ...], *, as_json: bool) -> int:
    """Show all that is known of jobs; the exit status is 1 if one is unknown."""
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        conf = _conf(store, queue)
        found = [(id, *store.carry(asked(record, queue.name, id), queue.name)) for id in _some(ids)]
    for number, (id, job, now) in enumerate(found):
        if job is None:
            _unknown(id, queue.name, conf)
        elif as_json:
            say_json({"queue": queue.name, **_facts(job)})
        else:
            if number:
                say("")
            for line in _described(job, queue.name, conf, now):
                say(line)
    return 1 if any(job is None for _, job, _ in found) else 0


def run_why(store_url: str, queue_name: str | None, ids: tuple[str, ...], *, as_json: bool) -> int:
    """Say why jobs do not run; the exit status is 1 if one is unknown."""
    unknown = False
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        conf = _conf(store, queue)
        for id in _some(ids):
            (job,) = store.carry(queue._asking.by_ids("get", [id]), queue.name)
            why = None if job is None else store.carry(asked(reasons, queue.name, id), queue.name)
            if job is None or why is None:
                unknown = True
                _unknown(id, queue.name, conf)
            elif as_json:
                say_json({"queue": queue.name, "id": id, "state": job.state, "why": why})
            else:
                say(f"{safe_text(id, MOST)} is {job.state}:")
                for sentence in why:
                    for line in wrapped(safe_text(sentence, MOST), "  "):
                        say(line)
    return 1 if unknown else 0


def _conf(store: PlainStore, queue: PlainQueue[Any]) -> Conf:
    store.carry(queue._asking.first(), queue.name)
    return queue._asking.conf or Conf()


def _some(ids: tuple[str, ...]) -> tuple[str, ...]:
    if not ids:
        raise UsageError("name a job by its id: qanat jobs shows them")
    return ids


def _unknown(id: str, queue: str, conf: Conf) -> None:
    kept = f"keeps such jobs for {span_in_words(conf.keep)}" if conf.keep else "does not keep such jobs"
    tell(f"there is no job {id!r} in {queue}: it was never put there, or is done, and the queue {kept}")


def _facts(job: StoredJob) -> dict[str, Any]:
    """Return a job for JSON: what is in its record, with what it holds decoded."""
    facts = {name: getattr(job, name) for name in job.__struct_fields__}
    for name in ("body", "order", "family", "parent_family"):
        del facts[name]
    held = {"item": job.body, "metadata": job.metadata, "value": job.value}
    return facts | {name: decoded(data) for name, data in held.items()}


def _described(job: StoredJob, queue: str, conf: Conf, now: float) -> list[str]:
    """Return the lines that describe a job."""
    facts: list[tuple[str, str]] = [("id", job.id), ("queue", queue), ("state", _state(job)), ("item", "")]
    bound = "" if conf.max_attempts is None else f" of at most {conf.max_attempts}"
    children = ", ".join(
        f"{number} {word}"
        for word in ("open", "done", "dead", "cancelled")
        if (number := getattr(job, f"{word}_children"))
    )
    facts += [
        ("lane", job.lane), ("priority", f"{job.priority:g}" if job.priority else ""), ("key", job.key or ""),
        ("handler", job.handler), ("attempt", f"{job.attempt}{bound}"),
        ("crashes", f"{job.crashes} in a row" if job.crashes else ""), ("worker", job.worker),
        ("note", job.note),
        ("put", moment(job.put_at, now)),
        *((name, moment(at, now)) for name, at in (
            ("started", job.started_at), ("ended", job.ended_at), (_due(job), job.due_at)) if at is not None),
        ("parent", job.parent or ""), ("children", children), ("callback", job.after),
    ]  # fmt: skip
    lines = [
        f"{name:<10}{shown(job.body) if name == 'item' else safe_text(text, MOST)}"
        for name, text in facts
        if text or name == "item"
    ]
    for name, data in (("metadata", job.metadata), ("value", job.value)):
        if data:
            lines.append(f"{name:<10}{shown(data)}")
    if job.error:
        lines.append("error")
        lines += [f"    {safe_text(line, MOST)}" for line in job.error.splitlines()]
    return lines


def _state(job: StoredJob) -> str:
    words = f"{job.state}: {job.reason}" if job.reason else str(job.state)
    return f"{words}, asked to cancel" if job.cancel else words


def _due(job: StoredJob) -> str:
    return {"scheduled": "due", "leased": "leased to"}.get(job.state, "kept to")
