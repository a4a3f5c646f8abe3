"""The ear of the Redis store: told by the scripts that leave work behind, through a channel of its own.

A claim that gets less than it asked for notes in the same step that its process waits, under the name of
its ear (`waiters`, see `waking.lua`). Whatever makes jobs ready wakes as many of those as there are jobs, and
no others: a hundred idle workers do not all come for one job, and while nobody waits nothing is sent.
"""

from __future__ import annotations

import socket
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._stores.redis.connecting import connect
from qanat._stores.redis.edge import ERRORS, translated
from qanat.errors import StoreUnavailable

if TYPE_CHECKING:
    from qanat._stores.url import StoreUrl

A_WHILE: Final = 5.0
"""Seconds after which `hear` comes back though nothing was heard."""


class RedisEar:
    """Hears what is published for one process.

    Args:
        url: Where the server is.
        name: What the claims of this process are noted under.
    """

    def __init__(self, url: StoreUrl | str, name: str) -> None:
        self._url = url
        self._name = name
        self._client: Any = None
        self._messages: Any = None
        self._stopped = False

    def hear(self) -> list[str]:
        """Wait for a while, and return the queues that may hold something new; "" stands for all of them.

        Raises:
            StoreError: If the server is away; the next call connects anew.
        """
        if self._stopped:
            return []
        try:
            if self._messages is None:
                self._subscribe()
                # What was sent before reached nobody.
                return [""]
            message = self._messages.get_message(timeout=A_WHILE)
        except (*ERRORS, AttributeError, ValueError) as error:
            # A reader whose connection is shut down under it may stumble over what is gone.
            self.close()
            if self._stopped:
                return []
            known = isinstance(error, ERRORS)
            raise (translated(error) if known else StoreUnavailable(str(error))) from error
        return [message["data"].decode()] if message and message["type"] == "message" else []

    def stop(self) -> None:
        """Let `hear` come back; may be called from any thread."""
        self._stopped = True
        connection = getattr(self._messages, "connection", None)
        try:
            # Only what is read from is ended: all else belongs to the thread that hears.
            cast("Any", connection)._sock.shutdown(socket.SHUT_RDWR)
        except (AttributeError, OSError):
            pass  # it is not connected

    def close(self) -> None:
        """Let go of the connection."""
        messages, self._messages = self._messages, None
        client, self._client = self._client, None
        for each in (messages, client):
            try:
                if each is not None:
                    each.close()
            except (*ERRORS, AttributeError):
                pass  # it is gone

    def _subscribe(self) -> None:
        client, options = connect(self._url)
        self._client = cast("Any", client)
        messages = self._client.pubsub(ignore_subscribe_messages=True)
        messages.subscribe(f"{options.prefix}:wake:{self._name}")
        # The answer to it: from then on nothing is missed.
        messages.get_message(timeout=options.timeout)
        self._messages = messages
