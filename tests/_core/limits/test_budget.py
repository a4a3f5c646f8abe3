"""`Budget`: several currencies at once, taken on estimates and settled."""

from __future__ import annotations

import inspect
import re
from math import inf
from random import Random
from typing import Any, cast

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._core.job import Job
from qanat._core.limit import Limit, Refused
from qanat._core.limits import Budget
from qanat._core.limits import budget as budget_module
from tests._core.dispatcher import world
from tests._core.driver import drive
from tests._core.limits.properties import OUTCOME, Ear


def job(cost: Any = 1.0) -> Job[None]:
    return Job(0, None, 0, cast("Any", None), cost=cost)


def start(budget: Budget, cost: Any, now: float) -> tuple[float, Job[None]]:
    """Start a job as soon as it may; return when, and the job."""
    each = job(cost)
    at = max(now, budget.ready_at(each, now))
    budget.take(each, at)
    return at, each


def refusal(budget: Budget, cost: Any) -> str:
    with pytest.raises(Refused) as caught:
        budget.ready_at(job(cost), 0.0)
    assert isinstance(caught.value.error, ValueError)
    return str(caught.value)


# --- what is counted ---------------------------------------------------------------------------


def test_every_currency_has_to_have_room():
    budget = Budget("api", requests="2/s", tokens="100/m")
    assert [start(budget, {"tokens": 10}, 0.0)[0] for _ in range(3)] == [0, 0, 1]
    assert start(budget, {"tokens": 71}, 1.0)[0] == 60
    assert start(budget, {"tokens": 19}, 60.0)[0] == 60
    assert start(budget, {"tokens": 10}, 60.0)[0] == 61


def test_a_number_counts_in_every_currency_but_requests():
    budget = Budget("api", requests="3/s", tokens="10/m", cents="100/m")
    start(budget, 5, 0.0)
    start(budget, 5.0, 0.0)
    assert [budget._windows[name].load for name in budget.currencies] == [2, 10, 10]


def test_without_a_cost_a_job_counts_one():
    budget = Budget("api", tokens="2/m")
    assert [start(budget, 1.0, 0.0)[0] for _ in range(3)] == [0, 0, 60]


def test_a_mapping_counts_what_it_names():
    budget = Budget("api", requests="10/m", input="10/m", output="10/m")
    start(budget, {"input": 7, "elsewhere": 9}, 0.0)
    assert [budget._windows[name].load for name in budget.currencies] == [1, 7, 0]
    start(budget, {"requests": 4}, 0.0)
    assert [budget._windows[name].load for name in budget.currencies] == [5, 7, 0]


def test_a_cost_that_names_nothing_of_it_is_misspelt():
    budget = Budget("api", requests="10/m", tokens="10/m")
    assert refusal(budget, {"token": 7}) == (
        "cost must name a currency of Budget 'api', which counts requests, tokens, got {'token': 7}: "
        "give 0 for what is known only afterwards"
    )


@pytest.mark.parametrize("budget", [Budget("api", requests="1/m"), Budget("api", concurrency=1)], ids=repr)
def test_a_budget_of_calls_needs_no_name(budget: Budget):
    assert budget.ready_at(job({"tokens": 7}), 0.0) == 0.0


def test_what_is_known_only_afterwards_waits_for_what_was_overdrawn():
    budget = Budget("api", output="10/m")
    first = start(budget, {"output": 0}, 0.0)[1]
    second = start(budget, {"output": 0}, 0.0)[1]
    budget.adjust(first, "output", 10, 5.0)
    assert start(budget, {"output": 0}, 6.0)[0] == 6
    budget.adjust(second, "output", 4, 7.0)
    assert start(budget, {"output": 0}, 8.0)[0] == 65


def test_a_job_that_never_fits_is_refused_with_what_would_work():
    budget = Budget("api", requests="10/m", tokens="100/m")
    assert budget.ready_at(job({"tokens": 100}), 0.0) == 0.0
    assert refusal(budget, {"tokens": 100.5}) == (
        "cost must fit into Budget 'api', which holds 100 tokens in a window (100/m), got 100.5: split the "
        "item, or give the budget the same rate over a longer time"
    )


