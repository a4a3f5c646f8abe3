"""The store over Redis 6.2 and newer, and Valkey: the deeds of the ports, each one script."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from qanat._core.store import bounds, rules
from qanat._core.store.redis_health import redis_findings
from qanat._core.store.states import STATES
from qanat._core.store.values import Conf, Counts, Extended
from qanat._stores.redis import wire
from qanat._stores.redis.began import Began
from qanat._stores.redis.calling import SMALL, Calls
from qanat._stores.redis.connecting import WAIT, connect, is_exposed
from qanat._stores.redis.durability import Durability
from qanat._stores.redis.examining import examine
from qanat._stores.redis.keys import PREFIX, Keys
from qanat.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Sequence

    from qanat._core.store.finding import Finding
    from qanat._core.store.states import State
    from qanat._core.store.values import (
        Claim,
        Lease,
        NewJob,
        Page,
        Placed,
        Rescued,
        Settle,
        Settled,
        Stamp,
        StoredJob,
    )
    from qanat._stores.redis.edge import Client
    from qanat._stores.url import StoreUrl

_DEEDS = {1: "put", 2: "settle"}


class RedisStore:
    """Queues in a server, behind the ports of a store; one connection, used by one thread at a time.

    Args:
        client: A client of the driver that retries nothing and decodes nothing; see `open`.
        prefix: What all keys begin with.
        wait: Seconds that replicas, or the disk, get to tell that they have what was put.
        exposed: Whether the connection crosses a network without TLS.
        clock: Returns milliseconds; None: the server's own time. Only tests hand one in.
        ear: The name of the ear that is told when claims of this connection that got less than they
            asked for may get more; "" is told nothing.

    Attributes:
        roams: Any thread may use it.
    """

    roams: Final = True

    def __init__(
        self,
        client: Client,
        *,
        prefix: str = PREFIX,
        wait: float = WAIT,
        exposed: bool = False,
        clock: Callable[[], int] | None = None,
        ear: str = "",
    ) -> None:
        self._ear = ear
        self._exposed = exposed
        self._calls = Calls(client, clock)
        self._keys = Keys(prefix)
        self._durability = Durability(self._calls, wait)
        self._listed: set[str] = set()
        """Queues that are in the set of all queues, as far as we know."""

    @classmethod
    def open(
        cls, url: StoreUrl | str, *, clock: Callable[[], int] | None = None, ear: str = ""
    ) -> RedisStore:
        """Return a store for a URL; `connecting.Options` are what may follow its question mark."""
        client, options = connect(url)
        return cls(
            client, prefix=options.prefix, wait=options.wait, exposed=is_exposed(url), clock=clock, ear=ear
        )  # fmt: skip

    # The life of jobs.

    def put(
        self,
        queue: str,
        jobs: Sequence[NewJob],
        *,
        stamp: Stamp | None = None,
        replicas: int = 0,
        durable: bool = False,
    ) -> list[Placed]:
        """Store new jobs."""
        bounds.check_put(queue, jobs, stamp)
        self._durability.check(self._keys.meta(queue), replicas, durable=durable)
        self._list(queue)
        answer = self._run("put", queue, *_put_arguments(jobs, stamp), twice=stamp is not None)
        if answer[0] == b"made":
            # Whoever emptied the server took the set of queues too.
            self._list(queue, anew=True)
        placed = wire.placed_of(jobs, _answer(answer, stamp, "put"))
        if jobs and (replicas or durable):
            self._durability.wait(self._keys.meta(queue), jobs[0].id, replicas, durable=durable)
        return placed

    def claim(
        self,
        queue: str,
        n: int,
        *,
        worker: str,
        lease: float,
        skip: Collection[str] = (),
        suspects: int = 1,
    ) -> Claim:
        """Lease up to `n` jobs."""
        bounds.check_claim(queue, n, worker, lease, skip, suspects)
        arguments = _claim_arguments(n, worker, lease, skip, self._ear, suspects)
        return wire.claim_of(self._run("claim", queue, *arguments), worker, lease)

    def settle(self, queue: str, settles: Sequence[Settle], *, stamp: Stamp | None = None) -> list[Settled]:
        """End leases."""
        plain = bounds.check_settle(queue, settles, stamp)
        arguments = _settle_arguments(settles, stamp, plain=plain)
        answer = self._run("settle", queue, *arguments, twice=stamp is not None)
        return wire.settled_of(settles, _answer(answer, stamp, "settle"))

    def extend(self, queue: str, leases: Sequence[Lease], lease: float) -> Extended:
        """Let live leases expire later."""
        bounds.check_extend(queue, leases, lease)
        arguments = (wire.milliseconds(lease), len(leases), *wire.extend_arguments(leases))
        lost, cancelled = self._run("extend", queue, *arguments, twice=True)
        return Extended([id.decode() for id in lost], [id.decode() for id in cancelled])

    def rescue(self, queue: str, n: int = bounds.MOST) -> Rescued:
        """Take back leases that have expired."""
        bounds.check_whole("n", n, 1, bounds.MOST)
        return wire.rescued_of(self._run("rescue", queue, n))

    def cancel(
        self, queue: str, ids: Sequence[str]
    ) -> list[Literal["cancelled", "asked", "ended", "unknown"]]:
        """Cancel jobs that have not ended."""
        return self._each("cancel", queue, ids)

    def get(self, queue: str, ids: Sequence[str]) -> list[StoredJob | None]:
        """Return what is known of jobs."""
        bounds.check_ids("ids", ids)
        return wire.described(self._run("get", queue, len(ids), *ids, twice=True))

    def find(
        self,
        queue: str,
        state: State | None = None,
        *,
        lane: str | None = None,
        parent: str | None = None,
        bodies: Collection[bytes] | None = None,
        limit: int = 100,
        after: str | None = None,
    ) -> Page:
        """Return jobs by state and lane, or the children of one."""
        bounds.check_find(queue, state, parent, limit, bodies)
        arguments = (
            0 if state is None else STATES.index(state) + 1,
            "0" if lane is None else "1" + lane,
            "0" if parent is None else "1" + parent,
            limit,
            *wire.cursor_arguments(after),
            *(("",) if bodies is None else (len(bodies), *bodies)),
        )
        return wire.page_of(self._run("find", queue, *arguments, twice=True))

    def count(self, queue: str) -> Counts:
        """Return how many jobs are in each state."""
        names = (*STATES, "put", "removed")
        *numbers, due, paused = self._run("count", queue, twice=True)
        counts = {name: int(number or 0) for name, number in zip(names, numbers, strict=True)}
        return Counts(**counts, paused=paused is not None, due=due)

    # What operators do.

    def conf(self, queue: str, conf: Conf | None = None, *, change: bool = False) -> Conf:
        """Set a queue at its first use, and return what it is set to."""
        if conf is None:
            return wire.conf_of(self._run("conf", queue, "", twice=True)[1])
        bounds.check_conf(conf)
        self._list(queue)
        arguments = ("change" if change else "set", *wire.conf_arguments(conf))
        how, held = self._run("conf", queue, *arguments, twice=True)
        if how == b"in use":
            rules.changed(wire.conf_of(held), conf, empty=False)
        self._list(queue, anew=True)
        return wire.conf_of(held)

    def pause(self, queue: str) -> None:
        """Let claims get nothing."""
        self._list(queue, anew=True)
        self._calls.command("HSET", self._keys.meta(queue), "paused", "1")

    def resume(self, queue: str) -> None:
        """Let claims get jobs again."""
        self._run("resume", queue, twice=True)

    def requeue(self, queue: str, ids: Sequence[str]) -> list[Literal["ready", "key", "live", "unknown"]]:
        """Let jobs that have ended run again, or scheduled ones now."""
        return self._each("requeue", queue, ids)

    def delete(
        self, queue: str, ids: Sequence[str], *, leased: bool = False
    ) -> list[Literal["deleted", "leased", "unknown"]]:
        """Remove jobs with all that is known of them."""
        bounds.check_ids("ids", ids)
        answer = self._run("delete", queue, len(ids), *ids, "1" if leased else "")
        return [told.decode() for told in answer]

    def purge(self, queue: str, state: State, n: int = bounds.MOST) -> int:
        """Delete up to `n` jobs of one state."""
        bounds.check_purge(queue, state, n)
        deleted, more = 0, True
        while more and deleted < n:
            part, more = self._run("purge", queue, STATES.index(state) + 1, n - deleted)
            deleted += part
        return deleted

    def forget(self, queue: str, keys: Sequence[str]) -> int:
        """Let go of keys whose jobs have ended."""
        bounds.check_ids("keys", keys)
        forgotten: int = self._run("forget", queue, len(keys), *keys)
        return forgotten

    def queues(self) -> list[str]:
        """Return the names of all queues."""
        names = self._calls.command("SMEMBERS", self._keys.queues)
        # Whoever may write to the server may put anything into the set; no queue can have such a name.
        return sorted(bounds.only_names(name.decode("utf-8", "replace") for name in names))

    def check(self, queue: str, *, repair: bool = False) -> list[str]:
        """Return what contradicts itself; with `repair` the indexes are made anew."""
        return [told.decode() for told in self._run("check", queue, "1" if repair else "")]

    # Without waiting for the answer.

    def begin_put(self, queue: str, jobs: Sequence[NewJob], stamp: Stamp) -> Began | None:
        """Send a put and go on; None if that is not possible, and nothing was sent."""
        if queue not in self._listed or sum([len(job.body) + len(job.metadata) for job in jobs]) > SMALL:
            return None
        bounds.check_put(queue, jobs, stamp)

        def understand(answer: Any) -> list[Placed] | None:
            return wire.placed_of(jobs, answer[1]) if answer[0] == b"ok" else None

        return self._begin("put", queue, _put_arguments(jobs, stamp), understand)

    def begin_settle(self, queue: str, settles: Sequence[Settle], stamp: Stamp) -> Began | None:
        """Send a settle and go on, as `begin_put`."""
        for each in settles:
            if each.children or each.also or (each.value and len(each.value) > SMALL):
                return None
        plain = bounds.check_settle(queue, settles, stamp)

        def understand(answer: Any) -> list[Settled] | None:
            return wire.settled_of(settles, answer[1]) if answer[0] == b"ok" else None

        return self._begin("settle", queue, _settle_arguments(settles, stamp, plain=plain), understand)

    def begin_claim(
        self, queue: str, n: int, *, worker: str, lease: float, skip: Collection[str] = (), suspects: int = 1
    ) -> Began | None:
        """Send a claim and go on, as `begin_put`."""
        bounds.check_claim(queue, n, worker, lease, skip, suspects)
        arguments = _claim_arguments(n, worker, lease, skip, self._ear, suspects)
        return self._begin("claim", queue, arguments, lambda answer: wire.claim_of(answer, worker, lease))

    def begin_by_ids(self, deed: str, queue: str, ids: Sequence[str], how: str = "") -> Began | None:
        """Send a cancel, get, requeue or delete and go on, as `begin_put`; `how` is as `Deeds` has it."""
        bounds.check_ids("ids", ids)
        arguments: list[Any] = [len(ids), *ids]
        if deed == "delete":
            arguments.append("1" if how == "leased" else "")
        return self._begin(deed, queue, arguments, wire.described if deed == "get" else _texts)

    def begin_rescue(self, queue: str) -> Began | None:
        """Send a rescue and go on, as `begin_put`."""
        return self._begin("rescue", queue, [bounds.MOST], wire.rescued_of)

    def _begin(
        self, name: str, queue: str, arguments: list[Any], understand: Callable[[Any], Any]
    ) -> Began | None:
        sent = self._calls.begin(name, self._keys.of(queue), *arguments)
        return None if sent is None else Began(self._calls, sent, understand)

    # The store itself.

    def now(self) -> float:
        """Return the server's time."""
        milliseconds: int = self._calls.run("now", [self._keys.queues], twice=True)
        return milliseconds / 1000

    def guarantees(self) -> str:
        """Return what survives, as the server's settings tell."""
        return self._durability.level()

    def examine(self, *, thorough: bool = False) -> list[Finding]:
        """Return what the server's settings and its state mean for the queues in it."""
        read = examine(self._calls, self._durability, self._keys.queues, exposed=self._exposed)
        return [finding for each in read for finding in redis_findings(each)]

    def close(self) -> None:
        """Close the connection."""
        self._calls.close()

    def _run(self, name: str, queue: str, *arguments: Any, twice: bool = False) -> Any:
        return self._calls.run(name, self._keys.of(queue), *arguments, twice=twice)

    def _each(self, name: str, queue: str, ids: Sequence[str]) -> list[Any]:
        bounds.check_ids("ids", ids)
        return [told.decode() for told in self._run(name, queue, len(ids), *ids)]

    def _list(self, queue: str, *, anew: bool = False) -> None:
        """See that a queue is in the set of all: before its first job, so that none is hidden."""
        if anew or queue not in self._listed:
            key = self._keys.meta(queue) and self._keys.queues
            self._calls.command("SADD", key, queue)
            self._listed.add(queue)


