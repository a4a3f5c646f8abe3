"""Durable queues of other libraries and ours, each used as its own documentation shows it.

Run as a program it is the process of one of them: `python -m benchmarks.contenders.queues NAME WHERE JOBS`
prints a line of JSON, jobs a second by what was done. WHERE is the port of a server or a file. Peers need
nothing of ours, so they may live in an environment of their own: most pin an older driver.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import sys
import time
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

BODY = "x" * 98
"""As JSON it takes 100 bytes."""
PRODUCERS = 1_000
CONCURRENCY = 100
PAUSES = 0.01
MANY_AT_ONCE = 200


class Handled:
    """A handler that counts, and notes when the first and the last call ended."""

    def __init__(self, jobs: int, pause: float = 0.0) -> None:
        self.jobs = jobs
        self.pause = pause
        self.count = 0
        self.begun = 0.0
        self.all_done = asyncio.Event()

    async def __call__(self) -> None:
        if not self.begun:
            self.begun = time.perf_counter()
        if self.pause:
            await asyncio.sleep(self.pause)
        self.count += 1
        if self.count == self.jobs:
            self.ended = time.perf_counter()
            self.all_done.set()

    @property
    def rate(self) -> float:
        return self.jobs / (self.ended - self.begun)


class Queue:
    """What is measured of a library; a method that is not there is not measured.

    Attributes:
        producers: How many put at once.
    """

    producers = PRODUCERS

    def __init__(self, where: str) -> None:
        self.where = where
        self.url = f"redis://127.0.0.1:{where}"

    async def open(self) -> None:
        """Connect."""

    async def close(self) -> None:
        """Let go."""


class Ours(Queue):
    scheme = "redis"

    async def open(self) -> None:
        import qanat

        self.url = self.url if self.scheme == "redis" else f"sqlite:///{self.where}"
        self.opening = qanat.open(self.url)
        self.queue = (await self.opening.__aenter__()).queue("q")

    async def put(self) -> None:
        await self.queue.put(BODY)

    async def put_many(self, jobs: int) -> None:
        await self.queue.put_many(BODY for _ in range(jobs))

    async def drain(self, handled: Handled, concurrency: int) -> None:
        import qanat

        async def handle(_item: str) -> None:
            await handled()

        await qanat.consume(self.queue, handle, burst=True, concurrency=concurrency)

    async def close(self) -> None:
        await self.opening.__aexit__(None, None, None)


class OursInFile(Ours):
    scheme = "sqlite"


class Arq(Queue):
    async def open(self) -> None:
        from arq import create_pool
        from arq.connections import RedisSettings

        self.settings = RedisSettings(port=int(self.where))
        self.pool = await create_pool(self.settings)

    async def put(self) -> None:
        await self.pool.enqueue_job("handle", BODY)

    async def drain(self, handled: Handled, concurrency: int) -> None:
        from arq.worker import Worker, func

        async def handle(_context: Any, _item: str) -> None:
            await handled()

        # Half a second between two looks, its default, would be all that is measured.
        worker = Worker(
            [func(handle, name="handle", keep_result=0)], redis_settings=self.settings, burst=True,
            max_jobs=concurrency, poll_delay=0.01, handle_signals=False,
        )  # fmt: skip
        await worker.async_run()
        await worker.close()


class Saq(Queue):
    async def open(self) -> None:
        import saq

        self.queue = saq.Queue.from_url(self.url)
        await self.queue.connect()

    async def put(self) -> None:
        await self.queue.enqueue("handle", item=BODY)

    async def drain(self, handled: Handled, concurrency: int) -> None:
        import saq

        async def handle(_context: Any, *, item: str) -> None:  # noqa: ARG001 - sent by its name
            await handled()

        worker = saq.Worker(
            self.queue, [("handle", handle)], concurrency=concurrency, burst=True, dequeue_timeout=0.5
        )
        task = asyncio.create_task(worker.start())
        await handled.all_done.wait()
        await worker.stop()
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


class Streaq(Queue):
    async def open(self) -> None:
        import streaq

        self.worker = streaq.Worker(redis_url=self.url, concurrency=MANY_AT_ONCE, handle_signals=False)
        self.handled: Any = None

        async def handle(_item: str) -> None:
            await self.handled()

        self.task = self.worker.task(handle)
        await self.worker.__aenter__()

    async def put(self) -> None:
        await self.task.enqueue(BODY)

    async def put_many(self, jobs: int) -> None:
        for begin in range(0, jobs, 1000):
            tasks = [self.task.enqueue(BODY) for _ in range(min(1000, jobs - begin))]
            await self.worker.enqueue_many(tasks)

    async def drain(self, handled: Handled, concurrency: int) -> None:
        self.handled = handled
        await self.worker.__aexit__(None, None, None)
        task = asyncio.create_task(self.worker.run_async())
        await handled.all_done.wait()
        task.cancel()
        with contextlib.suppress(BaseException):
            await task


class Taskiq(Queue):
    broker_name = "ListQueueBroker"

    async def open(self) -> None:
        import taskiq_redis

        self.handled: Any = None
        self.broker = getattr(taskiq_redis, self.broker_name)(url=self.url)

        async def handle(_item: str) -> None:
            await self.handled()

        self.task = self.broker.register_task(handle, task_name="handle")
        await self.broker.startup()

    async def put(self) -> None:
        await self.task.kiq(BODY)

    async def drain(self, handled: Handled, concurrency: int) -> None:
        from taskiq.api import run_receiver_task

        self.handled = handled
        self.broker.is_worker_process = True
        receiver = asyncio.create_task(run_receiver_task(self.broker, max_async_tasks=concurrency))
        await handled.all_done.wait()
        receiver.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await receiver

    async def close(self) -> None:
        await self.broker.shutdown()


class TaskiqStream(Taskiq):
    broker_name = "RedisStreamBroker"
    producers = 20  # with a thousand it does not come to an end


class AioPyRq(Queue):
    """No library for jobs, but lists that are moved: ten items are taken, and then acknowledged."""

    taken_at_once = 10
    """As in each example of its documentation."""

    async def open(self) -> None:
        import aiopyrq
        from redis.asyncio import Redis

        self.client = Redis(port=int(self.where), decode_responses=True)
        self.queue = aiopyrq.Queue("q", self.client)
        self.made = 0

    async def put(self) -> None:
        self.made += 1
        await self.queue.add_item(f"{BODY}{self.made}")

    async def put_many(self, jobs: int) -> None:
        items = [f"{BODY}{self.made + number}" for number in range(jobs)]
        self.made += jobs
        await self.queue.add_items(items)

    async def drain(self, handled: Handled, concurrency: int) -> None:
        while items := await self.queue.get_items(self.taken_at_once):
            for _ in items:
                await handled()
            await self.queue.ack_items(items)

    async def close(self) -> None:
        await self.client.aclose()


class AioPyRqByHundreds(AioPyRq):
    """The same with as many at once as the others call handlers."""

    taken_at_once = CONCURRENCY


class BareLoop(Queue):
    """No queue: tasks that wait, and so what is to be had of 10 ms handlers in an event loop."""

    async def put(self) -> None:
        """Keep nothing."""

    async def drain(self, handled: Handled, concurrency: int) -> None:
        async def task() -> None:
            for _ in range(handled.jobs // concurrency):
                await handled()

        await asyncio.gather(*[task() for _ in range(concurrency)])


class Blocking(Queue):
    """A library of plain calls over a file: what it does is all there is to measure."""

    async def put(self) -> None:
        self.put_one()

    def put_one(self) -> None:
        """Put a job."""

    def take_one(self) -> None:
        """Take a job, and tell that it is done."""

    async def drain(self, handled: Handled, concurrency: int) -> None:
        for _ in range(handled.jobs):
            self.take_one()
            await handled()


class Huey(Blocking):
    async def open(self) -> None:
        from huey import SqliteHuey

        self.huey = SqliteHuey(filename=self.where, fsync=True, results=False)

        def handle(_item: str) -> None:
            pass

        self.task = self.huey.task()(handle)

    def put_one(self) -> None:
        self.task(BODY)

    def take_one(self) -> None:
        self.huey.execute(self.huey.dequeue())


class PersistQueue(Blocking):
    async def open(self) -> None:
        from persistqueue import SQLiteAckQueue

        self.queue = SQLiteAckQueue(self.where + ".d", auto_commit=True)

    def put_one(self) -> None:
        self.queue.put(BODY)

    def take_one(self) -> None:
        self.queue.ack(self.queue.get())


class Litequeue(Blocking):
    async def open(self) -> None:
        from litequeue import LiteQueue

        self.queue = LiteQueue(self.where)
        self.queue.conn.execute("PRAGMA synchronous=FULL")

    def put_one(self) -> None:
        self.queue.put(BODY)

    def take_one(self) -> None:
        self.queue.done(self.queue.pop().message_id)


OVER_REDIS: dict[str, type[Queue]] = {
    "qanat": Ours, "arq": Arq, "saq": Saq, "streaq": Streaq, "taskiq, list": Taskiq,
    "taskiq, stream": TaskiqStream, "aio-py-rq": AioPyRq, "aio-py-rq, 100 taken": AioPyRqByHundreds,
    "tasks that sleep": BareLoop,
}  # fmt: skip
IN_FILES: dict[str, type[Queue]] = {
    "qanat": OursInFile, "huey": Huey, "persist-queue": PersistQueue, "litequeue": Litequeue,
}  # fmt: skip


async def timed(jobs: int, work: Callable[[], Awaitable[Any]]) -> float:
    """Return jobs a second."""
    begun = time.perf_counter()
    await work()
    return jobs / (time.perf_counter() - begun)


async def measure(queue: Any, jobs: int) -> dict[str, float]:
    """Return jobs a second, by what was done with them."""
    found: dict[str, float] = {}
    await queue.open()
    try:
        one_by_one = max(1, jobs // 10)

        async def one_after_the_other() -> None:
            for _ in range(one_by_one):
                await queue.put()

        async def producer(count: int) -> None:
            for _ in range(count):
                await queue.put()

        found["put"] = await timed(one_by_one, one_after_the_other)
        at_once = 0
        if not isinstance(queue, Blocking):
            each = max(1, jobs // queue.producers)
            at_once = each * queue.producers
            found["puts at once"] = await timed(
                at_once, lambda: asyncio.gather(*[producer(each) for _ in range(queue.producers)])
            )
        left = jobs - one_by_one - at_once
        if hasattr(queue, "put_many"):
            jobs_in_bulk = max(jobs // 2, left)
            found["put in bulk"] = await timed(jobs_in_bulk, lambda: queue.put_many(jobs_in_bulk))
            left = jobs_in_bulk
        else:
            left = 0
        handled = Handled(one_by_one + at_once + left)
        await queue.drain(handled, CONCURRENCY)
        found["drain"] = handled.rate
    finally:
        with contextlib.suppress(Exception):
            await queue.close()
    return found


async def measure_pauses(queue: Any, jobs: int) -> dict[str, float]:
    """Return jobs a second of handlers that wait for 10 ms, 200 at once."""
    await queue.open()
    try:
        for begin in range(0, jobs, queue.producers):
            await asyncio.gather(*[queue.put() for _ in range(min(queue.producers, jobs - begin))])
        handled = Handled(jobs, PAUSES)
        await queue.drain(handled, MANY_AT_ONCE)
        return {"10 ms handlers": handled.rate}
    finally:
        with contextlib.suppress(Exception):
            await queue.close()


def main() -> None:
    """Measure one of them."""
    logging.disable(logging.CRITICAL)
    kind, name, where, jobs, what = sys.argv[1:]
    table = OVER_REDIS if kind == "redis" else IN_FILES
    work = measure if what == "all" else measure_pauses
    print(json.dumps(asyncio.run(work(table[name](where), int(jobs)))))


if __name__ == "__main__":
    main()