def test_rates_are_brought_to_lowest_terms():
    budget = Budget("api", requests="0.05/s", tokens="2.5/s")
    assert str(budget) == "api: 1/20s requests, 5/2s tokens"
    assert refusal(budget, {"tokens": 6}).count("holds 5 tokens in a window (5/2s)") == 1


def test_starts_count_from_when_they_may_begin():
    budget = Budget("api", requests="1/s")
    budget.bind(1, cast("Any", None), 0.25)
    assert start(budget, 1, 0.0)[0] == 0
    assert start(budget, 1, 0.0)[0] == 1.25


# --- concurrency -------------------------------------------------------------------------------


def test_no_more_run_than_it_allows():
    budget, ear = Budget("api", concurrency=2), Ear()
    budget.listen(ear)
    jobs = [start(budget, 1, 0.0)[1] for _ in range(2)]
    assert budget.ready_at(job(), 0.0) == inf
    budget.give_back(jobs[0], OUTCOME, 1.0)
    assert (budget.ready_at(job(), 1.0), ear.heard) == (1.0, 1)
    budget.give_back(jobs[1], OUTCOME, 1.0)
    assert ear.heard == 1


def test_it_is_as_good_as_new_when_all_has_left():
    budget = Budget("api", requests="5/s", tokens="10/m", concurrency=3)
    assert budget.fresh_at(3.0) <= 3.0
    each = start(budget, 4, 3.0)[1]
    assert budget.fresh_at(3.0) == inf
    budget.adjust(each, "tokens", 16, 4.0)
    budget.give_back(each, OUTCOME, 4.0)
    at = budget.fresh_at(4.0)
    assert 124 <= at < inf
    assert start(budget, 10, at)[0] == at
    assert Budget("api", concurrency=3).fresh_at(7.0) == 7.0


# --- settling ----------------------------------------------------------------------------------


def test_what_was_estimated_too_high_is_given_back_and_wakes_who_waits():
    budget, ear = Budget("api", tokens="100/m"), Ear()
    budget.listen(ear)
    first = start(budget, 80, 0.0)[1]
    assert budget.ready_at(job(50), 1.0) == 60
    budget.adjust(first, "tokens", -30, 2.0)
    assert (budget.ready_at(job(50), 2.0), ear.heard) == (2.0, 1)
    budget.adjust(first, "tokens", 5, 3.0)
    assert (budget.ready_at(job(50), 3.0), ear.heard) == (60.0, 1)


def test_other_currencies_and_other_jobs_are_not_its_own():
    budget = Budget("api", tokens="100/m")
    each = start(budget, 80, 0.0)[1]
    budget.adjust(each, "cents", -80, 1.0)
    budget.adjust(job(80), "tokens", -80, 1.0)
    assert budget._windows["tokens"].load == 80


def test_what_outlives_its_attempt_is_settled_under_its_new_name():
    budget = Budget("api", tokens="100/m", concurrency=1)
    each, held = start(budget, 80, 0.0)[1], job(80)
    budget.replaced(each, held)
    budget.adjust(held, "tokens", -80, 1.0)
    assert budget._windows["tokens"].load == 0
    assert budget.ready_at(job(), 1.0) == inf
    budget.give_back(held, OUTCOME, 2.0)
    assert budget.ready_at(job(), 2.0) == 2.0


# --- arguments ---------------------------------------------------------------------------------

