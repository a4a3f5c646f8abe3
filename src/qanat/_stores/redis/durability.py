"""What survives: asked for with a put, and as the server is set up."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import NoPermissionError

from qanat._core.store.bounds import check_whole
from qanat.errors import NotReplicated, StoreError, StoreUnavailable

if TYPE_CHECKING:
    from qanat._stores.redis.calling import Calls

LEVELS: Final = ("none", "process", "~1s", "fsync")
"""From weak to strong, as `Store.guarantees` tells them."""
_FSYNC: Final = {"no": "process", "everysec": "~1s", "always": "fsync"}


class Durability:
    """What one connection's server can promise.

    Args:
        calls: The connection.
        wait: Seconds that replicas, or the disk, get.
    """

    def __init__(self, calls: Calls, wait: float) -> None:
        self._calls = calls
        self._wait = wait
        self._waits_for_disk: bool | None = None

    def check(self, key: str, replicas: int, *, durable: bool) -> None:
        """Refuse what this server cannot give, before anything is stored."""
        if replicas:
            check_whole("replicas", replicas, 0, 100)
        if not durable:
            return
        node = self._node(key)
        if self._waits_for_disk is None:
            self._waits_for_disk = self._knows_waitaof(node)
        if not self._waits_for_disk:
            raise ValueError(
                "durable must be False for this server, got True: it has no WAITAOF (Redis 7.2 and newer)"
            )
        if not int(self._info("persistence", **node)["aof_enabled"]):
            raise ValueError(
                "durable must be False for this server, got True: its append-only file is off (appendonly no)"
            )

    def _knows_waitaof(self, node: dict[str, Any]) -> bool:
        try:
            # To wait for nobody changes nothing, and every server that knows the word lets it pass.
            self._calls.command("WAITAOF", 0, 0, 1, **node)
        except StoreError as error:
            if "unknown command" in str(error.__cause__).lower():
                return False
            raise
        return True

    def wait(self, key: str, id: str, replicas: int, *, durable: bool) -> None:
        """Wait until replicas and the disk have what this connection wrote.

        Args:
            key: Where it was written.
            id: The first job, for the error.
            replicas: How many replicas.
            durable: Whether the disk.
        """
        milliseconds = int(self._wait * 1000)
        node = self._node(key)
        if replicas:
            got = self._calls.command("WAIT", replicas, milliseconds, **node)
            if _one(got) < replicas:
                raise NotReplicated(id, _one(got), replicas)
        if durable:
            written, _ = _one(self._calls.command("WAITAOF", 1, 0, milliseconds, **node))
            if not written:
                raise StoreUnavailable(
                    f"job {id!r} is stored, but was not on disk after {self._wait:g} s: put it again"
                )

    def level(self) -> str:
        """Return the weakest promise of all nodes that hold queues."""
        try:
            return min((self._level(node) for node in self.nodes()), key=_rank)
        except StoreError as error:
            if self.is_forbidden(error):
                return "unverified"
            raise

    @staticmethod
    def is_forbidden(error: StoreError) -> bool:
        """Say whether the server lets nobody ask that: by its access list, or as it has no such command."""
        cause = error.__cause__
        return isinstance(cause, NoPermissionError) or "unknown command" in str(cause).lower()

    def _level(self, node: dict[str, Any]) -> str:
        info = self._info("replication", **node) | self._info("persistence", **node)
        told = {
            name: self.setting(name, **node)
            for name in ("maxmemory", "maxmemory-policy", "appendfsync", "min-replicas-to-write")
        }
        # Keys that may be dropped when memory runs out are kept by nobody.
        if told["maxmemory"] != "0" and told["maxmemory-policy"] != "noeviction":
            return "none"
        if int(info["aof_enabled"]):
            return _FSYNC[told["appendfsync"]]
        replicas = min(int(info["connected_slaves"]), int(told["min-replicas-to-write"]))
        return f"replicas({replicas})" if replicas else "none"

    def setting(self, name: str, **node: Any) -> str:
        """Return one setting of a node."""
        found = self.told("CONFIG", "GET", name, **node)
        if isinstance(found, dict):
            [found] = cast("dict[object, Any]", found).items()
        value = found[1]
        return value.decode() if isinstance(value, bytes) else str(value)

    def _info(self, section: str, **node: Any) -> dict[str, Any]:
        return dict(self.told("INFO", section, **node))

    def told(self, *command: Any, **node: Any) -> Any:
        """Return what one node answers to a plain command."""
        return _one(self._calls.command(*command, **node))

    def nodes(self) -> list[dict[str, Any]]:
        """Return how to name each node that holds queues; one without a name if there is one server."""
        primaries = getattr(self._calls.client, "get_primaries", None)
        return [{}] if primaries is None else [{"target_nodes": node} for node in primaries()]

    def _node(self, key: str) -> dict[str, Any]:
        """Return how to name the node that holds a key: WAIT is about what its connection wrote."""
        find = getattr(self._calls.client, "get_node_from_key", None)
        return {} if find is None else {"target_nodes": find(key)}


def _one(answer: Any) -> Any:
    """Return the answer of the one node that was asked; a cluster's client may tell it by the node's name."""
    if not isinstance(answer, dict):
        return answer
    told = cast("dict[object, Any]", answer)
    named = len(told) == 1 and all(isinstance(name, str) and ":" in name for name in told)
    return next(iter(told.values())) if named else told


def _rank(level: str) -> float:
    return LEVELS.index(level) if level in LEVELS else 0.5
