"""What a job says it is doing."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat._core.job import LONGEST_DESCRIPTION, description_of

if TYPE_CHECKING:
    from qanat.testing import VirtualTime


async def test_the_last_text_holds_until_the_attempt_ends(virtual_time: VirtualTime):
    texts: list[str | None] = []

    async def handler(item: int) -> None:
        job = qanat.current_job()
        texts.append(description_of(job))
        job.describe("asking")
        job.describe(f"parsing {item}")
        await anyio.sleep(1.0)
        texts.append(description_of(job))
        if job.attempt == 1:
            raise OSError

    retry = qanat.Retry(1, backoff=qanat.constant(1.0))
    await qanat.collect(handler, [7], retry=retry)
    assert texts == [None, "parsing 7", None, "parsing 7"]


async def test_in_a_thread(virtual_time: VirtualTime):
    def handler(item: int) -> str | None:
        qanat.current_job().describe("in a thread")
        return description_of(qanat.current_job())

    assert await qanat.map(handler, [1]) == ["in a thread"]


async def test_members_of_a_batch_and_the_batch_itself(virtual_time: VirtualTime):
    def told(job: Any) -> str | None:
        return description_of(job)

    async def handler(items: list[int]) -> list[Any]:
        batch = qanat.current_job()
        batch.describe("all")
        batch.members[1].describe("one")
        return [told(batch), told(batch.members[1])]

    assert await qanat.map(handler, [1, 2], batch=qanat.Batch(2)) == ["all", "one"]


@pytest.mark.parametrize("text", [None, 5, b"bytes"])
async def test_what_is_no_text_is_refused(virtual_time: VirtualTime, text: Any):
    async def handler(item: int) -> None:
        qanat.current_job().describe(text)

    (outcome,) = await qanat.collect(handler, [1])
    assert isinstance(outcome.error, TypeError)
    assert str(outcome.error) == f'text must be a str, such as describe("parsing"), got {text!r}'


async def test_a_long_text_is_cut(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        qanat.current_job().describe("x" * 10**6)
        return len(description_of(qanat.current_job()) or "")

    assert await qanat.map(handler, [1]) == [LONGEST_DESCRIPTION]


@pytest.mark.parametrize("rules", [{}, {"rate": "1000/s"}], ids=["plain", "limited"])
async def test_a_job_that_does_not_run_cannot_be_described(virtual_time: VirtualTime, rules: Any):
    async with qanat.Pool(anyio.sleep, concurrency=1, **rules) as pool:
        first, second = pool.submit(1.0), pool.submit(1.0)
        await anyio.sleep(0.5)
        first.job.describe("from outside")
        assert description_of(first.job) == "from outside"
        with pytest.raises(RuntimeError, match="job 1 does not: call current_job"):
            second.job.describe("too early")
        await first
        with pytest.raises(RuntimeError, match="works while the job runs"):
            first.job.describe("too late")


def test_outside_of_a_job_there_is_none_to_describe():
    with pytest.raises(LookupError, match="works inside a handler"):
        qanat.current_job().describe("nothing")


@pytest.mark.real
async def test_a_handler_past_its_time_may_go_on_describing():
    over, said = threading.Event(), threading.Event()

    def handler(item: int) -> None:
        job = qanat.current_job()
        over.wait(10)
        job.describe("cleaning up")  # raises nothing
        said.set()

    async with qanat.Pool(handler, timeout=0.05) as pool:
        with pytest.raises(qanat.JobTimeoutError):
            await pool.submit(1)
        over.set()
    assert said.is_set()


def say_and_tell(item: Any) -> Any:
    job = qanat.current_job()
    job.describe(f"working on {item}\x1b")
    return job.id, job.attempt, job.item, dict(job.metadata or {})


@pytest.mark.real
@pytest.mark.slow
async def test_in_a_process_it_is_sent_along():
    async with qanat.Pool(say_and_tell, executor="process", concurrency=1) as pool:
        handle = pool.submit(5, id="a", metadata={"x": 1})
        assert await handle == ("a", 1, 5, {"x": 1})
        assert description_of(handle.job) == "working on 5\x1b"
        # What does not pickle stays here; the job is there all the same.
        other = pool.submit(6, metadata={"x": lambda: 1})
        assert await other == (1, 1, 6, {})


def describe_late(item: int) -> str:
    job = qanat.current_job()
    if item == 1:
        threading.Timer(0.2, lambda: job.describe("of the first")).start()
    else:
        threading.Event().wait(0.5)
    return threading.current_thread().name


@pytest.mark.real
@pytest.mark.slow
async def test_what_a_call_says_after_its_end_is_not_the_next_ones():
    async with qanat.Pool(describe_late, executor="process", concurrency=1) as pool:
        await pool.submit(1)
        second = pool.submit(2)
        await second
        assert description_of(second.job) is None
