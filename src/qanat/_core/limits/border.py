"""The one rule by which every limit adds a length of time to a point in time."""

from __future__ import annotations

from math import inf, nextafter


def border(start: float, length: float) -> float:
    """Return the first float that is neither before `start + length` nor closer to `start`.

    The sum of two floats is rounded, perhaps down, and then `(start + length) - start` is less than
    `length`: a job that starts at that time would stand inside the window that it was to leave.
    One float further it never does.

    Limits store this time and compare it with the time of asking. They never compute
    `now - start >= length` when asked, as rounding could say no to that at the very time they
    named, and whoever asks would spin.
    """
    end = start + length
    return nextafter(end, inf) if end - start < length else end
