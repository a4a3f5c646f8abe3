"""What goes to the scripts and comes back: bytes, packed so that Lua takes apart only what it needs.

A record as it was put is a body behind one byte; only a job with a lane, a priority, a delay, a
handler or metadata has a head. What decides about a job's end (key, keep, dedupe_for, failure, parent)
travels beside it, so that settling never reads a body.
"""

from __future__ import annotations

from math import ceil
from struct import Struct as Format
from typing import TYPE_CHECKING, Any, Final

from msgspec import Struct
from msgspec.msgpack import Decoder, Encoder

from qanat._core.shown import shown
from qanat._core.store.states import STATES
from qanat._core.store.values import Claim, Conf, Ended, Page, Placed, Rescued, Settled, StoredJob

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.states import State
    from qanat._core.store.values import Lease, NewJob, Settle

_pack = Encoder().encode
_HEAD: Final = Format(">ddH")
"""Delay in milliseconds, priority, length of the lane."""
_TAIL: Final = Format(">HI")
"""Lengths of handler and metadata."""
_CORE: Final = Format(">BII7s7s6s6s7sdHH")
"""As CORE in records.lua."""
_PUT: Final = Format(">7s6sB")
"""Order, put_at, and whether there is a head."""
_FIRST: Final = Format(">BHIHI")
"""Order and put_at as above, cut into numbers that there are formats for."""
_LEASED: Final = Format(">xIIBHIBHI6xHIBHId")
"""CORE of a leased job, cut likewise; what the client knows is left out."""
_MIDDLE: Final = 2**52
"""What order numbers are counted from."""
_TOKEN: Final = 7
"""Bytes of a token in a record."""
_TIME: Final = 6
"""Bytes of milliseconds there."""
_number = int.from_bytes


class _More(Struct, gc=False):
    """As `more` in records.lua."""

    c: int = 0
    p: int = 0
    t: int | None = None
    e: int | None = None
    r: str = ""
    a: str = ""
    o: int = 0
    d: int = 0
    x: int = 0
    n: int = 0
    f: int = 0


class _Links(Struct, array_like=True, gc=False):
    """As `links` in records.lua."""

    key: str | bool
    keep: int
    dedupe: int
    failure: int
    parent: str | bool = False
    family: int = 0


_NO_MORE: Final = _More()
_NO_LINKS: Final = _Links(False, -1, 0, 0)
_more = Decoder(_More).decode
_links = Decoder(_Links).decode
_conf = Decoder(Conf).decode
_anything = Decoder().decode


def milliseconds(seconds: float) -> int:
    """Return a length in whole milliseconds, rounded up but for the noise of a float."""
    exact = seconds * 1000
    whole = int(exact)
    # Most are whole, and rounding writes out a number first.
    return whole if whole == exact else ceil(round(exact, 6))


def _state(number: int) -> State:
    return STATES[number - 1]


# To the server.


def rest_of(job: NewJob) -> bytes:
    """Return a job as it is stored, behind its order number and the time."""
    if not (job.lane or job.priority or job.delay or job.handler or job.metadata):
        return b"\0" + job.body
    lane, handler = job.lane.encode(), job.handler.encode()
    return b"".join(
        (
            b"\1",
            _HEAD.pack(milliseconds(job.delay), job.priority, len(lane)),
            lane,
            _TAIL.pack(len(handler), len(job.metadata)),
            handler,
            job.metadata,
            job.body,
        )
    )


def links_of(job: NewJob) -> bytes:
    """Return what decides about a job's end, or nothing."""
    parent = job.parent
    if (
        job.key is None
        and job.keep is None
        and not job.dedupe_for
        and parent is None
        and job.failure == "ignore"
    ):
        return b""
    return _pack(
        (
            False if job.key is None else job.key,
            -1 if job.keep is None else milliseconds(job.keep),
            milliseconds(job.dedupe_for),
            int(job.failure == "fail"),
            False if parent is None else parent.id,
            0 if parent is None else parent.token,
        )
    )


def put_arguments(jobs: Sequence[NewJob]) -> list[Any]:
    """Return id, rest and links of each job."""
    arguments: list[Any] = []
    for job in jobs:
        arguments += (job.id, rest_of(job), links_of(job))
    return arguments


