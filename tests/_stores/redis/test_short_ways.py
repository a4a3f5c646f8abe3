"""The short ways of scripts: they leave and tell what the long ways do, and ask the server for less."""

from __future__ import annotations

from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import pytest
from redis import Redis

from qanat._core.store.values import Conf, NewJob, Settle, Stamp
from qanat.errors import StoreError
from tests._stores.redis.histories import History, Q, all_of, compare

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.store.values import StoredJob
    from qanat._stores.redis import RedisStore
    from tests._stores.redis.servers import Server

pytestmark = pytest.mark.real


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
    compare(Deletions, server, seed, only_long, steps=150)


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
    compare(History, server, seed, only_long)


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
    # The script itself counts too. The long ways ask 21 and 17 times, 37, 17 and 42, 25, and 26.
    assert (putting, claiming, settling, releasing) == ([16, 12], [18, 6, 26], [13], [19])


@pytest.mark.parametrize(
    "conf", [Conf(), Conf(order="due", max_attempts=None, max_crashes=None)], ids=["queue", "rotation"]
)
def test_leases_of_another_type_stop_the_first_claim_before_it_writes(
    server: Server, store: RedisStore, conf: Conf
):
    store.conf(Q, conf)
    store.put(Q, [NewJob(id="a")])
    server.command("HSET", f"qanat:{{{Q}}}:leased", "of", "somebody else")
    with Redis(unix_socket_path=server.socket, protocol=2) as client:
        before = all_of(client)
        with pytest.raises(StoreError, match="WRONGTYPE"):
            store.claim(Q, 1, worker="w", lease=30.0)
        assert all_of(client) == before


@pytest.mark.parametrize("size", [1, 31, 32, 255, 256, 511, 512])
def test_keys_of_all_lengths_are_let_go_of_with_a_lease_and_taken_again_with_a_release(
    server: Server, store: RedisStore, size: int
):
    store.conf(Q, Conf(unique="pending"))
    name = "é" * (size // 2) + "k" * (size % 2)
    store.put(Q, [NewJob(id="a", key=name), NewJob(id="b", key=name[:-1] + "x")])
    claim = store.claim(Q, 2, worker="w", lease=30.0)
    assert server.command("EXISTS", f"qanat:{{{Q}}}:keys") == 0
    back = [Settle(id=job.id, token=job.token, kind="release") for job in claim.jobs]
    store.settle(Q, back, stamp=Stamp("client", 1))
    held = server.command("HGETALL", f"qanat:{{{Q}}}:keys")
    assert held == {name.encode(): b"a", (name[:-1] + "x").encode(): b"b"}
