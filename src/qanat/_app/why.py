"""Why jobs waited, in a sentence: pure functions from seconds by cause to text."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

import msgspec

from qanat._app.text import safe_text
from qanat._core.limits import Concurrency

if TYPE_CHECKING:
    from qanat._core.dispatcher import Dispatcher

WORTH = 0.005
"""Shares of the waiting that are not told, and seconds of it in all that are none."""
FEW_LANES = 2
"""Lanes that are told by their names; the others are told by their number."""


class Held(msgspec.Struct, frozen=True):
    """What may hold up jobs, by name, and what their lanes did.

    Attributes:
        limits: The limits of all jobs in words, by the cause that they are waited for.
        slots: How many jobs could run at once; infinity if nothing said so.
        lanes: Seconds that jobs waited for their own lane's limits, by lane and cause; None is all
            other lanes.
        counts_full: Whether "concurrency" among the waits tells how long all slots were taken while
            jobs waited; with no limit at all they are read only when there is a slot.
    """

    limits: Mapping[str, str]
    slots: float = math.inf
    lanes: Mapping[str | None, Mapping[str, float]] = msgspec.field(
        default_factory=dict[str | None, Mapping[str, float]]
    )
    counts_full: bool = False


def held_of(dispatcher: Dispatcher) -> Held:
    """Return what may hold up the jobs of a run, and what its lanes did so far."""
    limits: dict[str, str] = {}
    slots = dispatcher.capacity
    for limit in dispatcher.tree.root.limits:
        if limit.cause == "throttled":
            continue
        words = str(limit)
        if isinstance(limit, Concurrency):
            slots = min(slots, limit.at_once)
            words = words.removesuffix(" at once")
        limits[limit.cause] = f"{limits[limit.cause]} and {words}" if limit.cause in limits else words
    if dispatcher.capacity < math.inf:
        limits["concurrency"] = f"{slots:g}"
    lanes = {None if lane is None else str(lane): waits for lane, waits in dispatcher.lane_waits.items()}
    return Held(limits, slots, lanes, dispatcher.counts_full)


def why_waited(waits: Mapping[str, float], held: Held | None = None) -> str:
    """Say what jobs waited for, and whether more at once would have helped.

    For one: `waited 4 m 12 s in all jobs together: 87% rate 100/s, 12% lane example.com;
    concurrency was never full, so raising it changes nothing`.

    Args:
        waits: Seconds by cause, all jobs together.
        held: The names of what they waited for; None is not known.

    Returns:
        A sentence without a full stop; an empty text if the waiting is not worth one.
    """
    total = math.fsum(waits.values())
    if total < WORTH:
        return ""
    return f"waited {duration_words(total)} in all jobs together: {shares_words(waits, held)}"


def shares_words(waits: Mapping[str, float], held: Held | None) -> str:
    """Say what the waiting was for: `87% rate 100/s, 12% lane example.com`."""
    total = math.fsum(waits.values())
    parts = sorted(_parts(waits, held).items(), key=lambda part: -part[1])
    told = [f"{seconds / total:.0%} {what}" for what, seconds in parts if seconds >= WORTH * total]
    return ", ".join(told) + _about_slots(waits.get("concurrency", 0.0) / total, held)


def _parts(waits: Mapping[str, float], held: Held | None) -> dict[str, float]:
    """Return seconds by what was waited for, lanes apart from what all jobs share."""
    held = held or Held({})
    names, lanes = held.limits, held.lanes
    left = dict(waits)
    by_lane: dict[str | None, float] = {}
    for lane, causes in lanes.items():
        for cause, seconds in causes.items():
            taken = min(seconds, left.get(cause, 0.0))
            if taken > 0.0:
                left[cause] -= taken
                by_lane[lane] = by_lane.get(lane, 0.0) + taken
    parts: dict[str, float] = {}
    for cause, seconds in left.items():
        name = safe_text(names.get(cause, ""), 60)
        parts[f"{cause} {name}" if name else cause] = seconds
    known = sorted((each for each in by_lane if each is not None), key=lambda each: -by_lane[each])
    for lane in known[:FEW_LANES]:
        parts[f"lane {safe_text(lane, 40)}"] = by_lane[lane]
    rest = math.fsum(seconds for lane, seconds in by_lane.items() if lane not in known[:FEW_LANES])
    if rest > 0.0:
        parts["other lanes"] = rest
    return parts


def _about_slots(share: float, held: Held | None) -> str:
    """Say whether more at once would have helped, where that can be known."""
    if held is None or held.slots == math.inf or not held.counts_full:
        return ""
    if share <= 0.0:
        return "; concurrency was never full, so raising it changes nothing"
    if share < 0.01:
        return "; concurrency was hardly ever full, so raising it changes little"
    return ""


def duration_words(seconds: float) -> str:
    """Say a length of time in its two largest units: `34 d 17 h`, `4 m 12 s`, `0.25 s`, `3 ms`."""
    if seconds < 0.1:
        return f"{seconds * 1000.0:.3g} ms" if seconds > 0.0 else "0 s"
    if seconds < 59.995:
        return f"{seconds:.2f} s"
    whole = round(seconds)
    for size, unit, next_size, next_unit in (
        (86400, "d", 3600, "h"), (3600, "h", 60, "m"), (60, "m", 1, "s"),
    ):  # fmt: skip
        if whole >= size:
            rest = whole % size // next_size
            return f"{whole // size:,} {unit} {rest} {next_unit}" if rest else f"{whole // size:,} {unit}"
    return f"{seconds:.2f} s"
