"""The figures of a run in words: pure functions from figures to lines of text."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._app.text import safe_text
from qanat._app.why import shares_words

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._app.progress.figures import Figures
    from qanat._core.reason import Reason

WORTH: Final = 0.01
"""Seconds of waiting of a job, on average, from which on the causes are worth telling."""
MOST_IDS: Final = 3
"""Jobs named one by one."""
SOON: Final = 1.0
"""Seconds of waiting that are not worth a number."""


def count_words(figures: Figures) -> str:
    """Say what has ended: `186 of 300 done, 3 failed, 12 retries`."""
    of = "" if figures.total is None else f" of {figures.total:,}"
    words = [f"{figures.done:,}{of} done"]
    if figures.recalled:
        words.append(f"{figures.recalled:,} of them from the journal")
    if figures.failed:
        words.append(f"{figures.failed:,} failed")
    if figures.cancelled:
        words.append(f"{figures.cancelled:,} cancelled")
    if figures.retried:
        words.append(f"{figures.retried:,} {'retry' if figures.retried == 1 else 'retries'}")
    return ", ".join(words)


def pace_words(rate: float | None, left: float | None) -> str:
    """Say how fast it goes and how long it will take: `42.1/s, about 0:12 left`."""
    words: list[str] = []
    if rate is not None:
        words.append(rate_words(rate))
    if left is not None:
        words.append(f"about {clock_words(left)} left")
    return ", ".join(words)


def rate_words(rate: float) -> str:
    """Say a rate in the unit that gives a number people can picture."""
    if rate >= 100.0:
        return f"{rate:,.0f}/s"
    if rate >= 1.0:
        return f"{rate:.1f}/s"
    return f"{rate * 60.0:.1f}/min" if rate * 60.0 >= 1.0 else f"{rate * 3600.0:.1f}/h"


def clock_words(seconds: float) -> str:
    """Say a length of time as a clock shows it: `0:07`, `1:02:03`, `3 d 04:05`."""
    whole = int(seconds + 0.5)
    days, rest = divmod(whole, 86400)
    hours, rest = divmod(rest, 3600)
    minutes, left = divmod(rest, 60)
    if days:
        return f"{days} d {hours:02}:{minutes:02}"
    return f"{hours}:{minutes:02}:{left:02}" if hours else f"{minutes}:{left:02}"


def stood_words(stood: Mapping[str, float]) -> str:
    """Say in which time nothing could start: `paused 0:12, throttled 0:40`; empty if there was none."""
    names = {"breaker": "circuit open"}
    return ", ".join(
        f"{names.get(cause, cause)} {clock_words(seconds)}"
        for cause, seconds in stood.items()
        if seconds >= SOON
    )


def stopping_words(times: int, running: int, longest: float | None, again: str) -> str:
    """Say what a run that was told to stop waits for, and what asking once more does.

    Args:
        times: How often it was asked.
        running: How many jobs run.
        longest: For how many seconds the oldest of them has run; None if none does.
        again: How it is asked: `Ctrl-C`.
    """
    jobs = "1 running job" if running == 1 else f"{running:,} running jobs"
    for_long = "" if longest is None or longest < SOON else f", the longest for {longest:.0f} s"
    if running == 1:
        for_long = for_long.replace(", the longest", "")
    if not running:
        return "stopping"
    if times < 2:
        return f"stopping: waits for {jobs}{for_long}; again {again} cancels them"
    return f"cancelling: waits for {jobs}{for_long} to end; again {again} ends at once"


def state_words(figures: Figures) -> str:
    """Say what runs and what waits, and why: `10 running of 12 at once, 104 waiting: rate 100/s`."""
    most = "" if figures.at_once is None else f" of {figures.at_once:,} at once"
    words = [f"{figures.running:,} running{most}"]
    if figures.left_behind:
        words[0] += f" ({left_behind_words(figures.left_behind)})"
    if figures.scheduled:
        words.append(f"{figures.scheduled:,} to be retried")
    if figures.waiting:
        words.append(f"{figures.waiting:,} waiting")
    said = ", ".join(words)
    return f"{said}: {reason_words(figures.reason, figures.at)}" if figures.reason is not None else said


def left_behind_words(ids: tuple[int | str, ...]) -> str:
    """Say which handlers a run has to wait for although their time is up."""
    shown = ", ".join(safe_text(each, 20) for each in ids[:MOST_IDS])
    more = f" and {len(ids) - MOST_IDS:,} more" if len(ids) > MOST_IDS else ""
    return f"past its time in a thread: job {shown}{more}"


_CAUSES: Final = {
    "concurrency": "all {limit} slots are taken",
    "rate": "the rate {limit}",
    "spacing": "the spacing {limit}",
    "budget": "the budget {limit}",
    "breaker": "the circuit breaker ({limit})",
    "throttled": "the other side asked for a pause",
    "delay": "not due yet",
    "retry": "waiting to retry",
    "paused": "paused",
    "turn": "about to start",
    "children": "waiting for child jobs",
    "batch": "waiting for a full batch {limit}",
}


def reason_words(reason: Reason, now: float) -> str:
    """Say why a job waits, and how long at least."""
    words = _CAUSES[reason.cause].format(limit=safe_text(reason.limit or "", 60)).replace("  ", " ").strip()
    if reason.lane is not None:
        words += f" (lane {safe_text(reason.lane, 40)})"
    if reason.until is not None and reason.until - now >= SOON:
        words += f", for {reason.until - now:.0f} s"
    return words


def error_lines(figures: Figures, most: int) -> list[str]:
    """Say which errors there were, a line for each type, so many lines at most."""
    groups = [group for group in figures.errors if group.count]
    if len(groups) + bool(figures.other_errors) > most > 1:
        most -= 1  # the last line is for the others
    lines = [
        f"{group.count:,} x {safe_text(group.name, 60)}: {safe_text(group.sample, 120)}"
        f" (job {safe_text(group.id, 60)})"
        for group in groups[:most]
    ]
    others = figures.other_errors + sum(group.count for group in groups[most:])
    return [*lines, f"{others:,} x other errors"] if others else lines


def summary_lines(figures: Figures) -> list[str]:
    """Say how a run ended, in a few lines."""
    speed = figures.finished / figures.seconds if figures.seconds > 0.0 else 0.0
    pace = f", {rate_words(speed)}" if speed > 0.0 else ""
    lines = [f"{count_words(figures)} in {_seconds_words(figures.seconds)}{pace}"]
    lines += [f"  {line}" for line in error_lines(figures, 10)]
    waited = sum(figures.waits.values())
    timed = figures.ended - figures.untimed - figures.recalled
    if waited >= WORTH * timed > 0.0:
        shares = shares_words(figures.waits, figures.held)
        lines.append(f"jobs waited {waited / timed:,.2f} s on average: {shares}")
    return lines


def _seconds_words(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds < 100.0 else clock_words(seconds)
