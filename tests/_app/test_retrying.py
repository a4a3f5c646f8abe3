"""What becomes of a job whose attempt failed: retries, at exact times, or its end."""

from __future__ import annotations

from email.utils import formatdate
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Discard, JobDiscardedError, JobTimeoutError, Retry, RetryLater, constant
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")

EVERY_SECOND = constant(1.0)


def failures(number: int) -> list[BaseException | None]:
    return [KeyError(each) for each in range(number)]


async def test_without_retries_the_first_failure_is_the_last(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing(failures(9)), ["a"])
    assert diary.times == [0.0]
    assert (outcome.state, outcome.attempts) == ("dead", 1)


async def test_n_retries_are_n_plus_one_attempts(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing(failures(9)), ["a"], retry=Retry(2, backoff=EVERY_SECOND))
    assert diary.times == [0.0, 1.0, 2.0]
    assert (outcome.state, outcome.attempts) == ("dead", 3)
    assert outcome.error is not None
    assert outcome.error.args == (2,)


async def test_a_plain_number_of_retries_backs_off_too(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing(failures(2)), ["a"], retry=2)
    assert outcome.ok
    assert len(diary.times) == 3
    first, second, third = diary.times
    assert 0.0 < second - first < 0.5
    assert 0.0 < third - second < 1.0


async def test_a_success_ends_the_retries(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing(failures(1)), ["a"], retry=Retry(5, backoff=EVERY_SECOND))
    assert diary.times == [0.0, 1.0]
    assert (outcome.state, outcome.attempts, outcome.error) == ("done", 2, None)


async def test_each_attempt_finds_its_number(virtual_time: VirtualTime):
    seen: list[int] = []

    async def handler(item: str) -> None:
        seen.append(qanat.current_job().attempt)
        if len(seen) < 3:
            raise KeyError

    await qanat.collect(handler, ["a"], retry=Retry(5, backoff=EVERY_SECOND))
    assert seen == [1, 2, 3]


async def test_a_backoff_grows_as_it_says(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    backoff = qanat.exponential(first=0.5, factor=2, cap=2, jitter="none")
    await qanat.collect(diary.failing(failures(9)), ["a"], retry=Retry(4, backoff=backoff))
    assert diary.times == [0.0, 0.5, 1.5, 3.5, 5.5]


async def test_a_backoff_may_be_any_function_of_the_attempt(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing(failures(9)), ["a"], retry=Retry(2, backoff=lambda attempt: attempt * 4.0)
    )
    assert diary.times == [0.0, 4.0, 12.0]


async def test_a_backoff_of_zero_retries_at_once(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing(failures(9)), ["a"], retry=Retry(2, backoff=constant(0.0)))
    assert diary.times == [0.0, 0.0, 0.0]


async def test_a_backoff_that_raises_ends_the_job_with_its_error(virtual_time: VirtualTime):
    def backoff(attempt: int) -> float:
        raise ZeroDivisionError

    (outcome,) = await qanat.collect(
        Diary(virtual_time).failing(failures(9)), ["a"], retry=Retry(2, backoff=backoff)
    )
    assert isinstance(outcome.error, ZeroDivisionError)
    assert isinstance(outcome.error.__context__, KeyError)


@pytest.mark.parametrize(
    ("options", "calls"),
    [
        ({"on": ValueError}, 1),
        ({"on": (ValueError, LookupError)}, 3),
        ({"never_on": KeyError}, 1),
        ({"on": LookupError, "never_on": IndexError}, 3),
        ({"when": lambda error, attempt: attempt < 2}, 2),
        ({"when": lambda error, attempt: isinstance(error, ValueError)}, 1),
    ],
    ids=["on another", "on a parent", "never on it", "never on another", "when at first", "when never"],
)
async def test_only_errors_that_are_worth_it_are_retried(
    virtual_time: VirtualTime, options: dict[str, Any], calls: int
):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing(failures(9)), ["a"], retry=Retry(2, backoff=EVERY_SECOND, **options))
    assert len(diary.began) == calls


async def test_a_when_that_raises_ends_the_job_with_its_error(virtual_time: VirtualTime):
    def when(error: BaseException, attempt: int) -> bool:
        raise ZeroDivisionError

    (outcome,) = await qanat.collect(
        Diary(virtual_time).failing(failures(9)), ["a"], retry=Retry(2, when=when)
    )
    assert isinstance(outcome.error, ZeroDivisionError)


async def test_a_base_exception_is_not_retried_by_default(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing([SystemExit(3)]), ["a"], retry=5)
    assert isinstance(outcome.error, SystemExit)
    assert outcome.attempts == 1


