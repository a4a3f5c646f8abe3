"""The window that costs are counted in, beside a model that is slow and plain."""

from __future__ import annotations

import inspect
from math import inf
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.limits import cost_window
from qanat._core.limits.cost_window import CostWindow


class Model:
    """The law by itself: a list of all that was ever logged, in whole numbers."""

    def __init__(self, most: int, per: int) -> None:
        self.most, self.per = most, per
        self.log: list[list[Any]] = []  # when, how much, whose
        self.debt: list[list[Any]] = []  # how much, whose; who owes first is first
        self.now: float = 0

    def _inside(self, now: float) -> int:
        return sum(part[1] for part in self.log if part[0] + self.per > now)

    def _pay(self, now: float) -> None:
        while self.debt and self._inside(now) < self.most:
            owed = self.debt[0]
            paid = min(owed[0], self.most - self._inside(now))
            # What is paid late is nobody's: it can no longer be given back.
            self.log.append([now, paid, owed[1] if owed[2] == now else None])
            owed[0] -= paid
            if not owed[0]:
                self.debt.pop(0)

    def reach(self, now: float) -> None:
        """Pay the debt at each time at which something leaves."""
        while self.debt:
            leaves = [part[0] + self.per for part in self.log if self.now < part[0] + self.per <= now]
            if not leaves:
                break
            self.now = min(leaves)
            self._pay(self.now)
        self.now = now

    def fits(self, amount: int, now: float) -> bool:
        return not self.debt and self._inside(now) + amount <= self.most

    def take(self, job: int, amount: int, now: float) -> None:
        self.log.append([now, amount, job])

    def charge(self, job: int, delta: int, now: float) -> None:
        if delta > 0:
            self.debt.append([delta, job, now])
        else:
            off = -delta
            for owed in self.debt:
                if owed[1] == job:
                    less = min(off, owed[0])
                    owed[0] -= less
                    off -= less
            self.debt = [owed for owed in self.debt if owed[0]]
            for part in reversed(self.log):
                if part[2] == job and part[0] + self.per > now:
                    less = min(off, part[1])
                    part[1] -= less
                    off -= less
        self._pay(now)


STEPS = st.lists(
    st.tuples(
        st.integers(0, 12),  # sixteenths of a window since the step before
        st.sampled_from(["take", "take", "charge"]),
        st.integers(0, 10),  # how much
        st.integers(0, 5),  # whose
    ),
    max_size=25,
)


def check_window(steps: list[Any], most: int = 10, per: int = 16, cls: type[Any] = CostWindow) -> None:
    """Take what fits and charge what is known, and compare every answer with the model's."""
    window, model = cls(most, per), Model(most, per)
    now = 0
    jobs: list[list[Any]] = []  # share, what it is counted with
    for gap, what, amount, whose in steps:
        now += gap
        model.reach(now)
        if what == "take":
            fits = model.fits(amount, now)
            at = window.free_at(amount, now)
            assert (at <= now) == fits
            if fits:
                entry = window.take(amount, now, now)
                model.take(len(jobs), amount, now)
                jobs.append([window.share(entry, amount), amount])
            else:
                check_named(window, model, amount, at)
        elif jobs:
            job = whose % len(jobs)
            share, before = jobs[job]
            # Some truths are far above the window.
            true = amount if amount < 9 else amount * 7
            alone = all(owed[1] == job for owed in model.debt)
            if true < before and not alone:
                continue  # whose debt is paid first makes a difference, which the law leaves open
            told = window.free_at(5, now)
            made_room = window.charge(share, true - before, now)
            assert made_room or window.free_at(5, now) >= told, "an earlier answer, and nobody is told"
            model.charge(job, true - before, now)
            jobs[job][1] = true


def check_named(window: Any, model: Model, amount: int, at: float) -> None:
    """The named time is the true one: nothing fits before, and it fits then."""
    twin = Model(model.most, model.per)
    twin.log = [[*part] for part in model.log]
    twin.debt = [[*owed] for owed in model.debt]
    twin.now = model.now
    assert at == int(at)
    before = at - 0.5
    if before > twin.now:
        twin.reach(before)
        assert not twin.fits(amount, before), "named a time past the true one"
    twin.reach(at)
    assert twin.fits(amount, at), "named a time at which it does not fit"
    assert window.free_at(amount, at) <= at, "whoever asks at the named time spins"


