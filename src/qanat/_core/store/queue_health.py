"""What the state of a queue means for who waits for its jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._core.store.finding import Finding, span_in_words

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat._core.store.values import Counts

SHOWN: Final = 5
"""Contradictions that a finding shows; `Control.check` gives all."""


def queue_findings(
    name: str,
    counts: Counts,
    *,
    overdue: float = 0.0,
    problems: list[str] | None = None,
    mended: bool = False,
) -> list[Finding]:
    """Return what is found of one queue.

    Args:
        name: Which queue.
        counts: Its jobs.
        overdue: Seconds for which the longest expired lease has not been taken back.
        problems: What contradicts itself in it; None if nobody looked.
        mended: Whether that was mended, and a second look found nothing.
    """
    return [*_state(name, counts, overdue), *_check(name, problems, mended=mended)]


def _state(name: str, counts: Counts, overdue: float) -> Iterator[Finding]:
    title = f"queue {name}"
    read = (
        f"{counts.ready} ready, {counts.leased} leased, {counts.scheduled} scheduled, "
        f"{counts.waiting} waiting, {counts.dead} dead"
    )
    well = True
    if counts.paused:
        well = False
        yield Finding(title, "advice", f"paused, {read}", "no job of it is leased",
                      f"qanat resume --queue {name}")  # fmt: skip
    elif overdue > 0:
        well = False
        yield Finding(
            title, "advice", f"a lease expired {span_in_words(overdue)} ago, {read}",
            "any worker takes such jobs back at once, so none seems to run",
            f"qanat worker APP:FN --queue {name}",
        )  # fmt: skip
    elif counts.ready and not counts.leased:
        well = False
        yield Finding(
            title, "advice", read, "jobs are ready and none is leased, so no worker seems to run",
            f"qanat worker APP:FN --queue {name}",
        )  # fmt: skip
    if counts.dead:
        yield Finding(
            title, "advice", read if well else f"{counts.dead} dead",
            "jobs were given up, and are kept until they are retried or purged",
            f"qanat jobs --queue {name} --state dead, then qanat retry",
        )  # fmt: skip
    elif well:
        yield Finding(title, "ok", read)


def _check(name: str, problems: list[str] | None, *, mended: bool) -> Iterator[Finding]:
    if problems is None:
        return
    title = f"check {name}"
    if not problems:
        yield Finding(title, "ok", "counts, indexes, lanes, keys and families agree")
        return
    more = f"; and {len(problems) - SHOWN} more" if len(problems) > SHOWN else ""
    read = "; ".join(problems[:SHOWN]) + more
    if mended:
        yield Finding(title, "ok", read, "it was mended, and no job was deleted")
    else:
        yield Finding(title, "broken", read, "the queue contradicts itself, so jobs may not be found",
                      f"qanat doctor --queue {name} --check --repair")  # fmt: skip