# --- what the other side asks for --------------------------------------------------------------


class Busy(Exception):
    def __init__(self, retry_after: Any) -> None:
        super().__init__(retry_after)
        self.retry_after = retry_after


@pytest.mark.parametrize(
    ("asked", "second"), [(5.0, 5.0), (0.25, 1.0), ("7", 7.0), ("soon", 1.0), (None, 1.0)]
)
async def test_a_retry_after_is_a_floor_under_the_backoff(
    virtual_time: VirtualTime, asked: Any, second: float
):
    diary = Diary(virtual_time)
    await qanat.collect(diary.failing([Busy(asked)]), ["a"], retry=Retry(1, backoff=EVERY_SECOND))
    assert diary.times == [0.0, second]


async def test_a_retry_after_may_be_a_date(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    date = formatdate(virtual_time.wall() + 90.0, usegmt=True)
    await qanat.collect(diary.failing([Busy(date)]), ["a"], retry=Retry(1, backoff=EVERY_SECOND))
    assert diary.times == [0.0, 90.0]


async def test_a_handler_may_ask_for_another_attempt_at_a_time_of_its_own(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(
        diary.failing([RetryLater(2.5), RetryLater()]), ["a"], retry=Retry(2, backoff=EVERY_SECOND)
    )
    assert diary.times == [0.0, 2.5, 2.5]
    assert (outcome.ok, outcome.attempts) == (True, 3)


async def test_asking_for_another_attempt_is_bounded_by_the_retries(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing([RetryLater(1.0)] * 9), ["a"], retry=2)
    assert diary.times == [0.0, 1.0, 2.0]
    assert isinstance(outcome.error, RetryLater)


async def test_asking_for_another_attempt_without_retries_fails_the_job(virtual_time: VirtualTime):
    (outcome,) = await qanat.collect(Diary(virtual_time).failing([RetryLater(1.0)]), ["a"])
    assert isinstance(outcome.error, RetryLater)


@pytest.mark.parametrize("delay", [-1.0, float("nan"), float("inf"), "soon"])
async def test_asking_for_a_delay_that_makes_no_sense_fails_the_job(virtual_time: VirtualTime, delay: Any):
    class Odd(RetryLater):
        def __init__(self) -> None:
            self.delay = delay

    async def handler(item: str) -> None:
        raise Odd if item == "unchecked" else RetryLater(delay)

    for outcome in await qanat.collect(handler, ["checked", "unchecked"], retry=2):
        assert isinstance(outcome.error, ValueError | TypeError)


async def test_a_handler_may_give_a_job_up(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(diary.failing([Discard("gone")]), ["a"], retry=5)
    assert diary.times == [0.0]
    assert isinstance(outcome.error, JobDiscardedError)
    assert (outcome.state, outcome.error.reason, str(outcome.error)) == ("dead", "gone", "gone")


async def test_a_job_that_was_given_up_keeps_the_reason_behind_it(virtual_time: VirtualTime):
    async def handler(item: str) -> None:
        raise Discard from KeyError(item)

    (outcome,) = await qanat.collect(handler, ["a"])
    assert outcome.error is not None
    assert isinstance(outcome.error.__cause__, KeyError)


# --- bounds ------------------------------------------------------------------------------------


async def test_no_attempt_starts_after_the_deadline(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(
        diary.failing(failures(9)), ["a"], retry=Retry(9, backoff=EVERY_SECOND, deadline=2.5)
    )
    assert diary.times == [0.0, 1.0, 2.0]
    assert outcome.attempts == 3


async def test_the_deadline_counts_from_the_first_start_not_from_the_arrival(virtual_time: VirtualTime):
    times: dict[str, list[float]] = {"a": [], "b": []}

    async def handler(item: str) -> None:
        times[item].append(virtual_time.now())
        await anyio.sleep(1.0)
        raise KeyError

    await qanat.collect(
        handler, ["a", "b"], concurrency=1, retry=Retry(9, backoff=constant(0.0), deadline=3.0), rate="1/3s"
    )
    assert times == {"a": [0.0, 3.0], "b": [6.0, 9.0]}


async def test_an_attempt_whose_time_is_over_when_its_limits_agree_does_not_start(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(
        diary.failing(failures(9)), ["a"], rate="1/3s", retry=Retry(9, backoff=constant(0.0), deadline=2.0)
    )
    assert diary.times == [0.0]
    assert (outcome.state, outcome.attempts, type(outcome.error)) == ("dead", 1, KeyError)
    assert outcome.waits == {"rate": 3.0}


async def test_an_attempt_whose_time_is_over_when_a_slot_is_free_does_not_start(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        if item == 0 and qanat.current_job().attempt == 1:
            raise KeyError
        await anyio.sleep(10.0)

    outcomes = await qanat.collect(
        handler, range(2), concurrency=1, retry=Retry(9, backoff=constant(1.0), deadline=5.0)
    )
    assert [outcome.state for outcome in outcomes] == ["dead", "done"]
    assert (outcomes[0].attempts, type(outcomes[0].error)) == (1, KeyError)
    assert outcomes[0].waits == {"retry": 1.0, "concurrency": 9.0}


async def test_a_budget_bounds_the_share_of_retries(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    outcomes = await qanat.collect(
        diary.failing(failures(1000)), range(90), concurrency=1,
        retry=Retry(1, backoff=constant(0.0), budget=0.1),
    )  # fmt: skip
    assert len(diary.began) - 90 == sum(outcome.attempts == 2 for outcome in outcomes)
    assert len(diary.began) - 90 == 10


# --- meanwhile ---------------------------------------------------------------------------------


async def test_waiting_for_a_retry_holds_no_slot(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing([KeyError()]), range(3), concurrency=1, retry=Retry(1, backoff=constant(10.0))
    )
    assert diary.began == [(0, 0.0), (1, 0.0), (2, 0.0), (0, 10.0)]


async def test_a_retry_comes_before_jobs_that_arrived_later(virtual_time: VirtualTime):
    began: list[tuple[int, float]] = []

    async def handler(item: int) -> None:
        began.append((item, virtual_time.now()))
        await anyio.sleep(1.0)
        if began.count((0, 0.0)) == len(began):
            raise KeyError

    async with qanat.Pool(handler, concurrency=1, retry=Retry(1, backoff=constant(0.5))) as pool:
        for item in range(4):
            pool.submit(item)
    assert began == [(0, 0.0), (1, 1.0), (0, 2.0), (2, 3.0), (3, 4.0)]


async def test_every_attempt_counts_for_a_rate(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    await qanat.collect(
        diary.failing(failures(2)), range(2), concurrency=1, rate="1/s", retry=Retry(2, backoff=constant(0.0))
    )
    assert diary.times == [0.0, 1.0, 2.0, 3.0]


async def test_an_outcome_says_how_long_a_job_waited_for_its_retry(virtual_time: VirtualTime):
    async def handler(item: str) -> None:
        await anyio.sleep(0.5)
        raise KeyError

    (outcome,) = await qanat.collect(handler, ["a"], retry=Retry(2, backoff=constant(2.0)))
    assert outcome.waits == {"retry": 4.0}
    assert (outcome.waited, outcome.ran) == (4.0, 1.5)
    assert (outcome.started_at, outcome.ended_at) == (0.0, 5.5)


async def test_an_attempt_that_timed_out_is_retried(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    (outcome,) = await qanat.collect(
        diary.taking(5.0), ["a"], timeout=2.0, retry=Retry(1, backoff=constant(1.0))
    )
    assert diary.times == [0.0, 3.0]
    assert isinstance(outcome.error, JobTimeoutError)
    assert (outcome.attempts, outcome.ended_at) == (2, 5.0)


async def test_a_retry_that_the_stop_of_a_run_finds_waiting_is_cancelled(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        if item:
            await anyio.sleep(1.0)
            raise Discard
        raise KeyError

    with pytest.raises(qanat.TooManyFailuresError) as caught:
        await qanat.collect(handler, range(3), max_failures=1, retry=Retry(1, backoff=constant(100.0)))
    assert virtual_time.now() == 1.0
    outcome = qanat.errors.outcomes_of(caught.value)[0]
    assert (outcome.state, outcome.attempts, outcome.waits) == ("cancelled", 1, {"retry": 1.0})


async def test_retries_are_counted(virtual_time: VirtualTime):
    outcomes = await qanat.collect(
        Diary(virtual_time).failing(failures(3)), range(2), retry=Retry(2, backoff=EVERY_SECOND)
    )
    assert outcomes.summary().retried == 3


async def test_each_retry_starts_when_it_is_due_though_another_one_has_just_started(
    virtual_time: VirtualTime,
):
    """The alarm for the first one was the last that was set, and the idle carriers set none."""
    begun: list[float] = []

    async def handler(item: int) -> None:
        if qanat.current_job().attempt == 1:
            await anyio.sleep(0.25 * item)
            raise OSError
        begun.append(virtual_time.now())
        await anyio.sleep(10.0)

    start = virtual_time.now()
    await qanat.collect(handler, [1, 2, 3], retry=Retry(1, backoff=constant(1.0)), concurrency=3)
    assert [at - start for at in begun] == [1.25, 1.5, 1.75]
