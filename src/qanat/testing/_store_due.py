"""What stores promise to jobs that come again and again: the longest due first, and none lost."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._core.store.values import Conf
from qanat.testing._store_bench import QUEUE, Hand, StoreBench, expect

if TYPE_CHECKING:
    from collections.abc import Callable

BY_DUE: Final = Conf(order="due", max_attempts=None, max_crashes=None)


def the_longest_due_is_the_first_leased(bench: StoreBench) -> None:
    """With the order "due", who fell due first is first, however it came to be due."""
    hand = Hand(bench, BY_DUE)
    hand.put("at 6", delay=6.0, priority=-5.0)
    hand.put("at 3", delay=3.0)
    hand.put("at 0", priority=9.0)
    hand.put("too at 0")
    bench.advance(4.0)
    hand.put("at 4")
    hand.expect_time(hand.job("at 6").priority, 6.0, "the priority of one that is to fall due")
    expect(hand.ids(1), ["at 0"], "the longest due")
    hand.put("early", delay=1.0)
    bench.advance(3.0)
    hand.put("at 7")
    jobs = hand.take(6)
    order = ["too at 0", "at 3", "at 4", "early", "at 6", "at 7"]
    expect([job.id for job in jobs], order, "the order of those that fell due while others were ready")
    ways = (("again", 4.0), ("retry", 2.0), ("again", 0.0), ("release", 3.0))
    for job, (kind, delay) in zip(jobs, ways, strict=False):
        hand.settle(job, kind, delay=delay)
    hand.expect_time(hand.job("too at 0").priority, 11.0, "the priority of one that comes again")
    bench.advance(5.0)
    hand.put("at 12")
    expect(hand.ids(9), ["early", "at 4", "at 3", "too at 0", "at 12"], "the order of those that came back")
    hand.expect_sound()


def a_lost_lease_is_due_since_it_expired(bench: StoreBench) -> None:
    """With the order "due", who lost its worker comes behind those that fell due before its lease expired."""
    hand = Hand(bench, BY_DUE)
    hand.put("lost")
    hand.take(lease=5.0)
    hand.put("at 4", delay=4.0)
    hand.put("at 6", delay=6.0)
    bench.advance(7.0)
    expect(hand.store.rescue(QUEUE).ids, ["lost"], "who is rescued")
    expect(hand.ids(9), ["at 4", "lost", "at 6"], "the order")
    hand.expect_sound()


def due_jobs_put_back_are_due_now(bench: StoreBench) -> None:
    """With the order "due", a requeue lets a job fall due at that time."""
    hand = Hand(bench, BY_DUE)
    hand.put("later", delay=100.0)
    hand.put("soon", delay=5.0)
    bench.advance(4.0)
    expect(hand.store.requeue(QUEUE, ["later"]), ["ready"], "the answer")
    bench.advance(2.0)
    expect(hand.ids(9), ["later", "soon"], "the order")
    hand.expect_sound()


def many_due_jobs_keep_their_order(bench: StoreBench) -> None:
    """With the order "due", the first of more due jobs than one step looks at are the longest due."""
    hand = Hand(bench, BY_DUE)
    for begin in (800, 0, 400):
        for number in range(begin, begin + 400, 100):
            hand.put(*(f"{number + i:04}" for i in range(100)), delay=1.0 + number)
    bench.advance(2000.0)
    hand.put("now")
    wanted = [f"{number:04}" for number in range(1200)]
    expect(hand.ids(1000) + hand.ids(1000), [*wanted, "now"], "the order")


def lost_leases_may_go_uncounted(bench: StoreBench) -> None:
    """Without `max_crashes` a job that loses its worker is no suspect, and never ends by it."""
    hand = Hand(bench, Conf(max_attempts=None, max_crashes=None))
    hand.put("a", "b", "c")
    for number in range(7):
        expect(hand.ids(3, lease=1.0), ["a", "b", "c"], f"who is leased after {number} losses")
        bench.advance(2.0)
        expect(hand.store.rescue(QUEUE).ids, ["a", "b", "c"], "who is rescued")
        expect((hand.job("a").crashes, hand.job("a").token), (0, 0), "crashes and token")
    hand.expect_sound()


def leased_jobs_are_deleted_if_asked(bench: StoreBench) -> None:
    """A delete takes leased jobs only if it says so; their leases are lost, and their ids are free."""
    hand = Hand(bench, Conf(unique="active"))
    hand.put("a", key="k")
    hand.put("b")
    [a, _] = hand.take(2)
    expect(hand.store.delete(QUEUE, ["a"]), ["leased"], "a delete that does not ask for it")
    answer = hand.store.delete(QUEUE, ["a", "a", "x"], leased=True)
    expect(answer, ["deleted", "unknown", "unknown"], "a delete that asks for it")
    expect(hand.get("a"), None, "the record")
    expect(hand.extend(a), ["a"], "whether its lease is lost")
    expect(hand.settle(a).status, "stale", "a settle of it")
    hand.put("a", key="k")
    expect(hand.settle(a).status, "stale", "a settle when there is a new job of the id")
    expect(hand.job("a").state, "ready", "the new job")
    expect(hand.store.count(QUEUE).removed, 1, "how many were removed")
    hand.expect_sound()


def counts_tell_what_is_due(bench: StoreBench) -> None:
    """Scheduled jobs whose time has come, and leases that have expired, are counted as due."""
    hand = Hand(bench)

    def expect_due(wanted: tuple[int, int, int, int]) -> None:
        counts = hand.store.count(QUEUE)
        got = (counts.scheduled, counts.ready, counts.leased, counts.due)
        expect(got, wanted, "scheduled, ready, leased and due")

    expect_due((0, 0, 0, 0))
    hand.put("a", "b", delay=5.0)
    hand.put("c", delay=8.0)
    hand.put("d")
    expect_due((3, 1, 0, 0))
    bench.advance(5.01)
    expect_due((3, 1, 0, 2))
    hand.take(2, lease=1.0)
    expect_due((1, 1, 2, 0))
    bench.advance(1.01)
    expect_due((1, 1, 2, 2))
    bench.advance(5.0)
    expect_due((1, 1, 2, 3))
    hand.store.rescue(QUEUE)
    hand.claim(0)
    expect_due((0, 4, 0, 0))
    hand.expect_sound()


def coming_again_keeps_a_reason_and_an_error(bench: StoreBench) -> None:
    """An "again" may tell of an error; the next one that does not leaves the error, and no reason."""
    hand = Hand(bench)
    hand.put("a")
    [job] = hand.take()
    hand.settle(job, "again", reason="why", error="trace", value=b"1")
    job = hand.job("a")
    expect((job.reason, job.error, job.value, job.attempt), ("why", "trace", b"1", 0), "what was kept")
    [job] = hand.take()
    hand.settle(job, "again")
    job = hand.job("a")
    expect((job.reason, job.error, job.value), ("", "trace", b"1"), "what is left")


DUE: Final[tuple[Callable[[StoreBench], None], ...]] = (
    the_longest_due_is_the_first_leased,
    a_lost_lease_is_due_since_it_expired,
    due_jobs_put_back_are_due_now,
    many_due_jobs_keep_their_order,
    lost_leases_may_go_uncounted,
    leased_jobs_are_deleted_if_asked,
    counts_tell_what_is_due,
    coming_again_keeps_a_reason_and_an_error,
)
