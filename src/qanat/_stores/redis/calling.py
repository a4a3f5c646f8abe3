"""How a script is called: by its hash, once more if that is safe, and with our errors.

What may be sent twice: anything that surely did nothing (the server said so), and after a broken
connection those calls that do no harm when repeated: reading, extending, and batches with a stamp.
A claim is not among them: its leases would be lost until they expire.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any, Final, cast

from redis.exceptions import NoScriptError

from qanat._stores import failpoints
from qanat._stores.redis.direct import Direct
from qanat._stores.redis.edge import ERRORS, code_of, is_lost, is_undone, is_unreached, translated
from qanat._stores.redis.scripts import script
from qanat.errors import StoreError, StoreForked

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from redis import Redis

    from qanat._stores.redis.direct import Sent
    from qanat._stores.redis.edge import Client


SMALL: Final = 16_384
"""Bytes that a socket which has nothing to send takes without waiting."""


class Calls:
    """One client, as one thread uses it.

    Args:
        client: The driver's client.
        clock: Returns milliseconds, for tests that move the time by hand; None: the server's time.
    """

    def __init__(self, client: Client, clock: Callable[[], int] | None = None) -> None:
        self.client = client
        self._clock = clock
        self._direct = Direct(cast("Redis", client)) if Direct.can_be(client) else None
        self.sent: Sent | None = None
        """What the next `run` does not send, as it is on its way."""
        pool: Any = getattr(client, "connection_pool", None)
        self._has_one_server = pool is not None and "Sentinel" not in type(pool).__name__
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
            sent, self.sent = self.sent, None
            try:
                if sent is not None:
                    return sent.wait()
                return self._send_script("EVALSHA", sha, len(keys), *keys, *arguments)
            except NoScriptError:
                return self._send_script("EVAL", text, len(keys), *keys, *arguments)

        reach = failpoints.reach
        if reach is None:
            return self._try(call, twice=twice)
        reach(f"{name}.before")
        answer = self._try(call, twice=twice)
        reach(f"{name}.committed")
        return answer

    def begin(self, name: str, keys: Sequence[str], *arguments: Any) -> Sent | None:
        """Send a script and go on, if nothing of that can take long; None if nothing was sent.

        Who has the answer by `Sent.is_over` is done if it is one. Otherwise `sent` is set to what this
        returned, and the same script is run: then the first try is the one that is on its way.
        """
        direct = self._direct
        if (
            direct is None
            or self._closed
            or self._clock is not None
            or failpoints.reach is not None
            or self._pid != os.getpid()
            or not direct.is_ready()
        ):
            return None
        sha = script(name).sha
        return direct.send(("EVALSHA", sha, len(keys), *keys, *arguments), SMALL)

    def command(self, *arguments: Any, **options: Any) -> Any:
        """Send a plain command, which may be repeated."""

        def call() -> Any:
            # Over the same connection: some commands are about what it wrote.
            self._give_back()
            return self.client.execute_command(*arguments, **options)

        return self._try(call, twice=True)

    def close(self) -> None:
        """Close the connection; may be called twice."""
        # A connection that came through a fork belongs to the parent.
        if not self._closed and self._pid == os.getpid():
            self._give_back()
            self.client.close()
            # The sentinels were asked by connections of their own.
            pool = getattr(self.client, "connection_pool", None)
            for sentinel in getattr(getattr(pool, "sentinel_manager", None), "sentinels", ()):
                sentinel.close()
        self._closed = True

    def _send_script(self, *command: Any) -> Any:
        direct = self._direct
        if direct is None:
            return self.client.execute_command(*command)
        direct.prepare()
        return cast("Sent", direct.send(command)).wait()

    def _give_back(self) -> None:
        if self._direct is not None:
            self._direct.give_back()

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
                if is_unreached(error) and self._has_one_server:
                    # It has been waited for in vain long enough. Others may know of another server.
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
        self._give_back()
        pool = getattr(self.client, "connection_pool", None)
        if pool is not None:
            pool.disconnect()
