"""`qanat retry`, `cancel`, `pause`, `resume` and `purge`: what operators do to queues."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Callable
from typing import Any

from qanat._app.durable.operating import FIRST, asked, ids_until, limit_after, time_of
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.store import PlainStore
from qanat._app.text import safe_text
from qanat._cli.operators import MOST, chosen, opened, say, say_json, tell
from qanat._cli.usage import UsageError
from qanat._core.store.finding import number_of
from qanat._core.store.states import State

_WORDS = {
    "ready": ("is ready again", "are ready again"),
    "key": ("stays, as another job holds its key", "stay, as other jobs hold their keys"),
    "live": ("stays, as it has not ended", "stay, as they have not ended"),
    "unknown": ("is unknown", "are gone"),
    "cancelled": ("is cancelled", "are cancelled"),
    "asked": (
        "is asked to cancel: its worker stops it",
        "are asked to cancel: their workers stop them",
    ),
    "ended": ("stays, as it has ended already", "had ended already"),
}
"""What became of a job, and of several, in words."""
_WELL = {"ready", "cancelled", "asked"}


def run_retry(
    store_url: str,
    queue_name: str | None,
    ids: tuple[str, ...],
    *,
    every: bool,
    state: State | None,
    as_json: bool,
) -> int:
    """Let jobs run again; the exit status is 1 if some could not."""
    _check(ids, every=every, state=state)
    state = state or "dead"
    if state in {"ready", "leased", "waiting"}:
        raise UsageError(f"jobs that are {state} need no retry: name dead, cancelled, done or scheduled")
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        requeue = queue.admin.requeue
        if every:
            return _tell_all(queue, _each_page(store, queue, [state], requeue), "retry", as_json=as_json)
        return _tell_each(queue, ids, requeue(*ids), as_json=as_json)


def run_cancel(
    store_url: str, queue_name: str | None, ids: tuple[str, ...], *, every: bool, state: State | None,
    yes: bool, as_json: bool,
) -> int:  # fmt: skip
    """Cancel jobs; the exit status is 1 if some could not be."""
    _check(ids, every=every, state=state)
    if state in {"done", "dead", "cancelled"}:
        raise UsageError(f"jobs that are {state} have ended: name ready, scheduled, waiting or leased")
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        if not every:
            return _tell_each(queue, ids, queue.cancel(*ids), as_json=as_json)
        counts = queue.counts()
        states: list[State] = ["scheduled", "ready", "waiting", "leased"] if state is None else [state]
        number = sum(getattr(counts, each) for each in states)
        if number:
            _confirm(f"cancel {number_of(number, 'job')} of {queue.name}", yes=yes)
        return _tell_all(queue, _each_page(store, queue, states, queue.cancel), "cancel", as_json=as_json)


def _check(ids: tuple[str, ...], *, every: bool, state: State | None) -> None:
    if every and ids:
        raise UsageError("name jobs by their ids, or give --all, and not both")
    if not every and not ids:
        raise UsageError("name jobs by their ids, or give --all")
    if state is not None and not every:
        raise UsageError("--state goes with --all")


def _each_page(
    store: PlainStore, queue: PlainQueue[Any], states: list[State], deed: Callable[..., list[str]]
) -> Counter[str]:
    """Do something to all jobs that are in these states now, up to a thousand at a time."""
    began = store.carry(asked(time_of), "")
    found: Counter[str] = Counter()
    try:
        for state in states:
            after: str | None = None
            limit = FIRST
            while True:
                page = queue.find(state=state, limit=limit, after=after)
                limit = limit_after(page.jobs)
                ids = ids_until(page.jobs, began)
                if ids:
                    found.update(deed(*ids))
                after = page.next
                if after is None:
                    break
    except KeyboardInterrupt:
        tell(f"stopped: {_summary(found) or 'nothing was done'}")
        raise
    return found


def _tell_each(queue: PlainQueue[Any], ids: tuple[str, ...], became: list[str], *, as_json: bool) -> int:
    if as_json:
        results = [{"id": id, "result": word} for id, word in zip(ids, became, strict=True)]
        say_json({"queue": queue.name, "jobs": results})
    else:
        for id, word in zip(ids, became, strict=True):
            say(f"{safe_text(id, MOST)} {_WORDS[word][0]}")
    return 0 if set(became) <= _WELL else 1


def _tell_all(queue: PlainQueue[Any], found: Counter[str], deed: str, *, as_json: bool) -> int:
    if as_json:
        say_json({"queue": queue.name, "results": dict(found)})
    else:
        say(f"{queue.name}: {_summary(found) or f'there is nothing to {deed}'}")
    return 0 if set(found) <= _WELL else 1


def _summary(found: Counter[str]) -> str:
    return "; ".join(f"{number} {_WORDS[word][number != 1]}" for word, number in found.items())


def run_pause(store_url: str, queue_name: str | None, *, pause: bool, as_json: bool) -> int:
    """Pause a queue, or let it go on."""
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        before = queue.counts().paused
        (queue.admin.pause if pause else queue.admin.resume)()
        counts = queue.counts()
    if as_json:
        say_json({"queue": queue.name, "paused": counts.paused, "before": before})
        return 0
    word = "paused" if pause else "running"
    already = " already" if before == pause else ""
    if pause:
        rest = (
            f"{number_of(counts.ready, 'ready job waits', 'ready jobs wait')}, {counts.leased} leased go on"
        )
    else:
        rest = number_of(counts.ready, "job is ready", "jobs are ready")
    say(f"{queue.name} is {word}{already}: {rest}")
    return 0


def run_purge(store_url: str, queue_name: str | None, *, state: State, yes: bool, as_json: bool) -> int:
    """Delete all jobs of a state, for good."""
    if state == "leased":
        raise UsageError("jobs that are leased cannot be purged: cancel them first")
    with opened(store_url) as store:
        queue = chosen(store, queue_name)
        number = getattr(queue.counts(), state)
        if number:
            _confirm(f"delete {number_of(number, f'{state} job')} of {queue.name} for good", yes=yes)
        removed = 0
        ask = queue._asking.purge(state)
        try:
            while True:
                part = queue.carry(ask)
                removed += part
                if part < 1000:
                    break
        except KeyboardInterrupt:
            tell(f"stopped: {number_of(removed, 'job was', 'jobs were')} deleted")
            raise
    if as_json:
        say_json({"queue": queue.name, "state": state, "purged": removed})
    else:
        say(f"{queue.name}: {number_of(removed, f'{state} job was', f'{state} jobs were')} deleted")
    return 0


def _confirm(what: str, *, yes: bool) -> None:
    """Ask on a terminal; elsewhere it has to be said beforehand.

    Raises:
        UsageError: If the answer is no, or there is nobody to ask.
    """
    if yes:
        return
    if not (sys.stdin.isatty() and sys.stderr.isatty()):
        raise UsageError(f"to {what} give --yes, as there is no terminal to ask at")
    print(f"{what[0].upper()}{what[1:]}? [y/N] ", end="", file=sys.stderr, flush=True)
    if sys.stdin.readline().strip().lower() not in {"y", "yes"}:
        raise UsageError("nothing was done")
