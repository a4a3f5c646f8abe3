"""Figures to show."""

from __future__ import annotations

from typing import Any

from qanat._app.progress.figures import Figures


def some(**changes: Any) -> Figures:
    """Return figures of a run that has just begun, with these changes."""
    plain: dict[str, Any] = {
        "at": 100.0, "seconds": 10.0, "total": None, "done": 0, "failed": 0, "cancelled": 0, "retried": 0,
        "running": 0, "waiting": 0, "scheduled": 0, "reason": None, "waits": {},
    }  # fmt: skip
    return Figures(**{**plain, **changes})
