"""What every store promises of children, callbacks and keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from qanat._core.store.values import Conf, Ended, Lease, NewJob, Placed, Settle
from qanat.testing._store_bench import QUEUE, Hand, StoreBench, expect

if TYPE_CHECKING:
    from collections.abc import Callable

KEPT: Final = Conf(keep=1000.0)
DEEP: Final = 1_200
"""Levels of a tree: more than Python lets functions call themselves."""


def a_parent_waits_for_its_children(bench: StoreBench) -> None:
    """It ends with the last of them, keeps its value, and has counted how each ended."""
    hand = Hand(bench, KEPT)
    hand.put("p")
    [parent] = hand.take()
    children = tuple(NewJob(id=id) for id in ("a", "b", "c", "a"))
    settled = hand.settle(parent, value=b"1", children=children)
    expect(settled.state, "waiting", "the parent's state")
    expect([each.why for each in settled.placed], ["", "", "", "id"], "what became of the children")
    expect(hand.job("a").parent, "p", "the parent of a child")
    a, b = hand.take(2)
    hand.settle(a)
    hand.settle(a)
    hand.settle(b, "dead")
    hand.expect_states("with one child left", p="waiting", a="done", b="dead")
    hand.store.cancel(QUEUE, ["c"])
    parent = hand.job("p")
    counts = (parent.open_children, parent.done_children, parent.dead_children, parent.cancelled_children)
    expect((parent.state, parent.value, counts), ("done", b"1", (0, 1, 1, 1)), "the parent in the end")
    hand.expect_sound()


def a_callback_is_called_once(bench: StoreBench) -> None:
    """When the last child has ended the parent is ready again, in its next phase, with fresh attempts."""
    hand = Hand(bench, Conf(keep=1000.0, max_attempts=2, max_age=50.0))
    hand.put("p", body=b"item", priority=-1)
    hand.settle(hand.take()[0], "retry")
    [parent] = hand.take()
    hand.settle(parent, value=b"1", children=(NewJob(id="a", failure="fail"),), after="sum")
    bench.advance(40.0)
    [child] = hand.take()
    expect(hand.settle(child, "dead").ended, (), "who ended with the child")
    [callback] = hand.take()
    expect(
        (callback.id, callback.phase, callback.after, callback.attempt, callback.value, callback.body),
        ("p", 1, "sum", 1, b"1", b"item"),
        "the callback",
    )
    expect((callback.dead_children, callback.failed_children), (1, 0), "dead and failed children")
    hand.expect_time(callback.born_at, 40.0, "born_at")
    bench.advance(40.0)
    hand.settle(callback, "retry")
    [callback] = hand.take()
    expect((callback.phase, callback.attempt), (1, 2), "the callback's second attempt")
    expect(hand.settle(callback).state, "done", "the parent in the end")
    expect((hand.job("p").value, hand.job("p").after), (b"1", ""), "what is kept of it")
    hand.expect_sound()


def a_callback_without_children_comes_at_once(bench: StoreBench) -> None:
    """Also if all the children that were asked for are known already."""
    hand = Hand(bench, KEPT)
    hand.put("p", "a")
    [parent, a] = hand.take(2)
    hand.settle(a)
    expect(hand.settle(parent, children=(NewJob(id="a"),), after="sum").state, "ready", "the parent's state")
    expect(hand.take()[0].phase, 1, "its phase")


def a_failing_child_may_fail_its_parent(bench: StoreBench) -> None:
    """One with `failure="fail"` does, once all have ended; and so on upwards."""
    hand = Hand(bench, KEPT)
    hand.put("top")
    hand.settle(hand.take()[0], children=(NewJob(id="p", failure="fail"),))
    hand.settle(hand.take()[0], children=(NewJob(id="a", failure="fail"), NewJob(id="b")))
    a, b = hand.take(2)
    hand.settle(a, "dead")
    hand.expect_states("with one child left", p="waiting", top="waiting")
    ended = hand.settle(b).ended
    wanted = (Ended("p", "dead", "children"), Ended("top", "dead", "children"))
    expect(ended, wanted, "who ended with the last child")
    hand.expect_sound()


def children_may_be_put_while_the_parent_runs(bench: StoreBench) -> None:
    """Under its lease alone; those that end before it settles are counted too."""
    hand = Hand(bench, KEPT)
    hand.put("p")
    [parent] = hand.take()
    lease = Lease("p", parent.token)
    expect(
        hand.put("a", "b", "a", parent=lease),
        [Placed("a"), Placed("b"), Placed("a", "id", "a")],
        "the answer",
    )
    expect(hand.put("c", parent=Lease("p", parent.token + 9)), [Placed("c", "parent", "p")], "another lease")
    [a] = hand.take()
    hand.settle(a)
    expect((hand.job("p").open_children, hand.job("p").done_children), (1, 1), "open and done children")
    hand.settle(parent, "retry")
    expect(hand.put("d", parent=lease), [Placed("d", "parent", "p")], "a lease that is over")
    [parent] = hand.take()
    expect(parent.id, "p", "who is first")
    expect(hand.put("b", parent=Lease("p", parent.token)), [Placed("b", "id", "b")], "the same child again")
    expect(hand.settle(parent).state, "waiting", "the parent with a child that is open")
    hand.settle(hand.take()[0])
    expect(hand.job("p").state, "done", "the parent in the end")
    hand.expect_sound()


def no_children_after_a_cancel_request(bench: StoreBench) -> None:
    """A job that is to be cancelled gets no more, and does not wait."""
    hand = Hand(bench, KEPT)
    hand.put("p")
    [parent] = hand.take()
    hand.store.cancel(QUEUE, ["p"])
    lease = Lease("p", parent.token)
    expect(hand.put("a", parent=lease), [Placed("a", "parent", "p")], "a child that is put")
    settled = hand.settle(parent, children=(NewJob(id="b"),), also=(NewJob(id="c"),))
    expect((settled.state, settled.reason), ("cancelled", "cancelled"), "the parent")
    expect(settled.placed, (Placed("b", "parent", "p"), Placed("c")), "children and jobs beside")
    hand.expect_sound()


def a_deep_tree_ends_from_below(bench: StoreBench) -> None:
    """The end of the lowest job ends all above it in one step, however many they are."""
    hand = Hand(bench)
    hand.put("0")
    for level in range(1, DEEP):
        hand.settle(hand.take()[0], children=(NewJob(id=str(level)),))
    [lowest] = hand.take()
    ended = hand.settle(lowest).ended
    expect(len(ended), DEEP - 1, "how many ended with it")
    expect((ended[0].id, ended[-1].id), (str(DEEP - 2), "0"), "the first and the last of them")
    expect(hand.store.count(QUEUE).done, DEEP, "jobs done")
    hand.expect_sound()


def every_end_of_a_child_is_counted(bench: StoreBench) -> None:
    """Whoever ends it: claim, rescue, cancel, delete or purge."""
    hand = Hand(bench, Conf(keep=1000.0, max_crashes=1, max_age=50.0))
    hand.put("p")
    ids = ("crashes", "cancelled", "deleted", "ages")
    hand.settle(hand.take()[0], children=tuple(NewJob(id=id) for id in ids))
    hand.take(lease=1.0)
    bench.advance(2.0)
    rescued = hand.store.rescue(QUEUE)
    expect(rescued.ended, [Ended("crashes", "dead", "crashes")], "who ended by a rescue")
    hand.store.cancel(QUEUE, ["cancelled"])
    hand.store.delete(QUEUE, ["deleted"])
    expect(hand.job("p").open_children, 1, "open children")
    bench.advance(60.0)
    claim = hand.claim(5)
    expect(claim.ended, [Ended("ages", "dead", "age"), Ended("p", "done")], "who ended by a claim")
    parent = hand.job("p")
    expect((parent.dead_children, parent.cancelled_children), (2, 2), "dead and cancelled children")
    hand.put("q")
    hand.settle(hand.take()[0], children=(NewJob(id="x"), NewJob(id="y")))
    hand.store.purge(QUEUE, "ready")
    expect(hand.job("q").state, "done", "a parent whose children were purged")
    hand.expect_sound()


def children_know_their_own_parent(bench: StoreBench) -> None:
    """A later job of the parent's id has nothing to do with them, nor has a child that was put back."""
    hand = Hand(bench)
    hand.put("p")
    hand.settle(hand.take()[0], children=(NewJob(id="a"),))
    hand.store.delete(QUEUE, ["p"])
    hand.put("p", priority=-1)
    [parent] = hand.take()
    hand.settle(parent, children=(NewJob(id="b"),))
    a, b = hand.take(2)
    hand.settle(a)
    expect((hand.job("p").state, hand.job("p").open_children), ("waiting", 1), "the later parent")
    hand.settle(b, "dead")
    expect(hand.get("p"), None, "the later parent once its own child has ended")
    hand.store.requeue(QUEUE, ["b"])
    expect(hand.job("b").parent, None, "the parent of a child that was put back")
    hand.expect_sound()