def plain_arguments(settles: Sequence[Settle]) -> list[Any]:
    """Return token and id of each, all of them plain and alike, behind how many they are and their kind.

    What comes again has its delay in front.
    """
    first = settles[0] if settles else None
    if first is not None and first.kind == "again":
        return [len(settles), b"A", *[_time(each.delay) + _member(each) for each in settles]]
    kind = b"D" if first is None or first.kind == "done" else b"Y" if first.yields else b"R"
    return [len(settles), kind, *[_member(each) for each in settles]]


def _time(seconds: float) -> bytes:
    return milliseconds(seconds).to_bytes(_TIME, "big")


def _member(settle: Settle) -> bytes:
    return settle.token.to_bytes(_TOKEN, "big") + settle.id.encode()


def settle_arguments(settles: Sequence[Settle]) -> list[Any]:
    """Return how many they are, and then each as that is sent."""
    arguments: list[Any] = [len(settles), b""]
    for each in settles:
        if each.kind == "done" and each.value is None and not (each.children or each.after or each.also):
            arguments += (each.id, each.token, b"D")
            continue
        spec = (
            "yield" if each.yields else each.kind,
            milliseconds(each.delay),
            each.value is not None,
            each.reason,
            each.error,
            each.after,
            len(each.children),
            len(each.also),
        )
        arguments += (each.id, each.token, _pack(spec))
        if each.value is not None:
            arguments.append(each.value)
        arguments += put_arguments(each.children)
        arguments += put_arguments(each.also)
    return arguments


def extend_arguments(leases: Sequence[Lease]) -> list[Any]:
    """Return id, token and note of each lease."""
    arguments: list[Any] = []
    for each in leases:
        arguments += (each.id, each.token, "0" if each.note is None else "1" + each.note)
    return arguments


def conf_arguments(conf: Conf) -> list[Any]:
    """Return the settings as they are kept, and as the scripts read them."""
    fields = {
        "unique": conf.unique or "",
        "order": conf.order,
        "max_attempts": "" if conf.max_attempts is None else conf.max_attempts,
        "max_age": "" if conf.max_age is None else milliseconds(conf.max_age),
        "max_crashes": "" if conf.max_crashes is None else conf.max_crashes,
        "keep": milliseconds(conf.keep),
        "keep_dead": "" if conf.keep_dead is None else milliseconds(conf.keep_dead),
    }
    arguments: list[Any] = [_pack(conf), len(fields)]
    for name, value in fields.items():
        arguments += (name, value)
    arguments.append(len(conf.weights))
    for lane, weight in conf.weights.items():
        arguments += (lane, weight)
    return arguments


# From the server.


def conf_of(answer: bytes | None) -> Conf:
    """Return the settings of a queue; those of one that was never set, if there are none."""
    return Conf() if answer is None else _conf(answer)


def placed_of(jobs: Sequence[NewJob], answer: bytes) -> list[Placed]:
    """Return what became of jobs; the answer tells only of those that were refused."""
    placed = [Placed(job.id) for job in jobs]
    refused: list[tuple[int, Any, str]] = _anything(answer)
    for index, why, other in refused:
        placed[index] = Placed(jobs[index].id, why, other)
    return placed


def settled_of(settles: Sequence[Settle], answer: bytes) -> list[Settled]:
    """Return what became of settles."""
    results: list[Any] = _anything(answer)
    first = results[0] if results else 0
    if first and type(first) is int and results.count(first) == len(results) == len(settles):
        state = _state(first)
        return [Settled(settle.id, "ok", state) for settle in settles]
    return [_settled(settle, result) for settle, result in zip(settles, results, strict=True)]


def _settled(settle: Settle, result: Any) -> Settled:
    if result == 0:
        return Settled(settle.id, "stale")
    if isinstance(result, int):
        return Settled(settle.id, "ok", _state(result))
    if result[0] == 1:
        return Settled(settle.id, "repeated", _state(result[1]))
    _, state, reason, placed, ended = result
    jobs = (*settle.children, *settle.also)
    return Settled(
        settle.id,
        "ok",
        _state(state),
        reason,
        tuple(
            Placed(job.id) if told == 0 else Placed(job.id, told[0], told[1])
            for job, told in zip(jobs, placed, strict=True)
        ),
        tuple(Ended(id, _state(number), why) for id, number, why in ended),
    )


