"""A recording once more: the same Dispatcher told the same, and its answers beside those noted."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, cast

from qanat._core.backoff import Backoff
from qanat._core.batch import Batch, BatchJob
from qanat._core.dispatcher.dispatcher import Dispatcher
from qanat._core.dispatcher.noting import AGAIN, ReplayedChecks, Unreadable, left_of, results_of
from qanat._core.flight import CALL, DONE, FAIL, NEXT, NONE, OFFER, OFFER_ALL, Entry, nonsense
from qanat._core.job import SCHEDULED, Job, Task
from qanat._core.orders import ORDERS
from qanat._core.retry import Retry
from qanat._core.specs import make_limit, rebuildable
from qanat.errors import Discard, RetryLater, Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.flight import Flight
    from qanat._core.limit import Limit
    from qanat._core.order import Order
    from qanat._core.ports import Random


class ReplayedError(Exception):
    """Stand for an error of the recording: its class is known by name, and what it asked for."""

    def __init__(self, names: list[str], retry_after: float | None) -> None:
        """Keep the names of its class and of those above it."""
        super().__init__(names[0])
        self.names = frozenset(names)
        self.retry_after = retry_after


class OpaqueError(ValueError):
    """Say what of a recording cannot be made again from the file alone."""


class Replay:
    """Replay one flight.

    Attributes:
        decisions: How many answers were compared, and were the same.
        difference: The first that was not, in words; None if there is none.
    """

    def __init__(
        self,
        flight: Flight,
        rng: Random,
        *,
        limits: tuple[Limit, ...] | None = None,
        make_order: Callable[[], Order] | None = None,
        lane_limits: Callable[[Any], Any] | None = None,
    ) -> None:
        """Make ready.

        Args:
            flight: The recording.
            rng: A source with the seed of the recording.
            limits: All limits of the run, instead of those that the recording names.
            make_order: The run's own order.
            lane_limits: The run's own function.

        Raises:
            OpaqueError: If something is not in the file, and was not given.
        """
        self._flight = flight
        header = flight.header
        self._make_order = make_order
        self._lane_limits = lane_limits
        if limits is None:
            limits = _made(header.limits, "limits")
        self._checks = ReplayedChecks()
        self._dispatcher = Dispatcher(
            rng=rng, capacity=math.inf if header.capacity is None else header.capacity,
            limits=limits, precision=header.precision, keeper=self._checks,
        )  # fmt: skip
        self._tasks: list[Task] = []
        self._jobs: dict[int, Job[Any]] = {}
        self._batches: dict[int, BatchJob] = {}
        self._held: dict[int, Job[Any]] = {}
        # What the user's functions said, by task and option, then by key, in order.
        self._answers: dict[tuple[int, str], dict[Any, list[Any]]] = {}
        # What they said at the end of an attempt, and when jobs came again, in order.
        self._whens: list[bool] = []
        self._backoffs: list[float | None] = []
        self._dues: list[float] = []
        self.decisions = 0
        self.difference: str | None = None

    def run(self) -> Replay:
        """Tell the dispatcher all of it, up to the first difference.

        Raises:
            OpaqueError: If something is not in the file, and was not given.
            FlightError: If an entry is none that can come there.
        """
        number = -1
        entries = enumerate(self._flight)
        while True:
            try:
                number, entry = next(entries, (number, None))
                if entry is None:
                    break
                got, wanted = self._tell(entry)
            except OpaqueError:
                raise
            except Exception as error:
                raise nonsense(number, error) from error
            if got != wanted:
                words = _WORDS.get(entry.kind, "the call")
                self.difference = (
                    f"entry {number} at {entry.at!r}, {words} {_about(entry)}: recorded {wanted}, now {got}"
                )
                break
            if wanted is not None:
                self.decisions += 1
        return self

    def _tell(self, entry: Entry) -> tuple[Any, Any]:
        """Tell one thing; return what was answered and what should have been, None if nothing is."""
        kind, index, at, note = entry.kind, entry.job, entry.at, entry.note
        dispatcher = self._dispatcher
        if kind in (NEXT, NONE):
            job = dispatcher.next(at)
            if isinstance(job, BatchJob):
                self._batches[job.index] = job
            return ("nothing" if job is None else job.index), (index if kind == NEXT else "nothing")
        if kind == DONE:
            job = self._jobs.pop(index)
            outcome = dispatcher.finish(job, None, None, at)
            return (AGAIN if outcome is None else outcome.state), "done"
        if kind == FAIL:
            return self._fail(index, at, note)
        if kind == CALL:
            return self._call(at, *note)
        if kind == OFFER_ALL:
            for each in range(index, index + note):
                self._offer(each, at)
        elif kind == OFFER:
            self._offer(index, at)
        else:
            task, lane, priority, cost, deadline, delay = note
            self._offer(index, at, task, delay, lane=lane, priority=priority, cost=cost, deadline=deadline)
        return None, None

    def _offer(self, index: int, at: float, task: int = 0, delay: float = 0.0, **fields: Any) -> None:
        job = self._jobs[index] = Job(index, None, index, self._tasks[task], **fields)
        self._dispatcher.offer(job, at, delay=delay)

    def _fail(self, index: int, at: float, note: Any) -> tuple[Any, Any]:
        facts, wall, cancelled, holding, self._whens, self._backoffs, result, due_at = note
        self._dues = [] if due_at is None else [due_at]
        job = self._jobs[index]
        error = rebuilt_error(facts)
        outcome = self._dispatcher.finish(job, None, error, at, wall, cancelled, holding)
        if outcome is not None:
            del self._jobs[index]
            return outcome.state, result
        due = job._history.due_at if job._status == SCHEDULED and job._history is not None else None
        return (AGAIN, due), (result, due_at)

    # --- calls -------------------------------------------------------------------------------

    def _call(self, at: float, name: str, *given: Any) -> tuple[Any, Any]:
        """Make a call; the dispatcher's own are made by their names."""
        dispatcher = self._dispatcher
        if name in _PLAIN:
            getattr(dispatcher, name)(at)
        elif name == "ended":
            return self._take_ended(), given[0]
        elif name == "drop_all":
            dispatcher.drop_all(at)
            return self._take_ended(), given[0]
        elif name == "end":
            counts = [dispatcher.done, dispatcher.failed, dispatcher.cancelled, dispatcher.retried]
            return counts, given[0]
        elif name == "cancel":
            job = self._jobs.get(given[0])
            return job is not None and dispatcher.cancel(job, at), given[1]
        elif name == "prioritise":
            job = self._jobs.get(given[0])
            return job is not None and dispatcher.prioritise(job, given[1], at), given[2]
        elif name in _OF_BATCHES:
            return self._call_of_batches(at, name, *given)
        elif name == "resize":
            dispatcher.resize(math.inf if given[0] is None else given[0], at)
        elif name == "answer":
            task, option, key, answer = given
            if option == "lane_limits" and self._lane_limits is None:
                answer = _made(answer, option)
            self._answers.setdefault((task, option), {}).setdefault(key, []).append(answer)
        else:
            self._call_of_job(at, name, *given)
        return None, None

    def _call_of_batches(self, at: float, name: str, *given: Any) -> tuple[Any, Any]:
        if name == "batch":
            batch = self._batches.get(given[0])
            return [member.index for member in batch.members] if batch else None, given[1]
        if name == "finish_batch":
            return self._finish_batch(at, *given)
        if name == "squeeze":
            return self._dispatcher.squeeze(at), given[0]
        self._dispatcher.hurry(at, wanted=given[0])
        return None, None

    def _finish_batch(
        self, at: float, index: int, answers: list[Any] | None, facts: Any, returned: bool, wall: float,
        cancelled: bool, holding: bool, whens: list[bool], backoffs: list[float | None],
        results: list[list[Any]],
    ) -> tuple[Any, Any]:  # fmt: skip
        """End the call of a batch; return what became of its members, and what did then."""
        batch = self._batches.pop(index)
        said = answers or [facts] * len(results)
        self._whens, self._backoffs = whens, backoffs
        self._dues = [
            due_at for (_, due_at), each in zip(results, said, strict=True)
            if due_at is not None and each is not None and each["kind"] == "error"
        ]  # fmt: skip
        error = rebuilt_error(facts)
        value: Any = None if answers is None else [rebuilt_error(each) for each in answers]
        if returned and error is not None:
            value, error = Unreadable(error), None
        ran = left_of(batch)
        self._dispatcher.finish(batch, value, error, at, wall, cancelled, holding)
        return results_of(batch, ran, self._dispatcher.ended), results

    def _running(self, index: int) -> Job[Any]:
        """Return what runs by the index: a batch has that of its first member."""
        return self._batches.get(index) or self._jobs[index]

    def _call_of_job(self, at: float, name: str, *given: Any) -> None:
        dispatcher = self._dispatcher
        if name == "checks":
            self._checks.open()
        elif name == "unchecked":
            self._checks.remove(given[0])
        elif name == "checked":
            self._checks.answer(given[0], given[1], at)
        elif name == "add_task":
            self._add_task(*given)
        elif name == "vary_task":
            base, retry, timeout = given
            self._tasks.append(self._task(base).varied(retry=self._retry(retry), timeout=timeout))
        elif name == "drop_task":
            dispatcher.drop_task(self._task(given[0]))
        elif name == "refuse":
            index, task = given
            dispatcher.refuse(Job(index, None, index, self._task(task)), ReplayedError([""], None), at)
        elif name == "hold":
            index, number, facts = given
            self._held[number] = dispatcher.hold(self._running(index), rebuilt_error(facts))
        elif name == "charge":
            index, number, currency, amount = given
            job = self._running(index) if number is None else self._held[number]
            dispatcher.charge(job, currency, amount, at)
        elif name == "sense":
            signal, value = given
            dispatcher.sense(signal, value, at)
        else:
            assert name == "release"  # noqa: S101 - there are no others
            dispatcher.release(self._held.pop(given[0]), None, rebuilt_error(given[1]), at)

    def _task(self, number: int) -> Task:
        return self._tasks[number]

    def _take_ended(self) -> list[int]:
        ended = [job.index for job, _ in self._dispatcher.ended]
        self._dispatcher.ended.clear()
        for index in ended:
            self._jobs.pop(index, None)
        return ended

    # --- what a recording names ----------------------------------------------------------------

    def _add_task(self, name: str, kept: dict[str, Any]) -> None:
        options: dict[str, Any] = {}
        number = len(self._tasks)
        for option, value in kept.items():
            if option == "retry":
                options[option] = self._retry(value)
            elif option == "make_order":
                options[option] = self._order(value)
            elif (told := _told(value, "opaque")) is not None:
                raise OpaqueError(told)
            elif option == "limits":
                options[option] = _made(value, "limits")
            elif option == "batch":
                options[option] = None if value is None else Batch(**value)
            elif _told(value, "answers") is not None:
                options[option] = self._answering(number, option)
            else:
                options[option] = value
        self._tasks.append(self._dispatcher.add_task(name, None, **options))

    def _order(self, kept: Any) -> Callable[[], Order]:
        if isinstance(kept, str):
            return ORDERS[kept]
        if self._make_order is None:
            raise OpaqueError("order")
        return self._make_order

    def _answering(self, task: int, option: str) -> Callable[[Any], Any]:
        """Return a function that says what was said in the run."""

        def answering(key: Any) -> Any:
            answer = self._answers[task, option][key].pop(0)
            if option != "lane_limits":
                return answer
            return answer if self._lane_limits is None else self._lane_limits(key)

        return answering

    def _retry(self, kept: dict[str, Any]) -> Retry:
        on, never_on = set(kept["on"]), set(kept["never_on"])

        def when(error: BaseException, _attempt: int) -> bool:
            names = getattr(error, "names", frozenset[str]())
            if names & never_on or not names & on:
                return False
            return not kept["when"] or self._whens.pop(0)

        def backoff(_attempt: int) -> float:
            if not self._backoffs:
                return self._dues.pop(0) - self._dispatcher.now
            said = self._backoffs.pop(0)
            if said is None:
                raise ReplayedError(["the backoff"], None)
            return said

        drawn = None if kept["backoff"] is None else Backoff(*kept["backoff"])
        return Retry(
            kept["times"], on=BaseException, when=when, backoff=drawn or backoff, deadline=kept["deadline"],
            budget=kept["budget"], max_throttles=kept["max_throttles"],
        )  # fmt: skip


