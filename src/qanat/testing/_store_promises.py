"""What every store promises, each promise as a function that breaks it if it can."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from msgspec.structs import replace

from qanat._core.store import bounds
from qanat._core.store.values import Conf, Ended, Lease, NewJob, Placed, Settle, Settled, Stamp
from qanat.errors import StoreError
from qanat.testing._plans import BrokenPromiseError
from qanat.testing._store_bench import QUEUE, Hand, StoreBench, expect, expect_refusal

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.store.values import StoredJob

KEPT: Final = Conf(keep=1000.0)
ODD_TEXTS: Final = ("a b", "ü/é:*?[]{}", "'; DROP TABLE jobs; --", "日本", "%s\n\t\x01", "x" * 512)


# Jobs come in.


def keeps_what_was_put(bench: StoreBench) -> None:
    """A job has the fields that it was given, byte for byte."""
    hand = Hand(bench)
    given: dict[str, Any] = {
        "body": bytes(range(256)),
        "handler": "send",
        "lane": "eu",
        "priority": -1.5,
        "key": "k",
        "metadata": b'{"a":1}',
        "keep": 3.0,
        "dedupe_for": 4.0,
        "failure": "fail",
    }
    expect(hand.put("a", **given), [Placed("a")], "the answer to a put")
    job = hand.job("a")
    expect({name: getattr(job, name) for name in given}, given, "the fields of the job")
    expect((job.state, job.attempt, job.crashes, job.phase), ("ready", 0, 0, 0), "how it begins")
    expect(
        (job.due_at, job.started_at, job.ended_at, job.value), (None, None, None, None), "what has not been"
    )
    hand.expect_time(job.put_at, 0.0, "put_at")
    hand.expect_time(job.born_at, 0.0, "born_at")
    hand.expect_sound()


def keeps_odd_texts(bench: StoreBench) -> None:
    """Ids, keys and lanes are any text; nothing in them means anything."""
    hand = Hand(bench, Conf(unique="active", keep=1000.0))
    for text in ODD_TEXTS:
        hand.put(text, lane=text, key=text, handler=text)
        expect(hand.put("twin", key=text), [Placed("twin", "key", text)], "a second job of the key")
    expect(hand.ids(100), list(ODD_TEXTS), "the jobs by turns of their lanes")
    for text in ODD_TEXTS:
        [found] = hand.store.find(QUEUE, "leased", lane=text).jobs
        expect((found.id, found.lane, found.key, found.handler), (text, text, text, text), "what was found")
    hand.expect_sound()


def keeps_large_bodies(bench: StoreBench) -> None:
    """A body, a result, and an error may be as large as is allowed."""
    hand = Hand(bench, KEPT)
    body = b"\x00\xff" * (bounds.BODY_BYTES // 2)
    hand.put("a", body=body, metadata=b"\xff" * bounds.METADATA_BYTES)
    [job] = hand.take()
    expect(job.body == body, True, "whether the body came back")
    hand.settle(job, "retry", error="é" * bounds.ERROR_CHARACTERS, reason="é" * bounds.NOTE_CHARACTERS)
    [job] = hand.take()
    hand.settle(job, value=body)
    job = hand.job("a")
    expect(job.value == body, True, "whether the result came back")
    expect(len(job.error), bounds.ERROR_CHARACTERS, "the length of the error")


def a_known_id_is_a_duplicate(bench: StoreBench) -> None:
    """An id is stored once: within a batch, while its record is there, and for `dedupe_for`."""
    hand = Hand(bench)
    duplicate = Placed("a", "id", "a")
    expect(hand.put("a", "a", dedupe_for=10.0), [Placed("a"), duplicate], "twice in a batch")
    expect(hand.put("a"), [duplicate], "while it is ready")
    [job] = hand.take()
    expect(hand.put("a"), [duplicate], "while it is leased")
    hand.settle(job)
    expect(hand.get("a"), None, "the record of a job that is not kept")
    expect(hand.put("a"), [duplicate], "after its end")
    bench.advance(9.0)
    hand.store.rescue(QUEUE)
    expect(hand.put("a"), [duplicate], "within dedupe_for")
    bench.advance(2.0)
    expect(hand.put("a"), [Placed("a")], "after dedupe_for")
    [job] = hand.take()
    hand.settle(job)
    expect(hand.put("a"), [Placed("a")], "after its end, without dedupe_for")
    expect(hand.store.count(QUEUE).put, 3, "how many were put")
    hand.expect_sound()


def a_batch_sent_twice_acts_once(bench: StoreBench) -> None:
    """A stamp that is the last one gets the stored answer, for put and settle alike."""
    hand = Hand(bench)
    store = hand.store

    def put(number: int, *ids: str, client: str = "c") -> list[Placed]:
        return store.put(QUEUE, [NewJob(id=id) for id in ids], stamp=Stamp(client, number))

    first = put(1, "a", "b", "a")
    expect(first, [Placed("a"), Placed("b"), Placed("a", "id", "a")], "the first answer")
    expect(put(1, "a", "b", "a"), first, "the answer to the same batch")
    expect(put(1, "a", client="d"), [Placed("a", "id", "a")], "the answer to another client")
    jobs = hand.take(2)
    settles = [
        Settle(id=job.id, token=job.token, kind="done", children=(NewJob(id=f"{job.id}1"),)) for job in jobs
    ]
    answer = store.settle(QUEUE, settles, stamp=Stamp("c", 7))
    expect([each.status for each in answer], ["ok", "ok"], "the first answer to a settle")
    bench.advance(bounds.LONGEST / 1e6)
    expect(store.settle(QUEUE, settles, stamp=Stamp("c", 7)), answer, "the answer to the same settle")
    expect(store.count(QUEUE).put, 4, "how many were put")
    expect_refusal(lambda: put(6, "x"), "an older batch")
    expect_refusal(lambda: put(7, "x"), "a put under the stamp of a settle")
    expect(hand.get("x"), None, "the job of a refused batch")
    expect(put(8, "x"), [Placed("x")], "a newer batch")
    other = store.put("another", [NewJob(id="a")], stamp=Stamp("c", 1))
    expect(other, [Placed("a")], "the same stamp on another queue")
    hand.expect_sound()


def bad_input_has_no_effect(bench: StoreBench) -> None:
    """A batch with anything wrong in it is refused, and nothing of it happens."""
    hand = Hand(bench)
    store = hand.store
    bad: list[dict[str, Any]] = [
        {"id": ""},
        {"id": "x" * 513},
        {"id": "é" * 257},
        {"id": "a\0b"},
        {"id": "\ud800"},
        {"key": ""},
        {"lane": "x" * 513},
        {"priority": float("nan")},
        {"priority": float("inf")},
        {"delay": -1.0},
        {"delay": float("nan")},
        {"delay": 1e10},
        {"keep": -1.0},
        {"dedupe_for": float("inf")},
        {"body": bytes(bounds.BODY_BYTES + 1)},
        {"failure": "explode"},
    ]
    for given in bad:
        jobs = [NewJob(id="good"), _odd(given)]
        expect_refusal(partial(store.put, QUEUE, jobs), f"a put with {next(iter(given))} out of bounds")
    many = [NewJob(id=str(number)) for number in range(1001)]
    expect_refusal(lambda: store.put(QUEUE, many), "a put of 1,001 jobs")
    for name in ("", "a b", "x" * 129, "a/b", "ä", "a\n"):
        expect_refusal(partial(store.put, name, []), f"the queue name {name!r}")
    expect(store.queues(), [], "the queues after refusals")
    hand.put("a")
    [job] = hand.take()
    for settle in (
        Settle(id="a", token=job.token, kind="done", delay=1.0),
        Settle(id="a", token=job.token, kind="retry", value=b"1"),
        Settle(id="a", token=job.token, kind="retry", after="f"),
        Settle(id="a", token=job.token, kind="release", error="e"),
        Settle(id="a", token=job.token, kind="retry", yields=True),
        Settle(id="a", token=job.token, kind="again", delay=1.0, yields=True),
        Settle(id="a", token=job.token, kind="done", value=bytes(bounds.BODY_BYTES + 1)),
        Settle(id="a", token=job.token, kind="done", children=(NewJob(id=""),)),
    ):
        expect_refusal(partial(store.settle, QUEUE, [settle]), f"settle {settle.kind}")
    for n in (-1, 1001):
        expect_refusal(partial(store.claim, QUEUE, n, worker="w", lease=1.0), f"a claim of {n}")
    expect_refusal(lambda: store.claim(QUEUE, 1, worker="w", lease=0.0), "a lease of no time")
    expect_refusal(lambda: store.find(QUEUE), "a find of everything")
    texts: Any = ["1"]
    expect_refusal(lambda: store.find(QUEUE, "ready", bodies=texts), "a find of texts", error=TypeError)
    expect_refusal(lambda: store.find(QUEUE, "ready", after="\x00no page"), "a cursor of nowhere")
    expect_refusal(lambda: store.purge(QUEUE, "leased"), "a purge of leased jobs")
    expect(hand.job("a").state, "leased", "the job after refusals")
    hand.expect_sound()


# Order and turns.


def the_first_put_is_the_first_leased(bench: StoreBench) -> None:
    """Within a lane: by priority, then by when it was put; who comes back takes its old place."""
    hand = Hand(bench)
    hand.put("b1", "b2", "b3", priority=2)
    hand.put("a1", "a2", priority=1)
    hand.put("z", priority=1e300)
    hand.put("first", priority=-1e300)
    first, *_ = jobs = hand.take(4)
    expect([job.id for job in jobs], ["first", "a1", "a2", "b1"], "the order")
    hand.put("a3", priority=1)
    hand.settle(jobs[3], "retry")
    hand.settle(jobs[2], "release")
    hand.settle(jobs[1], "retry", delay=5.0)
    hand.settle(first)
    expect(hand.ids(1), ["a2"], "a job released")
    bench.advance(5.0)
    expect(hand.ids(10), ["a1", "a3", "b1", "b2", "b3", "z"], "the order of those who came back")
    hand.expect_sound()


def the_last_put_is_the_first_leased_under_lifo(bench: StoreBench) -> None:
    """`order="lifo"` turns round the order within a priority, and a job that comes back keeps its place."""
    hand = Hand(bench, Conf(order="lifo"))
    hand.put("a", "b", "c")
    hand.put("low", priority=1)
    [job] = hand.take()
    expect(job.id, "c", "the last put")
    hand.put("d")
    hand.settle(job, "retry")
    expect(hand.ids(10), ["d", "c", "b", "a", "low"], "the order")


def lanes_take_turns(bench: StoreBench) -> None:
    """One job from each lane in turn, also over several claims; a lane that comes again goes to the end."""
    hand = Hand(bench)
    hand.put("a1", "a2", "a3", lane="a")
    hand.put("b1", lane="b")
    hand.put("c1", "c2", lane="c")
    expect(hand.ids(2), ["a1", "b1"], "the first two")
    hand.put("b2", lane="b")
    expect(hand.ids(10), ["c1", "a2", "b2", "c2", "a3"], "the others")
    hand.expect_sound()


def lanes_give_by_weight(bench: StoreBench) -> None:
    """A lane gives as many jobs in a turn as its weight, and a turn goes on with the next claim."""
    hand = Hand(bench, Conf(weights={"a": 2, "": 3}))
    hand.put("a1", "a2", "a3", "a4", "a5", lane="a")
    hand.put("b1", "b2", lane="b")
    hand.put("n1", "n2", "n3", "n4")
    expect(hand.ids(1), ["a1"], "half a turn")
    expect(hand.ids(5), ["a2", "b1", "n1", "n2", "n3"], "the rest of it, and the other lanes")
    expect(hand.ids(10), ["a3", "a4", "b2", "n4", "a5"], "the next turns")


def skipped_lanes_give_nothing(bench: StoreBench) -> None:
    """A lane that is skipped gives nothing and holds up no other."""
    hand = Hand(bench)
    for lane in "abc":
        hand.put(f"{lane}1", f"{lane}2", lane=lane)
    expect(hand.ids(3, skip=["a", "nobody"]), ["b1", "c1", "b2"], "without lane a")
    expect(hand.ids(5, skip=["a", "c"]), [], "without lanes a and c")
    expect(hand.ids(10), ["c2", "a1", "a2"], "with all of them")
    hand.expect_sound()


def nothing_is_leased_before_its_time(bench: StoreBench) -> None:
    """A delayed job is scheduled until it is due; claim tells when, and puts it in its place."""
    hand = Hand(bench)
    hand.put("late", delay=10.0)
    hand.put("soon", delay=4.0)
    hand.put("now")
    expect(hand.job("late").state, "scheduled", "a job with a delay")
    hand.expect_time(hand.job("late").due_at, 10.0, "due_at")
    hand.expect_time(hand.job("late").born_at, 10.0, "born_at")
    claim = hand.claim(5, lease=30.0)
    expect([job.id for job in claim.jobs], ["now"], "what may be leased")
    hand.expect_length(claim.next_due, 4.0, "next_due")
    bench.advance(3.9)
    expect(hand.ids(5), [], "what may be leased before it is due")
    bench.advance(0.2)
    expect(hand.ids(5), ["soon"], "what is due")
    bench.advance(6.0)
    hand.put("newer")
    expect(hand.ids(5), ["late", "newer"], "a job that fell due, in its place")
    hand.expect_length(hand.claim(5).next_due, 30.0 - 10.1, "next_due by a lease that expires")
    hand.expect_sound()


def next_due_tells_when_to_come_back(bench: StoreBench) -> None:
    """None if nothing is to come, 0 if something has come, and a claim of 0 asks for no more."""
    hand = Hand(bench)
    expect(hand.claim(1).next_due, None, "with nothing there")
    hand.put("a")
    expect(hand.claim(0).next_due, None, "with a job that is ready")
    expect(hand.store.count(QUEUE).ready, 1, "jobs that are ready after a claim of none")
    hand.take(lease=2.0)
    hand.expect_length(hand.claim(1).next_due, 2.0, "with a lease")
    bench.advance(3.0)
    expect(hand.claim(1).next_due, 0.0, "with a lease that has expired")
    hand.store.rescue(QUEUE)
    expect(hand.claim(0).next_due, None, "with a job that was rescued")


def due_jobs_come_in_portions(bench: StoreBench) -> None:
    """One claim makes at most 1,000 due jobs ready, the earliest due first, and says that there are more."""
    hand = Hand(bench)
    for start in range(0, 1500, 500):
        ids = [str(number) for number in range(start, start + 500)]
        hand.put(*ids, delay=1.0 + (2 - start // 500))
    bench.advance(10.0)
    claim = hand.claim(1)
    expect([job.id for job in claim.jobs], ["500"], "the first in order among the earliest due")
    expect(claim.next_due, 0.0, "next_due with more that are due")
    counts = hand.store.count(QUEUE)
    expect((counts.scheduled, counts.ready, counts.leased), (500, 999, 1), "scheduled, ready, leased")
    expect(hand.ids(1), ["0"], "once all are ready")
    hand.expect_sound()


# Leases.


def a_lease_is_given_once(bench: StoreBench) -> None:
    """A leased job is nobody else's; its attempt and token are given with the lease."""
    hand = Hand(bench)
    hand.put("a", "b")
    jobs = hand.take(2, worker="w1", lease=5.0)
    expect(hand.ids(2), [], "jobs for a second worker")
    a, b = jobs
    expect((a.state, a.attempt, a.worker, a.note), ("leased", 1, "w1", ""), "the leased job")
    expect(b.token > a.token > 0, True, "whether tokens rise")
    hand.expect_time(a.due_at, 5.0, "due_at")
    hand.expect_time(a.started_at, 0.0, "started_at")
    expect(hand.job("a"), a, "what get() tells of it")
    hand.settle(a, "retry")
    [again] = hand.take()
    expect((again.id, again.attempt), ("a", 2), "the second attempt")
    expect(again.token > b.token, True, "whether the token has risen")
    hand.expect_sound()