def ended_of(told: Sequence[Any]) -> list[Ended]:
    """Return who ended."""
    return [Ended(id.decode(), _state(state), reason.decode()) for id, state, reason in told]


def claim_of(answer: Any, worker: str, lease: float) -> Claim:
    """Return what a claim got."""
    paused, next_due, now, told, ended, values, errors = answer
    if paused:
        return Claim([], None, [], True)
    started_at, due_at = now / 1000, (now + milliseconds(lease)) / 1000
    plain = _CORE.size + len(worker.encode())  # no lane, and nothing behind the worker
    jobs: list[StoredJob] = []
    each = iter(told)
    # Four at a time: id, record, live (only the token of a first lease, a number), links.
    for i, (id, blob, told_live, links) in enumerate(zip(each, each, each, each, strict=True)):
        live = told_live
        if type(told_live) is int:
            if not links and not blob[13]:
                jobs.append(_first_lease(id, blob, told_live, worker, started_at, due_at))
                continue
            live = _first_live(blob, told_live.to_bytes(_TOKEN, "big"), worker, now)
        value, error = (values[i] if values else None), (errors[i] if errors else None)
        if not links and not blob[13] and len(live) == plain:
            jobs.append(_later_lease(id, blob, live, worker, started_at, due_at, value, error))
        else:
            jobs.append(job_of(id, blob, live, links, due_at, value, error, None))
    return Claim(jobs, None if next_due is None else next_due / 1000, ended_of(ended))


def _first_live(blob: bytes, token: bytes, worker: str, now: int) -> bytes:
    """Return what the server keeps of a first lease, as it made it itself."""
    lane = _with_head(blob)[0].encode() if blob[13] else b""
    name = worker.encode()
    started = now.to_bytes(6, "big")
    core = _CORE.pack(3, 1, 0, token, token, started, blob[7:13], blob[:7], 0.0, len(lane), len(name))
    return core + lane + name


def _first_lease(
    id: bytes, blob: bytes, token: int, worker: str, started_at: float, due_at: float
) -> StoredJob:
    """Return a plain job on its first lease: a third of the cost of `job_of`."""
    # All numbers in one step: four slices made texts of them first, at twice the price.
    top, high, low, put_high, put_low = _FIRST.unpack_from(blob)
    put_at = (put_high << 32 | put_low) / 1000
    return StoredJob(
        id=id.decode(),
        state="leased",
        body=blob[14:],
        attempt=1,
        token=token,
        worker=worker,
        put_at=put_at,
        born_at=put_at,
        due_at=due_at,
        started_at=started_at,
        family=token,
        order=(top << 48 | high << 32 | low) - _MIDDLE,
    )


def _later_lease(
    id: bytes, blob: bytes, live: bytes, worker: str, started_at: float, due_at: float, value: bytes | None,
    error: bytes | None,
) -> StoredJob:  # fmt: skip
    """Return a plain job that has a record, as in a rotation: half of the cost of `job_of`."""
    _, _, _, put_high, put_low = _FIRST.unpack_from(blob)
    (
        attempt, crashes, token_top, token_high, token, family_top, family_high, family, born_high, born_low,
        top, high, low, priority,
    ) = _LEASED.unpack_from(live)  # fmt: skip
    return StoredJob(
        id=id.decode(),
        state="leased",
        body=blob[14:],
        priority=priority,
        attempt=attempt,
        crashes=crashes,
        token=token_top << 48 | token_high << 32 | token,
        worker=worker,
        put_at=(put_high << 32 | put_low) / 1000,
        born_at=(born_high << 32 | born_low) / 1000,
        due_at=due_at,
        started_at=started_at,
        value=value,
        error=error.decode() if error else "",
        family=family_top << 48 | family_high << 32 | family,
        order=(top << 48 | high << 32 | low) - _MIDDLE,
    )


def rescued_of(answer: Any) -> Rescued:
    """Return what a rescue did."""
    ids, ended, removed, more = answer
    return Rescued([id.decode() for id in ids], ended_of(ended), removed, bool(more))


def described(answer: Sequence[Any]) -> list[StoredJob | None]:
    """Return jobs, None for those that are not there."""
    jobs: list[StoredJob | None] = []
    for told in answer:
        if told is None:
            jobs.append(None)
            continue
        id, blob, live, links, due, value, error, note = told
        at = None if due is None or due == b"inf" else float(due) / 1000
        jobs.append(job_of(id, blob, live, links, at, value, error, note))
    return jobs


