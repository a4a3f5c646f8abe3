"""Events are values that observers may keep."""

from __future__ import annotations

import pytest

from qanat._core.events import RunEnded, RunStarted


def test_events_are_values():
    assert RunStarted(1.0, "run") == RunStarted(1.0, "run")
    assert RunEnded(2.0, {"done": 1}, {"rate": 0.5}).waits == {"rate": 0.5}


def test_an_event_never_changes():
    with pytest.raises(AttributeError):
        RunStarted(1.0, "run").at = 2.0  # type: ignore[misc]
