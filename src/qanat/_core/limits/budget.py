"""What a service lets you use: calls, tokens, money, several of them at once."""

from __future__ import annotations

from math import inf
from typing import TYPE_CHECKING, Any, ClassVar, cast

from qanat._core.arguments import number, plain, positive_seconds, rate_in_words, whole
from qanat._core.costs import REQUESTS, amount_in
from qanat._core.limit import Limit, Refused
from qanat._core.limits.cost_window import CostWindow, Entry, Share
from qanat._core.limits.rate_text import read_rate

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._core.reason import Cause


class Budget(Limit):
    """Keep what jobs cost within rates of several currencies, and how many run at once.

    In any window of a rate's length the jobs that start cost at most its amount. What a job costs is
    said by the rule `cost`, before it starts and so perhaps as an estimate, and settled with
    `current_job().charge("tokens", 812)` once it is known. What was estimated too high is given back
    at once. What was estimated too low counts from when it is charged; what does not fit any more
    is an overdraft: nothing starts until the budget has made up for it, so that over any
    length of time no more is used than the rate allows.

    A job's cost in a currency:

    - `cost` gives a mapping: what it says. A currency that it leaves out is 0, known only once it is
      charged; it has to name at least one.
    - `cost` gives a number, 1 without the rule: that, in every currency.
    - The currency `requests` counts calls: each is 1, whatever the number, unless a mapping names it.

    An attempt that failed has cost what it was counted with, and a retry costs anew. A job that costs
    more than a whole window holds could never start and fails with a `ValueError`.

    Counting is exact for up to 4,096 different times of start in a window. Beyond that starts count
    up to 1/4096 of the window too long, so that memory is bounded.

    Args:
        name: What `Throttled(limit=name)` and messages call it.
        concurrency: How many jobs run at once; None is any number.
        **currencies: What each may be used in a time, such as `requests="3000/m"` or
            `tokens="250000/m"`.

    Raises:
        TypeError: If an argument is of the wrong kind, or there is nothing to limit.
        ValueError: If a number is out of range, or a text is no rate.

    Examples:
        >>> from qanat._core.limits import Budget
        >>> budget = Budget("openai", requests="3000/m", tokens="250000/m", concurrency=64)
        >>> print(budget)
        openai: 3000/m requests, 250000/m tokens, 64 at once
        >>> budget.resize(tokens="500000/m")
        >>> budget
        Budget('openai', requests='3000/m', tokens='500000/m', concurrency=64)
    """

    __slots__ = ("_at_once", "_counted", "_is_resized", "_name", "_open", "_running", "_windows")

    cause: ClassVar[Cause] = "budget"

    def __init__(self, name: str, *, concurrency: int | None = None, **currencies: str) -> None:
        if not isinstance(cast("object", name), str):
            raise TypeError(f"name must be a text, got {name!r}")
        if not name:
            raise ValueError("name must not be empty, got ''")
        if concurrency is None and not currencies:
            raise TypeError(
                f'currencies must name at least one, got none: write Budget({name!r}, requests="3000/m")'
            )
        self._name = name
        self._at_once: float = inf if concurrency is None else whole("concurrency", concurrency, 1)
        self._windows = {each: CostWindow(*_read(each, rate)) for each, rate in currencies.items()}
        self._counted = tuple((each, window, each == REQUESTS) for each, window in self._windows.items())
        self._running = 0
        self._is_resized = False
        # For each job that runs, by identity, what it has in each window.
        self._open: dict[int, list[Entry | Share | None]] = {}

    @property
    def name(self) -> str:
        """What the budget is called."""
        return self._name

    @property
    def currencies(self) -> tuple[str, ...]:
        """The currencies that it counts."""
        return tuple(self._windows)

    def resize(self, *, concurrency: int | None = None, **currencies: str) -> None:
        """Change rates, or how many run at once; what is not named stays as it is.

        What was used before counts. Jobs that run go on, and so do those that wait, at once if
        there is more room now.

        Args:
            concurrency: How many jobs run at once.
            **currencies: The new rates; their windows may have another length.

        Raises:
            TypeError: If an argument is of the wrong kind.
            ValueError: If a currency is not one of the budget's, or a value is out of range.
        """
        for each in currencies:
            if each not in self._windows:
                raise ValueError(
                    f"{each} must be a currency of Budget {self._name!r}, which counts "
                    f"{_listed(self.currencies)}: make a new Budget for others"
                )
        rates = {each: _read(each, rate) for each, rate in currencies.items()}
        if concurrency is not None:
            self._at_once = whole("concurrency", concurrency, 1)
        for each, (most, per) in rates.items():
            self._windows[each].resize(most, per)
        self._is_resized = True
        self.changed()

    def ready_at(self, job: Job[Any], now: float) -> float:
        """Return when every window has room for the job's cost; infinity while too many run.

        Raises:
            Refused: If the job costs more than a whole window holds.
        """
        if self._running >= self._at_once:
            return inf
        latest = now
        number, named = _told_apart(job.cost)
        is_misspelt = named is not None
        for name, window, is_requests in self._counted:
            amount = 1.0 if is_requests else number
            if named is not None and name in named:
                amount = named[name]
                is_misspelt = False
            if window.load + amount > window.room:
                if amount > window.room:
                    raise Refused(self._too_dear(name, amount, window))
                at = window.free_at(amount, now)
                if at > latest:
                    latest = at
        if is_misspelt and named is not None:
            self._check_names(named)
        return latest

    def take(self, job: Job[Any], now: float) -> None:
        """Count the job's cost in every window, and one more that runs."""
        self._running += 1
        begins_at = now + self._precision
        number, named = _told_apart(job.cost)
        held: list[Entry | Share | None] = []
        for name, window, is_requests in self._counted:
            amount = 1.0 if is_requests else number
            if named is not None:
                amount = named.get(name, amount)
            held.append(window.take(amount, now, begins_at))
        self._open[id(job)] = held

    def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
        """Settle a job's cost in one of the currencies, and wake who waits if that made room."""
        held = self._open.get(id(job))
        if held is None or currency not in self._windows:
            return
        place = self.currencies.index(currency)
        window, share = self._windows[currency], held[place]
        if not isinstance(share, Share):
            share = held[place] = window.share(share, amount_in(job.cost, currency))
        if window.charge(share, delta, now):
            self.changed()

    def replaced(self, job: Job[Any], held: Job[Any]) -> None:
        """Keep what the job has under another one, which is charged and given back in its place."""
        self._open[id(held)] = self._open.pop(id(job))

    def give_back(self, job: Job[Any], outcome: Outcome[Any, Any], now: float) -> None:
        """Count one less that runs; what it cost stays counted."""
        self._open.pop(id(job), None)
        self._running -= 1
        if self._running == self._at_once - 1:
            self.changed()

    def fresh_at(self, now: float) -> float:
        """Return when all windows are empty; infinity while jobs run, or if it was resized."""
        if self._running or self._is_resized:
            return inf
        return max((window.empty_at() for window in self._windows.values()), default=now)

    def _check_names(self, cost: Mapping[str, float]) -> None:
        """Refuse a cost that names no currency of ours: it is misspelt, or would count for nothing."""
        windows = self._windows
        if any(each != REQUESTS for each in windows):
            raise Refused(
                ValueError(
                    f"cost must name a currency of Budget {self._name!r}, which counts "
                    f"{_listed(self.currencies)}, got {cost!r}: give 0 for what is known only afterwards"
                )
            )

    def _too_dear(self, name: str, amount: float, window: CostWindow) -> ValueError:
        rate = rate_in_words(window.most, window.per)
        return ValueError(
            f"cost must fit into Budget {self._name!r}, which holds {plain(window.most)} {name} in a window "
            f"({rate}), got {plain(float(amount))}: split the item, or give the budget the same rate over "
            "a longer time"
        )

    def __str__(self) -> str:
        words = [f"{rate_in_words(each.most, each.per)} {name}" for name, each in self._windows.items()]
        if self._at_once < inf:
            words.append(f"{self._at_once} at once")
        return f"{self._name}: {', '.join(words)}"

    def __repr__(self) -> str:
        words = [f"{name}={rate_in_words(each.most, each.per)!r}" for name, each in self._windows.items()]
        if self._at_once < inf:
            words.append(f"concurrency={self._at_once}")
        return f"Budget({', '.join([repr(self._name), *words])})"


def _told_apart(cost: float | Mapping[str, float]) -> tuple[float, Mapping[str, float] | None]:
    """Return what a cost is in currencies that it does not name, and the mapping if it is one."""
    return (cost, None) if isinstance(cost, (float, int)) else (0.0, cost)


def _read(name: str, rate: str) -> tuple[float, float]:
    """Return how much in how many seconds, in lowest terms, as for `rate=`."""
    n, per, evenly = read_rate(rate, name)
    if evenly:
        raise ValueError(
            f"{name} must be a rate without evenly, got {rate!r}: put a Spacing beside the budget"
        )
    return number(name, n.numerator), positive_seconds(name, rate, per * n.denominator)


def _listed(names: tuple[str, ...]) -> str:
    return ", ".join(names) or "no currency"