def a_token_is_never_given_twice(bench: StoreBench) -> None:
    """Not even to a new job of an id whose record has gone."""
    hand = Hand(bench)
    tokens: list[int] = []
    for end in ("done", "delete", "purge"):
        hand.put("a")
        [job] = hand.take()
        tokens.append(job.token)
        hand.settle(job, "done" if end == "done" else "retry")
        if end == "delete":
            hand.store.delete(QUEUE, ["a"])
        if end == "purge":
            hand.store.purge(QUEUE, "ready")
        expect(hand.get("a"), None, f"the job after {end}")
    hand.put("a")
    [job] = hand.take()
    expect([*tokens, job.token], sorted({*tokens, job.token}), "the tokens")
    for token in tokens:
        expect(hand.settle(_with_token(job, token)).status, "stale", "an old token")
    expect(hand.job("a").state, "leased", "the job after old tokens")


def only_the_live_token_counts(bench: StoreBench) -> None:
    """Settling or extending under another token is told, and changes nothing."""
    hand = Hand(bench, KEPT)
    hand.put("a")
    [job] = hand.take()
    child = NewJob(id="child")
    for token in (job.token + 1, job.token - 1, 0, -1):
        late = Settle(
            id="a", token=token, kind="done", children=(child,), also=(NewJob(id="also"),), value=b"1"
        )
        expect(hand.store.settle(QUEUE, [late]), [Settled("a", "stale")], "a settle under another token")
        expect(hand.extend(_with_token(job, token)), ["a"], "leases lost")
    expect(hand.settle(_with_id(job, "nobody")), Settled("nobody", "stale"), "a settle of nobody")
    expect(hand.job("a"), job, "the job after all that")
    expect(hand.store.count(QUEUE).put, 1, "how many were put")
    under_other = NewJob(id="c", parent=Lease("a", job.token + 1))
    expect(hand.store.put(QUEUE, [under_other]), [Placed("c", "parent", "a")], "a child under another token")
    expect(hand.settle(job, value=b"2"), Settled("a", "ok", "done"), "a settle under the live token")
    hand.expect_sound()


