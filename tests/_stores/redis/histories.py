"""What may happen to a queue over Redis, drawn from a seed: once by the short ways of scripts, once by the long."""

from __future__ import annotations

from random import Random
from typing import TYPE_CHECKING, Any

from msgspec.structs import replace
from redis import Redis

from qanat._core.store.values import Conf, NewJob, Settle, Stamp
from qanat._stores.redis import RedisStore
from tests._stores.redis.conftest import START

if TYPE_CHECKING:
    from collections.abc import Callable

    from tests._stores.redis.servers import Server

Q = "q"
KINDS: dict[bytes, tuple[Any, ...]] = {
    b"hash": ("HGETALL",), b"list": ("LRANGE", 0, -1), b"zset": ("ZRANGE", 0, -1, "WITHSCORES"),
    b"set": ("SMEMBERS",),
}  # fmt: skip


def all_of(client: Any) -> dict[bytes, Any]:
    """Return everything that a server holds."""
    found: dict[bytes, Any] = {}
    for key in client.keys("*"):
        command, *rest = KINDS[client.type(key)]
        found[key] = client.execute_command(command, key, *rest)
    return found


class History:
    """What happens to a queue, drawn from a seed, and what was told and left after each step."""

    def __init__(self, server: Server, seed: int) -> None:
        self.client = Redis(unix_socket_path=server.socket, protocol=2)
        self.random = Random(seed)
        self.now = START
        self.store = RedisStore.open(server.url, clock=lambda: self.now, ear="ear")
        self.number = 0
        self.made = 0
        self.held: list[Any] = []
        self.last: Any = None
        self.often: dict[str, Any] = {}
        self.is_calm = False
        self.conf = Conf()

    def drawn_conf(self) -> Conf:
        draw = self.random
        return Conf(
            order=draw.choice(["fifo", "fifo", "lifo", "due"]), keep=draw.choice([0.0, 0.0, 0.0, 5.0]),
            max_age=draw.choice([None, None, None, 60.0]), weights=draw.choice([{}, {}, {"": 2}]),
            unique=draw.choice([None, "pending", "pending", "pending", "active"]),
            max_attempts=draw.choice([None, 2, 20]),
        )  # fmt: skip

    def run(self, steps: int) -> list[Any]:
        draw = self.random
        self.conf = self.drawn_conf()
        # In some queues every job has a key, or something else that stays with it.
        self.often = draw.choice([{}, {}, {}, *[{"key": "k"}] * 4, {"dedupe_for": 9.0}])
        self.is_calm = draw.random() < 0.5
        told: list[Any] = [self.store.conf(Q, self.conf)]
        often = self.often_done()
        for number in range(steps):
            step = draw.choice([*often, *often, self.other, self.delete])
            told.append(step())
            if number % 5 == 0:
                told.append(all_of(self.client))
        self.store.close()
        self.client.close()
        return told

    def often_done(self) -> list[Callable[[], Any]]:
        return [self.put, self.claim, self.settle] * (2 if self.is_calm else 1)

    def stamped(self, deed: Any, batch: list[Any]) -> Any:
        """Do something with a stamp, or without; and now and then the last thing once more."""
        draw = self.random
        if self.last is None or draw.random() < 0.9:
            self.number += 1
            stamp = Stamp("client", self.number) if draw.random() < 0.9 else None
            self.last = deed, batch, stamp
        deed, batch, stamp = self.last
        return deed(Q, batch, stamp=stamp)

    def job(self) -> NewJob:
        draw = self.random
        self.made += draw.choice([1, 1, 1, 1, 1, 1, 0])
        kinds: list[dict[str, Any]] = [self.often] * 24
        if not self.is_calm:
            kinds += [{"lane": "a"}, {"delay": 3.0}, {"priority": -1.0}, {"key": "k"}, {"dedupe_for": 9.0}]
        given = draw.choice(kinds)
        if "key" in given:
            given = {**given, "key": draw.choice(["k1", "k2", f"k{self.made}", f"k{self.made}"])}
        return NewJob(id=f"j{self.made}", body=b"%d" % self.made, **given)

    def put(self) -> Any:
        how_many = self.random.choice([1, 1, 1, 1, 1, 3, 3, 51, 101])
        return self.stamped(self.store.put, [self.job() for _ in range(how_many)])

    def claim(self) -> Any:
        n = self.random.choice([1, 1, 3, 20, 51, 101])
        skip = self.random.choice([()] * 9 + [("",)])
        claim = self.store.claim(Q, n, worker="w", lease=self.random.choice([1.0, 30.0]), skip=skip)
        self.held += claim.jobs
        return claim

    def settle(self) -> Any:
        draw = self.random
        draw.shuffle(self.held)
        some = draw.choice([5, 5, 5, 60, 101])
        mine, self.held = self.held[:some], self.held[some:]
        kind: Any = draw.choice(["done"] * 8 + ["release"] * 6 + ["retry"] * 3 + ["dead"])
        again = mine[:1] if draw.random() < 0.1 else []
        yields = kind == "release" and draw.random() < 0.5
        settles = [
            Settle(id=each.id, token=each.token, kind=kind, yields=yields) for each in (*mine, *again)
        ]  # fmt: skip
        return self.stamped(self.store.settle, settles)

    def delete(self) -> Any:
        """Delete some that wait, some that do not, and now and then one twice, or all of a lane."""
        draw = self.random
        waiting = [job.id for job in self.store.find(Q, "ready", limit=300).jobs]
        ids = draw.sample(waiting, min(draw.choice([1, 3, 60, 300]), len(waiting)))
        if draw.random() < 0.5:
            ids += [f"j{draw.randrange(self.made + 5)}", *ids[:1]][: draw.choice([1, 2])]
        return self.store.delete(Q, ids, leased=draw.random() < 0.1)

    def other(self) -> Any:
        self.now += self.random.choice([1, 500, 2000] if self.is_calm else [1, 500, 2000, 40_000])
        # Those who lost their worker, and a pause, send claims the long way for a while.
        rarely = [] if self.is_calm else [self.store.rescue, self.store.pause, self.store.resume]
        what: Any = self.random.choice([self.store.resume, self.get, self.change, self.change, *rarely])
        return what(Q)

    def get(self, queue: str) -> Any:
        """Get some that are there, were there, or never were."""
        first = self.random.randrange(self.made + 1)
        return self.store.get(queue, [f"j{number}" for number in range(first, first + 5)])

    def change(self, queue: str) -> Any:
        weights = {"": self.random.choice([1, 2, 3, 7])}
        conf = replace(self.conf, weights=weights, max_attempts=self.random.choice([None, 1, 2, 20]))
        return self.store.conf(queue, conf, change=True)


def compare(
    make: type[History], server: Server, seed: int, only_long: Callable[[], None], steps: int = 100
) -> None:
    """Let the same happen with the short ways and without, and compare what was told and left."""
    short = make(server, seed).run(steps)
    server.command("FLUSHALL")
    only_long()
    assert short == make(server, seed).run(steps)
