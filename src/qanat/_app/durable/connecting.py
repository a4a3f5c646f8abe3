"""Which store a URL opens: one table, and what is in none of its lines is not installed."""

from __future__ import annotations

import os
from functools import partial
from importlib import import_module
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TypeAlias

from qanat._core.store.bounds import MOST
from qanat._engine.clock import clock_in_use
from qanat._stores.url import StoreUrl, parse_url

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from qanat._core.store.ports import Ear, Store

REDIS_STEP: Final = 500
"""A script of a thousand jobs takes 5 to 9 ms, in which the server answers nobody else."""

Connect: TypeAlias = "Callable[[], Store]"
"""Makes a connection of its own for the thread that calls it."""


class Reach(NamedTuple):
    """How a store is reached.

    Attributes:
        connect: Makes a connection.
        make_ear: Makes what hears of others; None where nobody else can reach it.
        step: Jobs in one step at most: a server that others use, too, is not to be held up for long.
    """

    connect: Connect
    make_ear: Callable[[], Ear] | None = None
    step: int = MOST


def _memory(url: StoreUrl) -> Reach:
    _check_options(url, {})
    from qanat._stores.memory import MemoryStore

    clock = clock_in_use()
    # Steady, as the clock of a store has to be, and virtual where time is.
    offset = clock.wall() - clock.now()
    return Reach(MemoryStore(lambda: offset + clock.now()).connect)


def _sqlite(url: StoreUrl) -> Reach:
    options = _check_options(url, {"synchronous": _synchronous, "patience": _patience})
    return Reach(
        partial(_module(url, "qanat._stores.sqlite.store").SqliteStore, url.path, **options),
        partial(_module(url, "qanat._stores.sqlite.ear").SqliteEar, url.path),
    )


def _redis(url: StoreUrl) -> Reach:
    # What is wrong with the options is told here, and not by the thread that connects.
    _module(url, "qanat._stores.redis.connecting").options_of(url)
    # Random, as it names a channel: what claims here find nothing wait under it.
    ear = os.urandom(12).hex()
    return Reach(
        partial(_module(url, "qanat._stores.redis.store").RedisStore.open, url, ear=ear),
        partial(_module(url, "qanat._stores.redis.ear").RedisEar, url, ear),
        REDIS_STEP,
    )


MOST_PATIENCE: Final = 3600.0
"""Seconds that a file may be locked by somebody else, at most."""

STORES: Final[dict[str, Callable[[StoreUrl], Reach]]] = {
    "memory": _memory,
    "sqlite": _sqlite,
    "redis": _redis,
    "sentinel": _redis,
    "cluster": _redis,
}
"""Kind of URL -> how its store is reached."""


def connector(url: str) -> tuple[StoreUrl, Reach]:
    """Return what a URL names, and how it is reached; nothing is opened yet.

    Raises:
        TypeError: If it is no text.
        ValueError: If it names no store, the store has no such option, or it is not installed.
    """
    parsed = parse_url(url)
    return parsed, STORES[parsed.kind](parsed)


def _module(url: StoreUrl, name: str) -> Any:
    """Import a store when it is asked for: each brings a driver."""
    try:
        return import_module(name)
    except ModuleNotFoundError as error:
        raise _not_installed(url) from error


def _not_installed(url: StoreUrl) -> ValueError:
    return ValueError(
        f"url must name a store that is installed, and the driver for {url.scheme}:// is not: "
        "pip install 'qanat[redis]'"
    )


def _synchronous(text: str) -> str:
    """Read how much is synced; with less than these a loss of power could damage the file."""
    if text.upper() not in {"FULL", "NORMAL"}:
        raise ValueError("FULL or NORMAL")
    return text.upper()


def _patience(text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = -1.0
    if not 0.0 <= seconds <= MOST_PATIENCE:
        raise ValueError(f"seconds, from 0 to {MOST_PATIENCE:g}")
    return seconds


def _check_options(url: StoreUrl, known: Mapping[str, Callable[[str], Any]]) -> dict[str, Any]:
    """Return what follows the question mark, read; what reads it raises what is expected."""
    found: dict[str, Any] = {}
    for name, text in url.options.items():
        if name not in known:
            expected = ", ".join(known) or "none"
            raise ValueError(f"url has the option {name!r}, and {url.scheme}:// knows {expected}")
        try:
            found[name] = known[name](text)
        except ValueError as expected:
            raise ValueError(f"url must give {name} as {expected}") from None
    return found