def a_lease_that_was_rescued_is_stale(bench: StoreBench) -> None:
    """After the rescue the old worker changes nothing, before it still does."""
    hand = Hand(bench, KEPT)
    hand.put("a", "b")
    a, b = hand.take(2, lease=1.0)
    bench.advance(2.0)
    expect(hand.settle(a).status, "ok", "a settle before the rescue")
    expect(hand.store.rescue(QUEUE).ids, ["b"], "who is rescued")
    expect(hand.settle(b), Settled("b", "stale"), "a settle after the rescue")
    expect(hand.extend(b), ["b"], "an extension after the rescue")
    [again] = hand.take()
    expect(hand.settle(b), Settled("b", "stale"), "a settle after another has it")
    expect(hand.job("b"), again, "the job of the other")
    expect(hand.settle(again).status, "ok", "a settle by the other")
    hand.expect_sound()


def settling_twice_is_told(bench: StoreBench) -> None:
    """The token that settled a job gets "repeated" as long as the record shows it."""
    hand = Hand(bench, KEPT)
    hand.put("a", "b")
    a, b = hand.take(2)
    hand.settle(a, value=b"1")
    before = hand.job("a")
    expect(hand.settle(a, value=b"2"), Settled("a", "repeated", "done"), "the same lease once more")
    expect(hand.settle(a, "dead"), Settled("a", "repeated", "done"), "the same lease in another way")
    expect(hand.job("a"), before, "the job after repetitions")
    hand.settle(b, "retry", delay=5.0)
    expect(hand.settle(b, "retry"), Settled("b", "repeated", "scheduled"), "a retry once more")
    bench.advance(5.0)
    hand.take()
    expect(hand.settle(b), Settled("b", "stale"), "a lease before another")
    expect(hand.store.count(QUEUE).done, 1, "jobs done")
    hand.expect_sound()