WRONG: dict[str, tuple[type[Exception], str, Any, dict[str, Any]]] = {
    "no name": (ValueError, "name must not be empty, got ''", "", {"requests": "1/s"}),
    "no text": (TypeError, "name must be a text, got 3", 3, {"requests": "1/s"}),
    "nothing": (
        TypeError, "currencies must name at least one, got none: write Budget('a', requests=\"3000/m\")", "a", {},
    ),
    "no rate": (TypeError, 'tokens must be a text such as "100/s", .* got 100', "a", {"tokens": 100}),
    "odd rate": (ValueError, "tokens must be a text such as .* got 'many'", "a", {"tokens": "many"}),
    "too much": (ValueError, "tokens must be a finite number, got 9999.*", "a", {"tokens": "9" * 400 + "/s"}),
    "zero": (ValueError, "tokens must be greater than 0, got '0/s'", "a", {"tokens": "0/s"}),
    "evenly": (
        ValueError, "tokens must be a rate without evenly, got '1/s evenly': put a Spacing beside the budget", "a",
        {"tokens": "1/s evenly"},
    ),
    "concurrency": (ValueError, "concurrency must be at least 1, got 0", "a", {"concurrency": 0}),
    "half": (TypeError, "concurrency must be a whole number, got 1.5", "a", {"concurrency": 1.5}),
}  # fmt: skip


@pytest.mark.parametrize(("error", "message", "name", "options"), WRONG.values(), ids=WRONG)
def test_wrong_arguments_are_refused(
    error: type[Exception], message: str, name: Any, options: dict[str, Any]
):
    with pytest.raises(error) as caught:
        Budget(name, **options)
    assert re.fullmatch(re.escape(message).replace(r"\.\*", ".*"), str(caught.value))


def test_a_currency_that_it_does_not_count_cannot_be_resized():
    with pytest.raises(
        ValueError, match=r"^cents must be a currency of Budget 'a', which counts tokens: make a"
    ):
        Budget("a", tokens="1/s").resize(cents="1/s")
    with pytest.raises(ValueError, match=r"which counts no currency"):
        Budget("a", concurrency=1).resize(cents="1/s")


def test_budget_is_said_in_words():
    budget = Budget("api", requests="3000/m", concurrency=3)
    assert str(budget) == "api: 3000/m requests, 3 at once"
    assert repr(budget) == "Budget('api', requests='3000/m', concurrency=3)"
    budget.resize(requests="50/s", concurrency=4)
    assert repr(budget) == "Budget('api', requests='50/s', concurrency=4)"
    assert (budget.name, budget.cause, budget.currencies) == ("api", "budget", ("requests",))


# --- under a dispatcher ------------------------------------------------------------------------


class Leaving(Limit):
    """Note who runs no more."""

    def __init__(self, running: set[int]) -> None:
        self.running = running

    def ready_at(self, job: Job[Any], now: float) -> float:
        return now

    def give_back(self, job: Job[Any], outcome: Any, now: float) -> None:
        self.running.discard(cast("int", job.id))


PLANS = st.lists(
    st.tuples(
        st.integers(0, 8),  # since the arrival before
        st.integers(0, 20),  # how long it runs
        st.integers(0, 10),  # its estimate
        st.none() | st.integers(0, 40),  # its true cost, if it is charged
        st.sampled_from([None, None, 3, 30]),  # cancelled so long after it arrived
        st.sampled_from("ab"),  # its lane
    ),
    min_size=1,
    max_size=15,
)