def a_child_put_back_is_not_counted_twice(bench: StoreBench) -> None:
    """It has been counted, and its parent may have gone on without it."""
    hand = Hand(bench, KEPT)
    hand.put("p")
    hand.settle(hand.take()[0], children=(NewJob(id="a"), NewJob(id="b")))
    a, _ = hand.take(2)
    hand.settle(a, "dead")
    hand.store.requeue(QUEUE, ["a"])
    hand.settle(hand.take()[0])
    parent = hand.job("p")
    counts = (parent.state, parent.open_children, parent.dead_children, parent.done_children)
    expect(counts, ("waiting", 1, 1, 0), "the parent, its open, dead and done children")
    hand.expect_sound()


def a_cancelled_parent_leaves_its_children(bench: StoreBench) -> None:
    """They go on; find(parent=...) tells which they are, and their end changes nothing for it."""
    hand = Hand(bench, KEPT)
    hand.put("p")
    hand.settle(hand.take()[0], children=(NewJob(id="a"),), after="sum")
    expect(list(hand.store.cancel(QUEUE, ["p"])), ["cancelled"], "the answer")
    expect([job.id for job in hand.store.find(QUEUE, parent="p").jobs], ["a"], "its children")
    hand.settle(hand.take()[0])
    expect((hand.job("p").state, hand.job("p").open_children), ("cancelled", 0), "the parent in the end")
    expect(hand.ids(5), [], "callbacks")
    hand.expect_sound()