def settles_of_one_batch_follow_each_other(bench: StoreBench) -> None:
    """Each does what it would alone; one that is stale does not hold up the others."""
    hand = Hand(bench, KEPT)
    hand.put("a", "b", "c")
    a, b, c = hand.take(3)
    settles = [
        Settle(id="a", token=a.token, kind="done", value=b"1"),
        Settle(id="b", token=b.token + 100, kind="done"),
        Settle(id="a", token=a.token, kind="dead"),
        Settle(id="c", token=c.token, kind="dead", reason="why", error="trace"),
        Settle(id="nobody", token=1, kind="done"),
    ]
    answers = [(each.id, each.status, each.state) for each in hand.store.settle(QUEUE, settles)]
    expect(
        answers,
        [
            ("a", "ok", "done"),
            ("b", "stale", None),
            ("a", "repeated", "done"),
            ("c", "ok", "dead"),
            ("nobody", "stale", None),
        ],
        "the answers",
    )
    letter = hand.job("c")
    expect((letter.reason, letter.error, hand.job("a").value), ("why", "trace", b"1"), "what was kept")
    hand.expect_time(letter.ended_at, 0.0, "ended_at")
    hand.expect_sound()


def extending_holds_a_lease(bench: StoreBench) -> None:
    """A lease that is extended does not expire; the answer names what is lost or to be cancelled."""
    hand = Hand(bench)
    hand.put("a", "b", "c")
    a, b, c = hand.take(3, lease=10.0)
    hand.store.cancel(QUEUE, ["b"])
    bench.advance(8.0)
    leases = [Lease("a", a.token, "half"), Lease("b", b.token), Lease("c", c.token + 50), Lease("x", 1)]
    extended = hand.store.extend(QUEUE, leases, 10.0)
    expect((extended.lost, extended.cancelled), (["c", "x"], ["b"]), "what was lost, and cancelled")
    hand.expect_time(hand.job("a").due_at, 18.0, "due_at")
    expect(hand.job("a").note, "half", "the note")
    bench.advance(4.0)
    expect(hand.store.rescue(QUEUE).ids, ["c"], "who is rescued")
    hand.extend(a)
    expect(hand.job("a").note, "half", "the note, with nothing new")
    bench.advance(31.0)
    expect(hand.extend(a), [], "what is lost of leases that have expired and were not rescued")
    expect(hand.store.rescue(QUEUE).ids, [], "who is rescued after it was extended late")
    hand.expect_sound()