def job_of(
    id: bytes,
    blob: bytes,
    live: bytes | None,
    links: bytes | None,
    due_at: float | None,
    value: bytes | None,
    error: bytes | None,
    note: bytes | None,
) -> StoredJob:
    """Return a job from the places where it is kept."""
    order, put, has_head = _PUT.unpack_from(blob)
    put_at = _number(put) / 1000
    lane, priority, handler, metadata, body = "", 0.0, "", b"", blob[14:]
    if has_head:
        lane, priority, handler, metadata, body = _with_head(blob)
    held = _links(links) if links else _NO_LINKS
    known: dict[str, Any] = {
        "id": id.decode(),
        "body": body,
        "handler": handler,
        "lane": lane,
        "priority": priority,
        "metadata": metadata,
        "key": None if held.key is False else held.key,
        "keep": None if held.keep < 0 else held.keep / 1000,
        "dedupe_for": held.dedupe / 1000,
        "failure": "fail" if held.failure else "ignore",
        "parent": None if held.parent is False else held.parent,
        "parent_family": held.family if held.parent is not False else 0,
    }
    if not live:
        return StoredJob(
            state="ready", put_at=put_at, born_at=put_at, order=_number(order) - _MIDDLE, **known
        )
    (
        state, attempt, crashes, token, family, started, born, order, known["priority"], lane_size, size,
    ) = _CORE.unpack_from(live)  # fmt: skip
    at = _CORE.size + lane_size
    worker, rest = live[at : at + size].decode(), live[at + size :]
    more = _more(rest) if rest else _NO_MORE
    started_at = _number(started)
    return StoredJob(
        state=_state(state),
        attempt=attempt,
        crashes=crashes,
        token=_number(token),
        worker=worker,
        note=note.decode() if note else "",
        cancel=bool(more.c),
        put_at=put_at if more.t is None else more.t / 1000,
        born_at=_number(born) / 1000,
        due_at=due_at,
        started_at=started_at / 1000 if started_at else None,
        ended_at=None if more.e is None else more.e / 1000,
        value=value,
        reason=more.r,
        error=error.decode() if error else "",
        phase=more.p,
        after=more.a,
        open_children=more.o,
        done_children=more.d,
        dead_children=more.x,
        cancelled_children=more.n,
        failed_children=more.f,
        family=_number(family),
        order=_number(order) - _MIDDLE,
        **known,
    )


def _with_head(blob: bytes) -> tuple[str, float, str, bytes, bytes]:
    _, priority, size = _HEAD.unpack_from(blob, 14)
    at = 14 + _HEAD.size
    lane = blob[at : at + size].decode()
    at += size
    handler_size, metadata_size = _TAIL.unpack_from(blob, at)
    at += _TAIL.size
    handler = blob[at : at + handler_size].decode()
    at += handler_size
    return lane, priority, handler, blob[at : at + metadata_size], blob[at + metadata_size :]


def cursor_arguments(after: str | None) -> tuple[str, str | bytes, str | bytes, int]:
    """Return where a page begins.

    Raises:
        ValueError: If the text is not one that `page_of` gave.
    """
    if after is None:
        return "", "", "", 0
    try:
        phase, lane, score, number = _cursor(bytes.fromhex(after))
        if phase not in _PHASES or (score and float(score) != float(score)):
            raise ValueError(phase)
    except (ValueError, TypeError):
        raise ValueError(f"after must be the next of a page before, got {shown(after)}") from None
    return phase, lane, score, number


class _Cursor(Struct, array_like=True):
    phase: str
    lane: bytes
    score: bytes
    number: int

    def __iter__(self) -> Any:
        return iter((self.phase, self.lane, self.score, self.number))


_cursor = Decoder(_Cursor).decode
_PHASES: Final = ("at", "suspects", "line", "list", "leased", "kids")


def page_of(answer: Any) -> Page:
    """Return a page of jobs."""
    told, cursor = answer
    jobs = [job for job in described(told) if job is not None]
    if cursor is None:
        return Page(jobs, None)
    phase, lane, score, number = cursor
    return Page(jobs, _pack((phase.decode(), lane, score, int(number))).hex())
