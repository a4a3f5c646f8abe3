"""The short ways of scripts for what comes again: as the long ways, and for less."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any

import pytest
from msgspec.structs import replace
from redis import Redis

from qanat._app.durable.options import ROTATING
from qanat._core.store.values import Lease, NewJob, Settle, Stamp
from qanat.errors import StoreError, StoreFull
from tests._stores.redis.histories import History, Q, all_of, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.store.values import Conf, StoredJob
    from qanat._stores.redis import RedisStore
    from tests._stores.redis.servers import Server

pytestmark = pytest.mark.real


class Turns(History):
    """As `History`, of a rotation and of what is nearly one: jobs come again, by when they fall due."""

    odd = 0.0

    def drawn_conf(self) -> Conf:
        draw = self.random
        # One that is as all are, half of the time: where anything is not, the long ways are gone.
        self.odd = draw.choice([0.0, 0.0, 0.02, 0.1])
        if not self.odd:
            return ROTATING
        max_crashes: Any = draw.choice([None, None, 1])
        return replace(
            ROTATING, max_crashes=max_crashes, max_attempts=draw.choice([None, None, 2]),
            max_age=draw.choice([None, None, 60.0]), weights=draw.choice([{}, {}, {"": 2}]),
            unique=draw.choice([None, None, "active"]), keep=draw.choice([0.0, 0.0, 5.0]),
        )  # fmt: skip

    def change(self, queue: str) -> Any:
        # Which is not what a rotation's were.
        return self.get(queue)

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
        all_plain = draw.random() < 0.5
        ends = [self.end(job, all_plain=all_plain) for job in (*mine, *twice)]
        return self.stamped(self.store.settle, ends)

    def end(self, job: StoredJob, *, all_plain: bool) -> Settle:
        draw = self.random
        if self.is_odd():
            kind: Any = draw.choice(["again", "retry", "release", "done", "cancelled"])
            return Settle(id=job.id, token=job.token, kind=kind)
        said: list[dict[str, Any]] = [
            *[{}] * 9, {"value": b"5"}, {"reason": "why"}, {"error": "trace"},
            {"value": b'{"every": 5}', "reason": "why", "error": "trace"},
        ]  # fmt: skip
        given = {} if all_plain else draw.choice(said)
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


@pytest.mark.parametrize("seed", range(12))
def test_the_short_ways_of_rotations_tell_and_leave_what_the_long_ways_do(
    server: Server, only_long: Callable[[], None], seed: int
):
    compare(Turns, server, seed, only_long)


PLAIN_AGAIN: dict[str, Any] = {"kind": "again", "delay": 5.0}
AGAIN: dict[str, Any] = {**PLAIN_AGAIN, "value": b"5", "error": "trace"}


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
        *(("put", key) for key in ("jobs", "live", "scheduled", "answers")),
        *(("put ready", key) for key in ("line:", "lanes", "ring", "names")),
        *(
            ("claim", key)
            for key in ("jobs", "live", "scheduled", "leased", "line:", "lanes", "ring", "names")
        ),
        *(("settle", key) for key in ("live", "scheduled", "leased", "answers", "value", "error")),
        *(("settle plain", key) for key in ("live", "scheduled", "leased", "answers")),
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
    is_sorted = key in {"line:", "scheduled", "leased", "ring", "names"}
    server.command("HSET" if is_sorted else "ZADD", f"qanat:{{q}}:{key}", "1", "x")
    with Redis(unix_socket_path=server.socket, protocol=2) as client:
        before = all_of(client)
        with pytest.raises(StoreError, match="WRONGTYPE"):
            if deed.startswith("put"):
                store.put(Q, [new], stamp=stamp)
            elif deed == "claim":
                store.claim(Q, 1, worker="w", lease=30.0)
            else:
                given = PLAIN_AGAIN if deed == "settle plain" else AGAIN
                store.settle(Q, [Settle(id="leased", token=leased.token, **given)], stamp=stamp)
        assert all_of(client) == before


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
    # The long ways ask 16, 36 and 20 times.
    assert asked[1:] == [11, 14, 11]