def only_expired_leases_are_rescued(bench: StoreBench) -> None:
    """Rescue takes the earliest expired, as many as asked for, says if there are more, and harms no other."""
    hand = Hand(bench, KEPT)
    hand.put("a", "b", "c", "d")
    [a] = hand.take(lease=3.0)
    [b] = hand.take(lease=2.0)
    [c] = hand.take(lease=1.0)
    hand.take(lease=100.0)
    expect(hand.store.rescue(QUEUE).ids, [], "who is rescued at once")
    bench.advance(50.0)
    hand.settle(a)
    first = hand.store.rescue(QUEUE, 1)
    expect((first.ids, first.more), (["c"], True), "the earliest expired")
    second = hand.store.rescue(QUEUE, 1)
    expect((second.ids, second.more), (["b"], False), "the next")
    hand.expect_states("all of them", a="done", b="ready", c="ready", d="leased")
    rescued = hand.job("b")
    expect((rescued.crashes, rescued.attempt, rescued.token), (1, 1, 0), "crashes, attempt and token")
    expect(b.attempt, 1, "the attempt before")
    hand.store.pause(QUEUE)
    bench.advance(100.0)
    expect(hand.store.rescue(QUEUE).ids, ["d"], "who is rescued while the queue is paused")
    expect(c.crashes, 0, "crashes before")
    hand.expect_sound()


def a_worker_gets_one_suspect_at_a_time(bench: StoreBench) -> None:
    """Jobs that lost their worker come first, one in a claim, none to who has one; settling clears them."""
    hand = Hand(bench)
    hand.put("a", "b", "c", lane="x")
    hand.take(3, lease=1.0)
    bench.advance(2.0)
    expect(sorted(hand.store.rescue(QUEUE).ids), ["a", "b", "c"], "who is rescued")
    hand.put("d", "e", lane="x")
    expect(hand.store.count(QUEUE).ready, 5, "jobs that are ready")
    [suspect, other] = hand.take(2)
    expect((suspect.id, suspect.crashes, suspect.attempt), ("a", 1, 2), "the suspect")
    expect(other.id, "d", "the job beside it")
    expect(hand.ids(5, suspects=0), ["e"], "for a worker that has a suspect")
    expect(hand.ids(5, skip=["x"]), [], "with the lane skipped")
    expect(hand.ids(5), ["b"], "for another worker")
    expect(hand.ids(0), [], "for a claim of none")
    hand.settle(suspect, "release")
    expect((hand.job("a").crashes, hand.job("a").attempt), (0, 1), "the suspect once released")
    expect(hand.ids(5), ["c", "a"], "once it is no suspect any more")
    hand.expect_sound()


# What goes on when somebody steps in.


def cancel_ends_what_waits_and_asks_what_runs(bench: StoreBench) -> None:
    """Each id is told what became of it; a request goes with the record and never meets a later job."""
    hand = Hand(bench, KEPT)
    hand.put("leased")
    [job] = hand.take()
    hand.put("ready", lane="x")
    hand.put("later", delay=5.0)
    ids = ["ready", "later", "leased", "nobody", "ready"]
    answer: list[str] = list(hand.store.cancel(QUEUE, ids))
    expect(answer, ["cancelled", "cancelled", "asked", "unknown", "ended"], "the answers")
    expect(list(hand.store.cancel(QUEUE, ["leased"])), ["asked"], "the same once more")
    hand.expect_states("all of them", ready="cancelled", later="cancelled", leased="leased")
    expect((hand.job("leased").cancel, hand.job("ready").reason), (True, "cancelled"), "request and reason")
    bench.advance(6.0)
    expect(hand.ids(5), [], "what may be leased")
    expect(hand.settle(job, "done", value=b"1").state, "done", "a job that was done all the same")
    hand.store.delete(QUEUE, ["leased"])
    hand.put("leased", "nobody")
    again = hand.take(2)
    expect([job.cancel for job in again], [False, False], "requests at later jobs of the ids")
    hand.expect_sound()


def a_paused_queue_gives_nothing(bench: StoreBench) -> None:
    """A paused queue takes jobs and settles, and gives none until it is resumed."""
    hand = Hand(bench)
    hand.put("a")
    [job] = hand.take()
    hand.store.pause(QUEUE)
    hand.put("b")
    claim = hand.claim(5)
    expect((len(claim.jobs), claim.next_due, claim.paused), (0, None, True), "a claim while paused")
    expect(hand.store.count(QUEUE).paused, True, "whether it is paused")
    expect(hand.settle(job).status, "ok", "a settle while paused")
    hand.store.resume(QUEUE)
    expect(hand.ids(5), ["b"], "a claim afterwards")
    hand.store.pause("before-its-time")
    hand.store.put("before-its-time", [NewJob(id="a")])
    early = hand.store.claim("before-its-time", 1, worker="w", lease=1.0)
    expect(early.paused, True, "whether a queue is paused that was so before it had jobs")


