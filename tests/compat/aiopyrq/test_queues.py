"""aio-py-rq's queues: what its documentation shows, and what it must not do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat.compat.aiopyrq import Queue, UniqueQueue
from qanat.compat.aiopyrq.queues import PROCESSING_TIMEOUT

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")
URL = "memory://"
NOTHING: Any = None

both = pytest.mark.parametrize("kind", [Queue, UniqueQueue])


# --- what the documentation shows -----------------------------------------------------------------


@both
async def test_items_are_added_taken_and_acknowledged_or_rejected(virtual_time: VirtualTime, kind: Any):
    queue = kind("emails", URL)
    await queue.add_item("a")
    await queue.add_items([1, 5, 2.5, b"bytes"])
    assert await queue.get_count() == 5
    assert await queue.get_items(3) == ["a", "1", "5"]
    assert await queue.get_items(10) == ["2.5", "bytes"]
    assert await queue.get_items(10) == []
    await queue.ack_items(["a", 1])
    await queue.ack_item(b"bytes")
    await queue.reject_items([5, 2.5])
    assert await queue.get_count() == 2
    assert await queue.get_items(10) == ["5", "2.5"]
    await queue.ack_items([5, 2.5])
    await queue.re_enqueue_all_items()
    assert await queue.get_items(10) == []


async def test_a_queue_says_that_an_item_was_added(virtual_time: VirtualTime):
    assert await Queue("emails", URL).add_item("a") is True


async def test_a_queue_takes_an_item_twice_and_a_unique_queue_once(virtual_time: VirtualTime):
    queue, unique = Queue("all", URL), UniqueQueue("unique", URL)
    for each in (queue, unique):
        await each.add_items(["a", "b", "a"])
        await each.add_item("b")
    assert await queue.get_items(9) == ["a", "b", "a", "b"]
    assert await unique.get_items(9) == ["a", "b"]


async def test_a_unique_item_may_be_added_again_once_it_was_taken(virtual_time: VirtualTime):
    queue = UniqueQueue("emails", URL)
    await queue.add_item("a")
    assert await queue.get_items(1) == ["a"]
    await queue.add_item("a")
    assert await queue.get_items(1) == ["a"]


@both
async def test_rollbacks_are_checked(virtual_time: VirtualTime, kind: Any):
    """An item is refused once it failed too often and for too long, and not before both."""
    queue = kind("emails", URL, max_retry=3, max_timeout=10)
    assert [await queue.can_rollback_item(7) for _ in range(5)] == [True] * 5
    await asyncio.sleep(10 * 60)
    assert await queue.can_rollback_item("7")
    await asyncio.sleep(1)
    assert not await queue.can_rollback_item(7)
    assert not await queue.can_rollback_item(7)
    assert await queue.can_rollback_item(8)
    await queue.reset_blocked_item(7)
    assert [await queue.can_rollback_item(7) for _ in range(5)] == [True] * 5


@both
async def test_rollbacks_are_counted_by_all_consumers(virtual_time: VirtualTime, kind: Any):
    one, other = (kind("emails", URL, max_retry_rollback=3, max_timeout_in_queue=-1) for _ in range(2))
    assert [await each.can_rollback_item("a") for each in (one, other, one, other)] == [
        True,
        True,
        True,
        False,
    ]
    await one.reset_blocked_item("a")
    assert [await each.can_rollback_item("a") for each in (other, one, other, one, other)] == [
        True, True, True, True, False,
    ]  # fmt: skip


@both
async def test_an_item_that_failed_for_long_but_seldom_is_not_refused(virtual_time: VirtualTime, kind: Any):
    queue = kind("emails", URL, max_retry=3, max_timeout=10)
    for _ in range(3):
        assert await queue.can_rollback_item("a")
        await asyncio.sleep(3600)
    assert not await queue.can_rollback_item("a")


# --- items are deleted, forgotten, found again -------------------------------------------------------


async def test_a_queue_deletes_all_or_the_last_or_the_first(virtual_time: VirtualTime):
    for count, left in ((0, "bc"), (1, "abac"), (2, "abc"), (-1, "baca"), (-2, "bca")):
        queue = Queue(f"q{count}", URL)
        await queue.add_items(list("abaca"))
        await queue.delete_item("a", count)
        assert "".join(await queue.get_items(9)) == left
    queue = Queue("many", URL)
    await queue.add_items([3, 5, 6, 3, 1, 4])
    await queue.delete_items([1, 3, 4, 5, 99])
    assert await queue.get_items(9) == ["6"]


async def test_a_queue_deletes_what_is_too_much_to_look_for(virtual_time: VirtualTime):
    queue = Queue("emails", URL)
    items = [*(str(number) for number in range(1_500)), "x" * 200_000]
    await queue.add_items(["stays", *items])
    await queue.delete_items(items[:2])
    assert await queue.get_count() == 1_500
    await queue.delete_items(items)
    assert await queue.get_items(9) == ["stays"]
    await queue.add_item("goes")
    await queue.delete_items(["goes", "what no store can hold: \ud800"])
    assert await queue.get_count() == 0


async def test_a_unique_queue_deletes_what_waits(virtual_time: VirtualTime):
    queue = UniqueQueue("emails", URL)
    await queue.add_items(["a", "b", "c", "taken"])
    await queue.delete_item("b")
    await queue.delete_items(["c", "unknown", "c"])
    assert await queue.get_count() == 2
    assert await queue.get_items(9) == ["a", "taken"]
    await queue.delete_item("taken")
    await queue.reject_item("taken")
    await asyncio.sleep(100)
    await queue.add_item("unknown")
    assert await queue.get_items(9) == ["taken", "unknown"]


async def test_a_delete_that_was_cut_off_leaves_no_item(virtual_time: VirtualTime):
    queue = UniqueQueue("emails", URL)
    below = await queue._queue()
    await below.put("a", key=("a",), delay=60.0, metadata={"aiopyrq": "probe"})
    await asyncio.sleep(61)
    await queue.add_item("b")
    assert await queue.get_items(9) == ["b"]
    assert (await below.counts()).leased == 1


@both
async def test_what_was_forgotten_is_given_back_or_dropped(virtual_time: VirtualTime, kind: Any):
    lost, queue = kind("emails", URL), kind("emails", URL)
    await queue.add_items([1, 2, 3, 4])
    assert await lost.get_items(2) == ["1", "2"]
    await asyncio.sleep(10)
    assert await lost.get_items(1) == ["3"]
    await queue.re_enqueue_timeout_items(11)
    assert await queue.get_count() == 1
    await queue.re_enqueue_timeout_items(5)
    assert await queue.get_items(9) == ["1", "2", "4"]
    await queue.re_enqueue_all_items()
    assert await queue.get_items(2) == ["1", "2"]
    await asyncio.sleep(10)
    assert await queue.get_items(9) == ["3", "4"]
    await lost.drop_timeout_items(5)
    await lost.re_enqueue_all_items()
    assert await queue.get_items(9) == ["3", "4"]
    await lost.drop_all_items()
    await lost.re_enqueue_all_items()
    assert await queue.get_items(9) == []


@both
async def test_what_was_forgotten_comes_back_by_itself(virtual_time: VirtualTime, kind: Any):
    """With aio-py-rq it lies there until somebody collects it."""
    lost, queue = kind("emails", URL), kind("emails", URL)
    await queue.add_item("a")
    assert await lost.get_items(1) == ["a"]
    assert await queue.get_items(1) == []
    await asyncio.sleep(PROCESSING_TIMEOUT + 1)
    assert await queue.get_items(1) == ["a"]


@both
async def test_only_who_took_an_item_may_acknowledge_or_reject_it(virtual_time: VirtualTime, kind: Any):
    mine, other = kind("emails", URL), kind("emails", URL)
    await mine.add_item("a")
    await mine.get_items(1)
    await other.ack_item("a")
    await other.reject_items(["a", "b"])
    assert await mine.get_count() == 0
    await mine.reject_item("a")
    assert await mine.get_count() == 1


@both
async def test_who_comes_too_late_changes_nothing(virtual_time: VirtualTime, kind: Any):
    late, queue = kind("emails", URL), kind("emails", URL)
    await queue.add_items(["a", "b", "c"])
    await late.get_items(3)
    await queue.re_enqueue_all_items()
    assert await queue.get_items(9) == ["a", "b", "c"]
    await late.ack_item("a")
    await late.reject_items(["b"])
    await queue.reject_items(["a", "b"])
    await late.ack_items(["c"])
    await queue.ack_item("c")
    assert await queue.get_items(9) == ["a", "b"]


@both
async def test_rejected_items_take_their_old_places(virtual_time: VirtualTime, kind: Any):
    queue = kind("emails", URL)
    for item in "abcde":
        await queue.add_item(item)
        await asyncio.sleep(0.01)
    await queue.get_items(4)
    await queue.reject_item("c")
    await queue.reject_items(["b", "a"])
    assert await queue.get_items(2) == ["a", "b"]
    await queue.reject_items(["b", "d"])
    await queue.reject_item("a")
    assert await queue.get_items(9) == ["a", "b", "c", "d", "e"]


async def test_a_rejected_item_that_waits_again_is_there_once(virtual_time: VirtualTime):
    for give_back in ("reject_item", "re_enqueue_all_items"):
        queue = UniqueQueue(give_back, URL)
        await queue.add_item("a")
        await queue.get_items(1)
        await queue.add_items(["b", "a"])
        await (queue.reject_item("a") if give_back == "reject_item" else queue.re_enqueue_all_items())
        assert await queue.get_count() == 2
        assert await queue.get_items(9) == ["b", "a"]
        await queue.ack_items(["a", "b"])
        assert (await (await queue._queue()).counts()).leased == 0


async def test_what_somebody_else_has_by_now_does_not_wait_too(virtual_time: VirtualTime):
    late, queue = UniqueQueue("emails", URL), UniqueQueue("emails", URL)
    await queue.add_items(["a", "b"])
    await late.get_items(2)
    await queue.re_enqueue_all_items()
    assert await queue.get_items(1) == ["a"]
    await late.reject_items(["a", "b"])
    assert await queue.get_count() == 1
    assert await queue.get_items(2) == ["b"]


# --- faults that are not inherited ---------------------------------------------------------------------


@both
async def test_items_are_acknowledged_in_one_step(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch, kind: Any
):
    """aio-py-rq sends a script for each."""
    queue = kind("emails", URL)
    await queue.add_items(list(range(500)))
    await queue.get_items(500)
    carried: list[str] = []
    begin = qanat.Store.begin

    def counted(self: qanat.Store, ask: Any) -> Any:
        carried.append(ask.deed)
        return begin(self, ask)

    monkeypatch.setattr(qanat.Store, "begin", counted)
    await queue.ack_items(list(range(500)))
    assert carried == ["settle emails"]


async def test_counters_of_rejected_items_end(virtual_time: VirtualTime):
    """With aio-py-rq they lie there for ever."""
    queue = Queue("emails", URL, max_retry=3, max_timeout=10)
    for item in range(100):
        await queue.can_rollback_item(item)
    async with qanat.open(URL):  # another store, which has nothing to do with it
        counters = (await queue._source.store()).rotation("emails-retry-count", every=60)
    assert (await counters.counts()).all == 100
    await asyncio.sleep(8 * 86_400)
    await queue.can_rollback_item("another")
    assert (await counters.counts()).all == 1


async def test_a_counter_that_is_forgotten_begins_anew(virtual_time: VirtualTime):
    queue = Queue("emails", URL, max_retry=2, max_timeout=1)
    for _ in range(2):
        assert await queue.can_rollback_item("a")
    await asyncio.sleep(8 * 86_400)
    assert await queue.can_rollback_item("a")
    assert await queue.can_rollback_item("a")


async def test_items_given_back_as_bytes_can_be_acknowledged(virtual_time: VirtualTime):
    """aio-py-rq looks for the text "b'a'" then."""
    redis = pytest.importorskip("redis.asyncio")
    queue = Queue("emails", URL)
    assert queue._source.as_bytes is False
    queue._texts._as_bytes = Queue("x", redis.ConnectionPool())._texts._as_bytes
    await queue.add_item("a")
    assert await queue.get_items(1) == [b"a"]
    await queue.ack_items([b"a"])
    await queue.re_enqueue_all_items()
    assert await queue.get_count() == 0


async def test_a_failed_acknowledgement_can_be_made_again(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    for call in ("ack_item", "reject_item"):
        queue = Queue(call, URL)
        await queue.add_item("a")
        await queue.get_items(1)
        below = await queue._queue()

        async def fails(*_jobs: Any) -> None:
            raise qanat.StoreUnavailable("the server cannot be reached")

        with monkeypatch.context() as patch:
            patch.setattr(below, "ack", fails)
            patch.setattr(below, "release", fails)
            with pytest.raises(qanat.StoreUnavailable):
                await getattr(queue, call)("a")
        await getattr(queue, call)("a")
        assert await queue.get_count() == (call == "reject_item")


@both
async def test_what_was_taken_in_part_is_given_back(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch, kind: Any
):
    """Who gets an error, or is cancelled, does not hear of it."""
    queue = kind("emails", URL)
    await queue.add_items(list(range(1_500)))
    below = await queue._queue()
    lease = below.lease

    for error in (qanat.StoreUnavailable("gone"), asyncio.CancelledError()):

        async def fails(n: int, error: BaseException = error) -> Any:
            if n < 1_000:
                raise error
            return await lease(n)

        with monkeypatch.context() as patch:
            patch.setattr(below, "lease", fails)
            with pytest.raises(type(error)):
                await queue.get_items(1_200)
        assert (await below.counts()).leased == 0
    assert await queue.get_items(2) == ["0", "1"]


async def test_a_unique_item_that_is_given_back_and_was_added_again_waits_once(
    virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch
):
    queue = UniqueQueue("emails", URL)
    await queue.add_items(["a", "b"])
    lease = queue._lease

    async def fails(*arguments: Any) -> None:
        await lease(*arguments)
        await queue.add_item("a")
        raise qanat.StoreUnavailable("gone")

    with monkeypatch.context() as patch:
        patch.setattr(queue, "_lease", fails)
        with pytest.raises(qanat.StoreUnavailable):
            await queue.get_items(1)
    assert sorted(await queue.get_items(10)) == ["a", "b"]


async def test_more_is_taken_than_a_store_gives_at_once(virtual_time: VirtualTime):
    queue = Queue("emails", URL)
    items = [str(number) for number in range(2_500)]
    await queue.add_items(items)
    assert await queue.get_items(3_000) == items
    await queue.re_enqueue_all_items()
    assert await queue.get_count() == 2_500
    assert (await queue.get_items(0), await queue.get_items(-1)) == ([], [])


# --- bad input -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "arguments", "message"),
    [
        ("add_item", (None,), "item must be a text, bytes or a number, got None"),
        ("add_item", ({"a": 1},), "item must be a text, bytes or a number, got {'a': 1}"),
        ("add_items", ([1, True],), "item must be a text, bytes or a number, got True"),
        ("add_items", ("abc",), "items must be a list, got 'abc'"),
        ("add_items", ({1, 2},), r"items must be a list, got \{1, 2\}"),
        ("add_items", (None,), "items must be a list, got None"),
        ("get_items", (None,), "count must be a whole number, got None"),
        ("get_items", ("many",), "count must be a whole number, got 'many'"),
        ("delete_item", ("a", 1.5), "count must be a whole number, got 1.5"),
        ("re_enqueue_timeout_items", ("long",), "timeout must be a number, got 'long'"),
    ],
)
async def test_bad_arguments_are_refused(
    virtual_time: VirtualTime, call: str, arguments: tuple[Any, ...], message: str
):
    queue = Queue("emails", URL)
    with pytest.raises(TypeError, match=message):
        await getattr(queue, call)(*arguments)
    assert await queue.get_count() == 0


async def test_what_redis_py_refuses_is_refused_by_its_error(virtual_time: VirtualTime):
    exceptions = pytest.importorskip("redis.exceptions")
    queue = Queue("emails", URL)
    with pytest.raises(exceptions.DataError):
        await queue.add_item(None)
    with pytest.raises(exceptions.DataError):
        await queue.get_items(NOTHING)


async def test_a_unique_queue_takes_whatever_has_a_text(virtual_time: VirtualTime):
    queue = UniqueQueue("emails", URL)
    await queue.add_items([None, ("a", 1)])
    assert await queue.get_items(9) == ["None", "('a', 1)"]


@pytest.mark.parametrize(
    ("name", "options", "error", "message"),
    [
        ("", {}, ValueError, "name must not be empty"),
        (5, {}, TypeError, "name must be a text, got 5"),
        ("a", {"max_retries": 3}, TypeError, "'max_retries' is no option here; the options are synced_slaves"),
        ("a", {"max_retry": "3"}, TypeError, "max_retry must be a whole number, got '3'"),
        ("a", {"max_retry": 1000}, ValueError, "max_retry must be below 1000, got 1000"),
        ("a", {"synced_slaves_enabled": True, "synced_slaves_count": 1.5}, TypeError, "synced_slaves_count must"),
        ("a", {"synced_slaves_enabled": True, "synced_slaves_timeout": -1}, ValueError, "synced_slaves_timeout must"),
    ],
)  # fmt: skip
@both
def test_bad_options_are_refused(kind: Any, name: Any, options: Any, error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        kind(name, URL, **options)


@both
async def test_rollbacks_need_their_options(virtual_time: VirtualTime, kind: Any):
    for options in ({}, {"max_retry": 3}, {"max_retry": 3, "max_timeout": 0}):
        with pytest.raises(ValueError, match="max_retry and max_timeout must be given to the queue"):
            await kind("emails", URL, **options).can_rollback_item("a")


@both
async def test_native_code_uses_the_same_queue(virtual_time: VirtualTime, kind: Any):
    queue = kind("emails", URL)
    await queue.add_items(["a", "b"])
    native = (await queue._source.store()).queue("emails")
    (job,) = await native.lease()
    assert job.item == "a"
    await native.ack(job)
    await native.put("c", **({"key": ("c",)} if kind is UniqueQueue else {}))
    assert await queue.get_items(9) == ["b", "c"]


async def test_names_that_a_store_cannot_hold_are_told_apart(virtual_time: VirtualTime):
    one, other, plain = Queue("emails:high", URL), Queue("emails/high", URL), Queue("emails-high", URL)
    await one.add_item("one")
    assert (await other.get_count(), await plain.get_count()) == (0, 0)
    assert (one.name, (await one._queue()).name) == ("emails:high", "emails-high-ebe6667b")
    assert (await plain._queue()).name == "emails-high"
    assert one.timeouts_hash_name == "emails:high-timeouts"
    assert one.processing_queue_name == f"emails:high-processing-{one.client_id}"
    assert one.retry_count_name == "emails:high-retry-count"
    assert one.retry_timeout_name == "emails:high-retry-timeout"
    assert UniqueQueue("emails", URL).set_name == "emails-unique"


async def test_bytes_that_are_no_text_are_refused_with_the_way_out(virtual_time: VirtualTime):
    queue = Queue("emails", URL)
    for item in (b"\xff\x00", bytearray(b"\xff\x00"), memoryview(b"\xff\x00")):
        with pytest.raises(ValueError, match=r"^item must be text in utf-8, got b'\\xff\\x00': .+ base64"):
            await queue.add_item(item)
    assert await queue.get_count() == 0
