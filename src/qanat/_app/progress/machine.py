"""Progress for programs: one JSON object a line."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, TextIO

from msgspec import structs

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._app.progress.figures import Figures


class MachineView:
    """Write a `progress` object each second, `note` objects, and one `summary` at the end."""

    interval = 1.0
    redraws = False

    def __init__(self, stream: TextIO, _title: str) -> None:
        """Write nothing yet."""
        self._stream = stream

    def show(self, figures: Figures, rate: float | None, left: float | None, note: str | None) -> None:
        """Write the figures."""
        reason = figures.reason
        why = None
        if reason is not None:
            until = None if reason.until is None else max(0.0, round(reason.until - figures.at, 3))
            lane = None if reason.lane is None else str(reason.lane)
            why = {"cause": reason.cause, "limit": reason.limit, "lane": lane, "for": until}
        self._write(
            "progress",
            **_counts(figures),
            running=figures.running, at_once=figures.at_once, waiting=figures.waiting,
            scheduled=figures.scheduled, rate=_rounded(rate), left=_rounded(left), why=why, note=note,
            found=figures.found, longest=_longest(figures),
            kinds=[structs.asdict(kind) for kind in figures.kinds],
        )  # fmt: skip

    def say(self, text: str) -> None:
        """Write a text."""
        self._write("note", text=text)

    def close(self, lines: Sequence[str], figures: Figures | None) -> None:
        """Write the summary."""
        if figures is None:
            return
        waits = {cause: round(seconds, 3) for cause, seconds in figures.waits.items()}
        self._write("summary", **_counts(figures), waits=waits)

    def _write(self, event: str, **facts: Any) -> None:
        self._stream.write(json.dumps({"event": event, **facts}) + "\n")
        self._stream.flush()


def _counts(figures: Figures) -> dict[str, Any]:
    return {
        "seconds": round(figures.seconds, 3), "total": figures.total, "done": figures.done,
        "failed": figures.failed, "cancelled": figures.cancelled, "retried": figures.retried,
        "stood": {cause: round(seconds, 3) for cause, seconds in figures.stood.items()},
        "errors": [
            {
                "type": group.name, "count": group.count, "again": group.again, "sample": group.sample,
                "id": group.id,
            }
            for group in figures.errors
        ],
        "other_errors": figures.other_errors,
    }  # fmt: skip


def _longest(figures: Figures) -> dict[str, Any] | None:
    crowd = figures.crowd
    if crowd.oldest_at is None:
        return None
    return {"seconds": round(figures.at - crowd.oldest_at, 3), "id": crowd.oldest_id}


def _rounded(value: float | None) -> float | None:
    return None if value is None else round(value, 3)