def requeue_lets_a_job_run_again(bench: StoreBench) -> None:
    """An ended job begins anew at the end of the order; one that is scheduled runs now."""
    hand = Hand(bench, Conf(keep=1000.0, unique="active", max_attempts=1))
    hand.put("a", key="k")
    [job] = hand.take()
    expect(hand.settle(job, "retry", error="trace", reason="no").state, "dead", "after the last attempt")
    hand.put("b")
    hand.put("late", delay=50.0)
    expect(
        list(hand.store.requeue(QUEUE, ["a", "b", "late", "nobody"])),
        ["ready", "live", "ready", "unknown"],
        "it",
    )
    fresh = hand.job("a")
    expect(
        (fresh.attempt, fresh.reason, fresh.error, fresh.value, fresh.ended_at, fresh.due_at, fresh.token),
        (0, "", "", None, None, None, 0),
        "the job that begins anew",
    )
    expect(hand.put("twin", key="k"), [Placed("twin", "key", "a")], "a second job of its key")
    expect(hand.ids(5), ["b", "late", "a"], "the order")
    hand.expect_sound()


def requeue_keeps_count_of_open_children(bench: StoreBench) -> None:
    """A parent that ended before its children, and runs again, waits for those that are still open."""
    hand = Hand(bench, Conf(keep=1000.0))
    hand.put("parent")
    [job] = hand.take()
    hand.put("child", parent=Lease(job.id, job.token))
    hand.settle(job, "dead")
    hand.store.requeue(QUEUE, ["parent"])
    expect(hand.job("parent").open_children, 1, "the open children of the parent that runs again")
    hand.expect_sound()
    child, again = hand.take(2)
    expect((child.id, again.id), ("child", "parent"), "the order")
    expect(hand.settle(again).state, "waiting", "the parent that is done before its child")
    expect([each.id for each in hand.settle(child).ended], ["parent"], "who ends with the child")
    hand.expect_sound()


def requeue_respects_the_key(bench: StoreBench) -> None:
    """A job is not put back while another holds its key."""
    hand = Hand(bench, Conf(keep=1000.0, unique="active"))
    hand.put("a", key="k")
    hand.settle(hand.take()[0], "dead")
    hand.put("b", key="k")
    expect(list(hand.store.requeue(QUEUE, ["a"])), ["key"], "with the key held")
    hand.expect_states("both", a="dead", b="ready")
    hand.store.cancel(QUEUE, ["b"])
    expect(list(hand.store.requeue(QUEUE, ["a", "b"])), ["ready", "key"], "with the key free")
    hand.expect_sound()


def delete_and_purge_leave_no_trace(bench: StoreBench) -> None:
    """They remove record, id and key; leased jobs are left alone; counts tell how many went."""
    hand = Hand(bench, Conf(keep=1000.0, unique="forever"))
    hand.put("a", key="ka", dedupe_for=100.0)
    [a] = hand.take()
    expect(list(hand.store.delete(QUEUE, ["a", "nobody"])), ["leased", "unknown"], "a leased job")
    hand.settle(a)
    expect(list(hand.store.delete(QUEUE, ["a", "a"])), ["deleted", "unknown"], "a job that is done")
    expect(hand.put("a", key="ka"), [Placed("a")], "id and key afterwards")
    hand.put("b", "c", "d")
    expect(hand.store.purge(QUEUE, "ready", 3), 3, "how many were purged")
    expect(hand.store.purge(QUEUE, "ready", 3), 1, "how many were left")
    expect(hand.ids(5), [], "what may be leased")
    counts = hand.store.count(QUEUE)
    expect((counts.put, counts.removed, counts.ready, counts.done), (5, 5, 0, 0), "put, removed, ready, done")
    hand.expect_sound()


def purge_counts_those_that_had_gone(bench: StoreBench) -> None:
    """Once no record is left in a state its count is 0, and the sum still adds up."""
    hand = Hand(bench)
    hand.put("a", "b")
    for job in hand.take(2):
        hand.settle(job)
    expect(hand.store.count(QUEUE).done, 2, "jobs done, of which no record is left")
    expect(hand.store.purge(QUEUE, "done"), 0, "how many were purged")
    counts = hand.store.count(QUEUE)
    expect((counts.put, counts.removed, counts.done), (2, 2, 0), "put, removed, done")
    hand.expect_sound()


def queues_are_apart(bench: StoreBench) -> None:
    """The same id in two queues is two jobs; what happens in one does not touch the other."""
    hand = Hand(bench)
    store = hand.store
    expect(store.queues(), [], "the queues of a new store")
    hand.put("a")
    store.put("B.2_x-y", [NewJob(id="a", body=b"2")])
    expect(store.queues(), sorted([QUEUE, "B.2_x-y"]), "the queues")
    hand.settle(hand.take()[0])
    [other] = store.get("B.2_x-y", ["a"])
    expect(other is not None and other.body, b"2", "the job of the other queue")
    hand.expect_sound("B.2_x-y")
    nobody = store.claim("nobody", 1, worker="w", lease=1.0)
    found = len(store.find("nobody", "ready").jobs)
    expect((len(nobody.jobs), store.get("nobody", ["a"]), found), (0, [None], 0), "what nobody's queue holds")
    expect(store.queues(), sorted([QUEUE, "B.2_x-y"]), "the queues after looking for another")


