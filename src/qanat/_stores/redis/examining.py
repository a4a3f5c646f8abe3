"""What a server tells of itself, read for `redis_findings`: nothing is changed by it."""

from __future__ import annotations

import time
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.store.redis_health import SETTINGS, RedisReadings
from qanat.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._stores.redis.calling import Calls
    from qanat._stores.redis.durability import Durability

ASKED: Final = 5
"""How often the time is asked for; the quickest answer is the most exact one."""


def examine(calls: Calls, durability: Durability, key: str, *, exposed: bool) -> list[RedisReadings]:
    """Read one server, or each primary of a cluster.

    Args:
        calls: The connection.
        durability: What knows how to ask a node.
        key: Where a script may be tried.
        exposed: Whether the connection crosses a network without TLS.

    Raises:
        StoreError: If the server cannot be asked at all.
    """
    level = durability.level()
    scripts = _refusal(lambda: calls.run("now", key, twice=True))
    read: list[RedisReadings] = []
    for node in durability.nodes():
        info: dict[str, Any] = durability.told("INFO", **node)
        skew, round_trip = _skew(durability, node)
        read.append(
            RedisReadings(
                info=info,
                config=_config(durability, node),
                level=level,
                skew=skew,
                round_trip=round_trip,
                exposed=exposed,
                scripts=scripts,
                waits=not _refusal(partial(durability.told, "WAIT", 0, 1, **node)),
                cluster=_cluster(durability, node) if info.get("cluster_enabled") else {},
                node=_name(node),
            )
        )
    return read


def _skew(durability: Durability, node: dict[str, Any]) -> tuple[float, float]:
    """Return by how much the server's clock is ahead, and how long the quickest answer took."""
    tries: list[tuple[float, float]] = []
    for _ in range(ASKED):
        began, wall = time.monotonic(), time.time()
        seconds, micro = durability.told("TIME", **node)
        took = time.monotonic() - began
        tries.append((took, int(seconds) + int(micro) / 1e6 - (wall + took / 2)))
    took, skew = min(tries)
    return skew, took


def _config(durability: Durability, node: dict[str, Any]) -> dict[str, str] | None:
    try:
        return {name: durability.setting(name, **node) for name in SETTINGS}
    except StoreError as error:
        if durability.is_forbidden(error):
            return None
        raise


def _cluster(durability: Durability, node: dict[str, Any]) -> dict[str, str]:
    try:
        told = durability.told("CLUSTER INFO", **node)
    except StoreError:
        return {}
    if isinstance(told, dict):
        parsed = cast("dict[object, object]", told)
        return {str(name): str(value) for name, value in parsed.items()}
    text = told.decode() if isinstance(told, bytes) else str(told)
    return dict(line.split(":", 1) for line in text.split() if ":" in line)


def _refusal(call: Callable[[], object]) -> str:
    """Return what the server says against a call, or "" if it carries it out."""
    try:
        call()
    except StoreError as error:
        return str(error)
    return ""


def _name(node: dict[str, Any]) -> str:
    target = node.get("target_nodes")
    return "" if target is None else str(target.name)
