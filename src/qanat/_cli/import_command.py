"""`qanat import-aiopyrq`: take over what aio-py-rq keeps in Redis, into any store."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator
from hashlib import blake2b
from typing import Any

from qanat._app.durable.chunks import Chunk
from qanat._app.durable.plain_queue import PlainQueue
from qanat._app.durable.store import PlainStore
from qanat._app.text import safe_text
from qanat._cli.operators import MOST, opened, say_json, tell
from qanat._cli.usage import UsageError
from qanat._core.store.bounds import LONGEST
from qanat._core.store.finding import number_of
from qanat._core.store.values import NewJob
from qanat._stores.url import parse_url
from qanat.errors import SerialisationError, StoreError

EVERY = 36 * 3600.0
"""Seconds after which items of a pool come again; each user of the rotation says anew."""


def run_import(names: tuple[str, ...], source: str, url: str, *, unique: bool | None, as_json: bool) -> int:
    """Copy queues and pools, and leave them in Redis as they are.

    Raises:
        UsageError: If something cannot be read or stored; what was stored before is told.
    """
    if not names:
        raise UsageError("name the queues and pools to import")
    with opened(url, make=True) as store:
        for name in names:
            _import(store, source, name, unique=unique, as_json=as_json)
    return 0


def _import(store: PlainStore, source: str, name: str, *, unique: bool | None, as_json: bool) -> None:
    found = _read(source, name)
    kind = found.kind
    if kind != "pool" and unique is not None:
        kind = "unique" if unique else "queue"
    if kind == "either":
        raise UsageError(
            f"all items of {name} are taken, so it may be unique or not: say --unique or --no-unique"
        )
    stored_as = stored_name(name)
    texts = [_text(item, name) for item in found.items]
    try:
        if kind == "pool":
            queue, jobs = _pool(store, stored_as, texts, found.due_in)
        else:
            queue, jobs = _queue(store, stored_as, texts, is_unique=kind == "unique")
        new = _put(queue, jobs)
    except (SerialisationError, ValueError) as error:
        raise UsageError(f"{name}: {error}") from None
    if as_json:
        say_json(
            {
                "name": name, "queue": stored_as, "kind": kind, "items": len(texts),
                "taken": found.taken, "stored": new,
            }
        )  # fmt: skip
        return
    words = f"{number_of(len(texts), 'item')} of {name}, {found.taken} of them taken before: stored {new}"
    there = len(texts) - new
    words += f", {there} there already" if there else ""
    what = {"pool": "a rotation", "unique": "a unique queue", "queue": "a queue"}[kind]
    tell(safe_text(f"{words}, in {stored_as}, {what}", MOST))


def _read(source: str, name: str) -> Any:
    try:
        parsed = parse_url(source)
        # It brings the driver of Redis.
        from qanat._stores.redis.aiopyrq import read

        found = read(source, name)
    except ModuleNotFoundError:
        raise UsageError("reading Redis needs its driver: pip install 'qanat[redis]'") from None
    except StoreError as error:
        raise UsageError(f"{parse_url(source)}: {error}") from None
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    if found is None:
        raise UsageError(f"{parsed}: aio-py-rq keeps nothing under {name!r}")
    return found


def _text(item: bytes, name: str) -> str:
    try:
        return item.decode()
    except UnicodeDecodeError:
        raise UsageError(f"{name} has the item {item[:80]!r}, and items must be texts in UTF-8") from None


def _queue(
    store: PlainStore, name: str, texts: list[str], *, is_unique: bool
) -> tuple[PlainQueue[Any], Iterator[NewJob]]:
    """Return a queue and its jobs, whose ids are made of all that is imported.

    So the same call again, after one that was cut off, stores only the rest; and what looks the same in
    another import is another job.
    """
    queue = store.queue(name, unique="pending" if is_unique else None, max_attempts=None)
    content = blake2b(digest_size=16)
    for text in texts:
        content.update(b"%d:%s" % (len(text), text.encode()))
    prefix = content.hexdigest()
    if is_unique:
        texts = list(Counter(texts))
    jobs = (
        queue._asking.new(text, id=f"aiopyrq-{prefix}-{number}", key=(text,) if is_unique else None)
        for number, text in enumerate(texts)
    )
    return queue, jobs


def _pool(
    store: PlainStore, name: str, texts: list[str], due_in: list[float]
) -> tuple[PlainQueue[Any], Iterator[NewJob]]:
    rotation = store.rotation(name, every=EVERY)
    turning = rotation._turning
    jobs = (
        turning._new(text, min(max(due, 0.0), LONGEST), None) for text, due in zip(texts, due_in, strict=True)
    )
    return rotation._queue, jobs


def _put(queue: PlainQueue[Any], jobs: Iterator[NewJob]) -> int:
    """Store jobs in chunks, and return how many are new."""
    chunk = Chunk()
    new = 0
    for job in jobs:
        if chunk.add(job):
            new += sum(put.is_new for put in queue._put(chunk.take()))
    if chunk.jobs:
        new += sum(put.is_new for put in queue._put(chunk.take()))
    return new


def stored_name(name: str) -> str:
    """Return the name that `qanat.compat.aiopyrq` gives a queue in the store; that page tells how."""
    if re.fullmatch("[A-Za-z0-9._-]{1,128}", name):
        return name
    digest = blake2b(name.encode("utf-8", "surrogatepass"), digest_size=4).hexdigest()
    return f"{re.sub('[^A-Za-z0-9._-]', '-', name)[:100]}-{digest}"
