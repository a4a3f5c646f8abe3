"""What failed jobs and stopped runs mean for the caller."""

from __future__ import annotations

import reprlib
from asyncio import CancelledError
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

from qanat.errors import JobCancelledError, TooManyFailuresError

if TYPE_CHECKING:
    from qanat._app.outcomes import Outcomes
    from qanat._core.outcome import Outcome
    from qanat._engine.engine import Engine
    from qanat._engine.intake import Intake

FEWEST_FOR_SHARE = 20
"""Jobs that must have finished before a share of failures is judged."""

E = TypeVar("E", bound=BaseException)


class Tally(Protocol):
    """Whoever counts jobs by how they ended."""

    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def cancelled(self) -> int: ...


class FailureLimit:
    """Judge whether more jobs failed than `max_failures` allows: a count, or below 1 a share."""

    def __init__(self, most: float | None) -> None:
        """Keep the limit; None is any number."""
        self._most = most

    def judge(self, engine: Engine) -> bool:
        """Cancel an engine in which too many jobs have failed; True if that is so."""
        problem = self.exceeded_by(engine.dispatcher)
        if problem is None:
            return False
        engine.cancel(problem)
        return True

    def exceeded_by(self, tally: Tally) -> TooManyFailuresError | None:
        """Return the error that ends the run, if it is to end."""
        most = self._most
        if most is None:
            return None
        failed = tally.failed
        finished = tally.done + failed + tally.cancelled
        if isinstance(most, int):
            exceeded = failed > most
        else:
            exceeded = finished >= FEWEST_FOR_SHARE and failed > most * finished
        return TooManyFailuresError(failed, finished) if exceeded else None


def problem_of(engine: Engine, intake: Intake) -> BaseException | None:
    """Return what ended a run early, or what its source raised, with a note of where that was."""
    if engine.failure is not None:
        return engine.failure
    if intake.error is not None:
        add_note(intake.error, f"raised by the source of items after {intake.count} of them")
    return intake.error


def with_outcomes(error: E, outcomes: Outcomes[Any, Any]) -> E:
    """Attach what was done to an error, for `errors.outcomes_of`."""
    try:
        error._qanat_outcomes = outcomes  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001, S110 - it lets nothing be set, such as a frozen dataclass
        pass
    return error


def raisable(outcome: Outcome[Any, Any]) -> BaseException:
    """Return a failed job's error as it can be raised to a caller, saying which item it was.

    A CancelledError that a handler came by elsewhere would be taken for the cancellation of the
    caller, so it is raised as a `JobCancelledError`.
    """
    error = outcome.error
    assert error is not None  # noqa: S101 - asked of failed jobs only
    cause: BaseException = error
    if isinstance(error, CancelledError):
        error = cancelled_elsewhere(error)
    elif isinstance(error, StopIteration):
        # No coroutine can raise it; Python would make the same of it, without the note.
        error = RuntimeError("the handler raised StopIteration")
        error.__cause__ = cause
    times = "1 attempt" if outcome.attempts == 1 else f"{outcome.attempts} attempts"
    note = f"job {outcome.id} with item {_short(outcome.item)}, after {times}"
    notes = getattr(error, "__notes__", None)
    if not isinstance(notes, list) or note not in notes:
        add_note(error, note)
    return error


def cancelled_elsewhere(error: CancelledError) -> JobCancelledError:
    """Return the error of a job whose handler came by a CancelledError, as callers may be raised it."""
    raised = JobCancelledError("the handler awaited something that was cancelled elsewhere")
    raised.__cause__ = error
    return raised


def add_note(error: BaseException, note: str) -> None:
    """Add a note to an error, if that lets anything be added."""
    try:
        error.add_note(note)
    except Exception:  # noqa: BLE001, S110 - a frozen dataclass, for one
        pass


def _short(item: object) -> str:
    try:
        return reprlib.repr(item)
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        return f"<{type(item).__name__}, whose repr raised {type(error).__name__}>"
