"""The edge to the driver: what is used of its clients; its errors become ours here, and nowhere else."""

from __future__ import annotations

import re
from typing import Any, Final, Protocol

from redis import exceptions as driver

from qanat.errors import StoreError, StoreFull, StoreUnavailable

ERRORS: Final = (driver.RedisError, driver.RedisClusterException, OSError)
"""All that the driver raises; the second is no RedisError."""
_CODE: Final = re.compile(
    r"\b(OOM|MISCONF|READONLY|UNBLOCKED|LOADING|BUSY|MASTERDOWN|CLUSTERDOWN|TRYAGAIN|MOVED|ASK|NOREPLICAS"
    r"|NOPERM|NOAUTH|WRONGPASS|WRONGTYPE|NOSCRIPT)\b"
)
"""The server's word for what is the matter; before Redis 7 an error inside a script hides it in its text."""

_FULL: Final = {
    "OOM": "the server has no memory left (maxmemory): let workers drain it, or raise maxmemory",
    "MISCONF": "the server cannot write to its disk and refuses writes: see its log",
}
_UNDONE: Final = {
    "READONLY": "the server is a replica and takes no writes: the master has moved",
    "UNBLOCKED": "the server was demoted while it worked",
    "LOADING": "the server is loading its data",
    "BUSY": "the server is busy with a long script",
    "MASTERDOWN": "the server is a replica that has lost its master",
    "CLUSTERDOWN": "the cluster does not serve this queue now",
    "TRYAGAIN": "the cluster is moving this queue",
    "MOVED": "the cluster has moved this queue",
    "ASK": "the cluster is moving this queue",
    "NOREPLICAS": "the server has fewer replicas than min-replicas-to-write and refuses writes",
}
"""Nothing happened, and trying again may help."""


class Client(Protocol):
    """What is used of the driver's clients."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Send a command and return its answer."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


def code_of(error: Exception) -> str:
    """Return the server's word for what is the matter, or ""."""
    if isinstance(error, driver.OutOfMemoryError):
        return "OOM"
    if isinstance(error, driver.ReadOnlyError):
        return "READONLY"
    if isinstance(error, driver.BusyLoadingError):
        return "LOADING"
    if "TTL exhausted" in str(error):
        return "TRYAGAIN"  # the driver has asked so often itself
    found = _CODE.search(str(error))
    return found.group(1) if found else ""


def is_undone(error: Exception) -> bool:
    """Say whether a call surely did nothing and may be sent once more."""
    if isinstance(error, driver.BusyLoadingError):
        return True
    # A connection that broke may have carried the call; only an answer tells.
    return not isinstance(error, (driver.ConnectionError, driver.TimeoutError)) and code_of(error) in _UNDONE


def is_lost(error: Exception) -> bool:
    """Say whether the connection is gone, so that nobody knows what happened."""
    if isinstance(error, (driver.AuthenticationError, driver.BusyLoadingError)):
        return False
    return isinstance(error, (driver.ConnectionError, driver.TimeoutError, OSError))


def is_unreached(error: Exception) -> bool:
    """Say whether there was no connection in time, so that nothing was sent."""
    return isinstance(error, driver.TimeoutError) and "connecting" in str(error)


def translated(error: Exception) -> StoreError:
    """Return our error for one of the driver's; raise it `from` that."""
    code = code_of(error)
    if isinstance(error, driver.AuthenticationError) or code in {"NOAUTH", "WRONGPASS"}:
        return StoreError("the server refused the user name or the password of the URL")
    if isinstance(error, driver.MaxConnectionsError):
        return StoreUnavailable("the server has no connection left (maxclients)")
    if code in _FULL:
        return StoreFull(_FULL[code])
    if code in _UNDONE:
        return StoreUnavailable(_UNDONE[code])
    if isinstance(error, driver.NoPermissionError) or code == "NOPERM":
        return StoreError(f"the server's access list forbids what a store needs: {error}")
    if code == "WRONGTYPE":
        return StoreError(
            f"something else has written a key of this store: use another database or ?prefix= ({error})"
        )
    if is_unreached(error):
        return StoreUnavailable(
            "there was no connection in time, and nothing was sent: is it the right host and port, and does "
            "the server speak TLS there if the URL says so (rediss), and not if it does not?"
        )
    if isinstance(error, driver.TimeoutError):
        return StoreUnavailable("the server did not answer in time: what was sent may have happened")
    if isinstance(
        error, (driver.ConnectionError, driver.ClusterError, driver.RedisClusterException, OSError)
    ):
        return StoreUnavailable(f"the server cannot be reached: {error}")
    return StoreError(f"the server refused: {error}")
