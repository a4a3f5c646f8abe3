"""What a client was told about its last batch: kept for a day, and told again to who repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest
from redis import Redis

from qanat._core.store.values import Conf, NewJob, Settle, Stamp
from qanat._stores.redis import RedisStore
from qanat.errors import StoreError
from tests._stores.redis.histories import all_of

if TYPE_CHECKING:
    from collections.abc import Iterator

    from tests._stores.redis.servers import Server

pytestmark = pytest.mark.real

Q = "q"
DAY = 86_400_000
ANSWERS = "qanat:{q}:answers"


class Time:
    """A clock that is moved by hand."""

    def __init__(self) -> None:
        self.now = 1_800_000_000_000

    def __call__(self) -> int:
        return self.now


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def at_hand(server: Server, time: Time) -> Iterator[RedisStore]:
    """Give a store by the clock."""
    store = RedisStore.open(server.url, clock=time)
    store.conf(Q, Conf())
    yield store
    store.close()


def clients(server: Server) -> set[str]:
    return {name.decode() for name in server.command("HKEYS", ANSWERS)}


def answer(at: int) -> bytes:
    """Return what is kept of a put of one job that was stored."""
    return (1).to_bytes(7, "big") + b"\1" + at.to_bytes(6, "big") + b"\x90"


def put(store: RedisStore, id: str, client: str, number: int = 1) -> str:
    [placed] = store.put(Q, [NewJob(id=id)], stamp=Stamp(client, number))
    return placed.why


def test_an_answer_is_told_for_a_day_and_is_gone_behind_it(server: Server, time: Time, at_hand: RedisStore):
    assert put(at_hand, "a", "old") == ""
    time.now += 1000
    assert put(at_hand, "b", "new") == ""
    time.now += DAY - 1000
    at_hand.rescue(Q)
    assert clients(server) == {"old", "new"}
    assert put(at_hand, "a", "old") == ""
    time.now += 1
    at_hand.rescue(Q)
    assert clients(server) == {"new"}
    # It is put anew, and its id is held.
    assert put(at_hand, "a", "old") == "id"


def test_who_goes_on_has_an_answer_as_young_as_its_last_batch(
    server: Server, time: Time, at_hand: RedisStore
):
    put(at_hand, "a", "client")
    time.now += DAY
    put(at_hand, "b", "client", 2)
    time.now += DAY
    at_hand.rescue(Q)
    assert clients(server) == {"client"}


@pytest.mark.parametrize(("number", "left"), [(250, 0), (1_200, 200)])
def test_of_many_clients_all_are_forgotten_in_the_end(
    server: Server, time: Time, at_hand: RedisStore, number: int, left: int
):
    with Redis(unix_socket_path=server.socket) as client:
        old = {f"client-{each}": answer(time.now - DAY - 1) for each in range(number)}
        client.hset(ANSWERS, mapping=old)
    put(at_hand, "a", "young")
    at_hand.rescue(Q)
    assert abs(len(clients(server)) - 1 - left) <= 10  # the young one may be looked at, in each round
    at_hand.rescue(Q)
    assert clients(server) == {"young"}


def test_where_most_answers_are_young_one_look_is_all(server: Server, time: Time, at_hand: RedisStore):
    with Redis(unix_socket_path=server.socket) as client:
        client.hset(ANSWERS, mapping={f"client-{each}": answer(time.now) for each in range(1_000)})
        client.config_resetstat()
        at_hand.rescue(Q)
        looks: Any = client.info("commandstats")
    assert looks["cmdstat_hrandfield"]["calls"] == 1
    assert len(clients(server)) == 1_000


def test_of_long_answers_few_are_looked_at_in_one_rescue(server: Server, time: Time, at_hand: RedisStore):
    long = b"i" * 500_000
    with Redis(unix_socket_path=server.socket) as client:
        old = {f"client-{each}": answer(time.now - DAY - 1) + long for each in range(25)}
        client.hset(ANSWERS, mapping=old)
    left: list[int] = []
    for _ in range(3):
        at_hand.rescue(Q)
        left.append(len(clients(server)))
    assert left == [15, 5, 0]


def test_a_repeated_batch_is_answered_by_a_full_server_too(server: Server, at_hand: RedisStore):
    assert put(at_hand, "a", "client") == ""
    [job] = at_hand.claim(Q, 1, worker="w", lease=30.0).jobs
    done = [Settle(id="a", token=job.token, kind="done")]
    [settled] = at_hand.settle(Q, done, stamp=Stamp("other", 1))
    server.command("CONFIG", "SET", "maxmemory", 1)
    try:
        assert put(at_hand, "a", "client") == ""
        assert at_hand.settle(Q, done, stamp=Stamp("other", 1)) == [settled]
    finally:
        server.command("CONFIG", "SET", "maxmemory", 0)


@pytest.mark.parametrize("name", ["answers", "known", "done", "dead", "cancelled"])
def test_a_rescue_writes_nothing_where_it_could_not_tell_of_it(
    server: Server, time: Time, at_hand: RedisStore, name: str
):
    put(at_hand, "a", "client")
    at_hand.claim(Q, 1, worker="w", lease=30.0)
    time.now += 60_000
    server.command("DEL", f"qanat:{{q}}:{name}")
    server.command("RPUSH", f"qanat:{{q}}:{name}", "somebody else's")
    with Redis(unix_socket_path=server.socket, protocol=2) as client:
        before = all_of(client)
        with pytest.raises(StoreError, match="WRONGTYPE"):
            at_hand.rescue(Q)
        assert all_of(client) == before


@pytest.mark.parametrize("name", ["value", "error"])
def test_a_long_claim_leases_nothing_that_it_could_not_give(server: Server, at_hand: RedisStore, name: str):
    at_hand.put(Q, [NewJob(id="a"), NewJob(id="b", lane="x")])  # of two lanes
    server.command("RPUSH", f"qanat:{{q}}:{name}", "somebody else's")
    with Redis(unix_socket_path=server.socket, protocol=2) as client:
        before = all_of(client)
        with pytest.raises(StoreError, match="WRONGTYPE"):
            at_hand.claim(Q, 2, worker="w", lease=30.0)
        assert all_of(client) == before


@pytest.mark.parametrize(
    "conf", [Conf(), Conf(order="due", max_attempts=None, max_crashes=None)], ids=["queue", "rotation"]
)
def test_what_is_due_comes_although_it_is_not_counted(server: Server, time: Time, conf: Conf):
    store = RedisStore.open(server.url, clock=time)
    store.conf("other", conf)
    store.put("other", [NewJob(id="later", delay=1.0)])
    server.command("HSET", "qanat:{other}:meta", "scheduled", "0")
    time.now += 5_000
    assert [job.id for job in store.claim("other", 1, worker="w", lease=30.0).jobs] == ["later"]
    store.close()


def test_what_cannot_be_an_answer_is_forgotten(server: Server, at_hand: RedisStore):
    server.command("HSET", ANSWERS, "somebody", "x")
    put(at_hand, "a", "client")
    at_hand.rescue(Q)
    assert clients(server) == {"client"}
