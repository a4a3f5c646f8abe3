"""The table of decisions that every store makes alike: rules, SQL and Lua are all held to it."""

from __future__ import annotations

from typing import Final, NamedTuple

from qanat._core.store.rules import Step
from qanat._core.store.values import Conf, Kind

PLAIN: Final = Conf(keep=1000.0)
BOUNDED: Final = Conf(max_attempts=3, max_age=60.0, max_crashes=2, keep=1000.0)
AGED: Final = Conf(max_attempts=None, max_age=60.0, keep=1000.0)
ENDLESS: Final = Conf(max_attempts=None, keep=1000.0)
UNCOUNTED: Final = Conf(max_crashes=None, keep=1000.0)


class SettleCase(NamedTuple):
    """A leased job, how it is settled, and where it goes; the fields are those of `rules.after_settle`."""

    name: str
    conf: Conf
    kind: Kind
    expected: Step
    attempt: int = 1
    phase: int = 0
    age: float = 0.0
    delay: float = 0.0
    cancel: bool = False
    open_children: int = 0
    failed_children: int = 0
    after: bool = False


class RescueCase(NamedTuple):
    """A job whose lease has expired, and where it goes; the fields are those of `rules.after_rescue`."""

    name: str
    conf: Conf
    expected: Step
    attempt: int = 1
    crashes: int = 1
    age: float = 1.0
    cancel: bool = False


class BoundCase(NamedTuple):
    """A ready job that is to be leased, and why it is dead instead; "" if it is leased."""

    name: str
    conf: Conf
    expected: str
    attempt: int = 0
    crashes: int = 0
    age: float = 0.0


class KeepCase(NamedTuple):
    """A job that has ended, and for how long its record is kept; None: for ever."""

    name: str
    conf: Conf
    kind: Kind
    expected: float | None
    keep: float | None = None


SETTLES: Final = (
    SettleCase("done", PLAIN, "done", Step("done", 1, 0)),
    SettleCase("done on the third attempt", BOUNDED, "done", Step("done", 3, 0), attempt=3),
    SettleCase("done beyond its age", BOUNDED, "done", Step("done", 1, 0), age=61.0),
    SettleCase("done after a cancel request", PLAIN, "done", Step("done", 1, 0), cancel=True),
    SettleCase("done with a callback", PLAIN, "done", Step("ready", 0, 1), attempt=2, after=True),
    SettleCase("done with children", PLAIN, "done", Step("waiting", 1, 0), open_children=2),
    SettleCase(
        "done with both", PLAIN, "done", Step("waiting", 2, 0), attempt=2, open_children=1, after=True
    ),
    SettleCase("done, failed by a child", PLAIN, "done", Step("dead", 1, 0, "children"), failed_children=1),
    SettleCase(
        "done, a failed child and one open",
        PLAIN,
        "done",
        Step("waiting", 1, 0),
        open_children=1,
        failed_children=1,
    ),
    SettleCase(
        "a callback hears of failed children",
        PLAIN,
        "done",
        Step("ready", 0, 1),
        failed_children=1,
        after=True,
    ),
    SettleCase("a callback is done", PLAIN, "done", Step("done", 1, 1), phase=1),
    SettleCase("a callback has a callback", PLAIN, "done", Step("ready", 0, 2), phase=1, after=True),
    SettleCase(
        "no callback after a cancel request",
        PLAIN,
        "done",
        Step("cancelled", 1, 0, "cancelled"),
        cancel=True,
        after=True,
    ),
    SettleCase(
        "no waiting after a cancel request",
        PLAIN,
        "done",
        Step("cancelled", 1, 0, "cancelled"),
        cancel=True,
        open_children=1,
    ),
    SettleCase("retry", PLAIN, "retry", Step("ready", 1, 0)),
    SettleCase("retry later", PLAIN, "retry", Step("scheduled", 1, 0), delay=5.0),
    SettleCase("retry of a callback", PLAIN, "retry", Step("ready", 2, 1), attempt=2, phase=1),
    SettleCase("retry before the last attempt", BOUNDED, "retry", Step("ready", 2, 0), attempt=2),
    SettleCase("retry after the last attempt", BOUNDED, "retry", Step("dead", 3, 0, "attempts"), attempt=3),
    SettleCase("retry without a bound", ENDLESS, "retry", Step("ready", 25, 0), attempt=25),
    SettleCase("retry at its age", AGED, "retry", Step("ready", 1, 0), age=60.0),
    SettleCase("retry beyond its age", AGED, "retry", Step("dead", 1, 0, "age"), age=61.0),
    SettleCase(
        "retry that would be too late", AGED, "retry", Step("dead", 1, 0, "age"), age=50.0, delay=11.0
    ),
    SettleCase("retry just in time", AGED, "retry", Step("scheduled", 1, 0), age=50.0, delay=10.0),
    SettleCase("attempts before age", BOUNDED, "retry", Step("dead", 3, 0, "attempts"), attempt=3, age=61.0),
    SettleCase(
        "no retry after a cancel request", PLAIN, "retry", Step("cancelled", 1, 0, "cancelled"), cancel=True
    ),
    SettleCase("release", PLAIN, "release", Step("ready", 0, 0)),
    SettleCase("release later", PLAIN, "release", Step("scheduled", 1, 0), attempt=2, delay=5.0),
    SettleCase("release on the last attempt", BOUNDED, "release", Step("ready", 2, 0), attempt=3),
    SettleCase("release beyond its age", BOUNDED, "release", Step("ready", 0, 0), age=61.0),
    SettleCase("release of a callback", PLAIN, "release", Step("ready", 0, 1), phase=1),
    SettleCase(
        "no release after a cancel request",
        PLAIN,
        "release",
        Step("cancelled", 1, 0, "cancelled"),
        cancel=True,
    ),
    SettleCase("again", PLAIN, "again", Step("ready", 0, 0), attempt=2),
    SettleCase("again later", BOUNDED, "again", Step("scheduled", 0, 0), attempt=3, delay=100.0),
    SettleCase("again from a callback", PLAIN, "again", Step("ready", 0, 0), phase=1),
    SettleCase(
        "not again after a cancel request", PLAIN, "again", Step("cancelled", 1, 0, "cancelled"), cancel=True
    ),
    SettleCase("dead", PLAIN, "dead", Step("dead", 1, 0)),
    SettleCase("dead after a cancel request", PLAIN, "dead", Step("dead", 1, 0), cancel=True),
    SettleCase("cancelled", PLAIN, "cancelled", Step("cancelled", 1, 0)),
)

