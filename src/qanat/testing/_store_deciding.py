"""The table of decisions, played through a store: each situation is brought about, and looked at."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from qanat._core.store.values import Conf, Lease, NewJob
from qanat.testing._store_bench import QUEUE, Hand, StoreBench, expect
from qanat.testing._store_cases import BOUNDS, KEEPS, RESCUES, SETTLES

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.store.values import StoredJob
    from qanat.testing._store_cases import BoundCase, KeepCase, RescueCase, SettleCase

LEASE: Final = 10_000.0
"""Seconds: longer than any case lasts."""


def decides_a_settle(case: SettleCase, bench: StoreBench) -> None:
    """A settled job goes where the table says."""
    hand = Hand(bench, case.conf)
    hand.put("job")
    for _ in range(case.phase):
        hand.settle(_lease(hand), after="callback")
    for _ in range(case.attempt - 1):
        hand.settle(_lease(hand), "retry")
    job = _lease(hand)
    expect((job.attempt, job.phase), (case.attempt, case.phase), "the situation")
    for number in range(case.failed_children):
        hand.put(f"failed-{number}", parent=Lease("job", job.token), failure="fail")
        hand.settle(_lease(hand), "dead")
    children = tuple(NewJob(id=f"open-{number}") for number in range(case.open_children))
    if case.cancel:
        hand.store.cancel(QUEUE, ["job"])
    bench.advance(case.age)
    settled = hand.settle(
        job, case.kind, delay=case.delay, children=children, after="callback" if case.after else ""
    )
    step = case.expected
    expect((settled.status, settled.state, settled.reason), ("ok", step.state, step.reason), "the answer")
    after = hand.job("job")
    expect(
        (after.state, after.attempt, after.phase, after.reason, after.crashes),
        (step.state, step.attempt, step.phase, step.reason, 0),
        "the job",
    )
    if step.state == "scheduled":
        hand.expect_time(after.due_at, case.age + case.delay, "due_at")
    hand.expect_sound()


def decides_a_rescue(case: RescueCase, bench: StoreBench) -> None:
    """A job whose lease has expired goes where the table says."""
    hand = Hand(bench, case.conf)
    hand.put("job")
    for _ in range(case.attempt - case.crashes):
        hand.settle(_lease(hand), "retry")
    for _ in range(case.crashes - 1):
        hand.take(lease=0.125)
        bench.advance(0.25)
        hand.store.rescue(QUEUE)
    [job] = hand.take(lease=0.125)
    expect((job.attempt, job.crashes), (case.attempt, case.crashes - 1), "the situation")
    if case.cancel:
        hand.store.cancel(QUEUE, ["job"])
    bench.advance(case.age)
    rescued = hand.store.rescue(QUEUE)
    step = case.expected
    back, gone = ([], [("job", step.state, step.reason)]) if step.state != "ready" else (["job"], [])
    expect(rescued.ids, back, "who is ready again")
    expect([(each.id, each.state, each.reason) for each in rescued.ended], gone, "who ended")
    after = hand.job("job")
    expect(
        (after.state, after.attempt, after.phase, after.reason, after.crashes),
        (step.state, step.attempt, step.phase, step.reason, case.crashes),
        "the job",
    )
    hand.expect_sound()


def decides_a_bound(case: BoundCase, bench: StoreBench) -> None:
    """A job beyond a bound is dead instead of being leased."""
    # The bounds come last, or the job would meet them before the situation is there.
    hand = Hand(bench, Conf(max_attempts=None, max_crashes=1000))
    hand.put("job")
    for _ in range(case.attempt - case.crashes):
        hand.settle(_lease(hand), "retry")
    for _ in range(case.crashes):
        hand.take(lease=0.125)
        bench.advance(0.25)
        hand.store.rescue(QUEUE)
    hand.store.conf(QUEUE, case.conf, change=True)
    bench.advance(case.age - 0.25 * case.crashes if case.age else 0.0)
    claim = hand.claim(1)
    expect([job.id for job in claim.jobs], [] if case.expected else ["job"], "who is leased")
    gone = [("job", "dead", case.expected)] if case.expected else []
    expect([(each.id, each.state, each.reason) for each in claim.ended], gone, "who ended")
    expect(hand.job("job").state, "dead" if case.expected else "leased", "the job")
    hand.expect_sound()


def decides_how_long(case: KeepCase, bench: StoreBench) -> None:
    """The record of an ended job is kept as the table says."""
    hand = Hand(bench, case.conf)
    hand.put("job", keep=case.keep)
    hand.settle(_lease(hand), case.kind)
    job = hand.get("job")
    expect(job is None, case.expected == 0, "whether the record has gone at once")
    if job is not None and case.expected is None:
        expect(job.due_at, None, "due_at of a record that stays")
        bench.advance(1e6)
        expect(hand.store.rescue(QUEUE).removed, 0, "how many were removed")
    elif job is not None and case.expected is not None:
        hand.expect_time(job.due_at, case.expected, "due_at")
        bench.advance(case.expected + 0.1)
        expect(hand.store.rescue(QUEUE).removed, 1, "how many were removed")
    hand.expect_sound()


def _lease(hand: Hand) -> StoredJob:
    [job] = hand.take(lease=LEASE)
    return job


def decisions() -> dict[str, Callable[[StoreBench], None]]:
    """Return every case of the table, by name."""
    return {
        **{f"settle: {case.name}": partial(decides_a_settle, case) for case in SETTLES},
        **{f"rescue: {case.name}": partial(decides_a_rescue, case) for case in RESCUES},
        **{f"bound: {case.name}": partial(decides_a_bound, case) for case in BOUNDS},
        **{f"keep: {case.name}": partial(decides_how_long, case) for case in KEEPS},
    }