def settings_hold_from_first_use(bench: StoreBench) -> None:
    """The first to name them sets them; later ones are told; an operator may change all but the fixed."""
    hand = Hand(bench)
    store = hand.store
    expect(store.conf(QUEUE), Conf(), "the settings of a queue that is not there")
    expect(store.queues(), [], "the queues after asking")
    mine = Conf(unique="active", keep=5.0, weights={"a": 3}, max_age=7.5, keep_dead=9.0)
    expect(store.conf(QUEUE, mine), mine, "the first to set them")
    expect(store.conf(QUEUE, Conf(keep=7.0)), mine, "the answer to the second")
    expect(store.conf(QUEUE), mine, "the settings")
    hand.put("a")
    changed = Conf(unique="active", keep=7.0, max_attempts=None, max_crashes=9)
    expect(store.conf(QUEUE, changed, change=True), changed, "after a change")
    for fixed in (Conf(unique=None), Conf(unique="active", order="lifo")):
        expect_refusal(partial(store.conf, QUEUE, fixed, change=True), "a change of what is fixed")
    store.delete(QUEUE, ["a"])
    expect(store.conf(QUEUE, Conf(order="lifo"), change=True), Conf(order="lifo"), "a change while empty")
    store.put("by-put", [])
    expect(store.conf("by-put", mine), Conf(), "the settings of a queue that was put to first")
    for bad in (Conf(max_attempts=0), Conf(max_age=0.0), Conf(max_crashes=0), Conf(keep=-1.0)):
        expect_refusal(partial(store.conf, "new", bad), f"{bad}")
    for weight in (0, 1001):
        expect_refusal(partial(store.conf, "new", Conf(weights={"a": weight})), "a weight")


def pages_hold_every_job_once(bench: StoreBench) -> None:
    """By state, by lane, by parent; in pages of any size."""
    hand = Hand(bench, KEPT)
    hand.put("parent")
    [parent] = hand.take()
    hand.settle(parent, children=tuple(NewJob(id=f"c{n}", lane="abc"[n % 3]) for n in range(25)))
    hand.put(*(f"p{n}" for n in range(5)), lane="a")
    for limit in (1, 7, 25, 100):
        found = _pages(hand, limit, state="ready")
        expect(sorted(found), sorted([f"c{n}" for n in range(25)] + [f"p{n}" for n in range(5)]), "all ready")
        found = _pages(hand, limit, state="ready", lane="b")
        expect(sorted(found), sorted(f"c{n}" for n in range(1, 25, 3)), "those of a lane")
        found = _pages(hand, limit, parent="parent")
        expect(sorted(found), sorted(f"c{n}" for n in range(25)), "the children")
        expect(_pages(hand, limit, state="waiting"), ["parent"], "those that wait")
        expect(_pages(hand, limit, state="dead"), [], "the dead")
    for limit in (1, 3, 100):
        for body, lane in ((b"x", ""), (b"x", "a"), (b"y", "b")):
            name = f"{body.decode()}{lane}{limit}"
            hand.put(f"{name} plain", f"{name} twin", lane=lane, body=body)
            hand.put(f"{name} more", lane=lane, body=body, handler="h", metadata=b"{}", priority=2.0)
        hand.put(f"later {limit}", body=b"x", delay=500.0)
        found = _pages(hand, limit, state="ready", bodies=[b"x", b"z"])
        expect(len([id for id in found if id.startswith((f"x{limit}", f"xa{limit}"))]), 6, "x")
        expect(all(id.startswith("x") for id in found), True, "whether those found have the body")
        expect(len(_pages(hand, limit, state="ready", lane="b", bodies=[b"y"])), 3, "of a lane and a body")
        expect(_pages(hand, limit, state="scheduled", bodies=[b"x"]), [f"later {limit}"], "scheduled ones")
        expect(_pages(hand, limit, state="ready", bodies=[]), [], "those of no body")
        expect(_pages(hand, limit, parent="parent", bodies=[b"x"]), [], "children of a body")
        for id in (*found, *_pages(hand, 100, state="ready", bodies=[b"y"]), f"later {limit}"):
            hand.store.delete(QUEUE, [id])
    for job in hand.claim(12).jobs:
        hand.settle(job)
    expect(len(_pages(hand, 5, state="done")), 12, "how many are done")
    children = _pages(hand, 5, state="done", parent="parent")
    expect(all(id.startswith("c") for id in children), True, "whether only children were found")


def _pages(hand: Hand, limit: int, **given: Any) -> list[str]:
    found: list[str] = []
    after: str | None = None
    for _ in range(200):
        page = hand.store.find(QUEUE, limit=limit, after=after, **given)
        if len(page.jobs) > limit:
            raise BrokenPromiseError(f"a page of {limit} held {len(page.jobs)} jobs")
        found += [job.id for job in page.jobs]
        after = page.next
        if after is None:
            return found
    raise BrokenPromiseError("there is always a next page")


def records_go_when_their_time_is_over(bench: StoreBench) -> None:
    """A rescue removes them, as many as asked for; counts and dead letters stay."""
    hand = Hand(bench, Conf(keep=10.0))
    hand.put("a", "b", "c")
    a, b, c = hand.take(3)
    hand.settle(a)
    hand.settle(b, "cancelled", reason="enough")
    hand.settle(c, "dead")
    bench.advance(9.9)
    expect(hand.store.rescue(QUEUE).removed, 0, "how many were removed too early")
    expect(hand.put("a"), [Placed("a", "id", "a")], "the id of a record that is kept")
    bench.advance(0.2)
    first = hand.store.rescue(QUEUE, 1)
    expect((first.removed, first.more), (1, True), "how many of one were removed")
    expect(hand.store.rescue(QUEUE).removed, 1, "how many were left")
    expect(
        [job is None for job in hand.store.get(QUEUE, ["a", "b", "c"])], [True, True, False], "who is gone"
    )
    counts = hand.store.count(QUEUE)
    expect((counts.done, counts.cancelled, counts.dead), (1, 1, 1), "the counts")
    expect(hand.put("a"), [Placed("a")], "the id once its record has gone")
    hand.expect_sound()