RESCUES: Final = (
    RescueCase("rescued", PLAIN, Step("ready", 1, 0)),
    RescueCase("rescued on a later attempt", PLAIN, Step("ready", 4, 0), attempt=4),
    RescueCase("crashed too often", BOUNDED, Step("dead", 2, 0, "crashes"), attempt=2, crashes=2),
    RescueCase("crashed on the last attempt", BOUNDED, Step("dead", 3, 0, "attempts"), attempt=3),
    RescueCase("crashed beyond its age", AGED, Step("dead", 1, 0, "age"), age=61.0),
    RescueCase("crashed after a cancel request", PLAIN, Step("cancelled", 1, 0, "cancelled"), cancel=True),
    RescueCase(
        "cancelled before crashes are looked at",
        BOUNDED,
        Step("cancelled", 2, 0, "cancelled"),
        2,
        2,
        cancel=True,
    ),
)

BOUNDS: Final = (
    BoundCase("a new job", BOUNDED, ""),
    BoundCase("the last attempt", BOUNDED, "", attempt=2),
    BoundCase("no attempt left", BOUNDED, "attempts", attempt=3),
    BoundCase("any number of attempts", ENDLESS, "", attempt=25),
    BoundCase("old enough", BOUNDED, "", age=60.0),
    BoundCase("too old", BOUNDED, "age", age=61.0),
    BoundCase("attempts before age", BOUNDED, "attempts", attempt=3, age=61.0),
    BoundCase("one crash", BOUNDED, "", attempt=1, crashes=1),
    BoundCase("crashes before attempts", BOUNDED, "crashes", attempt=3, crashes=2),
    BoundCase("any number of crashes", UNCOUNTED, "", attempt=6, crashes=6),
)

KEEPS: Final = (
    KeepCase("done is not kept", Conf(), "done", 0.0),
    KeepCase("done is kept", Conf(keep=10.0), "done", 10.0),
    KeepCase("its own wish to be kept", Conf(), "done", 5.0, keep=5.0),
    KeepCase("its own wish not to be kept", Conf(keep=10.0), "done", 0.0, keep=0.0),
    KeepCase("cancelled is kept as done", Conf(keep=10.0), "cancelled", 10.0),
    KeepCase("dead letters stay", Conf(), "dead", None),
    KeepCase("dead letters stay whatever the job wishes", Conf(keep=10.0), "dead", None, keep=5.0),
    KeepCase("dead letters for a time", Conf(keep_dead=20.0), "dead", 20.0),
    KeepCase("dead letters not at all", Conf(keep_dead=0.0), "dead", 0.0),
)
