"""The answers to clients' last batches, for those who ask twice."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal

from msgspec import msgpack

from qanat._core.store.values import Placed, Settled

if TYPE_CHECKING:
    from collections.abc import Sequence

    from qanat._core.store.values import Stamp
    from qanat._stores.sqlite.sheet import Sheet

_READ: Final = "SELECT number, deed, plain, answer FROM answers WHERE queue = ? AND client = ?"
_KEEP: Final = (
    "INSERT INTO answers(queue, client, number, deed, answered_at, plain, answer) "
    "VALUES(?, ?, ?, ?, ?, ?, ?) "
    "ON CONFLICT(queue, client) DO UPDATE SET number = excluded.number, deed = excluded.deed, "
    "answered_at = excluded.answered_at, plain = excluded.plain, answer = excluded.answer"
)

Deed = Literal["put", "settle"]


def placed_before(sheet: Sheet, stamp: Stamp) -> list[Placed] | None:
    """Return the answer that a put got before, or None if it is new."""
    row = _row(sheet, stamp, "put")
    if row is None:
        return None
    plain, packed = row
    return (
        msgpack.decode(packed, type=list[Placed]) if plain is None else list(map(Placed, plain.split("\0")))
    )


def settled_before(sheet: Sheet, stamp: Stamp) -> list[Settled] | None:
    """Return the answer that a settle got before, or None if it is new."""
    row = _row(sheet, stamp, "settle")
    if row is None:
        return None
    plain, packed = row
    if plain is None:
        return msgpack.decode(packed, type=list[Settled])
    return [Settled(id, "ok", "done") for id in plain.split("\0")]


def _row(sheet: Sheet, stamp: Stamp, deed: Deed) -> tuple[Any, Any] | None:
    """Return what is kept of a batch, or None if it is new."""
    row = sheet.connection.execute(_READ, (sheet.queue.n, stamp.client)).fetchone()
    if row is None or stamp.number > row[0]:
        return None
    number, did, plain, answer = row
    if stamp.number < number or deed != did:
        raise ValueError(
            f"stamp must be newer than {did} number {number} of this client, got {deed} "
            f"number {stamp.number}: a client sends one batch after the other"
        )
    return plain, answer


def remember(sheet: Sheet, stamp: Stamp, deed: Deed, answer: Sequence[Any]) -> None:
    """Keep the answer to a client's last batch; if all went the plain way, that is no more than ids."""
    plain = packed = None
    if answer and all(map(_is_plain, answer)):
        plain = "\0".join([each.id for each in answer])
    else:
        packed = msgpack.encode(answer)
    sheet.connection.execute(
        _KEEP, (sheet.queue.n, stamp.client, stamp.number, deed, sheet.now, plain, packed)
    )


def _is_plain(answer: Placed | Settled) -> bool:
    if isinstance(answer, Placed):
        return not answer.why
    return (
        answer.status == "ok"
        and answer.state == "done"
        and not (answer.reason or answer.placed or answer.ended)
    )
