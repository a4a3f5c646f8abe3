"""How large anything in a store may be, and the checks that every store makes before a deed.

A deed that is refused here has done nothing.
"""

from __future__ import annotations

from math import isfinite
from re import compile as pattern
from typing import TYPE_CHECKING, Final, cast

from qanat._core.shown import shown
from qanat._core.store.states import STATES

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Sequence

    from qanat._core.store.values import Conf, Lease, NewJob, Settle, Stamp

MOST: Final = 1_000
"""Jobs, ids, leases, settles, keys, lanes or looks in one deed."""
MOST_SUSPECTS: Final = 100
"""Suspects that one claim looks at."""
BODY_BYTES: Final = 1_048_576
"""Bytes of an item, and of a result."""
METADATA_BYTES: Final = 65_536
NAME_BYTES: Final = 512
"""UTF-8 bytes of an id, a key, a lane, a handler's, worker's or client's name."""
NOTE_CHARACTERS: Final = 500
"""Of a note, and of a reason."""
ERROR_CHARACTERS: Final = 65_536
LONGEST: Final = 1e9
"""Seconds, some 31 years: the longest delay, lease or time to be kept."""
MOST_WEIGHT: Final = 1_000
LARGEST: Final = 2**53 - 1
"""The largest stamp number and token: what a double holds exactly."""

_QUEUE_NAME = pattern(r"[A-Za-z0-9._-]{1,128}")


def checked_name(name: str, text: object) -> str:
    """Return the name of a queue or a schedule, if it is made of what every store can take.

    Raises:
        TypeError: If it is no text.
        ValueError: If it is too long, or holds anything but letters, digits, dot, dash, underscore.
    """
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, got {shown(text)}")
    if _QUEUE_NAME.fullmatch(text) is None:
        raise ValueError(
            f"{name} must be 1 to 128 of the letters A-Z and a-z, digits, '.', '-' and '_', got {shown(text)}"
        )
    return text


def only_names(texts: Iterable[str]) -> list[str]:
    """Return those texts that can be the name of a queue."""
    return [text for text in texts if _QUEUE_NAME.fullmatch(text)]


def check_text(name: str, text: object, *, empty: bool = False) -> None:
    """Check an id, key, lane or name."""
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, got {shown(text)}")
    # Most are short ASCII, where characters are bytes.
    if text.isascii():
        size = len(text)
    else:
        try:
            size = len(text.encode())
        except UnicodeEncodeError:
            raise ValueError(f"{name} must be text that UTF-8 can hold, got {shown(text)}") from None
    if size > NAME_BYTES or not (size or empty):
        begin = text if size <= NAME_BYTES else f"{text[:40]}..."
        raise ValueError(f"{name} must have {0 if empty else 1} to {NAME_BYTES} bytes, got {size}: {begin!r}")
    if "\0" in text:
        raise ValueError(f"{name} must not hold a NUL, got {shown(text)}")


def check_seconds(name: str, value: object, *, above: bool = False) -> None:
    """Check a length of time."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} must be seconds, got {shown(value)}")
    if not 0 <= value <= LONGEST or (above and value == 0):
        least = "more than 0" if above else "at least 0"
        raise ValueError(f"{name} must be {least} and at most {LONGEST:g} s, got {shown(value)}")


def check_whole(name: str, value: object, least: int, most: int) -> None:
    """Check a whole number."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, got {shown(value)}")
    if not least <= value <= most:
        raise ValueError(f"{name} must be {least} to {most}, got {shown(value)}")


def check_many(name: str, batch: Collection[object]) -> None:
    """Check that a batch is not too large for one step."""
    if len(batch) > MOST:
        raise ValueError(f"{name} must be at most {MOST} in one batch, got {len(batch)}: send several")


def check_ids(name: str, ids: Sequence[str]) -> None:
    """Check ids or keys of a batch."""
    check_many(name, ids)
    for each in ids:
        check_text(name, each)


def check_stamp(stamp: Stamp | None) -> None:
    """Check who sends a batch."""
    if stamp is not None:
        check_text("stamp.client", stamp.client)
        check_whole("stamp.number", stamp.number, 0, LARGEST)


def check_put(queue: str, jobs: Sequence[NewJob], stamp: Stamp | None) -> None:
    """Check a put."""
    checked_name("queue", queue)
    check_many("jobs", jobs)
    check_stamp(stamp)
    for job in jobs:
        check_job(job)
        if job.parent is not None:
            check_text("parent.id", job.parent.id)


def is_short(text: object) -> bool:
    """Whether a text is surely a good id or name; False says nothing."""
    return type(text) is str and 0 < len(text) <= NAME_BYTES and text.isascii() and "\0" not in text