@given(STEPS)
def test_window_is_the_model(steps: list[Any]):
    check_window(steps)


MUTANTS = {
    "one too many": ("self.room = most + most", "self.room = most + 1 + most"),
    "never leaves": ("border(now, self.per)", "border(now, 2 * self.per)"),
    "leaves early": ("border(now, self.per)", "border(now, 0.5 * self.per)"),
    "overdraft forgotten": ("        self._debt += delta\n", ""),
    "not paid from what leaves": ("            if self._debt:\n                self._pay(entry", "            if False:\n                self._pay(entry"),
    "debt paid for nothing": ("self._log(paid, now)", "[now, 0.0]"),
    "paid later": ("self._pay(entry[LEAVES_AT], None)", "self._pay(now, None)"),
    "nothing given back": ("            self.load -= off\n            amount -= off", "            amount -= off"),
    "gives back what has left": ("            entry[AMOUNT] = 0.0\n            if self._debt", "            if self._debt"),
    "too late after a debt": ("// twin.most - 1.0", "// twin.most + 1.0"),
    "skips a window too many": ("// self.per + 1.0)", "// self.per + 2.0)"),
    "skips and owes still": ("        self._debt -= rounds * total\n", ""),
}  # fmt: skip


def fixed_steps() -> list[list[Any]]:
    """Return steps that are always the same."""
    rng = Random(3)
    made: list[list[Any]] = []
    for _ in range(300):
        made.append(
            [
                (
                    rng.randrange(12),
                    rng.choice(["take", "take", "charge"]),
                    rng.randrange(11),
                    rng.randrange(6),
                )
                for _ in range(25)
            ]
        )
    return made


def mutated(old: str, new: str) -> Any:
    """Return the class made again from its source with one change in it."""
    source = inspect.getsource(CostWindow)
    assert source.count(old) == 1, f"{old!r} is not there just once"
    names = dict(vars(cost_window))
    exec("from __future__ import annotations\n" + source.replace(old, new), names)  # noqa: S102 - our own
    return names["CostWindow"]


def test_model_passes_what_is_not_changed():
    unchanged = mutated("class CostWindow", "class CostWindow")
    for steps in fixed_steps():
        check_window(steps, cls=unchanged)


@pytest.mark.parametrize("mutation", MUTANTS)
def test_model_catches(mutation: str):
    cls = mutated(*MUTANTS[mutation])
    with pytest.raises((AssertionError, IndexError)):
        for steps in fixed_steps():
            check_window(steps, cls=cls)


# --- what the model leaves open, or is too slow for --------------------------------------------


def test_what_one_job_gives_back_pays_the_debt_of_another_at_once():
    window = CostWindow(10, 60)
    first = window.share(window.take(4, 0, 0), 4)
    second = window.share(window.take(6, 5, 5), 6)
    window.charge(first, 5, 10)
    assert window.free_at(0, 10) == 65  # 4 of the 5 at 60, the last at 65
    assert window.charge(second, -6, 20)
    # 5 is logged at 20, and 1 is free.
    assert window.free_at(1, 20) == 20
    assert window.free_at(5, 20) == 60
    assert window.free_at(6, 20) == 80


def test_an_overdraft_that_was_none_is_taken_back():
    window = CostWindow(10, 60)
    share = window.share(window.take(10, 0, 0), 10)
    window.charge(share, 1_000_000, 1)
    assert window.charge(share, -1_000_000, 2)
    assert window.load == 10
    assert window.free_at(1, 2) == 60


def test_nothing_is_given_back_of_what_has_left():
    window = CostWindow(10, 60)
    share = window.share(window.take(10, 0, 0), 10)
    assert not window.charge(share, -10, 60)
    assert window.load == 0