_classes: dict[tuple[str, ...], type[ReplayedError]] = {}
_PLAIN = frozenset({"close", "pause", "resume"})
_OF_BATCHES = frozenset({"batch", "finish_batch", "squeeze", "hurry"})
_WORDS = {NEXT: "start", NONE: "start", DONE: "end of", FAIL: "failure of"}


def _about(entry: Entry) -> str:
    return (
        str(entry.note[0]) if entry.kind == CALL else f"job {entry.job}" if entry.kind != NONE else "of a job"
    )


def _told(value: Any, what: str) -> str | None:
    """Return what stands in place of an option that is no plain value, if this is one."""
    return cast("dict[str, str]", value).get(what) if isinstance(value, dict) else None


def _made(specs: list[str | None], what: str) -> tuple[Limit, ...]:
    made: list[Limit] = []
    for spec in specs:
        if spec is None:
            raise OpaqueError(what)
        made.append(make_limit(spec))
    return tuple(made)


def rebuilt_error(facts: dict[str, Any] | None) -> BaseException | None:
    """Return what stands for a recorded error; None if there was none."""
    if facts is None:
        return None
    kind = facts["kind"]
    if kind == "throttled":
        return Throttled(facts["retry_after"], limit=facts["limit"])
    if kind == "later":
        return RetryLater(facts["delay"])
    if kind == "discard":
        return Discard()
    return _class_of(tuple(facts["names"]))(facts["names"], facts["retry_after"])


def _class_of(names: tuple[str, ...]) -> type[ReplayedError]:
    """Return a class that stands for one of these names: called so, and of the built-in ones above it."""
    found = _classes.get(names)
    if found is None:
        above: list[type] = []
        for name in names:
            built_in = rebuildable(name)
            # Those above it come with it.
            if built_in is not None and not any(issubclass(each, built_in) for each in above):
                above.append(built_in)
        # Called as it was then, so that counts by type read as they did.
        name = names[0].rpartition(".")[2]
        found = _classes[names] = type(name, (ReplayedError, *above), {})
    return found