def _is_plain_job(job: NewJob) -> bool:
    """Whether nothing but id and body was given, and both are good: so are nearly all, and this is quick."""
    body, priority = job.body, job.priority
    return (
        is_short(job.id)
        and type(body) is bytes
        and len(body) <= BODY_BYTES
        and type(priority) is float
        and priority == 0.0
        and job.metadata == b""
        and not (job.lane or job.handler or job.delay or job.dedupe_for)
        and job.key is None
        and job.keep is None
        and job.failure == "ignore"
    )


def check_job(job: NewJob) -> None:
    """Check a job to be put."""
    if _is_plain_job(job):
        return
    check_text("id", job.id)
    if job.lane:
        check_text("lane", job.lane)
    if job.handler:
        check_text("handler", job.handler)
    if job.key is not None:
        check_text("key", job.key)
    _check_size("body", job.body, BODY_BYTES)
    _check_size("metadata", job.metadata, METADATA_BYTES)
    if job.delay:
        check_seconds("delay", job.delay)
    if job.keep is not None:
        check_seconds("keep", job.keep)
    if job.dedupe_for:
        check_seconds("dedupe_for", job.dedupe_for)
    if job.failure not in {"ignore", "fail"}:
        raise ValueError(f"failure must be 'ignore' or 'fail', got {shown(job.failure)}")
    _check_priority(job.priority)


def _check_priority(value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"priority must be a number, got {shown(value)}")
    if not isfinite(value):
        raise ValueError(f"priority must be finite, got {shown(value)}")


def check_claim(queue: str, n: int, worker: str, lease: float, skip: Collection[str], suspects: int) -> None:
    """Check a claim."""
    checked_name("queue", queue)
    if (
        type(n) is type(suspects) is int
        and type(lease) is float
        and 0 <= n <= MOST
        and 0 <= suspects <= MOST
        and 0.0 < lease <= LONGEST
        and is_short(worker)
        and len(skip) == 0
    ):
        return  # so are nearly all
    check_whole("n", n, 0, MOST)
    check_whole("suspects", suspects, 0, MOST)
    check_text("worker", worker, empty=True)
    check_seconds("lease", lease, above=True)
    check_many("skip", skip)


def check_settle(queue: str, settles: Sequence[Settle], stamp: Stamp | None) -> bool:
    """Check a settle.

    Returns:
        Whether all are plain and alike: all done, all coming again, or all released, yielding or not, and
        that is all, with tokens that a store may have given.
    """
    checked_name("queue", queue)
    check_many("settles", settles)
    check_stamp(stamp)
    kind = settles[0].kind if settles else "done"
    if kind == "done":
        if all(map(_is_plain_done, settles)):
            return True
    elif kind == "release":
        if _are_plain_releases(settles):
            return True
    elif kind == "again" and all(map(_is_plain_again, settles)):
        return True
    more = 0
    for settle in settles:
        more += len(settle.children) + len(settle.also)
        if not isinstance(cast("object", settle.yields), bool):
            raise TypeError(f"yields must be a bool, got {shown(settle.yields)}")
        _check_one(settle)
    if more > MOST:
        raise ValueError(
            f"children and also must be at most {MOST} in one batch, got {more}: "
            "put the others before, under the parent's lease"
        )
    return False


def _is_plain_done(settle: Settle) -> bool:
    """Whether a job is done, and that is all: so are nearly all, and this is quick."""
    return settle.kind == "done" and settle.yields is False and settle.delay == 0 and _is_plain(settle)


def _are_plain_releases(settles: Sequence[Settle]) -> bool:
    """Whether jobs are released, all of them yielding or none, and that is all."""
    yields = bool(settles[0].yields)
    return all(
        settle.kind == "release" and settle.yields is yields and settle.delay == 0 and _is_plain(settle)
        for settle in settles
    )


def _is_plain(settle: Settle) -> bool:
    """Whether a settle says no more than its kind, and when."""
    id, token = settle.id, settle.token
    return (
        settle.value is None
        # As `is_short`, without the call.
        and type(id) is str
        and 0 < len(id) <= NAME_BYTES
        and id.isascii()
        and "\0" not in id
        and type(token) is int
        and 0 <= token <= LARGEST
        and not (settle.children or settle.after or settle.also)
        and settle.reason == ""
        and settle.error == ""
    )


def _is_plain_again(settle: Settle) -> bool:
    """Whether a job comes again later, and that is all: so do nearly all in rotations."""
    return (
        settle.kind == "again"
        and settle.yields is False
        and type(settle.delay) is float
        and 0.0 <= settle.delay <= LONGEST
        and _is_plain(settle)
    )