def run_plan(plan: list[Any], *, honest: bool, cls: Any = Budget) -> None:
    """Run jobs through a real dispatcher, and hold all starts and charges to what the budget promises."""
    per, most, calls, at_once = 16, 10, 4, 3
    budget = cls("api", requests=f"{calls}/{per}s", tokens=f"{most}/{per}s", concurrency=at_once)
    dispatcher = world.make(limits=[budget])
    task = world.add(dispatcher, uses_lanes=True)
    arrivals, cancels, now = [], [], 0
    for number, (gap, _, estimate, _, cancel, lane) in enumerate(plan):
        now += gap
        each = world.job(task, number, lane=lane)
        each.cost = {"tokens": float(estimate)}
        arrivals.append((float(now), each))
        if cancel is not None:
            cancels.append((float(now + cancel), each))
    cancels.sort(key=lambda entry: entry[0])
    known: list[tuple[float, float]] = []  # when it became known, and how much more or less it is
    truth: dict[int, tuple[float, float]] = {}  # when it started, and what it really cost
    running: set[int] = set()

    def begins(each: Job[Any], _rng: Any, _running: int) -> float:
        number = cast("int", each.id)
        running.add(number)
        assert len(running) <= at_once
        known.append((each.started_at, plan[number][2]))
        truth[number] = (each.started_at, plan[number][2])
        used = sum(amount for _, amount in known)
        first = known[0][0]
        assert used <= most * (1 + (each.started_at - first) / per), "an overdraft was forgotten"
        assert sum(each.started_at - at < per for at, _ in truth.values()) <= calls
        if honest:
            inside = sum(cost for at, cost in truth.values() if each.started_at - at < per)
            assert inside <= most, "too much in a window"
        return float(plan[number][1])

    def ends(each: Job[Any], _rng: Any) -> None:
        number = cast("int", each.id)
        running.discard(number)
        true, at = plan[number][3], each.started_at + plan[number][1]
        if true is not None:
            true = min(true, plan[number][2]) if honest else true
            # What has left the window by now is not given back.
            kept = true >= plan[number][2] or at - each.started_at < per
            known.append((at, true - plan[number][2] if kept else 0))
            truth[number] = (each.started_at, true)
            dispatcher.charge(each, "tokens", true, at)

    # The limit asked last says who runs, cancelled jobs among them.
    dispatcher.tree.set_limits(dispatcher.tree.root, (budget, *dispatcher.tree.bound((Leaving(running),))))
    result = drive(dispatcher, arrivals, begins, rng=Random(7), failures=ends, cancels=cancels)
    assert len(result.outcomes) == len(plan), "whoever waits is never woken"
    assert budget._open == {}


@given(PLANS)
def test_a_budget_holds_whatever_happens(plan: list[Any]):
    run_plan(plan, honest=False)


@given(PLANS)
def test_no_window_has_too_much_where_nothing_is_overdrawn(plan: list[Any]):
    run_plan(plan, honest=True)


MUTANTS = {
    "one currency decides": ("if at > latest:", "return at\n                if at > latest:"),
    "one too many at once": ("self._running >= self._at_once", "self._running > self._at_once"),
    "requests cost what tokens do": ("latest = now\n", "latest = now; job = Job(0, 0, 0, None, cost={'tokens': 0})\n"),
    "cost comes back with the end": (
        "self._open.pop(id(job), None)", "[self.adjust(job, 'tokens', -9, now), self._open.pop(id(job), None)]",
    ),
    "charges go by": ("window.charge(share, delta, now)", "False"),
    "charges count twice": ("window.charge(share, delta, now)", "window.charge(share, 2 * delta, now)"),
    "the wrong sign": ("window.charge(share, delta, now)", "window.charge(share, -delta, now)"),
    "the end wakes nobody": ("self._running == self._at_once - 1", "False"),
    "jobs are kept": ("self._open.pop(id(job), None)", "pass"),
}  # fmt: skip


def fixed_plans() -> list[list[Any]]:
    rng, made = Random(5), list[list[Any]]()
    for _ in range(150):
        cancels, trues = [None, None, 3, 30], [None, 0, 2, 9, 25]
        made.append(
            [
                (
                    rng.randrange(5),
                    rng.randrange(12),
                    rng.randrange(11),
                    rng.choice(trues),
                    rng.choice(cancels),
                    "a",
                )
                for _ in range(12)
            ]
        )
    return made


def mutated(old: str, new: str) -> Any:
    source = inspect.getsource(Budget)
    assert source.count(old) == 1, f"{old!r} is not there just once"
    names = dict(vars(budget_module), Job=Job)
    exec("from __future__ import annotations\n" + source.replace(old, new), names)  # noqa: S102 - our own
    return names["Budget"]


@pytest.mark.parametrize("mutation", MUTANTS)
def test_the_plans_find(mutation: str):
    cls = mutated(*MUTANTS[mutation])
    with pytest.raises(AssertionError):
        for plan in fixed_plans():
            run_plan(plan, honest=False, cls=cls)
            run_plan(plan, honest=True, cls=cls)


def test_the_plans_pass_what_is_not_changed():
    cls = mutated("class Budget(Limit)", "class Budget(Limit)")
    for plan in fixed_plans():
        run_plan(plan, honest=False, cls=cls)
        run_plan(plan, honest=True, cls=cls)
