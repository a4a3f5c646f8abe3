"""`qanat doctor`: whether what a store promises holds, and what mends it."""

from __future__ import annotations

import textwrap

from qanat._app.durable.operating import Examination, examination
from qanat._app.durable.store import open as open_store
from qanat._app.text import safe_text
from qanat._cli.operators import MOST, check_there, chosen, say, say_json, tell, width, wrapped
from qanat._cli.usage import UsageError
from qanat._core.store.finding import Finding, number_of
from qanat._core.store.levels import level_in_words
from qanat._stores.url import StoreUrl, parse_url
from qanat.errors import StoreError, StoreUnavailable

SLOW = 100_000
"""Live jobs from which a check is announced: a Redis server needs about a second and answers nobody."""
PATIENCE = 600
"""Seconds that a Redis server gets for a check."""
_MARKS = {"ok": "ok", "advice": "advice", "unverified": "unsure", "broken": "BROKEN"}


def run_doctor(
    store_url: str, queue_name: str | None, *, require: str | None, check: bool, repair: bool, as_json: bool
) -> int:
    """Examine a store; the exit status is 1 if a promise does not hold."""
    try:
        url = parse_url(store_url)
        opening = open_store(_patient(store_url, url) if check else store_url)
        ask = examination(queue_name, require, check=check, repair=repair)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error).replace("check=True, got check=False", "--check")) from None
    if url.kind == "sqlite":
        check_there(url)
    try:
        with opening as store:
            if queue_name is not None:
                chosen(store, queue_name)
            if check and url.kind in {"redis", "sentinel", "cluster"}:
                names = store.queues() if queue_name is None else [queue_name]
                for name in names:
                    _announce(name, store.queue(name).counts())
            found = store.carry(ask, "")
    except StoreError as error:
        found = Examination("", [_unusable(error)])
    _tell(url, found, as_json=as_json)
    return 0 if found.ok else 1


def _patient(text: str, url: StoreUrl) -> str:
    """Return a URL whose server gets the time that a look at every job takes, unless it says its own."""
    if url.kind in {"sqlite", "memory"} or "timeout" in url.options:
        return text
    return f"{text}{'&' if '?' in text else '?'}timeout={PATIENCE}"


def _announce(name: str, counts: object) -> None:
    live = sum(getattr(counts, state) for state in ("scheduled", "ready", "leased", "waiting", "dead"))
    if live >= SLOW:
        tell(
            f"checking {name}: {live} jobs take the server about {live / 125_000:.0f} s, "
            "and it answers nobody meanwhile"
        )


def _unusable(error: StoreError) -> Finding:
    away = isinstance(error, StoreUnavailable)
    mend = "see whether the server runs, and whether the URL is right" if away else ""
    return Finding("opening", "broken", str(error), "nothing can be put or leased", mend)


def _tell(url: StoreUrl, found: Examination, *, as_json: bool) -> None:
    if as_json:
        facts = [
            {
                "name": each.name,
                "verdict": each.verdict,
                "read": each.read,
                "means": each.means,
                "mend": each.mend,
            }
            for each in found.findings
        ]
        say_json({"store": str(url), "promises": found.level, "ok": found.ok, "findings": facts})
        return
    level = found.level
    promise = f"promises {level!r}: {level_in_words(level)}" if level else "cannot be used as it is"
    for line in wrapped(safe_text(f"{url} {promise}", MOST)):
        say(line)
    say("")
    name_width = max(len(each.name) for each in found.findings)
    room = width() or 100
    for each in found.findings:
        for line in _lines(each, name_width, room):
            say(line)
    say("")
    say(_verdict(found))


def _verdict(found: Examination) -> str:
    broken = sum(not each.ok for each in found.findings)
    unsure = sum(each.verdict == "unverified" for each in found.findings)
    left = f"{number_of(unsure, 'thing')} could not be looked at" if unsure else ""
    if broken:
        return "; ".join(filter(None, [number_of(broken, "promise does", "promises do") + " not hold", left]))
    return f"no promise is known to be broken, but {left}" if unsure else "all promises hold"


def _lines(finding: Finding, name_width: int, room: int) -> list[str]:
    """Return a finding in lines that fit: what was read, and below it what it means and what mends it."""
    head = f"{_MARKS[finding.verdict]:<8}{safe_text(finding.name):<{name_width}}  "
    if len(head) > room // 2:
        head = f"{_MARKS[finding.verdict]:<8}{safe_text(finding.name)}: "
    below = " " * 10
    lines = textwrap.wrap(
        safe_text(finding.read, MOST), max(room, 40), initial_indent=head, subsequent_indent=below
    )  # fmt: skip
    for text in (finding.means, f"mend: {finding.mend}" if finding.mend else ""):
        if text:
            lines += textwrap.wrap(
                safe_text(text, MOST), max(room, 40), initial_indent=below, subsequent_indent=below,
                break_on_hyphens=False, break_long_words=False,
            )  # fmt: skip
    return lines or [head]
