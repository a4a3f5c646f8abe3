"""What every store must decide alike, in pure code.

A store that runs elsewhere (SQL, Lua) says the same in its own language, and is held to the same
table of cases as this (`qanat.testing.check_store`).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from msgspec import Struct

from qanat._core.store.states import State
from qanat._core.store.values import Settle

if TYPE_CHECKING:
    from qanat._core.store.values import Conf, Kind, Unique

REMEMBERED_FOR: Final = 86_400.0
"""Seconds for which the answer to a client's last batch is kept."""


class Step(Struct, frozen=True, gc=False):
    """Where a job goes.

    Attributes:
        state: Its new state.
        attempt: Its attempt number from now on.
        phase: Its phase from now on.
        reason: Why, if a rule ended it; "" if not, or if the worker's own reason holds.
    """

    state: State
    attempt: int
    phase: int
    reason: str = ""


def state_after(delay: float) -> State:
    """Return where a job lies that may be leased in so many seconds."""
    return "scheduled" if delay > 0 else "ready"


def holds_key(unique: Unique, state: State, phase: int) -> bool:
    """Say whether a job in this state keeps others with its key away."""
    if unique == "forever":
        return True
    if unique == "active":
        return state in {"scheduled", "ready", "leased", "waiting"}
    return unique == "pending" and phase == 0 and state in {"scheduled", "ready"}


def priority_at(conf: Conf, priority: float, due_at: float) -> float:
    """Return the priority of a job that falls due then: with order "due", when; else what it had.

    Asked at a put, a retry, an again and a requeue (now plus the delay), at a callback (now), and at a
    rescue (when the lease expired). A release leaves the priority as it is.
    """
    return due_at if conf.order == "due" else priority


def crashes_after(conf: Conf, crashes: int) -> int:
    """Return the crashes of a job that has lost its worker once more."""
    return 0 if conf.max_crashes is None else crashes + 1


def beyond(conf: Conf, *, attempt: int, crashes: int, age: float) -> str:
    """Return the bound that forbids another lease, or "".

    Args:
        conf: The queue's settings.
        attempt: Leases so far in this phase.
        crashes: Leases lost in a row.
        age: Seconds from `born_at` to when the lease would be; may be negative.
    """
    if conf.max_crashes is not None and crashes >= conf.max_crashes:
        return "crashes"
    if conf.max_attempts is not None and attempt >= conf.max_attempts:
        return "attempts"
    if conf.max_age is not None and age > conf.max_age:
        return "age"
    return ""


def as_settled(settle: Settle, *, cancel: bool, holder: str | None) -> Settle:
    """Return what a settle comes to: a release that yields is a done where another job holds the key.

    Args:
        settle: How a live lease is settled.
        cancel: Whether the job's cancellation was asked for.
        holder: The id of the job that holds its key; None: nobody, or it has none.
    """
    if settle.yields and not cancel and holder is not None and holder != settle.id:
        return Settle(id=settle.id, token=settle.token, kind="done")
    return settle


def after_settle(
    conf: Conf,
    *,
    kind: Kind,
    attempt: int,
    phase: int = 0,
    age: float = 0.0,
    delay: float = 0.0,
    cancel: bool = False,
    open_children: int = 0,
    failed_children: int = 0,
    after: bool = False,
) -> Step:
    """Return where a leased job goes when its lease is settled.

    Args:
        conf: The queue's settings.
        kind: How it is settled.
        attempt: Its attempt number, that of this lease included.
        phase: Its phase.
        age: Seconds since `born_at`.
        delay: Seconds before it may be leased again.
        cancel: Whether its cancellation was asked for.
        open_children: Its open children, those just stored included; after a cancel request, those
            that were refused for it included too.
        failed_children: Its children that are dead and have `failure="fail"`.
        after: Whether the settle names a callback.
    """
    if kind == "dead" or kind == "cancelled":  # noqa: PLR1714 - so pyright can tell which are left
        return Step(kind, attempt, phase)
    if kind == "done":
        if cancel and (open_children or after):
            return Step("cancelled", attempt, phase, "cancelled")
        if open_children:
            return Step("waiting", attempt, phase)
        return after_children(attempt=attempt, phase=phase, failed_children=failed_children, after=after)
    if cancel:
        return Step("cancelled", attempt, phase, "cancelled")
    if kind == "release":
        return Step(state_after(delay), attempt - 1, phase)
    if kind == "again":
        return Step(state_after(delay), 0, 0)
    why = beyond(conf, attempt=attempt, crashes=0, age=age + delay)
    return Step("dead", attempt, phase, why) if why else Step(state_after(delay), attempt, phase)


def after_children(*, attempt: int, phase: int, failed_children: int, after: bool) -> Step:
    """Return where a job goes that has succeeded and has no open child: to its callback, or to its end.

    On the way to a callback its `born_at` is now, and `failed_children` is 0: the callback decides.
    """
    if after:
        return Step("ready", 0, phase + 1)
    if failed_children:
        return Step("dead", attempt, phase, "children")
    return Step("done", attempt, phase)


def after_rescue(
    conf: Conf, *, attempt: int, crashes: int, phase: int = 0, age: float = 0.0, cancel: bool = False
) -> Step:
    """Return where a job goes whose lease has expired; `crashes` counts this one too."""
    if cancel:
        return Step("cancelled", attempt, phase, "cancelled")
    why = beyond(conf, attempt=attempt, crashes=crashes, age=age)
    return Step("dead" if why else "ready", attempt, phase, why)


def kept_for(conf: Conf, state: State, keep: float | None) -> float | None:
    """Return the seconds for which the record of an ended job is kept; None: until it is purged.

    Args:
        conf: The queue's settings.
        state: How it ended.
        keep: The job's own wish, or None.
    """
    if state == "dead":
        return conf.keep_dead
    return conf.keep if keep is None else keep


def differences(asked: Conf, held: Conf) -> tuple[str, ...]:
    """Return the names of the settings in which two differ."""
    return tuple(name for name in held.__struct_fields__ if getattr(asked, name) != getattr(held, name))


def changed(held: Conf, asked: Conf, *, empty: bool) -> Conf:
    """Return the settings that hold once an operator has changed them.

    Args:
        held: Those that hold now.
        asked: Those asked for.
        empty: Whether the queue holds neither a record nor a key.

    Raises:
        ValueError: If something is to change that cannot while the queue is in use.
    """
    fixed = [name for name in differences(asked, held) if name in {"unique", "order"}]
    if fixed and not empty:
        name = fixed[0]
        raise ValueError(
            f"{name} is {getattr(held, name)!r} and cannot become {getattr(asked, name)!r} while the queue "
            "holds jobs or keys: purge it first, or take another queue"
        )
    return asked
