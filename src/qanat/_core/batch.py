"""Batches: several items to a call of the handler, and what its answer means for each of them."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import KW_ONLY, dataclass
from reprlib import repr as short
from typing import TYPE_CHECKING, Any, Final, Literal, cast

from qanat._core.arguments import at_least, one_of, positive, whole
from qanat._core.job import Job
from qanat.errors import Discard, RetryLater, Throttled

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from qanat._core.job import Task

OnError = Literal["fail", "split"]
ON_ERROR: Final[tuple[OnError, ...]] = ("fail", "split")

Answer = tuple[Any, BaseException | None]
"""A member's value, or its error."""


@dataclass(frozen=True, slots=True)
class Batch:
    """Call the handler with a list of items instead of one, and say how the lists are made.

    The handler returns a sequence of the same length: for each item its value, or an exception
    instance if that one failed. Each item stays a job of its own, with its own attempts and outcome.

    A batch is made of jobs of one lane, in their order. It starts when it is full, that is when `size`
    jobs wait or their costs reach `max_cost`; when `within` has passed; or when nothing can come that
    would fill it, because the source has ended, the Pool is drained, or the buffer is full.

    Attributes:
        size: How many items a call gets at most; a whole number, at least 1.
        within: Seconds that a job waits at most for others to come; 0 takes what is there. None waits
            until the batch is full or nothing more can come, for ever in a Pool that nobody drains.
        max_cost: What the costs of a batch add up to at most. A single job that costs more goes alone.
            Each costs 1 unless `cost` says otherwise; of several currencies the largest counts.
        on_error: What an error that the handler raises means: "fail" is an error of every item;
            "split" calls it again with each half, until the items that it fails for are alone.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If a number is out of range, or `on_error` is another word.

    Examples:
        >>> from qanat import Batch
        >>> print(Batch(96, within=0.05))
        batches of 96 within 0.05 s
    """

    size: int
    _: KW_ONLY
    within: float | None = None
    max_cost: float | None = None
    on_error: OnError = "fail"

    def __post_init__(self) -> None:
        checked: dict[str, object] = {"size": whole("size", self.size, 1)}
        if self.within is not None:
            checked["within"] = at_least("within", self.within, 0.0)
        if self.max_cost is not None:
            checked["max_cost"] = positive("max_cost", self.max_cost)
        one_of("on_error", self.on_error, ON_ERROR)
        for name, value in checked.items():
            object.__setattr__(self, name, value)

    @property
    def in_words(self) -> str:
        """The batch's bounds in words."""
        words = f"of {self.size}"
        if self.max_cost is not None:
            words += f" or a cost of {self.max_cost:g}"
        if self.within is not None:
            words += f" within {self.within:g} s"
        return words

    def __str__(self) -> str:
        words = f"batches {self.in_words}"
        return words if self.on_error == "fail" else f"{words}, split on errors"


class BatchJob(Job[list[Any]], eq=False):
    """A batch on its way through the handler: its item is the list of its members' items."""

    _members: tuple[Job[Any], ...] = ()

    @property
    def members(self) -> tuple[Job[Any], ...]:
        """The jobs of the batch, in the order of the list."""
        return self._members


def size_of(cost: float | Mapping[str, float]) -> float:
    """Return the number that a cost counts against `max_cost`."""
    if type(cost) is float:  # nearly always, and a third of the price of asking for a Mapping
        return cost
    return max(cost.values(), default=0.0) if isinstance(cost, Mapping) else cost


def sum_of(costs: Iterable[float | Mapping[str, float]]) -> float | Mapping[str, float]:
    """Return what jobs cost together: a number, or one for each currency.

    Where some name currencies and others do not, a plain number counts in every currency.
    """
    plain, by_name = 0.0, list[Mapping[str, float]]()
    for cost in costs:
        if type(cost) is float:
            plain += cost
        elif isinstance(cost, Mapping):
            by_name.append(cost)
        else:
            plain += cost
    if not by_name:
        return plain
    names = dict.fromkeys(name for each in by_name for name in each)
    return {name: plain + sum(each.get(name, 0.0) for each in by_name) for name in names}


def task_of(members: Sequence[Job[Any]]) -> Task:
    """Return the task of a batch: its call may take as long as the most impatient member allows."""
    task = members[0]._task
    if all(member._task is task for member in members):
        return task
    timeouts = [each.timeout for each in (member._task for member in members) if each.timeout is not None]
    return task.varied(timeout=min(timeouts)) if timeouts else task


def make_batch(members: Sequence[Job[Any]], number: int) -> BatchJob:
    """Return a batch of jobs, of which there is at least one."""
    first = members[0]
    # Where all of them were before is where a retry does not go, if it can.
    target = first.target if all(member.target == first.target for member in members) else None
    deadlines = [member.deadline for member in members if member.deadline is not None]
    return BatchJob(
        f"batch-{number}", [member.item for member in members], first.index, task_of(members),
        offered_at=min(member.offered_at for member in members),
        priority=min(member.priority for member in members), lane=first.lane,
        attempt=max(member.attempt for member in members), cost=sum_of(member.cost for member in members),
        deadline=min(deadlines, default=None), target=target, _members=tuple(members),
    )  # fmt: skip


# Of a length, but not for items one by one, or in no order.
_NO_SEQUENCES: Final[tuple[type, ...]] = (str, bytes, bytearray, Mapping, AbstractSet)


def _is_sequence(value: object) -> bool:
    """Whether it is items of a known number one by one: a list, a tuple, an array."""
    is_indexed = hasattr(value, "__len__") and hasattr(value, "__getitem__")
    return is_indexed and not isinstance(value, _NO_SEQUENCES)


def answers_in(value: object, count: int) -> list[Answer]:
    """Return what a handler's return value means for each member of a batch.

    Raises:
        TypeError: If it is no sequence.
        ValueError: If it is of another length than the batch.
        Exception: What the value raises when it is read.
    """
    expected = f"a sequence of {count}, a value or an exception for each item of the batch"
    if not _is_sequence(value):
        raise TypeError(f"handler must return {expected}, got {short(value)}")
    found = list(cast("Sequence[object]", value))
    if len(found) != count:
        raise ValueError(f"handler must return {expected}, got {len(found)}: {short(value)}")
    return [(None, each) if isinstance(each, BaseException) else (each, None) for each in found]


def can_be_split(error: BaseException) -> bool:
    """Whether an error may be that of some members only; what a handler says on purpose is for all."""
    return isinstance(error, Exception) and not isinstance(error, (Throttled, Discard, RetryLater))


def halves(members: Sequence[Job[Any]]) -> tuple[list[Job[Any]], list[Job[Any]]]:
    """Return the two halves of a batch of at least two, the first the larger one."""
    middle = (len(members) + 1) // 2
    return list(members[:middle]), list(members[middle:])