def keys_mean_nothing_without_unique(bench: StoreBench) -> None:
    """With unique=None any number of jobs may have a key."""
    hand = Hand(bench)
    expect(hand.put("a", "b", key="k"), [Placed("a"), Placed("b")], "two of a key")


def a_release_that_yields_ends_where_another_waits(bench: StoreBench) -> None:
    """It is as a plain done where another job holds the key by then, and as any release where none does."""
    hand = Hand(bench, Conf(unique="pending", keep=1000.0))
    hand.put("a", key="k")
    hand.put("asked", key="l")
    hand.put("alone", "free")
    a, asked, alone, free = hand.take(4)
    hand.put("b", key="k")
    hand.put("c", key="l")
    hand.store.cancel(QUEUE, ["asked"])
    yielding = [
        Settle(id=job.id, token=job.token, kind="release", yields=True, delay=5.0 if job is free else 0.0)
        for job in (a, asked, alone, free)
    ]
    told = [(each.status, each.state, each.reason) for each in hand.store.settle(QUEUE, yielding)]
    expect(
        told,
        [("ok", "done", ""), ("ok", "cancelled", "cancelled"), ("ok", "ready", ""), ("ok", "scheduled", "")],
        "what became of them",
    )
    expect(
        (hand.job("alone").attempt, hand.job("a").attempt),
        (0, 1),
        "the attempts of who is back and who ended",
    )
    expect([job.id for job in hand.take(3)], ["alone", "b", "c"], "the order")
    [b] = [job for job in hand.store.get(QUEUE, ["b"]) if job]
    twice = [Settle(id="b", token=b.token, kind="release", yields=True)] * 2
    told_twice = [each.status for each in hand.store.settle(QUEUE, twice)]
    expect(told_twice, ["ok", "repeated"], "who is released twice")
    expect(hand.job("b").state, "ready", "the job whose key nobody has")
    expect(hand.put("twin", key="k"), [Placed("twin", "key", "b")], "a second job of its key")
    hand.expect_sound()


def a_key_of_its_own_is_nothing_to_yield_to(bench: StoreBench) -> None:
    """A job that holds its key while it is leased is released, though it yields."""
    hand = Hand(bench, Conf(unique="active", keep=1000.0))
    hand.put("a", key="k")
    [job] = hand.take()
    expect(hand.settle(job, "release", yields=True).state, "ready", "the job released")
    expect(hand.put("twin", key="k"), [Placed("twin", "key", "a")], "a second job of its key")
    hand.expect_sound()


