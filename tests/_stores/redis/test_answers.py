"""What a client was told about its last batch: kept for a day, and told again to who repeats it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qanat._core.store.values import Conf, NewJob, Stamp
from qanat._stores.redis import RedisStore

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


def test_of_many_clients_all_are_forgotten_in_the_end(server: Server, time: Time, at_hand: RedisStore):
    for number in range(250):
        put(at_hand, f"j{number}", f"client-{number}")
    time.now += DAY + 1
    at_hand.rescue(Q)
    assert len(clients(server)) == 150
    at_hand.rescue(Q)
    at_hand.rescue(Q)
    assert clients(server) == set()


def test_what_cannot_be_an_answer_is_forgotten(server: Server, at_hand: RedisStore):
    server.command("HSET", ANSWERS, "somebody", "x")
    put(at_hand, "a", "client")
    at_hand.rescue(Q)
    assert clients(server) == {"client"}
