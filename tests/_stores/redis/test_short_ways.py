"""The short ways of scripts: they leave and tell what the long ways do, and ask the server for less."""

from __future__ import annotations

from itertools import count
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec
import pytest
from redis import Redis

from qanat._app.durable.options import ROTATING
from qanat._core.store.values import Conf, Lease, NewJob, Settle, Stamp
from qanat._stores.redis import RedisStore, scripts
from qanat.errors import StoreError, StoreFull
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

    def conf(self) -> Conf:
        draw = self.random
        return Conf(
            order=draw.choice(["fifo", "fifo", "lifo", "due"]), keep=draw.choice([0.0, 0.0, 0.0, 5.0]),
            max_age=draw.choice([None, None, None, 60.0]), weights=draw.choice([{}, {}, {"": 2}]),
            unique=draw.choice([None, "pending"]),
        )  # fmt: skip

    def run(self, steps: int) -> list[Any]:
        draw = self.random
        told: list[Any] = [self.store.conf(Q, self.conf())]
        often = [self.put, self.claim, self.settle]
        for number in range(steps):
            step = draw.choice([*often, *often, self.other])
            told.append(step())
            if number % 5 == 0:
                told.append(all_of(self.client))
        self.store.close()
        self.client.close()
        return told

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
        given: dict[str, Any] = draw.choice(
            [{}] * 24 + [{"lane": "a"}, {"delay": 3.0}, {"priority": -1.0}, {"key": "k"}, {"dedupe_for": 9.0}]
        )
        return NewJob(id=f"j{self.made}", body=b"%d" % self.made, **given)

    def put(self) -> Any:
        how_many = self.random.choice([1, 1, 1, 1, 1, 3, 3, 51])
        return self.stamped(self.store.put, [self.job() for _ in range(how_many)])

    def claim(self) -> Any:
        n = self.random.choice([1, 1, 3, 20, 51])
        skip = self.random.choice([()] * 9 + [("",)])
        claim = self.store.claim(Q, n, worker="w", lease=self.random.choice([1.0, 30.0]), skip=skip)
        self.held += claim.jobs
        return claim

    def settle(self) -> Any:
        draw = self.random
        draw.shuffle(self.held)
        mine, self.held = self.held[:5], self.held[5:]
        kind: Any = draw.choice(["done"] * 12 + ["retry", "dead", "release"])
        again = mine[:1] if draw.random() < 0.1 else []
        settles = [Settle(id=each.id, token=each.token, kind=kind) for each in (*mine, *again)]
        return self.stamped(self.store.settle, settles)

    def other(self) -> Any:
        self.now += self.random.choice([1, 500, 2000, 40_000])
        what: Any = self.random.choice(
            [self.store.rescue, self.store.pause, self.store.resume, self.store.resume, self.get]
        )
        return what(Q)

    def get(self, queue: str) -> Any:
        """Get some that are there, were there, or never were."""
        first = self.random.randrange(self.made + 1)
        return self.store.get(queue, [f"j{number}" for number in range(first, first + 5)])


