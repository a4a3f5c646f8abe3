"""aio-py-rq's pool: what its documentation shows, and what it must not do."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import pytest

import qanat
from qanat.compat.aiopyrq import Pool, Queue

if TYPE_CHECKING:
    from qanat.testing import VirtualTime

pytestmark = pytest.mark.virtual_time("asyncio")
URL = "memory://"
NOTHING: Any = None
HOURS_36 = 36 * 3600


async def test_items_come_again_36_hours_after_they_were_acknowledged(virtual_time: VirtualTime):
    pool = Pool("feeds", URL)
    await pool.add_items([1, 2, 3, 4, 5, 6])
    await pool.add_item(7)
    assert await pool.get_items(3) == ["1", "2", "3"]
    await pool.ack_item(1)
    await pool.ack_items([3])
    assert await pool.get_items(3) == ["4", "5", "6"]
    await pool.ack_items([2, 4, 5])
    assert (await pool.get_count(), await pool.get_count_to_process()) == (7, 1)
    await pool.remove_item(7)  # nobody has taken it
    assert await pool.get_count() == 7
    await pool.remove_items([6])
    assert await pool.get_count() == 6
    assert await pool.get_all_items() == ["7"]
    await pool.ack_item(7)
    await asyncio.sleep(HOURS_36 - 1)
    assert await pool.get_all_items() == []
    await asyncio.sleep(1)
    assert await pool.get_all_items() == ["1", "3", "2", "4", "5", "7"]


async def test_what_was_not_acknowledged_is_due_again_after_ten_minutes(virtual_time: VirtualTime):
    pool = Pool("feeds", URL)
    await pool.add_items(["a", "b"])
    assert await pool.get_items(1) == ["a"]
    await asyncio.sleep(599)
    assert await pool.get_items(5) == ["b"]
    await asyncio.sleep(2)
    assert await pool.get_items(5) == ["a"]


async def test_what_is_long_overdue_is_not_given_out_twice(virtual_time: VirtualTime):
    """aio-py-rq counts the ten minutes from when it fell due, and not from when it was taken."""
    pool = Pool("feeds", URL)
    await pool.add_item("a")
    await asyncio.sleep(3_600)
    assert await pool.get_items(1) == ["a"]
    assert await pool.get_items(1) == []


async def test_options_say_when_items_come_again(virtual_time: VirtualTime):
    pool = Pool("feeds", URL, ack_ttl=5, ack_valid_for=60, chunk_size=2)
    await pool.add_items(["a", "b", "c"])
    assert await pool.get_all_items() == ["a", "b", "c"]
    await pool.ack_item("a")
    await asyncio.sleep(6)
    assert await pool.get_all_items() == ["b", "c"]
    await pool.ack_items(["b", "c"])
    await asyncio.sleep(54)
    assert await pool.get_all_items() == ["a"]
    assert pool.options["chunk_size"] == 2


async def test_items_are_looked_for_deleted_and_cleared(virtual_time: VirtualTime):
    pool = Pool("feeds", URL)
    await pool.add_items([1, "b", b"c", "d"])
    assert [await pool.is_in_pool(item) for item in (1, "1", "c", "x")] == [True, True, True, False]
    await pool.get_items(1)
    await pool.delete_item(1)
    await pool.delete_items(["b", "unknown"])
    assert (await pool.get_count(), await pool.get_items(9)) == (2, ["c", "d"])
    await pool.clear_pool()
    assert (await pool.get_count(), await pool.is_in_pool("d")) == (0, False)


async def test_an_item_that_is_added_again_is_due_at_once(virtual_time: VirtualTime):
    pool = Pool("feeds", URL)
    await pool.add_item("a")
    await pool.ack_items(await pool.get_items(1))
    assert await pool.get_items(1) == []
    await pool.add_items(["a", "b"])
    assert sorted(await pool.get_items(5)) == ["a", "b"]


async def test_any_pool_object_may_acknowledge_or_remove_what_another_took(virtual_time: VirtualTime):
    one, other = Pool("feeds", URL), Pool("feeds", URL)
    await one.add_items(["a", "b", "c"])
    await one.get_items(2)
    await other.ack_items(["a", "c", "unknown"])
    await other.remove_items(["b", "c"])
    assert (await one.get_count(), await one.get_count_to_process()) == (2, 1)
    await asyncio.sleep(3_600)
    assert await other.get_items(9) == ["c"]
    await one.ack_items(["a", "b"])
    assert await one.get_count() == 2


async def test_who_acknowledges_too_late_takes_nothing_from_who_has_it_now(virtual_time: VirtualTime):
    late, other = Pool("feeds", URL), Pool("feeds", URL)
    await late.add_item("a")
    await late.get_items(1)
    await asyncio.sleep(601)
    assert await other.get_items(1) == ["a"]
    await late.ack_item("a")
    await asyncio.sleep(601)
    assert await other.get_items(1) == ["a"]
    await other.ack_item("a")
    await asyncio.sleep(HOURS_36 - 1)
    assert await other.get_items(1) == []


async def test_items_are_acknowledged_in_one_step(virtual_time: VirtualTime, monkeypatch: pytest.MonkeyPatch):
    """aio-py-rq sends a script for each, and waits for its answer before the next."""
    pool = Pool("feeds", URL)
    await pool.add_items(list(range(500)))
    await pool.get_items(500)
    carried: list[str] = []
    begin = qanat.Store.begin

    def counted(self: qanat.Store, ask: Any) -> Any:
        carried.append(ask.deed)
        return begin(self, ask)

    monkeypatch.setattr(qanat.Store, "begin", counted)
    await pool.ack_items(list(range(500)))
    assert carried == ["settle feeds"]


async def test_more_is_taken_than_a_store_gives_at_once(virtual_time: VirtualTime):
    pool = Pool("feeds", URL, chunk_size=2_500)
    items = [str(number) for number in range(2_100)]
    await pool.add_items(items)
    assert await pool.get_all_items() == items
    await pool.ack_items(items)
    assert (await pool.get_count_to_process(), await pool.get_items(-1)) == (0, [])


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"ttl": 5}, TypeError, "'ttl' is no option here; the options are chunk_size, synced_slaves"),
        ({"chunk_size": 0}, ValueError, "chunk_size must be at least 1, got 0"),
        ({"chunk_size": "5"}, TypeError, "chunk_size must be a whole number, got '5'"),
        ({"ack_ttl": 0}, ValueError, "ack_ttl must be a number above 0, got 0"),
        ({"ack_valid_for": float("nan")}, ValueError, "ack_valid_for must be a number above 0, got nan"),
        ({"ack_valid_for": None}, TypeError, "ack_valid_for must be a number, got None"),
    ],
)
def test_bad_options_are_refused(options: dict[str, Any], error: type[Exception], message: str):
    with pytest.raises(error, match=message):
        Pool("feeds", URL, **options)


async def test_bad_items_are_refused(virtual_time: VirtualTime):
    pool = Pool("feeds", URL)
    for call in (
        pool.add_item(None),
        pool.is_in_pool([1]),
        pool.ack_items(["a", None]),
        pool.get_items(NOTHING),
    ):
        with pytest.raises(TypeError, match="must be a"):
            await call
    assert await pool.get_count() == 0


async def test_a_name_is_that_of_a_pool_or_of_a_queue(virtual_time: VirtualTime):
    await Queue("feeds", URL).add_item("a")
    with pytest.raises(ValueError, match="name must be that of a rotation"):
        await Pool("feeds", URL).add_item("a")
