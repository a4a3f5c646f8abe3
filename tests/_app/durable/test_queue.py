"""Queues in event loops: what is put is there once, and every lease ends as it is told."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat.errors import LeaseLost, PutUnknown, SerialisationError, StoreError, StoreUnavailable, stored_of
from tests._app.durable.faulty import put_in_place

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from qanat.testing import VirtualTime


@dataclass
class Mail:
    to: str
    copies: int = 1


async def test_what_is_put_is_leased_in_order_and_acked(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        first = await queue.put({"to": "ada"}, metadata={"trace": 7})
        await queue.put({"to": "bob"}, priority=-1.0)
        assert (first.state, first.is_new, first.item, first.token) == ("ready", True, {"to": "ada"}, 0)
        jobs = await queue.lease(5)
        assert [job.item["to"] for job in jobs] == ["bob", "ada"]
        assert jobs[1].metadata == {"trace": 7}
        assert [(job.state, job.attempt, job.crashes) for job in jobs] == [("leased", 1, 0)] * 2
        await queue.ack(*jobs)
        counts = await queue.counts()
        assert (counts.ready, counts.leased, counts.done) == (0, 0, 2)


async def test_items_come_back_as_the_type_of_the_queue(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        mails = store.queue("emails", type=Mail)
        await mails.put(Mail("ada", 2))
        (job,) = await mails.lease()
        assert job.item == Mail("ada", 2)
        assert (await mails.get(job.id)).item == Mail("ada", 2)  # type: ignore[union-attr]


async def test_ids_are_made_before_sending_and_sort_by_time(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        jobs = await queue.put_many(range(3000))
        ids = [job.id for job in jobs]
        assert ids == sorted(ids)
        assert len(set(ids)) == 3000
        assert all(re.fullmatch("[0-9a-f]{32}", each) for each in ids)


async def test_an_id_that_is_known_stores_nothing_even_after_the_end(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        assert (await queue.put(1, id="a")).is_new
        again = await queue.put(2, id="a")
        assert (again.id, again.is_new, again.state) == ("a", False, None)
        await queue.ack(*await queue.lease())
        assert await queue.get("a") is None
        assert not (await queue.put(3, id="a")).is_new
        assert (await queue.counts()).ready == 0


async def test_one_job_of_a_key_is_there_at_a_time(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails", unique="active")
        first = await queue.put(1, key=("user", 7))
        second = await queue.put(2, key=("user", 7))
        assert (second.id, second.is_new) == (first.id, False)
        await queue.ack(*await queue.lease())
        assert (await queue.put(3, key=("user", 7))).is_new


async def test_a_key_where_keys_mean_nothing_is_refused(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        with pytest.raises(ValueError, match="^key must be None, as queue 'emails' has unique=None"):
            await queue.put(1, key="a")
        assert (await queue.counts()).put == 0


async def test_options_are_fixed_at_first_use_and_a_mismatch_raises(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        await store.queue("emails", max_attempts=3, unique="pending").put(1)
        await store.queue("emails").counts()
        await store.queue("emails", max_attempts=3, lease=60.0).counts()
        for options, message in (
            ({"max_attempts": 4}, "max_attempts must be 3"),
            ({"unique": None}, "unique must be 'pending'"),
            ({"keep": 5.0}, "keep must be 0.0"),
        ):
            with pytest.raises(ValueError, match=f"^{message}, as queue 'emails' was set at its first use"):
                await store.queue("emails", **options).put(2)
        assert (await store.queue("emails").counts()).put == 1


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"lease": 0}, ValueError, "lease must be greater than 0"),
        ({"lease": "long"}, TypeError, "lease must be a number"),
        ({"max_attempts": 0}, ValueError, "max_attempts must be 1"),
        ({"max_age": -1}, ValueError, "max_age must be"),
        ({"keep": -1}, ValueError, "keep must be"),
        ({"unique": "always"}, ValueError, "unique must be"),
        ({"replicas": -1}, ValueError, "replicas must be at least 0"),
        ({"durable": 1}, TypeError, "durable must be True or False"),
        ({"size": 1}, TypeError, "'size' is not an option of a queue"),
    ],
)
async def test_bad_options_are_refused_at_the_call(
    virtual_time: VirtualTime, options: dict[str, Any], error: type[Exception], message: str
):
    async with qanat.open("memory://") as store:
        with pytest.raises(error, match=f"^{message}"):
            store.queue("emails", **options)
        with pytest.raises(ValueError, match="^name must be 1 to 128"):
            store.queue("e mails")


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"item": {1, 2}}, SerialisationError, "value is a set"),
        ({"item": 1, "id": ""}, ValueError, "id must have 1 to 512 bytes"),
        ({"item": 1, "id": 5}, TypeError, "id must be a text"),
        ({"item": 1, "priority": float("nan")}, ValueError, "priority must be a finite number"),
        ({"item": 1, "delay": -1}, ValueError, "delay must be at least 0"),
        ({"item": 1, "lane": 5}, TypeError, "lane must be a text"),
        ({"item": 1, "key": 1.5}, TypeError, "key must be a str"),
        ({"item": 1, "metadata": [1]}, TypeError, "metadata must be a mapping"),
        ({"item": 1, "metadata": {1: 1}}, SerialisationError, "value has the key 1"),
        ({"item": "x" * 2**20}, SerialisationError, "value must take at most 1048576 bytes"),
    ],
)
async def test_bad_input_is_refused_at_put_without_any_effect(
    virtual_time: VirtualTime, options: dict[str, Any], error: type[Exception], message: str
):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails", unique="active")
        with pytest.raises(error, match=f"^{message}"):
            await queue.put(**options)
        assert (await queue.counts()).put == 0


async def test_a_thousand_concurrent_puts_make_few_deeds(virtual_time: VirtualTime, monkeypatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        await queue.counts()
        async with anyio.create_task_group() as group:
            for number in range(1000):
                group.start_soon(queue.put, number)
            faults.open.clear()
            await virtual_time.advance(0, wait_outside=False)
            faults.open.set()
        assert (await queue.counts()).ready == 1000
    sizes = faults.sizes("put")
    assert sum(sizes) == 1000
    assert len(sizes) <= 3


async def test_one_bad_put_does_no_harm_to_others_that_go_with_it(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        refused: list[Exception] = []

        async def put(item: object) -> None:
            try:
                await queue.put(item)
            except SerialisationError as error:
                refused.append(error)

        async with anyio.create_task_group() as group:
            for item in (1, object(), 2, {3}, 3):
                group.start_soon(put, item)
        assert len(refused) == 2
        assert (await queue.counts()).ready == 3


async def test_an_answer_that_is_lost_once_is_asked_for_again(virtual_time: VirtualTime, monkeypatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        faults.lose["put"] = 1
        assert (await queue.put(1)).is_new
        (job,) = await queue.lease()
        faults.lose["settle"] = 1
        await queue.ack(job)
        counts = await queue.counts()
        assert (counts.put, counts.done) == (1, 1)


async def test_an_answer_that_stays_lost_is_unknown_and_its_id_makes_no_second(
    virtual_time: VirtualTime, monkeypatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        faults.lose["put"] = 2
        with pytest.raises(PutUnknown) as caught:
            await queue.put("mail")
        assert isinstance(caught.value.__cause__, StoreUnavailable)
        again = await queue.put("mail", id=caught.value.id)
        assert (again.is_new, (await queue.counts()).put) == (False, 1)


async def test_put_many_goes_in_chunks_and_tells_what_was_stored(virtual_time: VirtualTime, monkeypatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        jobs = await queue.put_many(range(2500), lane=lambda item: f"lane-{item % 2}", priority=float)
        assert faults.sizes("put") == [1000, 1000, 500]
        assert (jobs[3].lane, jobs[3].priority) == ("lane-1", 3.0)
        with pytest.raises(SerialisationError) as caught:
            await queue.put_many([*range(1500), object()])
        assert len(stored_of(caught.value)) == 1000
        assert "1,000 jobs were stored before this" in caught.value.__notes__[1]
        assert (await queue.counts()).put == 3500
        assert stored_of(ValueError()) == ()


async def test_put_many_reads_async_items_and_checks_its_functions(virtual_time: VirtualTime):
    async def items() -> AsyncIterator[int]:
        for number in range(1001):
            yield number

    async with qanat.open("memory://") as store:
        queue = store.queue("emails", unique="active")
        jobs = await queue.put_many(items(), id=str, key=lambda item: item, metadata=lambda item: {"n": item})
        assert [job.id for job in jobs[:3]] == ["0", "1", "2"]
        assert jobs[5].metadata == {"n": 5}
        assert await queue.put_many([]) == []
        with pytest.raises(TypeError, match="^lane must be a function of the item, got 'a'"):
            await queue.put_many([1], lane="a")  # type: ignore[arg-type]
        with pytest.raises(TypeError, match="^items must be an iterable of items"):
            await queue.put_many("text")


async def test_many_small_chunks_for_large_items(virtual_time: VirtualTime, monkeypatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        await store.queue("emails").put_many(["x" * 2**19] * 20)
    assert faults.sizes("put") == [16, 4]


async def test_a_lost_lease_is_told_and_the_others_are_settled(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails", lease=10.0)
        await queue.put_many([1, 2])
        slow, other = await queue.lease(2)
        await anyio.sleep(5)
        assert await queue.extend(other) == []
        await anyio.sleep(6)
        assert await queue.rescue() == [slow.id]
        with pytest.raises(LeaseLost) as caught:
            await queue.ack(slow, other)
        assert caught.value.ids == (slow.id,)
        assert (await queue.counts()).done == 1
        with pytest.raises(LeaseLost):
            await queue.extend(slow)
        (again,) = await queue.lease()
        assert (again.id, again.attempt, again.crashes) == (slow.id, 2, 1)


async def test_reject_counts_and_release_does_not(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails", max_attempts=2)
        await queue.put(1)
        await queue.release(*await queue.lease())
        (job,) = await queue.lease()
        assert job.attempt == 1
        await queue.reject(job, delay=5.0)
        assert await queue.lease() == []
        await anyio.sleep(5)
        (job,) = await queue.lease()
        assert job.attempt == 2
        await queue.reject(job)
        (dead,) = (await queue.find(state="dead")).jobs
        assert (dead.id, dead.reason) == (job.id, "attempts")


async def test_cancel_ends_what_waits_and_asks_for_what_is_leased(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails", keep=60.0)
        leased = await queue.put(1)
        (job,) = await queue.lease()
        ready = await queue.put(2)
        assert await queue.cancel(leased.id, ready.id, "none") == ["asked", "cancelled", "unknown"]
        assert await queue.extend(job) == [job.id]
        assert (await queue.get(ready.id)).state == "cancelled"  # type: ignore[union-attr]


async def test_lease_waits_for_a_put_of_the_same_store_without_polling(
    virtual_time: VirtualTime, monkeypatch
):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        found: list[tuple[float, object]] = []

        async def wait() -> None:
            for job in await queue.lease(wait=1000.0):
                found.append((virtual_time.now(), job.item))

        async with anyio.create_task_group() as group:
            group.start_soon(wait)
            await anyio.sleep(300)
            await queue.put("late")
        assert found == [(300.0, "late")]
        assert len(faults.sizes("claim")) == 2


async def test_lease_waits_for_what_falls_due_and_no_longer_than_asked(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails", lease=20.0)
        await queue.put("later", delay=30.0)
        assert await queue.lease(wait=10.0) == []
        assert virtual_time.now() == 10.0
        (job,) = await queue.lease(wait=100.0)
        assert virtual_time.now() == pytest.approx(30.0, abs=0.1)
        (job,) = await queue.lease(wait=100.0)  # its worker says nothing, so it is rescued
        assert job.crashes == 1
        assert virtual_time.now() == pytest.approx(50.0, abs=0.2)


async def test_a_lease_for_somebody_who_has_gone_is_given_back(virtual_time: VirtualTime, monkeypatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        await queue.put(1)
        async with anyio.create_task_group() as group:
            faults.open.clear()
            group.start_soon(queue.lease)
            await virtual_time.advance(0, wait_outside=False)
            group.cancel_scope.cancel()
            with anyio.CancelScope(shield=True):
                await virtual_time.advance(0, wait_outside=False)
            faults.open.set()
        (job,) = await queue.lease(wait=20.0)
        assert job.attempt == 1


async def test_an_item_that_cannot_be_read_is_dead_and_holds_up_nobody(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        await store.queue("emails").put_many([{"to": "ada"}, "no mail", {"to": "bob"}])
        mails = store.queue("emails", type=Mail)
        assert [job.item.to for job in await mails.lease(3)] == ["ada", "bob"]
        (dead,) = (await mails.find(state="dead")).jobs
        assert dead.reason.startswith("undecodable: data must be a Mail")
        assert dead.body == b'"no mail"'
        with pytest.raises(SerialisationError):
            dead.item  # noqa: B018


async def test_pages_hold_every_job_once(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        await queue.put_many(range(25), lane=lambda item: "even" if item % 2 == 0 else None)
        items, after = [], None
        while True:
            page = await queue.find(state="ready", limit=10, after=after)
            items += [job.item for job in page.jobs]
            if (after := page.next) is None:
                break
        assert sorted(items) == list(range(25))
        assert len((await queue.find(state="ready", lane="even")).jobs) == 13
        with pytest.raises(ValueError, match="^state must be one of"):
            await queue.find(state="new")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="^after must be"):
            await queue.find(state="ready", after="x")


async def test_operators_pause_requeue_delete_and_purge(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        admin = queue.admin
        await admin.pause()
        job = await queue.put(1, delay=60.0)
        assert await admin.requeue(job.id, "none") == ["ready", "unknown"]
        assert await queue.lease() == []
        assert (await queue.counts()).paused
        await admin.resume()
        (leased,) = await queue.lease()
        assert await admin.delete(leased.id) == ["leased"]
        await queue.put_many(range(2100))
        assert await admin.purge("ready") == 2100
        with pytest.raises(ValueError, match="^state must be one of"):
            await admin.purge("leased")


async def test_jobs_that_are_not_leased_cannot_be_settled(virtual_time: VirtualTime):
    async with qanat.open("memory://") as store:
        queue = store.queue("emails")
        job = await queue.put(1)
        with pytest.raises(ValueError, match="^jobs must be leased, and job "):
            await queue.ack(job)
        with pytest.raises(TypeError, match="^jobs must be those that lease"):
            await queue.release("a")  # type: ignore[arg-type]
        await queue.ack()  # none is fine


async def test_a_store_says_what_it_promises_and_refuses_to_promise_less(virtual_time: VirtualTime):
    async with qanat.open("memory://", require_durability="none") as store:
        assert await store.guarantees() == "none"
        assert repr(store) == "<Store memory://>"
    opening = qanat.open("memory://", require_durability="fsync")
    with pytest.raises(StoreError, match="promises 'none', and 'fsync' is required"):
        await opening.__aenter__()
    with pytest.raises(ValueError, match="^require_durability must be one of none, process"):
        qanat.open("memory://", require_durability="much")
    with pytest.raises(TypeError, match="^require_durability must be a text"):
        qanat.open("memory://", require_durability=2)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("redis://:secret@host?colour=red", "url has the unknown option 'colour'"),
        ("sqlite:///work.db?patience=long", "url must give patience as seconds, from 0 to 3600"),
        ("sqlite:///work.db?patience=nan", "url must give patience as seconds, from 0 to 3600"),
        ("sqlite:///work.db?patience=-1", "url must give patience as seconds, from 0 to 3600"),
        ("sqlite:///work.db?synchronous=off", "url must give synchronous as FULL or NORMAL"),
        ("sqlite:///work.db?synchronous=", "url must give synchronous as FULL or NORMAL"),
        ("redis://h?sentinel_user=a", "url has options of sentinels, but its scheme is 'redis'"),
        ("memory://?size=1", "url has the option 'size', and memory:// knows none"),
        ("mongo://host", "url must begin with one of"),
    ],
)
def test_urls_of_no_store_are_refused_without_their_secrets(url: str, message: str):
    with pytest.raises(ValueError, match=f"^{message}") as caught:
        qanat.open(url)
    assert "secret" not in str(caught.value)


def test_a_driver_that_is_missing_is_named(monkeypatch: pytest.MonkeyPatch):
    def missing(name: str) -> None:
        raise ModuleNotFoundError(f"No module named {name!r}")

    monkeypatch.setattr("qanat._app.durable.connecting.import_module", missing)
    with pytest.raises(ValueError, match="the driver for rediss:// is not: pip install 'qanat\\[redis\\]'"):
        qanat.open("rediss://host")


async def test_a_store_is_entered_once(virtual_time: VirtualTime):
    opening = qanat.open("memory://")
    async with opening:
        with pytest.raises(RuntimeError, match="the store is open"):
            await opening.__aenter__()
    async with opening as store:
        queue = store.queue("emails")
    with pytest.raises(RuntimeError, match="the store is closed"):
        await queue.put(1)


def test_plain_code_has_the_same_queue_with_plain_methods():
    with qanat.open("memory://") as store:
        queue = store.queue("emails", type=Mail, keep=60.0, lease=600.0)
        job = queue.put(Mail("ada"), delay=0.1)
        assert job.state == "scheduled"
        (job,) = queue.lease(wait=20.0)
        assert job.item == Mail("ada")
        assert queue.extend(job) == []
        queue.reject(job)
        (job,) = queue.lease()
        queue.release(job)
        (job,) = queue.lease()
        queue.ack(job)
        assert queue.get(job.id).state == "done"  # type: ignore[union-attr]
        assert len(queue.put_many([Mail(str(number)) for number in range(3)])) == 3
        with pytest.raises(SerialisationError) as caught:
            queue.put_many([object()])  # type: ignore[list-item]
        assert stored_of(caught.value) == ()
        assert queue.counts().ready == 3
        assert len(queue.find(state="ready").jobs) == 3
        assert queue.rescue() == []
        queue.admin.pause()
        queue.admin.resume()
        ready = queue.lease()[0]
        assert queue.cancel(ready.id) == ["asked"]
        assert queue.admin.delete(ready.id) == ["leased"]
        assert queue.admin.requeue(ready.id) == ["live"]
        assert queue.admin.purge("ready") == 2
        assert queue.lease(wait=0.01) == []
        assert (store.guarantees(), repr(store)) == ("none", "<PlainStore memory://>")


def test_plain_stores_are_entered_once_too():
    opening = qanat.open("memory://")
    assert repr(opening) == "<qanat.open('memory://')>"
    with opening, pytest.raises(RuntimeError, match="the store is open"):
        opening.__enter__()
    refused = qanat.open("memory://", require_durability="process")
    with pytest.raises(StoreError, match="'process' is required"):
        refused.__enter__()


async def test_put_many_makes_the_next_chunk_while_one_is_on_its_way(monkeypatch: pytest.MonkeyPatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.counts()
        faults.open.clear()

        def items() -> Iterator[int]:
            yield from range(1500)
            # Were the first chunk waited for before this, nobody would ever let it through.
            faults.open.set()

        assert len(await queue.put_many(items())) == 1500
        assert faults.sizes("put") == [1000, 500]


async def test_what_was_on_its_way_when_an_item_failed_is_told_as_stored(monkeypatch: pytest.MonkeyPatch):
    faults = put_in_place(monkeypatch)
    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        await queue.counts()
        faults.open.clear()

        def items() -> Iterator[object]:
            yield from range(1000)
            faults.open.set()
            yield object()

        with pytest.raises(SerialisationError) as caught:
            await queue.put_many(items())
        assert len(stored_of(caught.value)) == 1000
        assert (await queue.counts()).ready == 1000


@pytest.mark.parametrize("value", [[], {"a": 1}, bytearray(b"x")], ids=repr)
def test_an_option_without_a_hash_is_refused_as_any_other(value: Any):
    with (
        qanat.open("memory://") as store,
        pytest.raises(ValueError, match=r"^unique must be None, 'pending'"),
    ):
        store.queue("q", unique=value)


@pytest.mark.parametrize("is_async", [False, True])
async def test_the_item_that_cannot_be_put_is_told_by_its_place(is_async: bool, virtual_time: VirtualTime):
    items: list[Any] = [*range(1200), {1}, "later"]

    async def read() -> AsyncIterator[Any]:
        for item in items:
            yield item

    async with qanat.open("memory://") as store:
        queue = store.queue("q")
        with pytest.raises(SerialisationError, match="^value is a set") as caught:
            await queue.put_many(read() if is_async else items)
        assert caught.value.__notes__ == [
            "put_many: this came of item 1200, counted from 0",
            "put_many: 1,000 jobs were stored before this, see errors.stored_of",
        ]


def test_more_replicas_than_can_be_counted_are_refused():
    with (
        qanat.open("memory://") as store,
        pytest.raises(ValueError, match=r"^replicas must be 0 to 9007199254740991"),
    ):
        store.queue("q", replicas=10**5000)


@pytest.mark.parametrize("option", ["id", "lane", "priority", "delay", "metadata", "key", "handler"])
@pytest.mark.parametrize(
    "value", [pytest.param(10**5000, id="number"), pytest.param(["x" * 10**6], id="list")]
)
def test_a_refusal_of_something_huge_is_short(option: str, value: Any):
    with qanat.open("memory://") as store:
        queue = store.queue("q", unique="active")
        options: dict[str, Any] = {option: value}
        if option == "key" and isinstance(value, int):
            assert queue.put("x", **options).is_new
            return
        with pytest.raises((TypeError, ValueError), match=f"^{option} ") as caught:
            queue.put("x", **options)
        assert len(str(caught.value)) < 600
        assert queue.counts().ready == 0