def test_a_debt_of_a_million_windows_is_told_at_once():
    window = CostWindow(10, 60)
    share = window.share(window.take(4, 0, 0), 4)
    window.charge(share, 10_000_006, 30)
    # 4 at 0 and 6 at 30; from then on each again and again.
    assert window.free_at(4, 30) == 60_000_060
    assert window.free_at(5, 30) == 60_000_090
    window.take(4, 60_000_060, 60_000_060)
    assert window.load == 10
    assert window.free_at(1, 60_000_060) == 60_000_090


def test_a_debt_beyond_all_time_is_never_paid():
    window = CostWindow(1, 1e300)
    window.charge(window.share(window.take(1, 0, 0), 1), 1e300, 1)
    assert window.free_at(1, 1) == inf
    assert window.empty_at() == inf


def test_a_charge_long_after_the_start_counts_when_it_is_known():
    window = CostWindow(10, 60)
    share = window.share(window.take(1, 0, 0), 1)
    window.charge(share, 9, 100)
    assert window.free_at(2, 100) == 160


def test_fractions_are_counted_as_one_would_by_hand():
    window = CostWindow(1, 60)
    for second in range(10):
        assert window.free_at(0.1, second) == second
        window.take(0.1, second, second)
    assert window.free_at(0.1, 10) == 60
    assert window.free_at(1e-9, 10) == 60


def test_nothing_drifts():
    """However many fractions come and go, the window is empty when all have left."""
    window = CostWindow(3, 1)
    for number in range(5_000):
        window.take(0.1 + number % 7 / 30, number / 3, number / 3)
    window.take(0, 1e6, 1e6)
    assert window.load == 0.0


@given(st.lists(st.floats(0, 1), min_size=1, max_size=60), st.floats(0.01, 3))
def test_no_window_holds_more_than_it_may(amounts: list[float], gap: float):
    """With any floats, to twelve digits."""
    window, now = CostWindow(1, 1.7), 0.0
    log: list[tuple[float, float]] = []
    for amount in amounts:
        now = max(now + gap, window.free_at(amount, now + gap))
        window.take(amount, now, now)
        log.append((now, amount))
        assert sum(part for at, part in log if now - at < 1.7) <= 1 + 1e-12


def test_memory_is_bounded_and_nothing_is_forgotten():
    """Beyond so many starts in a window those that lie close together leave it together."""
    window, step = CostWindow(1e9, 60), 60 / 50_000
    for number in range(50_000):
        window.take(1, number * step, number * step)
    assert len(window._entries) <= 2 * cost_window.CELLS + 1
    assert window.load == 50_000
    late = window.free_at(1e9 - 40_000, 0) - (60 + 9_999 * step)
    assert 0 <= late <= 60 / cost_window.CELLS


def test_many_charges_of_one_job_take_little_room():
    window = CostWindow(1e9, 60)
    share = window.share(window.take(1, 0, 0), 1)
    for second in range(1_000):
        window.charge(share, 1, second)
    assert len(share.parts) <= 70


def test_a_later_start_counts_from_when_it_may_begin():
    window = CostWindow(1, 60)
    window.take(1, 0, 0.25)
    assert window.free_at(1, 1) == 60.25


# --- resizing ----------------------------------------------------------------------------------


def test_a_raise_makes_room_at_once_and_a_debt_has_it_first():
    window = CostWindow(10, 60)
    share = window.share(window.take(10, 0, 0), 10)
    window.charge(share, 15, 5)
    window.resize(20, 60)
    assert window.free_at(5, 10) == 60
    window.take(0, 10, 10)
    # 10 of the debt at 10, the last 5 at 60.
    assert window.free_at(5, 10) == 60
    assert window.free_at(6, 10) == 70


def test_a_cut_lets_what_was_taken_count():
    window = CostWindow(10, 60)
    for second in range(10):
        window.take(1, second, second)
    window.resize(3, 60)
    assert window.free_at(1, 10) == 67
    window.resize(10, 60)
    assert window.free_at(1, 10) == 60


def test_another_length_counts_from_the_starts():
    window = CostWindow(10, 60)
    window.take(10, 0, 0)
    window.resize(10, 3600)
    assert window.free_at(1, 1) == pytest.approx(3600, abs=1e-9)
    assert window.free_at(1, 1) >= 3600
    window.resize(10, 1)
    assert window.free_at(1, 0.5) == pytest.approx(1, abs=1e-9)