def a_pending_key_is_held_until_the_start(bench: StoreBench) -> None:
    """One that comes back takes it again if it is free, and else goes on without."""
    hand = Hand(bench, Conf(unique="pending", keep=1000.0))
    expect(hand.put("a", "b", key="k"), [Placed("a"), Placed("b", "key", "a")], "two of a key")
    [a] = hand.take()
    expect(hand.put("b", key="k"), [Placed("b")], "once the first has begun")
    hand.settle(a, "retry")
    expect(hand.put("c", key="k"), [Placed("c", "key", "b")], "once it is back")
    [a] = hand.take()
    expect((a.id, hand.put("c", key="k")), ("a", [Placed("c", "key", "b")]), "once it has begun again")
    hand.take()
    hand.settle(a, "retry", delay=5.0)
    expect(hand.put("c", key="k"), [Placed("c", "key", "a")], "once it waits to be due")
    bench.advance(6.0)
    hand.settle(hand.take()[0])
    expect(hand.put("c", key="k"), [Placed("c")], "once it is done")
    hand.store.cancel(QUEUE, ["c"])
    expect(hand.put("d", key="k"), [Placed("d")], "once that one is cancelled")
    hand.expect_sound()


def an_active_key_is_held_until_the_end(bench: StoreBench) -> None:
    """Whatever the job does meanwhile; the step that ends it lets go of the key."""
    hand = Hand(bench, Conf(unique="active", keep=1000.0, max_crashes=2))
    taken = [Placed("z", "key", "a")]
    hand.put("a", key="k")
    [a] = hand.take(lease=1.0)
    expect(hand.put("z", key="k"), taken, "while it is leased")
    bench.advance(2.0)
    hand.store.rescue(QUEUE)
    expect(hand.put("z", key="k"), taken, "once it was rescued")
    [a] = hand.take()
    hand.settle(a, "retry", delay=5.0)
    expect(hand.put("z", key="k"), taken, "while it is scheduled")
    bench.advance(6.0)
    [a] = hand.take()
    hand.settle(a, children=(NewJob(id="child", key="k"), NewJob(id="other", key="l")))
    expect(hand.get("child"), None, "a child of its own key")
    expect(hand.put("z", key="k"), taken, "while it waits")
    settled = hand.settle(hand.take()[0], also=(NewJob(id="z", key="k"), NewJob(id="y", key="l")))
    expect(settled.placed, (Placed("z"), Placed("y")), "in the very step that ends it")
    [z] = hand.take()
    hand.settle(z, "dead")
    expect(hand.put("x", key="k"), [Placed("x")], "once that one is dead")
    hand.store.delete(QUEUE, ["x"])
    expect(hand.put("w", key="k"), [Placed("w")], "once that one is deleted")
    hand.expect_sound()


def a_key_is_held_for_ever(bench: StoreBench) -> None:
    """Also when no record is left, until it is forgotten; a live job's key is not forgotten."""
    hand = Hand(bench, Conf(unique="forever"))
    taken = [Placed("z", "key", "a")]
    hand.put("a", key="k")
    expect(hand.store.forget(QUEUE, ["k", "nothing"]), 0, "how many were forgotten while it lives")
    hand.settle(hand.take()[0])
    expect((hand.get("a"), hand.put("z", key="k")), (None, taken), "once its record has gone")
    expect(hand.store.forget(QUEUE, ["k", "k"]), 1, "how many were forgotten")
    expect(hand.put("z", key="k"), [Placed("z")], "once it is forgotten")
    hand.settle(hand.take()[0], "dead")
    expect(list(hand.store.requeue(QUEUE, ["z"])), ["ready"], "a dead job that is put back under its key")
    hand.expect_sound()


FAMILIES: Final[tuple[Callable[[StoreBench], None], ...]] = (
    a_parent_waits_for_its_children,
    a_callback_is_called_once,
    a_callback_without_children_comes_at_once,
    a_failing_child_may_fail_its_parent,
    children_may_be_put_while_the_parent_runs,
    no_children_after_a_cancel_request,
    a_deep_tree_ends_from_below,
    every_end_of_a_child_is_counted,
    children_know_their_own_parent,
    a_child_put_back_is_not_counted_twice,
    a_cancelled_parent_leaves_its_children,
    keys_mean_nothing_without_unique,
    a_pending_key_is_held_until_the_start,
    a_release_that_yields_ends_where_another_waits,
    a_key_of_its_own_is_nothing_to_yield_to,
    an_active_key_is_held_until_the_end,
    a_key_is_held_for_ever,
)