def _check_one(settle: Settle) -> None:
    if _is_plain_again(settle) or _is_plain_done(settle):
        return
    kind = settle.kind
    check_text("id", settle.id)
    if kind not in _CARRIES:
        raise ValueError(f"kind must be one of {', '.join(_CARRIES)}, got {shown(kind)}")
    for name in _OPTIONAL:
        if name not in _CARRIES[kind] and getattr(settle, name) not in _NOTHING:
            raise ValueError(
                f"{name} goes with {_takers(name)}, not with {kind}, got {getattr(settle, name)!r}"
            )
    if settle.delay:
        check_seconds("delay", settle.delay)
    if settle.value is not None:
        _check_size("value", settle.value, BODY_BYTES)
    if settle.after:
        check_text("after", settle.after)
    _check_length("reason", settle.reason, NOTE_CHARACTERS)
    _check_length("error", settle.error, ERROR_CHARACTERS)
    for job in settle.children:
        check_job(job)
        if job.parent is not None:
            raise ValueError(f"parent must be None for a child of a settle, got {shown(job.parent)}")
    for job in settle.also:
        check_job(job)
        if job.parent is not None:
            raise ValueError(f"parent must be None for a job put with a settle, got {shown(job.parent)}")


_CARRIES: Final[dict[str, frozenset[str]]] = {
    "done": frozenset({"value", "children", "after", "also"}),
    "retry": frozenset({"delay", "reason", "error"}),
    "release": frozenset({"delay", "yields"}),
    "again": frozenset({"delay", "value", "reason", "error", "also"}),
    "dead": frozenset({"reason", "error", "also"}),
    "cancelled": frozenset({"reason", "also"}),
}
"""What each kind of settle may carry."""
_OPTIONAL: Final = ("delay", "value", "reason", "error", "children", "after", "also", "yields")
_NOTHING: Final = (0, None, "", ())


def _takers(name: str) -> str:
    return ", ".join(kind for kind, carries in _CARRIES.items() if name in carries)


def check_extend(queue: str, leases: Sequence[Lease], lease: float) -> None:
    """Check an extension."""
    checked_name("queue", queue)
    check_many("leases", leases)
    check_seconds("lease", lease, above=True)
    for each in leases:
        if each.note is not None:
            _check_length("note", each.note, NOTE_CHARACTERS)


def check_find(
    queue: str, state: object, parent: str | None, limit: int, bodies: Collection[bytes] | None = None
) -> None:
    """Check a find."""
    checked_name("queue", queue)
    if state is None and parent is None:
        raise ValueError("state must be given, unless parent is, got None")
    if state is not None and state not in STATES:
        raise ValueError(f"state must be one of {', '.join(STATES)}, got {shown(state)}")
    check_whole("limit", limit, 1, MOST)
    if bodies is not None:
        check_many("bodies", bodies)
        for body in bodies:
            if not isinstance(cast("object", body), bytes):
                raise TypeError(f"bodies must be bytes, got {shown(body)}")


def check_purge(queue: str, state: object, n: int) -> None:
    """Check a purge."""
    checked_name("queue", queue)
    if state == "leased" or state not in STATES:
        names = ", ".join(each for each in STATES if each != "leased")
        raise ValueError(f"state must be one of {names}, got {shown(state)}: cancel leased jobs first")
    check_whole("n", n, 1, MOST)


def check_conf(conf: Conf) -> None:
    """Check the settings of a queue."""
    # A tuple, as what is given may have no hash.
    if conf.unique not in (None, "pending", "active", "forever"):
        raise ValueError(f"unique must be None, 'pending', 'active' or 'forever', got {shown(conf.unique)}")
    if conf.order not in {"fifo", "lifo", "due"}:
        raise ValueError(f"order must be 'fifo', 'lifo' or 'due', got {shown(conf.order)}")
    check_many("weights", conf.weights)
    for lane, weight in conf.weights.items():
        check_text("weights", lane, empty=True)
        check_whole(f"weights[{lane!r}]", weight, 1, MOST_WEIGHT)
    if conf.max_attempts is not None:
        check_whole("max_attempts", conf.max_attempts, 1, LARGEST)
    if conf.max_age is not None:
        check_seconds("max_age", conf.max_age, above=True)
    if conf.max_crashes is not None:
        check_whole("max_crashes", conf.max_crashes, 1, LARGEST)
    check_seconds("keep", conf.keep)
    if conf.keep_dead is not None:
        check_seconds("keep_dead", conf.keep_dead)


def _check_size(name: str, data: object, most: int) -> None:
    if not isinstance(data, bytes):
        raise TypeError(f"{name} must be bytes, got {shown(data)}")
    if len(data) > most:
        raise ValueError(f"{name} must be at most {most} bytes, got {len(data)}")


def _check_length(name: str, text: object, most: int) -> None:
    if not isinstance(text, str):
        raise TypeError(f"{name} must be a text, got {shown(text)}")
    if len(text) > most:
        raise ValueError(f"{name} must be at most {most} characters, got {len(text)}")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            raise ValueError(f"{name} must be text that UTF-8 can hold, got {shown(text)}") from None
