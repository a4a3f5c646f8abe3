"""Handlers whose workers die, and a recorder of what such a process asks of its store and is told.

Imported by `qanat worker tests.crash.app:work` and by the producers of these tests; what happens is
appended to the file that `HISTORY` names.
"""

from __future__ import annotations

import asyncio
import ctypes
import json
import os
import signal
import threading
import time
import zlib
from typing import TYPE_CHECKING, Any

import anyio

import qanat
from qanat._stores import failpoints
from qanat._stores.deeds import Begun, Deeds
from tests.crash.history import Diary

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

HISTORY = "QANAT_TEST_HISTORY"

diary = Diary(os.environ.get(HISTORY, os.devnull))
tokens: dict[str, int] = {}
"""The token of the last lease that this process was given, by job."""


def sum_of(item: object) -> str:
    return f"{zlib.crc32(json.dumps(item, sort_keys=True).encode()):08x}"


def _asked(deed: str, asked: list[Any]) -> None:
    name = deed.partition(" ")[0]
    if name == "settle":
        diary.tell("settle", *((each.id, each.token, each.kind) for each in asked))
    elif name == "claim" and not tokens:
        diary.tell("ready")
        tokens[""] = 0


def _told(deed: str, asked: list[Any], answers: list[Any]) -> None:
    name = deed.partition(" ")[0]
    if name == "claim":
        jobs = [job for claim in answers for job in claim.jobs]
        tokens.update((job.id, job.token) for job in jobs)
        if jobs:
            diary.tell("lease", *((job.id, job.token, str(job.attempt)) for job in jobs))
    elif name == "settle":
        for status in ("ok", "repeated", "stale"):
            told = [
                (settle.id, settle.token, settle.kind)
                for settle, answer in zip(asked, answers, strict=True)
                if answer.status == status
            ]
            if told:
                diary.tell(f"settle-{status}", *told)
    elif name == "rescue" and answers[0].ids:
        diary.tell("rescued", *((id, 0, "-") for id in answers[0].ids))


def _record() -> None:
    """Write down what is asked and told, whether somebody waits for it or it is begun and heard of later."""
    do, begin, resumed, answers_of = Deeds.do, Deeds.begin, Deeds.resumed, Begun.answers
    resuming: set[Deeds] = set()

    def noted_do(self: Deeds, deed: str, asked: list[Any]) -> list[Any]:
        if self not in resuming:
            _asked(deed, asked)
        answers = do(self, deed, asked)
        _told(deed, asked, answers)
        return answers

    def noted_begin(self: Deeds, deed: str, asked: list[Any]) -> Begun | None:
        # What is asked is written down before it is sent, so more than what is sent.
        _asked(deed, asked)
        return begin(self, deed, asked)

    def noted_resumed(self: Deeds, begun: Any, number: int, deed: str, asked: list[Any]) -> list[Any]:
        resuming.add(self)
        try:
            return resumed(self, begun, number, deed, asked)
        finally:
            resuming.discard(self)

    def noted_answers(self: Begun) -> list[Any] | None:
        answers = answers_of(self)
        if answers is not None:
            _told(self._deed, self._asked, answers)
        return answers

    Deeds.do, Deeds.begin, Deeds.resumed = noted_do, noted_begin, noted_resumed  # type: ignore[method-assign]
    Begun.answers = noted_answers  # type: ignore[method-assign]


_record()


def _begin(item: object) -> tuple[str, int]:
    id = str(qanat.current_job().id)
    token = tokens[id]
    diary.tell("start", (id, token, sum_of(item)))
    if failpoints.reach is not None:
        failpoints.reach("run.mid")
    return id, token


async def work(item: dict[str, Any]) -> object:
    """Do what an item says."""
    id, token = _begin(item)
    try:
        result = await DEEDS[item["do"]](item.get("with"))
    except BaseException as error:
        diary.tell("fell", (id, token, type(error).__name__))
        raise
    diary.tell("end", (id, token, "-"))
    return result


def in_thread(item: dict[str, Any]) -> None:
    """Do the same in a thread; only what needs no event loop."""
    id, token = _begin(item)
    time.sleep(item["with"])
    diary.tell("end", (id, token, "-"))


async def nap(seconds: float) -> None:
    await asyncio.sleep(seconds)


async def sleep(seconds: float) -> None:
    """Sleep on any event loop."""
    await anyio.sleep(seconds)


async def block(seconds: float) -> None:
    """Hold up the event loop."""
    time.sleep(seconds)  # noqa: ASYNC251 - that is what is tried


async def spin(seconds: float) -> None:
    """Hold up the event loop and every other thread."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        sum(range(100_000))


async def leave(status: int) -> None:
    os._exit(status)


async def crash(_: None) -> None:
    """Read where nothing is."""
    signal.signal(signal.SIGSEGV, signal.SIG_DFL)
    ctypes.string_at(0)


async def deny(_: None) -> None:
    """Go on, however often it is cancelled."""
    while True:
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            pass


async def fail(name: str) -> None:
    raise {each.__name__: each for each in ERRORS}[name]("so it was asked for")


async def give(what: object) -> object:
    return what


async def hang_thread(seconds: float) -> None:
    """Leave a thread of the handler's own behind, which is no business of the worker."""
    threading.Thread(target=time.sleep, args=(seconds,), daemon=True).start()


ERRORS = (
    ValueError, KeyboardInterrupt, SystemExit, GeneratorExit, StopIteration, StopAsyncIteration, MemoryError,
    RecursionError, asyncio.CancelledError, BaseException,
)  # fmt: skip
DEEDS: dict[str, Callable[[Any], Awaitable[object]]] = {
    each.__name__: each for each in (nap, sleep, block, spin, leave, crash, deny, fail, give, hang_thread)
}
