"""Outcomes are values: they say how a job ended, and never raise unless asked."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.outcome import Outcome


def outcome(**changes: Any) -> Outcome[Any, Any]:
    facts: dict[str, Any] = {
        "id": 1, "index": 0, "item": "item", "value": 42, "error": None, "state": "done", "attempts": 1,
        "lane": None, "metadata": None, "parent": None, "offered_at": 1.0, "started_at": 3.0, "ended_at": 6.0,
        "ran": 2.0,
    }  # fmt: skip
    return Outcome(**{**facts, **changes})


def test_a_success_gives_its_value():
    assert outcome().ok
    assert outcome().unwrap() == 42


def test_a_failure_raises_its_own_error():
    error = OSError("no")
    failed = outcome(value=None, error=error, state="dead")
    assert not failed.ok
    with pytest.raises(OSError, match="no") as caught:
        failed.unwrap()
    assert caught.value is error


def test_none_is_a_value():
    assert outcome(value=None).unwrap() is None


def test_waiting_is_all_time_outside_of_the_handler():
    assert outcome().waited == 3.0


def test_rounding_never_makes_a_wait_negative():
    assert outcome(offered_at=0.1, ended_at=0.3, ran=0.3 - 0.1 + 1e-16).waited == 0.0


def test_waits_by_cause_are_as_noted():
    assert outcome(lost={"rate": 2.0, "retry": 1.0}).waits == {"rate": 2.0, "retry": 1.0}


def test_one_cause_of_all_waiting_is_spelt_out():
    assert outcome(lost="concurrency").waits == {"concurrency": 3.0}


def test_without_waiting_there_is_no_cause():
    assert outcome(offered_at=4.0, lost="concurrency").waits == {}


def test_an_outcome_never_changes():
    with pytest.raises(AttributeError):
        outcome().value = 1  # type: ignore[misc]
