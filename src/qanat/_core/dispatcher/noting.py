"""What a recording notes of batches and of the checks of limits, and how a replay is told of it.

A batch is a job that starts like any other, and a note says who its members are. Its end is a note, too:
what the handler said of each member, and what became of each.

A check answers a limit past the dispatcher. So the recorder stands between the limits and the driver that
calls their checks, and notes each answer. Limits with checks are numbered as nodes begin to use them, which
comes out the same in a replay.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._core.batch import answers_in
from qanat._core.job import RUNNING, SCHEDULED

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._core.batch import BatchJob
    from qanat._core.checks import Checked, Checker, Keeper
    from qanat._core.job import Job
    from qanat._core.limit import Limit
    from qanat._core.outcome import Outcome

LEFT, AGAIN = "left", "again"


class UnreadableError(Exception):
    """Say that what a handler returned for a batch is no answer, and why."""

    def __init__(self, problem: Exception) -> None:
        """Keep what was wrong."""
        super().__init__(str(problem))
        self.problem = problem


class Unreadable:
    """Stand for what a handler returned that was no answer for a batch: reading it raises the same."""

    def __init__(self, problem: BaseException) -> None:
        """Keep what is raised."""
        self._problem = problem

    def __len__(self) -> int:
        raise self._problem

    def __getitem__(self, index: int) -> Any:
        raise self._problem

    def __iter__(self) -> Any:
        raise self._problem


def read_answers(value: Any, count: int) -> list[Any]:
    """Return what a handler returned for a batch as a list; it is read but once.

    Raises:
        UnreadableError: If it is no answer.
    """
    try:
        found = answers_in(value, count)
    except Exception as problem:  # noqa: BLE001 - what the handler returned may do anything
        raise UnreadableError(problem) from None
    return [value if error is None else error for value, error in found]


def left_of(batch: BatchJob) -> list[bool]:
    """Return which members still run, so that the end of the call is theirs."""
    return [member._status == RUNNING for member in batch.members]


def results_of(
    batch: BatchJob, ran: list[bool], ended: Iterable[tuple[Job[Any], Outcome[Any, Any]]]
) -> list[list[Any]]:
    """Return what became of each member at the end of a call, and when it is due if it comes again."""
    states = {job.index: outcome.state for job, outcome in ended}
    results: list[list[Any]] = []
    for member, was_in in zip(batch.members, ran, strict=True):
        history = member._history
        due_at = history.due_at if member._status == SCHEDULED and history is not None else None
        results.append([states.get(member.index, AGAIN) if was_in else LEFT, due_at])
    return results


class Numbers:
    """The limits with checks that nodes use, numbered as they came."""

    def __init__(self) -> None:
        """Begin with none."""
        self._counts: dict[int, int] = {}
        self._numbers: dict[int, int] = {}
        self._next = 0
        self.parts: dict[int, Checked] = {}

    def bound(self, part: Checked) -> int | None:
        """Count a node that has it; return its number if it is new."""
        key = id(part)
        self._counts[key] = self._counts.get(key, 0) + 1
        if self._counts[key] > 1:
            return None
        number = self._numbers[key] = self._next
        self.parts[number] = part
        self._next += 1
        return number

    def forgotten(self, part: Checked) -> int | None:
        """Count a node less; return its number if that was the last, and forget it."""
        key = id(part)
        self._counts[key] -= 1
        if self._counts[key]:
            return None
        del self._counts[key]
        number = self._numbers.pop(key)
        del self.parts[number]
        return number


class NotedChecks:
    """Stand between a driver that calls checks and the limits, and note what it tells them."""

    def __init__(self, keeper: Keeper, note: Callable[..., None], latest: Callable[[], float]) -> None:
        """Note with a function that takes a time and what is to be noted."""
        self._keeper = keeper
        self._note = note
        self._latest = latest
        self._numbers = Numbers()
        self._stand_ins: dict[int, _NotedPart] = {}
        self._is_open = False
        # Within these a replay knows by itself what is told.
        self._within = False

    def bound(self, limit: Limit) -> None:
        """Hear that a node has a limit."""
        self._tell(self._keeper.bound, [self._stand_in(part) for part in limit.checked_parts()])

    def _stand_in(self, part: Checked) -> _NotedPart:
        number = self._numbers.bound(part)
        if number is not None:
            self._stand_ins[id(part)] = _NotedPart(self, part, number)
        return self._stand_ins[id(part)]

    def forgotten(self, limit: Limit) -> None:
        """Hear that such a node is forgotten."""
        parts = list(limit.checked_parts())
        self._tell(self._keeper.forgotten, [self._stand_ins[id(part)] for part in parts])
        for part in parts:
            if self._numbers.forgotten(part) is not None:
                del self._stand_ins[id(part)]

    def _tell(self, tell: Callable[[Any], None], parts: list[_NotedPart]) -> None:
        if parts:
            self._within = True
            try:
                tell(_Parts(parts))
            finally:
                self._within = False

    def opened(self) -> None:
        """Hear that the driver begins to call checks."""
        if not self._is_open:
            self._is_open = True
            self._note(self._latest(), "checks")

    def removed(self, number: int) -> None:
        """Hear that the driver calls the check of one limit no more."""
        if not self._within:
            self._note(self._latest(), "unchecked", number)

    def answered(self, number: int, good: bool, now: float) -> None:
        """Hear what a check said."""
        self._note(now, "checked", number, good)


class _Parts:
    """Several limits with checks, as one limit that has them inside."""

    def __init__(self, parts: list[_NotedPart]) -> None:
        self._parts = parts

    def checked_parts(self) -> list[_NotedPart]:
        return self._parts


class _NotedPart:
    """A limit with a check, as the driver sees it."""

    def __init__(self, noted: NotedChecks, part: Checked, number: int) -> None:
        self._noted = noted
        self._part = part
        self._number = number
        self._checkers: dict[int, _Passing] = {}

    @property
    def check(self) -> Callable[[], Any] | None:
        return self._part.check

    @property
    def check_due_at(self) -> float:
        return self._part.check_due_at

    def check_ended(self, good: bool, now: float) -> None:
        self._part.check_ended(good, now)
        self._noted.answered(self._number, good, now)

    def add_checker(self, checker: Checker) -> None:
        self._noted.opened()
        passing = self._checkers[id(checker)] = _Passing(checker, self)
        self._part.add_checker(passing)

    def remove_checker(self, checker: Checker) -> None:
        passing = self._checkers.pop(id(checker), None)
        if passing is not None:
            self._noted.removed(self._number)
            self._part.remove_checker(passing)

    def __str__(self) -> str:
        return str(self._part)


class _Passing:
    """Who calls checks, told of the stand-in instead of the limit."""

    def __init__(self, checker: Checker, part: _NotedPart) -> None:
        self._checker = checker
        self._part = part

    def check_wanted(self, limit: Checked) -> None:
        self._checker.check_wanted(self._part)


class ReplayedChecks:
    """Stand for the driver of a recording, which called the checks of limits."""

    def __init__(self) -> None:
        """Call none until `open`."""
        self._numbers = Numbers()
        self._is_open = False

    def check_wanted(self, limit: Checked) -> None:
        """Hear that a check is to be called: what it said is in the recording."""

    def bound(self, limit: Limit) -> None:
        """Hear that a node has a limit."""
        for part in limit.checked_parts():
            if self._numbers.bound(part) is not None and self._is_open:
                part.add_checker(self)

    def forgotten(self, limit: Limit) -> None:
        """Hear that such a node is forgotten."""
        for part in limit.checked_parts():
            if self._numbers.forgotten(part) is not None:
                part.remove_checker(self)

    def open(self) -> None:
        """Be who calls the checks from now on."""
        self._is_open = True
        for part in self._numbers.parts.values():
            part.add_checker(self)

    def remove(self, number: int) -> None:
        """Call one of them no more."""
        self._numbers.parts[number].remove_checker(self)

    def answer(self, number: int, good: bool, now: float) -> None:
        """Tell a limit what its check said."""
        self._numbers.parts[number].check_ended(good, now)
