"""A `Throttled` from the response of an HTTP client."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from qanat._core.arguments import seconds
from qanat._core.rate_headers import LONGEST_VALUE, seconds_asked
from qanat._engine.clock import clock_in_use
from qanat.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Iterable


def throttle_from(response: object, *, limit: str | None = None, longest: float | str = "1d") -> Throttled:
    """Return a `Throttled` that waits for as long as a response asks: raise it from a handler.

    To be called where the other side asked for less, most often with status 429 or 503. It reads
    `Retry-After`, in seconds or as a date, and without that the headers of rate limits that are in
    use: `x-ratelimit-reset` and `-remaining` with and without kinds such as `-tokens`, as lengths,
    epochs or dates, `anthropic-ratelimit-...-reset`, and `RateLimit` of the IETF's draft. Of several limits
    that have nothing left the longest counts. What makes no sense is passed over; if nothing is left the
    wait is unknown, which is a second, doubled while it keeps happening.

    Args:
        response: A response of httpx, requests, aiohttp or urllib, an error that has one as
            `.response`, or anything else with `headers`.
        limit: The name of the limit to close instead of the job's lane.
        longest: The longest wait that is believed: seconds, or a text such as `"1h"`.

    Raises:
        TypeError: If the response has no headers, or an argument is of the wrong kind.
        ValueError: If `longest` is out of range.

    Examples:
        >>> from types import SimpleNamespace
        >>> from qanat import throttle_from
        >>> headers = {"x-ratelimit-remaining-tokens": "0", "x-ratelimit-reset-tokens": "1m30s"}
        >>> throttle_from(SimpleNamespace(status_code=429, headers=headers)).retry_after
        90.0
    """
    longest = seconds("longest", longest)
    found = _headers_of(response)
    if found is None:
        raise TypeError(
            "response must have headers, as those of httpx, requests, aiohttp and urllib have, "
            f"got {response!r}"
        )
    signal = Throttled(seconds_asked(found, clock_in_use().wall(), longest), limit)
    status = _status_of(response)
    if status is not None:
        signal.add_note(f"the response had status {status}")
    return signal


def _headers_of(response: object) -> dict[str, str] | None:
    """Return the headers by names in small letters, the first of each name; None if there are none."""
    headers: Any = getattr(response, "headers", None)
    if headers is None:
        headers = getattr(getattr(response, "response", None), "headers", None)
    if headers is None:
        return None
    try:
        pairs = list(cast("Iterable[object]", headers.items() if hasattr(headers, "items") else headers))
    except TypeError:
        return None
    found: dict[str, str] = {}
    for pair in pairs:
        if isinstance(pair, tuple) and len(cast("tuple[object, ...]", pair)) == 2:
            name, value = (_text(part) for part in cast("tuple[object, object]", pair))
            found.setdefault(name.lower(), value)
    return found


def _text(part: object) -> str:
    """Return a part of a header as a text; some clients leave them as bytes, and fakes use numbers."""
    text = part.decode("latin-1") if isinstance(part, bytes) else str(part)
    return text[:LONGEST_VALUE]


def _status_of(response: object) -> int | None:
    """Return the status by whichever name the client has it."""
    for each in (response, getattr(response, "response", None)):
        for name in ("status_code", "status", "code"):
            status = getattr(each, name, None)
            if isinstance(status, int):
                return status
    return None
