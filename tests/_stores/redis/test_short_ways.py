"""The short ways of scripts: they leave and tell what the long ways do, and ask the server for less."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any, Literal

import pytest
from msgspec.structs import replace
from redis import Redis

from qanat._core.store.values import Conf, NewJob, Settle, Stamp
from qanat._stores.redis import RedisStore, scripts
from tests._stores.redis.conftest import START

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qanat._core.store.values import StoredJob
    from tests._stores.redis.servers import Server

pytestmark = pytest.mark.real

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


@pytest.fixture
def only_long(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[], None]]:
    """Give what leaves only the long ways."""

    def leave() -> None:
        for name, parts in scripts._PARTS.items():
            long = tuple(part for part in parts if not part.startswith("short"))
            monkeypatch.setitem(scripts._PARTS, name, long)
        scripts.script.cache_clear()

    yield leave
    monkeypatch.undo()
    scripts.script.cache_clear()


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

    def run(self, steps: int) -> list[Any]:
        draw = self.random
        conf = Conf(
            order=draw.choice(["fifo", "fifo", "lifo", "due"]), keep=draw.choice([0.0, 0.0, 0.0, 5.0]),
            max_age=draw.choice([None, None, None, 60.0]), weights=draw.choice([{}, {}, {"": 2}]),
            unique=draw.choice([None, "pending", "pending", "pending", "active"]),
            max_attempts=draw.choice([None, 2, 20]),
        )  # fmt: skip
        self.conf = conf
        # In some queues every job has a key, or something else that stays with it.
        self.often = draw.choice([{}, {}, {}, *[{"key": "k"}] * 4, {"dedupe_for": 9.0}])
        self.is_calm = draw.random() < 0.5
        told: list[Any] = [self.store.conf(Q, conf)]
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
        what: Any = self.random.choice([self.store.resume, self.change, self.change, *rarely])
        return what(Q)

    def change(self, queue: str) -> Any:
        weights = {"": self.random.choice([1, 2, 3, 7])}
        conf = replace(self.conf, weights=weights, max_attempts=self.random.choice([None, 1, 2, 20]))
        return self.store.conf(queue, conf, change=True)


class Deletions(History):
    """Jobs that lie as they were put, or are done at once, and are deleted."""

    def often_done(self) -> list[Callable[[], Any]]:
        return [self.put, self.delete, self.delete, self.pass_by]

    def job(self) -> NewJob:
        draw = self.random
        self.made += 1
        given: dict[str, Any] = draw.choice([{}] * 8 + [{"lane": "a"}])
        # An id that was there before may have an entry that was left behind.
        number = self.made if draw.random() < 0.8 else draw.randrange(self.made)
        return NewJob(id=f"j{number}", body=b"1", **given)

    def pass_by(self) -> Any:
        """Lease jobs, and end what is leased."""
        claim = self.store.claim(Q, self.random.choice([1, 2, 2, 60]), worker="w", lease=30.0)
        done = [Settle(id=job.id, token=job.token, kind="done") for job in claim.jobs]
        return claim, self.store.settle(Q, done)


@pytest.mark.parametrize("seed", range(16))
def test_the_short_way_of_a_delete_tells_and_leaves_what_the_long_way_does(
    server: Server, only_long: Callable[[], None], seed: int
):
    short = Deletions(server, seed).run(150)
    server.command("FLUSHALL")
    only_long()
    assert short == Deletions(server, seed).run(150)


def test_who_is_deleted_by_the_short_way_is_known_no_more(server: Server, only_long: Callable[[], None]):
    left: list[Any] = []
    for _ in ("short", "long"):
        history = History(server, 0)
        store = history.store
        store.put(Q, [NewJob(id="a", dedupe_for=1.0)])
        (job,) = store.claim(Q, 1, worker="w", lease=30.0).jobs
        store.settle(Q, [Settle(id="a", token=job.token, kind="done")])
        history.now += 2000
        store.put(Q, [NewJob(id="a"), NewJob(id="b")])
        before = all_of(history.client)
        left.append((b"qanat:{q}:known" in before, store.delete(Q, ["a"]), all_of(history.client)))
        store.close()
        history.client.close()
        server.command("FLUSHALL")
        only_long()
    assert left[0] == left[1]
    assert left[0][0]


@pytest.mark.parametrize("seed", [*range(24), 322, 362])
def test_the_short_ways_tell_and_leave_what_the_long_ways_do(
    server: Server, only_long: Callable[[], None], seed: int
):
    short = History(server, seed).run(100)
    server.command("FLUSHALL")
    only_long()
    assert short == History(server, seed).run(100)


def test_plain_puts_claims_settles_and_releases_ask_the_server_for_little(server: Server, store: RedisStore):
    stamps = (Stamp("client", number) for number in count(1))

    def put(id: str) -> None:
        store.put(Q, [NewJob(id=id)], stamp=next(stamps))

    def claim() -> list[StoredJob]:
        return store.claim(Q, 1, worker="w", lease=30.0).jobs

    def settle(jobs: list[StoredJob], kind: Literal["done", "release"] = "done") -> None:
        settles = [Settle(id=job.id, token=job.token, kind=kind) for job in jobs]
        store.settle(Q, settles, stamp=next(stamps))

    store.conf(Q, Conf())
    put("first")
    settle(claim())  # the server knows the scripts now
    with Redis(unix_socket_path=server.socket, protocol=2) as client:

        def calls(deed: Callable[..., Any], *arguments: Any) -> int:
            client.config_resetstat()
            deed(*arguments)
            found = client.info("commandstats")
            return sum(each["calls"] for name, each in found.items() if "config" not in name)

        putting = [calls(put, "a"), calls(put, "b")]
        jobs = claim()
        claiming = [calls(claim), calls(claim)]
        settling = [calls(settle, jobs)]
        put("c")
        releasing = [calls(settle, claim(), "release")]
        claiming.append(calls(claim))
    # The script itself counts too. The long ways ask 23 and 19 times, 35, 15 and 40, 27, and 28.
    assert (putting, claiming, settling, releasing) == ([17, 13], [19, 7, 27], [14], [20])
