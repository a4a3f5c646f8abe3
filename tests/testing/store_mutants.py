"""Stores in memory with one fault each, as somebody might write them."""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Any
from unittest.mock import patch

from msgspec.structs import replace

from qanat._core.store import bounds, rules
from qanat._core.store.rules import Step
from qanat._core.store.values import Ended
from qanat._stores.memory import claiming
from qanat._stores.memory import life as lives
from qanat._stores.memory import queue as queues
from qanat._stores.memory.life import Life
from qanat._stores.memory.line import Line
from qanat._stores.memory.places import Places
from qanat._stores.memory.queue import Queue

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

MUTANTS: dict[str, tuple[Any, str, Callable[..., Any]]] = {}


def mutant(owner: Any, name: str) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
    """Let a function take the place of another; it is handed the true one first."""

    def keep(fault: Callable[..., Any]) -> Callable[..., Any]:
        MUTANTS[fault.__name__.replace("_", " ")] = (owner, name, fault)
        return fault

    return keep


@contextmanager
def planted(name: str) -> Iterator[None]:
    """Let the fault of that name be in the store for a while."""
    owner, attribute, fault = MUTANTS[name]
    true = getattr(owner, attribute)

    def instead(*args: Any, **kwargs: Any) -> Any:
        return fault(true, *args, **kwargs)

    with patch.object(owner, attribute, instead):
        yield


@mutant(Life, "live")
def tokens_are_not_looked_at(true, self, id, token):
    record = self.places.records.get(id)
    return record if record is not None and record.state == "leased" else None


@mutant(Life, "lease")
def tokens_count_for_each_job_alone(true, self, record, *args):
    leased = true(self, record, *args)
    leased = replace(leased, token=leased.attempt, family=record.family or 1)
    self.places.move(leased)
    return leased


@mutant(queues, "after_settle")
def a_release_counts(true, conf, *, kind, attempt, **given):
    step = true(conf, kind=kind, attempt=attempt, **given)
    return Step(step.state, attempt, step.phase) if kind == "release" else step


@mutant(queues, "after_settle")
def attempts_have_no_bound(true, conf, **given):
    return true(replace(conf, max_attempts=None), **given)


@mutant(queues, "after_settle")
def age_is_counted_without_the_delay(true, conf, *, age, delay, **given):
    return true(conf, age=age - delay, delay=delay, **given)


@mutant(queues, "after_settle")
def a_cancel_request_is_forgotten(true, conf, *, cancel, **given):
    return true(conf, cancel=False, **given)


@mutant(queues, "as_settled")
def nobody_yields(true, settle, **given):
    return settle


@mutant(queues, "as_settled")
def a_job_yields_to_itself(true, settle, *, cancel, holder):
    return true(settle, cancel=cancel, holder=holder and f"not {settle.id}")


@mutant(Queue, "rescue")
def rescue_takes_live_leases(true, self, n, now):
    return true(self, n, now + 3.0)


@mutant(queues, "after_rescue")
def rescue_raises_attempts(true, conf, **given):
    step = true(conf, **given)
    return Step(step.state, step.attempt + 1, step.phase, step.reason)


@mutant(Places, "let_go")
def keys_are_never_let_go(true, self, record):
    return None


@mutant(Places, "_hold")
def keys_are_let_go_too_early(true, self, old, new):
    self.let_go(new)


@mutant(Life, "next_order")
def the_last_put_is_first(true, self):
    return -true(self)


@mutant(Queue, "_settle")
def a_retry_goes_to_the_end(true, self, settle, now):
    settled = true(self, settle, now)
    record = self.life.places.records.get(settle.id)
    if settled.status == "ok" and settle.kind == "retry" and record is not None:
        self.life.places.move(replace(record, order=self.life.next_order()))
    return settled


@mutant(Queue, "_settle_late")
def a_child_is_counted_twice(true, self, settle):
    settled = true(self, settle)
    if settled.status == "repeated" and settled.state == "done":
        self.life.count_child(self.life.places.records[settle.id], "done", 0.0)
    return settled


@mutant(Life, "count_child")
def a_child_finds_its_parent_by_id_alone(true, self, child, state, now):
    parent = self.places.records.get(child.parent)
    return true(self, replace(child, parent_family=parent.family if parent else 0), state, now)


