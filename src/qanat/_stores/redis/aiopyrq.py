"""What aio-py-rq keeps in Redis, read and left as it is.

    <name>                          list: what waits, the next at its tail; or sorted set: a pool
    <name>-unique                   set: what waits in a unique queue
    <name>-timeouts                 hash: the lists of what was taken -> when somebody last took something
    <name>-processing-<client>      list: what a client has taken, the first at its tail

The score of a pool's item is when it falls due. Lists are read in pieces, from the tail on, so nobody may
take from them meanwhile; what is added comes in at the other end.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, Literal, TypeAlias, cast

from msgspec import Struct

from qanat._stores.redis.connecting import connect
from qanat._stores.redis.edge import ERRORS, translated

if TYPE_CHECKING:
    from qanat._stores.redis.edge import Client

Kind: TypeAlias = Literal["queue", "unique", "either", "pool"]
PIECE: Final = 1_000
"""Items read at once."""


class Found(Struct):
    """A queue or a pool as it was found.

    Attributes:
        kind: What it is; "either" if all items of a queue are taken, so that nothing tells.
        items: Its items, the next first.
        taken: How many of them were taken and not acknowledged; these come first.
        due_in: For a pool the seconds until each falls due; less than 0 is overdue.
    """

    kind: Kind
    items: list[bytes]
    taken: int = 0
    due_in: list[float] = []


def read(url: str, name: str) -> Found | None:
    """Return what aio-py-rq keeps under a name; None if there is nothing.

    Raises:
        ValueError: If the URL names no server, or the name holds something that aio-py-rq does not make.
        StoreError: If the server cannot be reached, or refuses.
    """
    client, _ = connect(url)
    try:
        return _read(client, name)
    except ERRORS as error:
        raise translated(error) from error
    finally:
        client.close()


def _read(client: Client, name: str) -> Found | None:
    kind = _text(client.execute_command("TYPE", name))
    if kind == "zset":
        return _pool(client, name)
    if kind not in {"list", "none"}:
        raise ValueError(f"{name!r} is a {kind} in Redis, and a queue of aio-py-rq is a list, a pool a zset")
    taken: list[bytes] = []
    for key in _taken_by(client, name):
        taken += _tail_first(client, key)
    waiting = _tail_first(client, name)
    if not (taken or waiting):
        return None
    is_unique = bool(client.execute_command("EXISTS", f"{name}-unique"))
    found: Kind = "unique" if is_unique else "queue" if waiting else "either"
    return Found(found, [*taken, *waiting], len(taken))


def _taken_by(client: Client, name: str) -> list[bytes]:
    """Return the lists of what was taken; one that is not in the hash any more was left behind."""
    noted = cast("list[bytes]", client.execute_command("HKEYS", f"{name}-timeouts"))
    found = {bytes(key) for key in noted}
    literal = "".join(f"\\{letter}" if letter in "*?[]\\" else letter for letter in name)
    cursor: Any = 0
    while True:
        cursor, keys = client.execute_command(
            "SCAN", cursor, "MATCH", f"{literal}-processing-*", "COUNT", PIECE
        )  # fmt: skip
        found.update(keys)
        if int(cursor) == 0:
            return sorted(found)


def _tail_first(client: Client, key: str | bytes) -> list[bytes]:
    items: list[bytes] = []
    while True:
        begin = len(items)
        piece = client.execute_command("LRANGE", key, -begin - PIECE, -begin - 1)
        items += reversed(piece)
        if len(piece) < PIECE:
            return items


def _pool(client: Client, name: str) -> Found:
    second, micro = client.execute_command("TIME")
    now = int(second) + int(micro) / 1e6
    items: list[bytes] = []
    due_in: list[float] = []
    taken = 0
    while True:
        piece = client.execute_command("ZRANGE", name, len(items), len(items) + PIECE - 1, "WITHSCORES")
        flat: list[Any] = []
        for each in piece:
            # In pairs or not, as the driver and the protocol have it.
            flat.extend(cast("list[Any]", each) if isinstance(each, (tuple, list)) else [each])
        items += flat[::2]
        scores = [float(score) for score in flat[1::2]]
        due_in += [score - now for score in scores]
        taken += sum(score % 1 > 0.01 for score in scores)
        if len(scores) < PIECE:
            return Found("pool", items, taken, due_in)


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value)