class Turns(History):
    """As `History`, of a rotation and of what is nearly one: jobs come again, by when they fall due."""

    odd = 0.0

    def conf(self) -> Conf:
        draw = self.random
        # One that is as all are, half of the time: where anything is not, the long ways are gone.
        self.odd = draw.choice([0.0, 0.0, 0.02, 0.1])
        if not self.odd:
            return ROTATING
        max_crashes: Any = draw.choice([None, None, 1])
        return msgspec.structs.replace(
            ROTATING, max_crashes=max_crashes, max_attempts=draw.choice([None, None, 2]),
            max_age=draw.choice([None, None, 60.0]), weights=draw.choice([{}, {}, {"": 2}]),
            unique=draw.choice([None, None, "active"]), keep=draw.choice([0.0, 0.0, 5.0]),
        )  # fmt: skip

    def is_odd(self) -> bool:
        return self.random.random() < self.odd

    def job(self) -> NewJob:
        draw = self.random
        given: dict[str, Any] = draw.choice(
            [{}, {}, {"delay": 0.0015}, {"delay": 3.0}, {"delay": 3.0, "metadata": b'{"every": 5}'}]
        )
        if self.is_odd():
            given = draw.choice([{"lane": "a"}, {"priority": -1.0}, {"key": "k"}, {"dedupe_for": 9.0}])
        # Few ids, so that many are there already.
        return NewJob(id=f"j{draw.randrange(200)}", body=b"1", **given)

    def claim(self) -> Any:
        # Moments of some length, in which much is claimed, and some that let things fall due.
        self.now += self.random.choice([0, 0, 1, 500, 6_000])
        return super().claim()

    def settle(self) -> Any:
        draw = self.random
        draw.shuffle(self.held)
        how_many = draw.choice([1, 1, 1, 5, 60])
        mine, self.held = self.held[:how_many], self.held[how_many:]
        twice = mine[:1] if draw.random() < 0.05 else []
        return self.stamped(self.store.settle, [self.end(job) for job in (*mine, *twice)])

    def end(self, job: StoredJob) -> Settle:
        draw = self.random
        if self.is_odd():
            kind: Any = draw.choice(["again", "retry", "release", "done", "cancelled"])
            return Settle(id=job.id, token=job.token, kind=kind)
        said: list[dict[str, Any]] = [
            *[{}] * 9, {"value": b"5"}, {"reason": "why"}, {"error": "trace"},
            {"value": b'{"every": 5}', "reason": "why", "error": "trace"},
        ]  # fmt: skip
        given = draw.choice(said)
        return Settle(
            id=job.id, token=job.token, kind="again", delay=draw.choice([0.0015, 5.0, 9.0]), **given
        )

    def other(self) -> Any:
        draw = self.random
        ids = [f"j{draw.randrange(200)}" for _ in range(draw.choice([1, 1, 3, 60]))]
        what: Any = draw.choice(
            [super().other] * 3
            + [lambda: self.store.delete(Q, ids, leased=draw.random() < 0.5)] * 2
            + [lambda: self.store.requeue(Q, ids), lambda: self.store.get(Q, ids)]
            + ([self.extend, lambda: self.store.cancel(Q, ids[:1])] if self.odd else [])
        )
        return what()

    def extend(self) -> Any:
        leases = [Lease(job.id, job.token, self.random.choice([None] * 9 + ["note"])) for job in self.held]
        return self.store.extend(Q, leases, 30.0)


def histories(make: type[History], server: Server, seed: int, only_long: Callable[[], None]) -> None:
    """Let the same happen with the short ways and without, and compare."""
    short = make(server, seed).run(100)
    server.command("FLUSHALL")
    only_long()
    assert short == make(server, seed).run(100)


@pytest.mark.parametrize("seed", range(6))
def test_the_short_ways_tell_and_leave_what_the_long_ways_do(
    server: Server, only_long: Callable[[], None], seed: int
):
    histories(History, server, seed, only_long)


@pytest.mark.parametrize("seed", range(12))
def test_the_short_ways_of_rotations_tell_and_leave_what_the_long_ways_do(
    server: Server, only_long: Callable[[], None], seed: int
):
    histories(Turns, server, seed, only_long)


AGAIN: dict[str, Any] = {"kind": "again", "delay": 5.0, "value": b"5", "error": "trace"}


def in_turns(store: RedisStore) -> tuple[NewJob, StoredJob]:
    """Make a rotation, of which one is leased, one is ready and one is to come; return one to be put."""
    store.conf(Q, ROTATING)
    store.put(Q, [NewJob(id="leased")])
    [leased] = store.claim(Q, 1, worker="w", lease=30.0).jobs
    store.put(Q, [NewJob(id="ready"), NewJob(id="later", delay=60.0)])
    return NewJob(id="new", delay=5.0), leased


@pytest.mark.parametrize(
    ("deed", "key"),
    [
        *(("put", key) for key in ("jobs", "live", "scheduled", "stamps", "answers")),
        *(("put ready", key) for key in ("line:", "lanes", "ring", "names")),
        *(
            ("claim", key)
            for key in ("jobs", "live", "scheduled", "leased", "line:", "lanes", "ring", "names")
        ),
        *(("settle", key) for key in ("live", "scheduled", "leased", "stamps", "answers", "value", "error")),
    ],
)
def test_a_key_of_another_type_stops_what_comes_again_before_it_writes(
    server: Server, store: RedisStore, deed: str, key: str
):
    new, leased = in_turns(store)
    if deed == "put ready":
        # The next one makes the lane anew.
        store.claim(Q, 1, worker="w", lease=30.0)
        new = NewJob(id="new")
    stamp = Stamp("client", 1)
    server.command("DEL", f"qanat:{{q}}:{key}")
    is_sorted = key in {"line:", "scheduled", "leased", "stamps", "ring", "names"}
    server.command("HSET" if is_sorted else "ZADD", f"qanat:{{q}}:{key}", "1", "x")
    with Redis(unix_socket_path=server.socket, protocol=2) as client:

        def left() -> dict[bytes, Any]:
            # A stamp without its answer says nothing.
            return {name: held for name, held in all_of(client).items() if not name.endswith(b"stamps")}

        before = left()
        with pytest.raises(StoreError, match="WRONGTYPE"):
            if deed.startswith("put"):
                store.put(Q, [new], stamp=stamp)
            elif deed == "claim":
                store.claim(Q, 1, worker="w", lease=30.0)
            else:
                store.settle(Q, [Settle(id="leased", token=leased.token, **AGAIN)], stamp=stamp)
        assert left() == before