def a_job_may_come_again(bench: StoreBench) -> None:
    """Settled "again" it is a new job under its old id: last in the order, attempts and age from 0."""
    hand = Hand(bench, Conf(max_attempts=2, max_age=50.0))
    hand.put("a", "b", body=b"x", key="k")
    a, b = hand.take(2)
    hand.settle(a, "retry")
    [a] = hand.take()
    expect(hand.settle(a, "again", delay=60.0, value=b"1").state, "scheduled", "where it goes")
    hand.settle(b, "retry")
    hand.take()
    bench.advance(61.0)
    hand.put("c")
    [again] = hand.take()
    expect(
        (again.id, again.attempt, again.value, again.body), ("a", 1, b"1", b"x"), "the job that came again"
    )
    hand.expect_time(again.born_at, 60.0, "born_at")
    expect(hand.settle(again, "again").state, "ready", "where it goes without a delay")
    expect(hand.ids(2), ["c", "a"], "the order")
    expect(hand.store.count(QUEUE).done, 0, "jobs done")
    hand.expect_sound()


def jobs_are_put_in_the_step_that_settles(bench: StoreBench) -> None:
    """`also` puts jobs beside: no children, and the same id is free if no record is kept."""
    hand = Hand(bench)
    hand.put("tick")
    [tick] = hand.take()
    settled = hand.settle(tick, also=(NewJob(id="tick", delay=5.0), NewJob(id="side"), NewJob(id="side")))
    expect(settled.state, "done", "a job with jobs beside")
    expect(settled.placed, (Placed("tick"), Placed("side"), Placed("side", "id", "side")), "what was put")
    expect((hand.job("tick").state, hand.job("side").parent), ("scheduled", None), "tick and side")
    hand.settle(hand.take()[0], "dead", also=(NewJob(id="after"),))
    expect(hand.job("after").state, "ready", "a job put by a dead one")
    hand.expect_sound()


def connections_see_each_other(bench: StoreBench) -> None:
    """What one connection does, the next sees at once; closing one does not close the other."""
    if bench.connect is None:
        return
    hand = Hand(bench)
    other = bench.connect()
    hand.put("a", "b")
    [job] = other.claim(QUEUE, 1, worker="other", lease=5.0).jobs
    expect(hand.ids(5), ["b"], "what is left for the first connection")
    other.close()
    expect_refusal(lambda: other.count(QUEUE), "a connection that is closed", error=StoreError)
    expect(hand.settle(job).status, "ok", "a settle through the first connection")
    hand.expect_sound()


def a_closed_store_says_so(bench: StoreBench) -> None:
    """Closing twice is fine; calls afterwards raise StoreError; guarantees are named before."""
    level = bench.store.guarantees()
    known = {"none", "process", "~1s", "fsync", "unverified"}
    expect(level in known or level.startswith("replicas("), True, f"whether {level!r} is a level")
    bench.store.close()
    bench.store.close()
    expect_refusal(lambda: bench.store.count(QUEUE), "a store that is closed", error=StoreError)


def jobs_beyond_a_bound_end_in_portions(bench: StoreBench) -> None:
    """One claim lets at most 1,000 jobs end that are too old, and says that there are more."""
    hand = Hand(bench, Conf(max_age=5.0))
    for start in (0, 600):
        hand.put(*(str(number) for number in range(start, start + 600)))
    bench.advance(6.0)
    claim = hand.claim(1)
    expect((len(claim.ended), len(claim.jobs), claim.next_due), (1000, 0, 0.0), "ended, leased and next_due")
    expect(claim.ended[0], Ended("0", "dead", "age"), "how the first ended")
    claim = hand.claim(1)
    expect((len(claim.ended), claim.next_due), (200, None), "ended and next_due of the second claim")
    expect(hand.store.count(QUEUE).dead, 1200, "dead jobs")


def _odd(given: dict[str, Any]) -> NewJob:
    fields: dict[str, Any] = {"id": "bad", **given}
    return NewJob(**fields)


def _with_token(job: StoredJob, token: int) -> StoredJob:
    return replace(job, token=token)


def _with_id(job: StoredJob, id: str) -> StoredJob:
    return replace(job, id=id)


PROMISES: Final[tuple[Callable[[StoreBench], None], ...]] = (
    keeps_what_was_put,
    keeps_odd_texts,
    keeps_large_bodies,
    a_known_id_is_a_duplicate,
    a_batch_sent_twice_acts_once,
    bad_input_has_no_effect,
    the_first_put_is_the_first_leased,
    the_last_put_is_the_first_leased_under_lifo,
    lanes_take_turns,
    lanes_give_by_weight,
    skipped_lanes_give_nothing,
    nothing_is_leased_before_its_time,
    next_due_tells_when_to_come_back,
    due_jobs_come_in_portions,
    a_lease_is_given_once,
    a_token_is_never_given_twice,
    only_the_live_token_counts,
    a_lease_that_was_rescued_is_stale,
    settling_twice_is_told,
    settles_of_one_batch_follow_each_other,
    extending_holds_a_lease,
    only_expired_leases_are_rescued,
    a_worker_gets_one_suspect_at_a_time,
    cancel_ends_what_waits_and_asks_what_runs,
    a_paused_queue_gives_nothing,
    requeue_lets_a_job_run_again,
    requeue_respects_the_key,
    requeue_keeps_count_of_open_children,
    delete_and_purge_leave_no_trace,
    purge_counts_those_that_had_gone,
    queues_are_apart,
    settings_hold_from_first_use,
    pages_hold_every_job_once,
    records_go_when_their_time_is_over,
    a_job_may_come_again,
    jobs_are_put_in_the_step_that_settles,
    jobs_beyond_a_bound_end_in_portions,
    connections_see_each_other,
    a_closed_store_says_so,
)
