"""`Budget`, `cost` and `charge` through the real engine."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Budget, Throttled
from tests._app.diary import Diary

if TYPE_CHECKING:
    from collections.abc import Mapping

    from qanat._core.job import Job
    from qanat.testing import VirtualTime

on_both = pytest.mark.virtual_time("asyncio", "trio")
pytestmark = on_both


def tokens(item: Any) -> dict[str, float]:
    """What an item says that it is going to cost."""
    return {"tokens": item["estimate"]}


def charging(time: VirtualTime, began: list[float], seconds: float = 0.0) -> Any:
    """Return a handler that settles what its item says that it really cost."""

    async def handler(item: Any) -> None:
        began.append(time.now())
        await anyio.sleep(seconds)
        qanat.current_job().charge("tokens", item["true"])

    return handler


async def test_calls_and_tokens_a_minute_hold_together(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    budget = Budget("llm", requests="4/m", tokens="1000/m")
    items = [100, 700, 300, 10, 10, 10, 800]
    outcomes = await qanat.collect(
        diary.taking(5.0), items, limits=budget, cost=lambda item: {"tokens": item}
    )
    # Tokens hold up the third until 60, and calls the seventh until 120.
    assert diary.times == [0.0, 0.0, 60.0, 60.0, 60.0, 60.0, 120.0]
    assert list(outcomes.summary().waits) == ["budget"]


async def test_an_estimate_that_was_too_high_lets_others_start_as_soon_as_it_is_known(
    virtual_time: VirtualTime,
):
    began: list[float] = []
    await qanat.collect(
        charging(virtual_time, began, 2.0), [{"estimate": 600, "true": 100}] * 4, cost=tokens,
        limits=Budget("llm", tokens="1000/m"),
    )  # fmt: skip
    assert began == [0.0, 2.0, 4.0, 6.0]


async def test_an_estimate_that_was_too_low_is_paid_for_later(virtual_time: VirtualTime):
    began: list[float] = []
    await qanat.collect(
        charging(virtual_time, began, 5.0), [{"estimate": 500, "true": 2500}] * 3, cost=tokens,
        limits=Budget("llm", tokens="1000/m"),
    )  # fmt: skip
    # 5,000 tokens were used from 0 to 5: a minute for each 1,000 and not before.
    assert began == [0.0, 0.0, 300.0]


async def test_the_last_charge_holds(virtual_time: VirtualTime):
    began: list[float] = []

    async def handler(item: int) -> None:
        began.append(virtual_time.now())
        job = qanat.current_job()
        for total in (200, 900, 5000, 600):
            job.charge("tokens", total)
        assert job.cost == 800

    await qanat.collect(handler, range(2), cost=lambda _: 800, limits=Budget("llm", tokens="1000/m"))
    assert began == [0.0, 60.0]
    await qanat.collect(handler, [0], cost=lambda _: 800, limits=(budget := Budget("llm", tokens="1000/m")))
    assert budget._windows["tokens"].load == 600


async def test_a_retry_costs_anew(virtual_time: VirtualTime):
    began: list[float] = []
    budget = Budget("llm", tokens="1000/m")

    async def handler(item: int) -> None:
        began.append(virtual_time.now())
        if len(began) == 1:
            qanat.current_job().charge("tokens", 100)
            raise OSError
        qanat.current_job().charge("tokens", 950)

    await qanat.collect(
        handler, [0], cost=lambda _: 900, limits=budget,
        retry=qanat.Retry(1, backoff=qanat.constant(1.0)),
    )  # fmt: skip
    assert began == [0.0, 1.0]
    # The 50 beyond the estimate did not fit with the first 100: they are owed.
    assert budget._windows["tokens"].load == 1050


async def test_a_failed_attempt_has_cost_what_it_was_counted_with(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing([OSError()]), range(2), cost=lambda _: 10, limits=Budget("llm", tokens="10/m")
    )
    assert diary.times == [0.0, 60.0]


async def test_a_handler_in_a_thread_settles_before_it_is_over(virtual_time: VirtualTime):
    began: list[float] = []

    def handler(item: int) -> None:
        began.append(virtual_time.now())
        assert threading.current_thread() is not threading.main_thread()
        qanat.current_job().charge("tokens", 10)

    budget = Budget("llm", tokens="1000/m")
    await qanat.collect(handler, range(10), cost=lambda _: 900, limits=budget, concurrency=3)
    assert began == [0.0] * 10
    assert budget._windows["tokens"].load == 100


async def test_a_thread_that_a_handler_started_settles_for_it(virtual_time: VirtualTime):
    budget = Budget("llm", tokens="1000/m")

    async def handler(item: int) -> None:
        await anyio.to_thread.run_sync(lambda: qanat.current_job().charge("tokens", 7))

    await qanat.collect(handler, range(3), cost=lambda _: 900, limits=budget)
    assert budget._windows["tokens"].load == 21


async def test_what_outlives_its_timeout_in_a_thread_settles_its_own_attempt(virtual_time: VirtualTime):
    """And not the retry that runs meanwhile."""
    budget = Budget("llm", tokens="1000/m")
    steps = [threading.Event() for _ in range(2)]
    begun = threading.Semaphore(0)
    attempts: list[int] = []

    def handler(item: int) -> None:
        job = qanat.current_job()
        attempts.append(job.attempt)
        number = len(attempts) - 1
        job.charge("tokens", (350, 20)[number])
        begun.release()
        steps[number].wait(10)
        job.charge("tokens", (30, 10)[number])

    retry = qanat.Retry(1, backoff=qanat.constant(1.0))
    async with qanat.Pool(handler, limits=budget, timeout=2.0, retry=retry) as pool:
        handle = pool.submit(0, cost=400)
        await anyio.to_thread.run_sync(begun.acquire)
        await virtual_time.advance(3.0, wait_outside=False)
        await anyio.to_thread.run_sync(begun.acquire)
        assert attempts == [1, 2]
        assert budget._windows["tokens"].load == 370
        steps[0].set()
        while budget._windows["tokens"].load != 50:
            await anyio.lowlevel.checkpoint()
        steps[1].set()
        await handle
        assert budget._windows["tokens"].load == 40
        await pool.drain()
    assert budget._open == {}


async def test_a_charge_that_comes_too_late_is_told_and_harms_nobody(
    virtual_time: VirtualTime, caplog: pytest.LogCaptureFixture
):
    budget = Budget("llm", tokens="1000/m")
    kept: list[Job[Any]] = []

    async def handler(item: int) -> None:
        if kept:
            await anyio.to_thread.run_sync(lambda: kept[0].charge("tokens", 5))
            with pytest.raises(RuntimeError, match=r"^charge\(\) works while the job runs, and it does not"):
                kept[0].charge("tokens", 5)
        kept.append(qanat.current_job())

    await qanat.map(handler, range(2), concurrency=1, limits=budget)
    assert budget._windows["tokens"].load == 2
    (told,) = caplog.messages
    assert told.startswith("charge('tokens', 5.0) from a thread counts for nothing: charge() works while")


@pytest.mark.parametrize("executor", ["loop", "thread"])
async def test_a_currency_that_no_limit_counts_is_misspelt(virtual_time: VirtualTime, executor: Any):
    def handler(item: int) -> None:
        qanat.current_job().charge("token", 5)

    (outcome,) = await qanat.collect(handler, [0], limits=Budget("llm", tokens="1/s", requests="1/s"),
                                     executor=executor)  # fmt: skip
    assert isinstance(outcome.error, ValueError)
    assert str(outcome.error) == (
        "currency must be one that the limits of this job count, tokens, requests, got 'token'"
    )


@pytest.mark.parametrize("executor", ["loop", "thread"])
@pytest.mark.parametrize("limits", [(), qanat.SlidingWindow(9, 1)], ids=repr)
async def test_without_a_budget_nothing_is_settled(virtual_time: VirtualTime, executor: Any, limits: Any):
    def handler(item: int) -> str:
        qanat.current_job().charge("tokens", 5)
        return "fine"

    assert await qanat.map(handler, [0], limits=limits, executor=executor) == ["fine"]


WRONG: list[tuple[tuple[Any, Any], type[Exception], str]] = [
    (("tokens", -1), ValueError, "amount must be at least 0, got -1"),
    (("tokens", float("nan")), ValueError, "amount must be a finite number, got nan"),
    (("tokens", True), TypeError, "amount must be a number, got True"),
    (("tokens", "5"), TypeError, "amount must be a number, got '5'"),
    ((3, 5), TypeError, "currency must name currencies by texts, got 3"),
    (("", 5), ValueError, "currency must name currencies, got the empty text"),
]


@pytest.mark.parametrize(("arguments", "error", "message"), WRONG, ids=[repr(case[0]) for case in WRONG])
async def test_wrong_charges_are_refused(
    virtual_time: VirtualTime, arguments: tuple[Any, Any], error: type[Exception], message: str
):
    async def handler(item: int) -> None:
        qanat.current_job().charge(*arguments)

    (outcome,) = await qanat.collect(handler, [0], limits=Budget("llm", tokens="1/s"))
    assert (type(outcome.error), str(outcome.error)) == (error, message)


# --- the rule cost -----------------------------------------------------------------------------

COSTS: list[tuple[Any, Any]] = [
    (3, 3.0),
    (0, 0.0),
    (2.5, 2.5),
    ({}, {}),
    ({"tokens": 3, "cents": 0.25}, {"tokens": 3.0, "cents": 0.25}),
]


@pytest.mark.parametrize(("given", "read"), COSTS, ids=[repr(case[0]) for case in COSTS])
async def test_a_job_tells_its_cost(virtual_time: VirtualTime, given: Any, read: Any):
    async def handler(item: Any) -> Any:
        return qanat.current_job().cost

    assert await qanat.map(handler, ["a"], cost=lambda item: given) == [read]
    async with qanat.Pool(handler) as pool:
        assert await pool.submit("a", cost=given) == read
        assert await (await pool.put("a", cost=given)) == read
    assert await qanat.map(handler, ["a"]) == [1.0]


WRONG_COSTS: list[tuple[Any, type[Exception], str]] = [
    (None, TypeError, "cost must be a number or a mapping of currencies to numbers, got None"),
    (True, TypeError, "cost must be a number or a mapping of currencies to numbers, got True"),
    ("3", TypeError, "cost must be a number or a mapping of currencies to numbers, got '3'"),
    (-1, ValueError, "cost must be at least 0, got -1"),
    (float("nan"), ValueError, "cost must be a finite number, got nan"),
    (float("inf"), ValueError, "cost must be a finite number, got inf"),
    ({"tokens": -1}, ValueError, "cost['tokens'] must be at least 0, got -1"),
    ({"tokens": None}, TypeError, "cost['tokens'] must be a number, got None"),
    ({3: 1}, TypeError, "cost must name currencies by texts, got 3"),
    ({"": 1}, ValueError, "cost must name currencies, got the empty text"),
]


@pytest.mark.parametrize(
    ("given", "error", "message"), WRONG_COSTS, ids=[repr(case[0]) for case in WRONG_COSTS]
)
async def test_a_wrong_cost_fails_that_job(
    virtual_time: VirtualTime, given: Any, error: type[Exception], message: str
):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(diary.taking(0.0), [1, 2], cost=lambda item: given if item == 1 else 1)
    assert (type(outcomes[0].error), str(outcomes[0].error)) == (error, message)
    assert diary.items == [2]
    if given is not None:
        async with qanat.Pool(diary.taking(0.0)) as pool:
            with pytest.raises(error) as caught:
                pool.submit(1, cost=given)
            # A wrong call fails where it is made.
            assert str(caught.value) == message


async def test_what_a_submission_says_wins_over_the_rule(virtual_time: VirtualTime):
    async def handler(item: Any) -> Any:
        return qanat.current_job().cost

    async with qanat.Pool(handler, cost=lambda item: item) as pool:
        assert (await pool.submit(5), await pool.submit(5, cost=7)) == (5.0, 7.0)


async def test_a_mapping_may_be_used_again(virtual_time: VirtualTime):
    """Each job keeps what it was when it was asked for."""
    shared = {"tokens": 0.0}

    def cost(item: int) -> Mapping[str, float]:
        shared["tokens"] = item
        return shared

    async def handler(item: int) -> Any:
        return qanat.current_job().cost

    assert await qanat.map(handler, [1, 2], cost=cost) == [{"tokens": 1.0}, {"tokens": 2.0}]


# --- among the other rules ---------------------------------------------------------------------


async def test_a_job_that_never_fits_fails_and_the_others_run(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.taking(1.0), [5, 11, 5], cost=float, limits=Budget("llm", tokens="10/m")
    )
    assert [outcome.value for outcome in outcomes] == [5, None, 5]
    assert str(outcomes[1].error).startswith("cost must fit into Budget 'llm', which holds 10 tokens")
    assert outcomes[1].attempts == 0


async def test_why_says_which_budget_and_until_when(virtual_time: VirtualTime):
    async with qanat.Pool(anyio.sleep, limits=Budget("llm", requests="1/m")) as pool:
        pool.submit(1.0)
        handle = pool.submit(1.0)
        await anyio.sleep(2.0)
        reason = handle.why()
        assert reason is not None
        assert (reason.cause, reason.limit, reason.until) == ("budget", "llm: 1/m requests", 60.0)


async def test_throttled_closes_a_budget_by_its_name(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing([Throttled(30.0, limit="llm")]), ["a1", "b1"], concurrency=1, lane=lambda item: item[0],
        limits=Budget("llm", requests="100/m"),
    )  # fmt: skip
    assert diary.times == [0.0, 30.0, 30.0]


async def test_each_lane_may_have_a_budget_of_its_own(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.taking(1.0), ["a1", "a2", "b1", "b2"], lane=lambda item: item[0], cost=lambda item: int(item[1]),
        lane_limits=lambda lane: Budget(lane, tokens="2/m"),
    )  # fmt: skip
    assert diary.began == [("a1", 0.0), ("b1", 0.0), ("a2", 60.0), ("b2", 60.0)]


async def test_runs_share_a_budget(virtual_time: VirtualTime):
    diary, budget = Diary(virtual_time), Budget("llm", requests="2/m", concurrency=1)
    async with anyio.create_task_group() as group:
        for number in range(2):
            group.start_soon(lambda n: qanat.collect(diary.taking(1.0), [n, n], limits=budget), number)
    assert diary.most == 1
    assert diary.times == [0.0, 1.0, 60.0, 61.0]


async def test_a_raise_wakes_who_waits(virtual_time: VirtualTime):
    diary, budget = Diary(virtual_time), Budget("llm", requests="1/m")

    async def raise_it() -> None:
        await anyio.sleep(10.0)
        budget.resize(requests="3/m")

    async with anyio.create_task_group() as group:
        group.start_soon(raise_it)
        await qanat.collect(diary.taking(1.0), range(4), limits=budget)
    assert diary.times == [0.0, 10.0, 10.0, 60.0]


async def test_a_limit_of_ones_own_hears_of_charges(virtual_time: VirtualTime):
    heard: list[tuple[Any, str, float, float]] = []

    class Own(qanat.Limit):
        def ready_at(self, job: Job[Any], now: float) -> float:
            return now

        def adjust(self, job: Job[Any], currency: str, delta: float, now: float) -> None:
            heard.append((job.item, currency, delta, now))

    async def handler(item: str) -> None:
        await anyio.sleep(1.0)
        for amount in (5, 5, 2):
            qanat.current_job().charge("tokens", amount)

    await qanat.collect(handler, ["a"], limits=Own(), cost=lambda item: 3)
    assert heard == [("a", "tokens", 2.0, 1.0), ("a", "tokens", -3.0, 1.0)]


@pytest.mark.virtual_time("asyncio", "trio")
async def test_what_a_thread_of_the_handlers_own_charges_counts(virtual_time: VirtualTime):
    """Even if the handler holds up the loop until that thread has ended, and ends at once."""

    async def charge_elsewhere(item: int) -> None:
        job = qanat.current_job()
        thread = threading.Thread(target=lambda: job.charge("tokens", 60))
        thread.start()
        thread.join()

    await qanat.collect(
        charge_elsewhere, range(3), limits=qanat.Budget("model", tokens="100/m"), concurrency=1,
        cost=lambda _: {"tokens": 1},
    )  # fmt: skip
    assert virtual_time.now() == 60.0