def test_a_full_server_lets_what_comes_again_be_claimed_and_settled(server: Server, store: RedisStore):
    new, leased = in_turns(store)
    used = server.command("INFO", "memory")["used_memory"]
    server.command("CONFIG", "SET", "maxmemory", used - 100_000)
    try:
        with pytest.raises(StoreFull, match="maxmemory"):
            store.put(Q, [new], stamp=Stamp("client", 1))
        for job in (leased, *store.claim(Q, 1, worker="w", lease=30.0).jobs):
            settle = Settle(id=job.id, token=job.token, **AGAIN)
            [settled] = store.settle(Q, [settle], stamp=Stamp("client", 1 + job.token))
            assert (settled.status, settled.state) == ("ok", "scheduled")
    finally:
        server.command("CONFIG", "SET", "maxmemory", 0)
    counts = store.count(Q)
    assert (counts.put, counts.scheduled, counts.ready, counts.leased) == (3, 3, 0, 0)
    assert store.check(Q) == []


@pytest.mark.parametrize(("bytes_left", "behind"), [(1, b""), (None, b"\xc1")])
def test_what_a_short_claim_took_out_is_back_where_its_record_cannot_be_read(
    server: Server, store: RedisStore, bytes_left: int | None, behind: bytes
):
    in_turns(store)
    record = server.command("HGET", "qanat:{q}:live", "ready")
    server.command("HSET", "qanat:{q}:live", "ready", record[:bytes_left] + behind)
    with Redis(unix_socket_path=server.socket, protocol=2) as client:
        before = all_of(client)
        with pytest.raises(StoreError):
            store.claim(Q, 1, worker="w", lease=30.0)
        assert all_of(client) == before


@pytest.mark.parametrize("key", ["jobs", "live"])
def test_what_a_short_claim_took_out_is_back_where_its_record_is_not_there(
    server: Server, store: RedisStore, key: str
):
    in_turns(store)
    server.command("HDEL", f"qanat:{{q}}:{key}", "ready")
    claim = store.claim(Q, 1, worker="w", lease=30.0)
    assert claim.jobs == []
    # The long way leaves it where it is, for `check`.
    assert server.command("ZRANGE", "qanat:{q}:line:", 0, -1) == [b"\x10\x00\x00\x00\x00\x00\x02ready"]


def test_a_plain_put_a_claim_and_a_settle_ask_the_server_for_little(server: Server, store: RedisStore):
    stamps = (Stamp("client", number) for number in count(1))

    def put(id: str) -> None:
        store.put(Q, [NewJob(id=id)], stamp=next(stamps))

    def claim() -> list[StoredJob]:
        return store.claim(Q, 1, worker="w", lease=30.0).jobs

    def settle(jobs: list[StoredJob]) -> None:
        done = [Settle(id=job.id, token=job.token, kind="done") for job in jobs]
        store.settle(Q, done, stamp=next(stamps))

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
    # The script itself counts too. The long ways ask 23 and 19 times, 35 and 15, and 27.
    assert (putting, claiming, settling) == ([17, 13], [20, 7], [14])


def test_what_comes_again_asks_the_server_for_little(server: Server, store: RedisStore):
    in_turns(store)
    store.put(Q, [NewJob(id="a"), NewJob(id="b"), NewJob(id="c")])
    stamps = (Stamp("client", number) for number in count(1))

    def put(id: str) -> None:
        store.put(Q, [NewJob(id=id, delay=5.0)], stamp=next(stamps))

    def settle() -> None:
        [job] = store.claim(Q, 1, worker="w", lease=30.0).jobs
        settle = Settle(id=job.id, token=job.token, kind="again", delay=5.0)
        asked.append(calls(store.settle, Q, [settle], stamp=next(stamps)))

    with Redis(unix_socket_path=server.socket, protocol=2) as client:

        def calls(deed: Callable[..., Any], *arguments: Any, **more: Any) -> int:
            client.config_resetstat()
            deed(*arguments, **more)
            found = client.info("commandstats")
            return sum(each["calls"] for name, each in found.items() if "config" not in name)

        asked: list[int] = []
        put("d")
        settle()
        asked += [calls(put, "e"), calls(lambda: store.claim(Q, 1, worker="w", lease=30.0))]
        settle()
    # The long ways ask 18, 34 and 22 times.
    assert asked[1:] == [12, 14, 12]
