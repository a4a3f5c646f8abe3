"""How a script is called: by its hash, once more if that is safe, and with our errors.

What may be sent twice: anything that surely did nothing (the server said so), and after a broken
connection those calls that do no harm when repeated: reading, extending, and batches with a stamp.
A claim is not among them: its leases would be lost until they expire.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Protocol

from redis.exceptions import NoScriptError

from qanat._stores import failpoints
from qanat._stores.redis.edge import ERRORS, code_of, is_lost, is_undone, translated
from qanat._stores.redis.scripts import script
from qanat.errors import StoreError, StoreForked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence


class Client(Protocol):
    """What is used of the driver's clients."""

    def execute_command(self, *arguments: Any, **options: Any) -> Any:
        """Send a command and return its answer."""
        ...

    def close(self) -> None:
        """Close all connections."""
        ...


class Calls:
    """One client, as one thread uses it.

    Args:
        client: The driver's client.
        clock: Returns milliseconds, for tests that move the time by hand; None: the server's time.
    """

    def __init__(self, client: Client, clock: Callable[[], int] | None = None) -> None:
        self.client = client
        self._clock = clock
        self._pid = os.getpid()
        self._closed = False

    def run(self, name: str, keys: Sequence[str], *arguments: Any, twice: bool = False) -> Any:
        """Run a script.

        Args:
            name: Which.
            keys: The keys that say where it runs.
            arguments: What it gets.
            twice: Whether it does no harm when it is repeated.
        """
        text, sha = script(name, by_hand=self._clock is not None)
        if self._clock is not None:
            arguments = (*arguments, self._clock())

        def call() -> Any:
            try:
                return self.client.execute_command("EVALSHA", sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return self.client.execute_command("EVAL", text, len(keys), *keys, *arguments)

        reach = failpoints.reach
        if reach is None:
            return self._try(call, twice=twice)
        reach(f"{name}.before")
        answer = self._try(call, twice=twice)
        reach(f"{name}.committed")
        return answer

    def command(self, *arguments: Any, **options: Any) -> Any:
        """Send a plain command, which may be repeated."""
        return self._try(lambda: self.client.execute_command(*arguments, **options), twice=True)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        # A connection that came through a fork belongs to the parent.
        if not self._closed and self._pid == os.getpid():
            self.client.close()
            # The sentinels were asked by connections of their own.
            pool = getattr(self.client, "connection_pool", None)
            for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
                sentinel.close()
        self._closed = True

    def _try(self, call: Callable[[], Any], *, twice: bool) -> Any:
        if self._closed:
            raise StoreError("the store is closed")
        if self._pid != os.getpid():
            raise StoreForked("the store was opened before this process was forked off: open it anew here")
        try:
            try:
                return call()
            except ERRORS as error:
                if not (is_undone(error) or (twice and is_lost(error))):
                    raise
                if code_of(error) in {"READONLY", "UNBLOCKED"}:
                    # The next connection asks the sentinels anew who the master is.
                    self._disconnect()
                return call()
        except ERRORS as error:
            if code_of(error) in {"READONLY", "UNBLOCKED"}:
                self._disconnect()
            raise translated(error) from error

    def _disconnect(self) -> None:
        pool = getattr(self.client, "connection_pool", None)
        if pool is not None:
            pool.disconnect()
