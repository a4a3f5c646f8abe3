"""`Pool.call`: any function under the Pool's limits."""

from __future__ import annotations

import functools
import gc
import math
import threading
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Retry, Throttled, constant
from tests._app.diary import Diary

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio", "trio")


async def add(first: int, second: int = 10) -> int:
    await anyio.sleep(1.0)
    return first + second


def where(item: object = None) -> int:
    return threading.get_ident()


async def test_a_function_is_called_with_its_arguments(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        assert await pool.call(add, 1, 2) == 3
        assert await pool.call(add, 1) == 11


async def test_the_item_of_a_call_is_the_tuple_of_its_arguments(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        outcome = await pool.call(add, 1, 2).outcome()
    assert outcome.item == (1, 2)


async def test_a_function_without_arguments_can_be_called(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        assert await pool.call(where) != threading.get_ident()


async def test_arguments_that_do_not_fit_fail_the_job(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        with pytest.raises(TypeError, match="argument"):
            await pool.call(add)


async def test_plain_functions_run_where_the_rules_say(virtual_time: VirtualTime):
    async with qanat.Pool(executor="loop") as pool:
        assert await pool.call(where) == threading.get_ident()


async def test_coroutine_functions_run_on_the_loop_whatever_the_rules_say(virtual_time: VirtualTime):
    async with qanat.Pool(where, executor="thread") as pool:
        assert await pool.call(add, 1, 2) == 3


async def test_a_partial_and_a_callable_object_will_do(virtual_time: VirtualTime):
    class Adder:
        async def __call__(self, first: int) -> int:
            return await add(first)

    async with qanat.Pool() as pool:
        assert await pool.call(functools.partial(add, 5), 6) == 11
        assert await pool.call(Adder(), 1) == 11


async def test_a_function_that_has_no_hash_can_be_called(virtual_time: VirtualTime):
    class Adder:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            return True

        async def __call__(self, first: int) -> int:
            return first

    async with qanat.Pool() as pool:
        handles = [pool.call(Adder(), item) for item in range(3)]
        assert [await handle for handle in handles] == [0, 1, 2]


async def test_calls_are_under_the_limits_of_the_pool(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=2, rate="3/10s") as pool:
        pool.submit("handler")
        for name in ("a", "b", "c"):
            pool.call(diary.taking(1.0), name)
    assert diary.times == [0.0, 0.0, 1.0, 10.0]


async def test_functions_take_turns_with_each_other_and_with_the_handler(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    first, second = diary.taking(1.0), diary.taking(1.0)
    async with qanat.Pool(diary.taking(1.0), concurrency=1) as pool:
        for number in range(3):
            pool.submit(f"handler {number}")
        for number in range(2):
            pool.call(first, f"first {number}")
            pool.call(second, f"second {number}")
    assert diary.items == [
        "handler 0", "first 0", "second 0", "handler 1", "first 1", "second 1", "handler 2"
    ]  # fmt: skip


async def test_calls_of_one_method_of_one_object_are_calls_of_one_function(virtual_time: VirtualTime):
    seen: list[int] = []

    class Client:
        async def get(self, number: int) -> None:
            assert pool._engine is not None
            seen.append(len(pool._engine.dispatcher.tree.tasks))

    client = Client()
    async with qanat.Pool(concurrency=1) as pool:
        for number in range(50):
            pool.call(client.get, number)
    assert max(seen) == 1


async def test_functions_without_open_calls_are_forgotten(virtual_time: VirtualTime):
    async with qanat.Pool(add) as pool:
        for _ in range(3):
            handles = [pool.call(lambda: None) for _ in range(20)]
            for handle in handles:
                await handle
        assert pool._engine is not None
        assert len(pool._engine.dispatcher.tree.tasks) == 1
        assert pool._calls is not None
        assert pool._calls._open == {}


async def test_a_function_of_which_a_call_waits_is_not_forgotten(virtual_time: VirtualTime):
    async with qanat.Pool(concurrency=1) as pool:
        first, second = pool.call(add, 1, 2), pool.call(add, 3, 4)
        assert await first == 3
        third = pool.call(add, 5, 6)
        assert [await second, await third] == [7, 11]


async def test_a_call_may_have_a_timeout(virtual_time: VirtualTime):
    async with qanat.Pool(timeout=99.0) as pool:
        short, unlimited = pool.call(anyio.sleep, 9.0, timeout=0.5), pool.call(anyio.sleep, 200.0)
        assert isinstance((await short.outcome()).error, qanat.JobTimeoutError)
        assert (await unlimited.outcome()).ok


async def test_a_call_may_have_retries(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    failing = diary.failing([KeyError(), KeyError()])
    async with qanat.Pool(retry=9) as pool:
        assert await pool.call(failing, 5, retry=Retry(2, backoff=constant(1.0))) == 5
        with pytest.raises(KeyError):
            await pool.call(diary.failing([KeyError()]), 5)
    assert diary.times == [0.0, 1.0, 2.0, 2.0]


async def test_a_call_bounds_its_throttles(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool() as pool:
        outcome = await pool.call(
            diary.failing([Throttled(1.0)] * 9), 5, retry=Retry(0, max_throttles=1)
        ).outcome()
    assert diary.times == [0.0, 1.0]
    assert isinstance(outcome.error, Throttled)


async def test_a_throttled_function_does_not_hold_up_the_others(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(diary.taking(1.0), concurrency=1) as pool:
        throttled = pool.call(diary.failing([Throttled(50.0)]), "throttled")
        pool.submit("handler")
        pool.call(diary.taking(1.0), "other")
    assert diary.began == [("throttled", 0.0), ("handler", 0.0), ("other", 1.0), ("throttled", 50.0)] or (  # noqa: PLR1714
        diary.began == [("handler", 0.0), ("throttled", 1.0), ("other", 1.0), ("throttled", 51.0)]
    )
    assert throttled.done


async def test_a_throttled_call_that_is_cancelled_leaves_nothing_behind(virtual_time: VirtualTime):
    diary = Diary(virtual_time)
    async with qanat.Pool(concurrency=1) as pool:
        throttled = pool.call(diary.failing([Throttled(50.0)]), "throttled")
        await anyio.sleep(1.0)
        assert throttled.cancel()
        assert await pool.call(add, 1, 2) == 3
    assert virtual_time.now() == 2.0


WRONG: dict[str, tuple[Any, dict[str, Any], type[Exception]]] = {
    "function called": (where(), {}, TypeError),
    "function None": (None, {}, TypeError),
    "timeout zero": (add, {"timeout": 0.0}, ValueError),
    "timeout NaN": (add, {"timeout": math.nan}, ValueError),
    "timeout bool": (add, {"timeout": True}, TypeError),
    "retry negative": (add, {"retry": -1}, ValueError),
    "retry text": (add, {"retry": "3"}, TypeError),
}


@pytest.mark.parametrize("case", WRONG)
async def test_a_wrong_argument_fails_where_the_call_is_made(virtual_time: VirtualTime, case: str):
    function, options, kind = WRONG[case]
    async with qanat.Pool() as pool:
        with pytest.raises(kind) as caught:
            pool.call(function, 1, 2, **options)
        assert pool._calls is not None
        assert pool._calls._open == {}
    assert str(caught.value).startswith(case.split(maxsplit=1)[0])


async def test_a_coroutine_in_the_place_of_a_function_is_closed_and_named(virtual_time: VirtualTime):
    async with qanat.Pool() as pool:
        with pytest.raises(TypeError, match="^function must"):
            pool.call(add(1, 2))  # type: ignore[call-overload]
    gc.collect()


async def test_an_async_generator_function_is_refused(virtual_time: VirtualTime):
    async def generator(item: int) -> Any:
        yield item

    async with qanat.Pool() as pool:
        with pytest.raises(TypeError, match="^function must"):
            pool.call(generator, 1)


async def test_many_calls_of_many_functions_end(virtual_time: VirtualTime):
    async with qanat.Pool(concurrency=10) as pool:
        handles = [pool.call(lambda number=number: number) for number in range(300)]
        assert [await handle for handle in handles] == list(range(300))


@pytest.mark.real
@pytest.mark.slow
def test_calls_of_one_function_in_processes_share_them():
    async def main() -> list[Any]:
        async with qanat.Pool(executor="process", concurrency=1) as pool:
            return [await pool.call(eval, "__import__('os').getpid()") for _ in range(2)]

    first, second = anyio.run(main)
    assert first == second