@mutant(Life, "end")
def a_tree_ends_by_recursion(true, self, new, now, ended, *, told=False):
    if told:
        ended.append(Ended(new.id, new.state, new.reason))
    self._close(new, now)
    parent = self.count_child(new, new.state, now)
    if parent is not None:
        self.end(parent, now, ended, told=True)


@mutant(claiming, "let_due_in")
def jobs_are_due_too_early(true, places, now):
    true(places, now + 1.0)


@mutant(claiming, "next_due")
def leases_are_left_out_of_next_due(true, places, now):
    head = places.scheduled.head()
    return max(0.0, head[0][0] - now) if head is not None else None


@mutant(claiming, "beyond")
def old_jobs_are_leased(true, conf, **given):
    return true(replace(conf, max_age=None), **given)


@mutant(claiming.Claiming, "_take_suspects")
def a_worker_gets_every_suspect(true, self):
    for id in self.life.places.suspects.first(100):
        if self.life.places.records[id].lane not in self.wish.skip and len(self.jobs) < self.wish.n:
            self._lease(self.life.places.records[id])


@mutant(Places, "turn")
def lanes_never_turn(true, self):
    self.given = 0
    first = next(iter(self.ring))
    self.ring.move_to_end(first)
    self.ring.move_to_end(min(self.ring), last=False)


@mutant(Queue, "answered")
def batches_sent_twice_act_twice(true, self, stamp, deed):
    return None


@mutant(Queue, "claim")
def a_paused_queue_goes_on(true, self, wish):
    self.paused, paused = False, self.paused
    try:
        return true(self, wish)
    finally:
        self.paused = paused


@mutant(Queue, "extend")
def extending_brings_leases_back(true, self, leases, lease, now):
    extended = true(self, leases, lease, now)
    return type(extended)([], extended.cancelled)


@mutant(Queue, "_requeue")
def a_job_put_back_keeps_its_parent(true, self, id, now):
    record = self.life.places.records.get(id)
    answer = true(self, id, now)
    if answer == "ready" and record.parent is not None and record.state != "scheduled":
        new = replace(self.life.places.records[id], parent=record.parent, parent_family=record.parent_family)
        self.life.places.update(new)
        self.life.places.children.setdefault(record.parent, {})[id] = None
    return answer


@mutant(Queue, "_cancel")
def cancelling_a_leased_job_ends_it(true, self, id, now):
    record = self.life.places.records.get(id)
    if record is not None and record.state == "leased":
        self.life.end(replace(record, state="cancelled", reason="cancelled"), now, [])
        return "cancelled"
    return true(self, id, now)


@mutant(Places, "take_out")
def counts_forget_what_is_gone(true, self, old):
    true(self, old)
    self.counts[old.state] -= 1


@mutant(Queue, "_remove_expired")
def records_are_kept_for_ever(true, self, n, now):
    return 0


@mutant(Queue, "_delete")
def deleting_a_child_is_not_told(true, self, id, now, **given):
    record = self.life.places.records.get(id)
    if record is not None and record.parent is not None:
        self.life.places.update(replace(record, parent_family=-1))
    return true(self, id, now, **given)


@mutant(Queue, "_delete")
def leased_jobs_stay_whatever_is_asked(true, self, id, now, **given):
    return true(self, id, now)


@mutant(lives, "priority_at")
def who_comes_again_keeps_the_time_that_was_put(true, conf, priority, due_at):
    return true(conf, priority, due_at) if priority <= 0.0 else priority


@mutant(queues, "priority_at")
def who_comes_back_keeps_its_time(true, conf, priority, due_at):
    return priority


@mutant(queues, "crashes_after")
def every_crash_is_counted(true, conf, crashes):
    return crashes + 1


@mutant(Line, "until")
def nothing_is_counted_as_due(true, self, key):
    return 0


@mutant(bounds, "check_put")
def bad_jobs_are_found_late(true, queue, jobs, stamp):
    return None


@mutant(rules, "changed")
def what_is_fixed_may_change(true, held, asked, *, empty):
    return asked
