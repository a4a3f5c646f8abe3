"""`Outcomes` and `Summary`: all outcomes together."""

from __future__ import annotations

import pytest

import qanat
from qanat import Outcome, Outcomes, Summary
from qanat._app.outcomes import PART, put_in_order


def outcome(index: int, state: str = "done", *, lost: dict[str, float] | None = None, attempts: int = 1):
    error = KeyError("x") if state == "dead" else qanat.JobCancelledError() if state == "cancelled" else None
    return Outcome(
        id=index, index=index, item=f"item {index}", value=index if error is None else None, error=error,
        state=state,  # type: ignore[arg-type]
        attempts=attempts, lane=None, metadata=None, parent=None, offered_at=10.0, started_at=11.0 + index,
        ended_at=12.0 + index, ran=1.0, lost=lost or {},
    )  # fmt: skip


def test_values_are_those_of_the_successes():
    outcomes = Outcomes([outcome(0), outcome(1, "dead"), outcome(2, "cancelled"), outcome(3)])
    assert outcomes.values() == [0, 3]


def test_failed_are_those_that_failed_for_good():
    outcomes = Outcomes([outcome(0), outcome(1, "dead"), outcome(2, "cancelled"), outcome(3, "dead")])
    assert [each.index for each in outcomes.failed] == [1, 3]


def test_they_are_a_list():
    outcomes = Outcomes([outcome(0), outcome(1)])
    assert isinstance(outcomes, list)
    assert len(outcomes) == 2
    assert outcomes[1].index == 1


def test_the_repr_of_many_is_short():
    few, many = Outcomes([outcome(0)]), Outcomes([outcome(index) for index in range(10_000)])
    assert repr(few).startswith("Outcomes([Outcome(")
    assert "..." not in repr(few)
    assert repr(many).endswith("... 10,000 in all])")
    assert len(repr(many)) < 2000
    assert repr(Outcomes()) == "Outcomes([])"


def test_a_summary_counts():
    summary = Outcomes(
        [
            outcome(0, lost={"rate": 1.0}, attempts=3),
            outcome(1, "dead", lost={"rate": 0.5, "retry": 2.0}),
            outcome(2, "dead"),
            outcome(3, "cancelled", attempts=0),
        ]
    ).summary()
    assert summary == Summary(
        total=4, done=1, failed=2, cancelled=1, retried=2, seconds=5.0,
        waits={"rate": 1.5, "retry": 2.0}, errors={"KeyError": 2},
    )  # fmt: skip


def test_a_summary_of_nothing_is_nothing():
    summary = Outcomes().summary()
    assert (summary.total, summary.seconds) == (0, 0.0)
    assert str(summary) == "0 of 0 done in 0.00 s"


def test_a_summary_says_it_in_words():
    summary = Summary(
        total=1300, done=1200, failed=98, cancelled=2, retried=7, seconds=13.0,
        waits={"concurrency": 1.0, "rate": 3.0, "turn": 0.0}, errors={"ValueError": 90, "KeyError": 8},
    )  # fmt: skip
    assert str(summary) == (
        "1,200 of 1,300 done in 13.00 s, 100.0 a second\n"
        "98 failed, 2 cancelled, 7 retried\n"
        "  90 x ValueError\n"
        "  8 x KeyError\n"
        "waited 4.00 s in all jobs together: 75% rate, 25% concurrency"
    )


def test_a_summary_without_trouble_is_one_line():
    summary = Summary(
        total=2, done=2, failed=0, cancelled=0, retried=0, seconds=0.5, waits={"rate": 0.0001}, errors={}
    )
    assert str(summary) == "2 of 2 done in 0.50 s, 4.0 a second"


def test_unwrapping_gives_the_value_or_raises_the_error():
    assert outcome(3).unwrap() == 3
    with pytest.raises(KeyError):
        outcome(1, "dead").unwrap()


def test_waiting_is_what_is_not_running():
    assert outcome(2).waited == 3.0
    assert outcome(2, lost={"rate": 2.5}).waits == {"rate": 2.5}


def test_one_cause_of_all_waiting_is_said_with_its_time():
    plain = Outcome(
        id=0, index=0, item=0, value=0, error=None, state="done", attempts=1, lane=None, metadata=None,
        parent=None, offered_at=1.0, started_at=3.0, ended_at=4.0, ran=1.0, lost="concurrency",
    )  # fmt: skip
    assert plain.waits == {"concurrency": 2.0}


def test_errors_without_outcomes_carry_none():
    assert list(qanat.errors.outcomes_of(KeyError())) == []


@pytest.mark.parametrize(
    ("number", "missing", "turns"),
    [
        (0, 0, 0), (5, 0, 0), (PART, 0, 0), (PART + 1, 0, 1), (3 * PART, 0, 2),
        (0, 3, 0), (5, 3, 0), (PART, 3, 1), (3 * PART, 3, 5),
    ],
)  # fmt: skip
async def test_they_are_put_in_order_while_the_loop_runs(number: int, missing: int, turns: int):
    outcomes = Outcomes(outcome(index) for index in reversed(range(number)))
    checkpoints: list[None] = []

    async def checkpoint() -> None:
        checkpoints.append(None)

    placed = await put_in_order(outcomes, number + missing, checkpoint)
    assert [each.index for each in placed] == list(range(number))
    assert [each.index for each in outcomes] == list(reversed(range(number)))
    assert len(checkpoints) == turns
