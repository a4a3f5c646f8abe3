"""How long to wait, from the headers of a response that asks for less.

There is one header that everybody agrees on, `Retry-After` (RFC 9110, section 10.2.3), and many that
services have made up: `x-ratelimit-reset-tokens: 6m0s` beside `x-ratelimit-remaining-tokens: 0`,
`x-ratelimit-reset: 1372700873`, `anthropic-ratelimit-tokens-reset: 2026-01-27T12:00:00Z`,
`RateLimit: "default";r=0;t=30` of an IETF draft, and others after these patterns. All of them come
from outside: what cannot be understood, or cannot be meant, is passed over.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

LONGEST_VALUE: Final = 1000
"""Characters beyond which a value is not looked at."""

EPOCH: Final = 1e9
"""From here on a number is UTC seconds since 1970, and no length of time: that would be 31 years."""
EPOCH_MS: Final = 1e12
"""From here on it is milliseconds since 1970."""

_NUMBER: Final = re.compile(r"[0-9]{1,30}(?:\.[0-9]{0,30})?", re.ASCII)
_LENGTH: Final = re.compile(r"(?:[0-9]{1,12}(?:\.[0-9]{1,12})?(?:ms|us|ns|d|h|m|s)){1,6}", re.ASCII)
_PART: Final = re.compile(r"([0-9.]+)(ms|us|ns|d|h|m|s)", re.ASCII)
_UNITS: Final = {"d": 86400.0, "h": 3600.0, "m": 60.0, "s": 1.0, "ms": 1e-3, "us": 1e-6, "ns": 1e-9}

_MILLISECONDS: Final = ("retry-after-ms", "x-ms-retry-after-ms")
_SECONDS: Final = ("retry-after", "x-ratelimit-retry-after", "x-retry-after")
_RESET: Final = re.compile(r"(?:.*-)?rate-?limit(?:-.*)?-reset(?:-.*)?")


def seconds_asked(headers: Mapping[str, str], wall: float, longest: float) -> float | None:
    """Return the seconds that a response asks to wait; None if it does not say, or not to be believed.

    A `Retry-After` wins. Without one the limits count that nothing is left of, the longest of them; if
    that is not told, the longest of all.

    Args:
        headers: The headers, with names in small letters.
        wall: The present time, UTC seconds since 1970. The response's own `Date` is taken instead if
            there is one, so clocks that disagree do no harm.
        longest: Seconds beyond which a header is not believed.
    """
    now = _date(headers.get("date", ""))
    if now is None:
        now = wall
    for name in _MILLISECONDS:
        found = _number(headers.get(name, ""))
        if found is not None and found / 1000.0 <= longest:
            return found / 1000.0
    for name in _SECONDS:
        asked = _until(headers.get(name, ""), now)
        if asked is not None and asked <= longest:
            return asked
    limits = [
        (left, reset)
        for left, reset in (*_drafted(headers), *_made_up(headers, now))
        if reset is not None and reset <= longest
    ]
    used_up = [reset for left, reset in limits if left is not None and left <= 0.0]
    # A limit that opens this very moment says nothing: waiting for it would be no waiting.
    return max(used_up or [reset for _, reset in limits], default=0.0) or None


def _made_up(headers: Mapping[str, str], now: float) -> Iterable[tuple[float | None, float | None]]:
    """Yield what is left and when it resets, for each header with `ratelimit` and `reset` in its name."""
    for name, value in headers.items():
        if _RESET.fullmatch(name):
            left = name.removesuffix("-after").replace("-reset", "-remaining")
            yield _number(headers.get(left, "")), _until(value, now)


def _drafted(headers: Mapping[str, str]) -> Iterable[tuple[float | None, float | None]]:
    """Yield what is left and when it resets, from the field `RateLimit` of the IETF's draft.

    It was `limit=100, remaining=0, reset=50`, and is `"default";r=0;t=50, "daily";r=7;t=9000` now.
    """
    value = headers.get("ratelimit", "")[:LONGEST_VALUE]
    members = value.split(",") if ";" in value else [value.replace(",", ";")]
    for member in members:
        pairs = dict(part.strip().split("=", 1) for part in member.split(";") if "=" in part)
        yield (
            _number(pairs.get("r", pairs.get("remaining", ""))),
            _number(pairs.get("t", pairs.get("reset", ""))),
        )


def _until(text: str, now: float) -> float | None:
    """Return the seconds until what a text names: a number of them, a length, a time of day or a date."""
    text = text.strip()[:LONGEST_VALUE]
    found = _number(text)
    if found is not None:
        if found < EPOCH:
            return found
        return max(0.0, (found if found < EPOCH_MS else found / 1000.0) - now)
    if _LENGTH.fullmatch(text):
        return sum(float(amount) * _UNITS[unit] for amount, unit in _PART.findall(text))
    date = _date(text)
    return None if date is None else max(0.0, date - now)


def _number(text: str) -> float | None:
    text = text.strip()
    return float(text) if _NUMBER.fullmatch(text) else None


def _date(text: str) -> float | None:
    """Return UTC seconds since 1970 for a date as of HTTP or of RFC 3339."""
    # Slow to import, and most runs never meet a date.
    from email.utils import parsedate_to_datetime

    text = text.strip()
    for read in (datetime.fromisoformat, parsedate_to_datetime):
        try:
            date = read(text)
            return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
        except (ValueError, TypeError, IndexError, OverflowError):
            continue
    return None
