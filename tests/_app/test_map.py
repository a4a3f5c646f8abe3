"""`map`: the values in input order; the first failure cancels the rest."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import JobCancelledError, Retry, errors
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def test_values_are_a_list_in_the_order_of_the_input(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        await anyio.sleep(10.0 - item)
        return item * item

    values = await qanat.map(handler, range(4))
    assert type(values) is list
    assert values == [0, 1, 4, 9]


async def test_values_that_are_none_are_values(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)

    assert await qanat.map(handler, range(2)) == [None, None]


async def test_the_first_failure_cancels_the_rest_and_is_raised(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    taking = diary.taking(10.0)
    error = KeyError("x")

    async def handler(item: int) -> None:
        if item == 2:
            await anyio.sleep(1.0)
            raise error
        await taking(item)

    with pytest.raises(KeyError) as caught:
        await qanat.map(handler, range(9), concurrency=4)
    assert caught.value is error
    assert diary.items == [0, 1, 3]
    assert (diary.ended, diary.running, virtual_time.now()) == ([], 0, 1.0)


async def test_the_note_says_which_item_it_was_and_after_how_many_attempts(virtual_time: VirtualTime):
    handler = Diary(virtual_time).failing([None, KeyError(1), KeyError(2), KeyError(3)])
    with pytest.raises(KeyError) as caught:
        await qanat.map(handler, list("abc"), concurrency=1, retry=Retry(2, backoff=qanat.constant(0.0)))
    assert caught.value.__notes__ == ["job 1 with item 'b', after 3 attempts"]


async def test_the_note_of_a_single_attempt_says_so(virtual_time: VirtualTime):
    with pytest.raises(KeyError) as caught:
        await qanat.map(Diary(virtual_time).failing([KeyError(1)]), ["x" * 1000], id=lambda item: "long")
    (note,) = caught.value.__notes__
    assert note.startswith("job long with item 'xxxx")
    assert note.endswith("', after 1 attempt")
    assert len(note) < 100


async def test_the_note_survives_an_item_whose_repr_raises(virtual_time: VirtualTime):
    class Item:
        def __repr__(self) -> str:
            raise ZeroDivisionError

    with pytest.raises(KeyError) as caught:
        await qanat.map(Diary(virtual_time).failing([KeyError(1)]), [Item()])
    (note,) = caught.value.__notes__
    assert "Item" in note


async def test_only_the_last_attempt_counts_as_a_failure(virtual_time: VirtualTime):
    handler = Diary(virtual_time).failing([KeyError(1), KeyError(2)])
    assert await qanat.map(handler, [5], retry=Retry(2, backoff=qanat.constant(0.0))) == [5]


async def test_the_error_carries_what_was_done(virtual_time: VirtualTime):
    async def handler(item: int) -> int:
        await anyio.sleep(item)
        if item == 2:
            raise KeyError
        return item

    with pytest.raises(KeyError) as caught:
        await qanat.map(handler, range(4))
    outcomes = errors.outcomes_of(caught.value)
    assert [outcome.state for outcome in outcomes] == ["done", "done", "dead", "cancelled"]


async def test_two_failures_of_the_same_moment_raise_the_first_of_them(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        await anyio.sleep(1.0)
        raise KeyError(item)

    with pytest.raises(KeyError) as caught:
        await qanat.map(handler, range(4))
    assert caught.value.args == (0,) or virtual_time.backend == "trio"
    assert len(caught.value.__notes__) == 1


async def test_a_job_whose_callback_fails_is_a_failure(virtual_time: VirtualTime):
    with pytest.raises(ZeroDivisionError) as caught:
        await qanat.map(Diary(virtual_time).taking(1.0), [1, 0, 2], lane=lambda item: 1 / item)
    assert caught.value.__notes__ == ["job 1 with item 0, after 0 attempts"]


@pytest.mark.parametrize("error", [SystemExit(3), KeyboardInterrupt(), GeneratorExit(), BaseException("x")])
async def test_a_base_exception_of_a_handler_is_raised_as_it_is(
    virtual_time: VirtualTime, error: BaseException
):
    with pytest.raises(type(error)) as caught:
        await qanat.map(Diary(virtual_time).failing([error]), [1])
    assert caught.value is error


@pytest.mark.parametrize("executor", ["loop", "thread"])
async def test_a_stop_iteration_of_a_handler_is_raised_as_a_runtime_error(
    virtual_time: VirtualTime, executor: Any
):
    def handler(item: int) -> None:
        raise StopIteration(item)

    with pytest.raises(RuntimeError, match="StopIteration") as caught:
        await qanat.map(handler, [1], executor=executor)
    assert isinstance(caught.value.__cause__, StopIteration)
    assert caught.value.__notes__ == ["job 0 with item 1, after 1 attempt"]
    assert len(errors.outcomes_of(caught.value)) == 1


@pytest.mark.virtual_time("asyncio")
async def test_a_cancellation_from_elsewhere_is_not_taken_for_the_caller_s(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        elsewhere = asyncio.ensure_future(asyncio.sleep(100.0))
        elsewhere.cancel()
        await elsewhere

    with pytest.raises(JobCancelledError, match="cancelled elsewhere") as caught:
        await qanat.map(handler, [1])
    assert isinstance(caught.value.__cause__, asyncio.CancelledError)


async def test_an_exception_group_of_a_handler_is_raised_as_it_is(virtual_time: VirtualTime):
    error = ExceptionGroup("mine", [KeyError(1), ValueError(2)])
    with pytest.raises(ExceptionGroup) as caught:
        await qanat.map(Diary(virtual_time).failing([error]), [1])
    assert caught.value is error


async def test_the_cause_of_an_error_is_kept(virtual_time: VirtualTime):
    async def handler(item: int) -> None:
        raise KeyError(1) from ValueError(2)

    with pytest.raises(KeyError) as caught:
        await qanat.map(handler, [1])
    assert isinstance(caught.value.__cause__, ValueError)


async def test_an_error_that_takes_no_notes_is_raised_all_the_same(virtual_time: VirtualTime):
    class Frozen(Exception):
        def __setattr__(self, name: str, value: object) -> None:
            raise AttributeError(name)

    with pytest.raises(Frozen):
        await qanat.map(Diary(virtual_time).failing([Frozen()]), [1])


async def test_an_endless_source_is_left_at_the_first_failure(virtual_time: VirtualTime):
    def endless() -> Any:
        item = 0
        while True:
            yield item
            item += 1

    with pytest.raises(KeyError):
        await qanat.map(Diary(virtual_time).failing([None] * 50 + [KeyError()]), endless())