def _texts(answer: list[bytes]) -> list[str]:
    return [told.decode() for told in answer]


def _put_arguments(jobs: Sequence[NewJob], stamp: Stamp | None) -> list[Any]:
    return [*_stamped(stamp), len(jobs), *wire.put_arguments(jobs)]


def _settle_arguments(settles: Sequence[Settle], stamp: Stamp | None, *, plain: bool) -> list[Any]:
    arguments = wire.plain_arguments(settles) if plain else wire.settle_arguments(settles)
    return [*_stamped(stamp), *arguments]


def _claim_arguments(
    n: int, worker: str, lease: float, skip: Collection[str], ear: str, suspects: int
) -> list[Any]:
    return [n, worker, wire.milliseconds(lease), suspects, ear, len(skip), *skip]


def _stamped(stamp: Stamp | None) -> tuple[str, int]:
    return ("", 0) if stamp is None else (stamp.client, stamp.number)


def _answer(answer: Any, stamp: Stamp | None, deed: str) -> bytes:
    """Return what a batch was told, unless its stamp was wrong."""
    if answer[0] != b"stamp":
        told: bytes = answer[1]
        return told
    if stamp is None:
        raise StoreError("the server answered to a stamp that was not sent")
    _, number, kind = answer
    raise ValueError(
        f"stamp must be newer than {_DEEDS[kind]} number {number} of this client, got {deed} "
        f"number {stamp.number}: a client sends one batch after the other"
    )
