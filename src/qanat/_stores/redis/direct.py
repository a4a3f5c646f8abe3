"""Scripts go straight over a connection of the driver's, past its own way of calling, which costs 30 us.

The driver connects, logs in, finds the master and tells errors apart. In between a script that is known to
the server is packed, sent and read here, and may be on its way while its thread does something else.

What must stay true:

- A connection is borrowed from the driver's pool, and is back in it when the driver itself sends.
- One script is on its way at most. Who sends the next one has read the answer of the one before.
- A connection of which it is not certain what comes next is closed.
- The system keeps the time of a borrowed socket, which blocks: Python would ask it before each reading and
  each writing whether there is something. What the driver has set is there again when it gets it back.
"""

from __future__ import annotations

import select
import socket
import struct
import time
from typing import TYPE_CHECKING, Any, Final, cast

import hiredis
from redis import Redis
from redis.exceptions import ConnectionError as Unconnected
from redis.exceptions import TimeoutError as Unanswered

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from qanat._stores.redis.edge import Client

FRESH: Final = 10.0
"""Seconds of silence after which the driver looks after a connection before it is used."""
CHUNK: Final = 65_536
"""Bytes read at once."""
JUST_NOW: Final = 0.001
"""Seconds after an answer in which nobody looks whether the server has closed the connection."""
_NOTHING: Final = object()
_packed: Final[Callable[[tuple[Any, ...]], bytes]] = cast("Any", hiredis).pack_command


class Sent:
    """A script on its way; made by `Direct.send`.

    Attributes:
        answer: What the server answered, once it is over and there is no error.
        error: What it refused, or what became of the connection.
    """

    __slots__ = ("_direct", "_is_over", "answer", "error")

    def __init__(self, direct: Direct) -> None:
        self._direct = direct
        self.answer: Any = None
        self.error: Exception | None = None
        self._is_over = False

    def fileno(self) -> int:
        """Return the number of the socket that becomes readable when there is news."""
        return self._direct.fileno()

    def is_over(self) -> bool:
        """Take in what is there, without waiting; say whether there is nothing more to come."""
        if not self._is_over:
            try:
                answer = self._direct.read_there()
                if answer is _NOTHING:
                    return False
                self._end(answer)
            except Exception as error:  # noqa: BLE001 - raised by `wait`
                self._break(error)
        return True

    def wait(self) -> Any:
        """Wait for the answer, and return it.

        Raises:
            RedisError: What the server answered, or what became of the connection.
        """
        if not self._is_over:
            try:
                self._end(self._direct.read())
            except BaseException as error:
                self._break(error)
                raise
        if self.error is not None:
            raise self.error
        return self.answer

    def give_up(self) -> None:
        """Wait for no answer: close the connection."""
        if not self._is_over:
            self._break(Unconnected("nobody waited for the answer"))

    def _end(self, answer: Any) -> None:
        self._is_over = True
        if isinstance(answer, Exception):
            self.error = answer
        else:
            self.answer = answer

    def _break(self, error: BaseException) -> None:
        self._is_over = True
        self.error = error if isinstance(error, Exception) else Unconnected("it was given up")
        self._direct.close()


class Direct:
    """The way straight over the connection of one client.

    Args:
        client: The driver's; `can_be` says whether there is such a way with it.
    """

    def __init__(self, client: Redis) -> None:
        self._pool: Any = client.connection_pool
        self._connection: Any = None
        self._socket: Any = None
        self._reader: Any = None
        self._poll: Any = None
        self._timeout: float | None = None
        self._used_at = 0.0
        self._buffer = bytearray(CHUNK)

    @staticmethod
    def can_be(client: Client) -> bool:
        """Say whether it is a client of one server or of sentinels, without TLS, on a system that polls."""
        if not hasattr(select, "poll") or not isinstance(client, Redis):
            return False
        pool: Any = client.connection_pool
        return type(pool).__name__ in {"ConnectionPool", "SentinelConnectionPool"} and "SSL" not in (
            pool.connection_class.__name__
        )

    def is_ready(self) -> bool:
        """Say whether a script can be sent without waiting for anything."""
        connection = self._connection
        if connection is None or connection._sock is not self._socket:
            return False
        silent = time.monotonic() - self._used_at
        return silent < FRESH and (silent < JUST_NOW or not self._poll.poll(0))

    def prepare(self) -> None:
        """Borrow a connection, and see that it is open.

        Raises:
            RedisError: If there is none to be had.
        """
        if self.is_ready():
            return
        self.give_back()
        connection = self._pool.get_connection()
        try:
            connection.check_health()
            sock = connection._sock
            if not isinstance(sock, socket.socket):
                raise Unconnected("the connection is gone")
            self._timeout = sock.gettimeout()
            _let_block(sock, self._timeout)
        except BaseException:
            self._pool.release(connection)
            raise
        self._connection, self._socket = connection, sock
        self._reader = hiredis.Reader(
            replyError=connection._parser.parse_error, notEnoughData=_NOTHING, protocolError=Unconnected
        )
        self._poll = select.poll()
        self._poll.register(sock, select.POLLIN)

    def give_back(self) -> None:
        """Let the driver have the connection."""
        connection, self._connection = self._connection, None
        if connection is not None and connection._sock is self._socket:
            self._socket.settimeout(self._timeout)
        self._socket = self._reader = self._poll = None
        if connection is not None:
            self._pool.release(connection)

    def close(self) -> None:
        """Close the connection, as nobody knows what comes next over it."""
        if self._connection is not None:
            self._connection.disconnect()
        self.give_back()

    def fileno(self) -> int:
        """Return the number of the socket."""
        number: int = self._socket.fileno()
        return number

    def send(self, command: Sequence[Any], most: int | None = None) -> Sent | None:
        """Send a command over the connection that is ready.

        Args:
            command: What is sent.
            most: Bytes beyond which nothing is sent; None: it may wait until all is on its way.

        Returns:
            What waits for the answer; None if nothing was sent.

        Raises:
            RedisError: If the connection breaks; nobody knows what the server got.
        """
        packed = _packed(tuple(command))
        if most is not None and len(packed) > most:
            return None
        try:
            self._socket.sendall(packed)
        except BlockingIOError:
            self.close()
            raise Unanswered("the server takes nothing") from None
        except BaseException as error:
            self.close()
            if isinstance(error, OSError):
                raise Unconnected(f"the connection broke: {error}") from error
            raise
        return Sent(self)

    def read_there(self) -> Any:
        """Return the answer if all of it is there, or what tells that it is not."""
        while True:
            try:
                size = self._socket.recv_into(self._buffer, 0, socket.MSG_DONTWAIT)
            except BlockingIOError:
                return _NOTHING
            except OSError as error:
                raise Unconnected(f"the connection broke: {error}") from error
            answer = self._feed(size)
            if answer is not _NOTHING or size < CHUNK:
                return answer

    def read(self) -> Any:
        """Wait for the answer and return it; what is missing has to begin to come within the timeout."""
        if self._socket is None:
            raise Unconnected("the connection was closed")
        while True:
            try:
                size = self._socket.recv_into(self._buffer)
            except BlockingIOError:
                raise Unanswered("the server does not answer") from None
            except OSError as error:
                raise Unconnected(f"the connection broke: {error}") from error
            answer = self._feed(size)
            if answer is not _NOTHING:
                return answer

    def _feed(self, size: int) -> Any:
        """Take in so many bytes of the buffer; return the answer, or what tells that it is not all there."""
        if not size:
            raise Unconnected("the server has closed the connection")
        self._reader.feed(self._buffer, 0, size)
        answer = self._reader.gets()
        if answer is not _NOTHING:
            self._used_at = time.monotonic()
        return answer


def _let_block(sock: socket.socket, seconds: float | None) -> None:
    """Let a socket wait so long by the system's own means; None: for ever."""
    sock.settimeout(None)
    whole = int(seconds or 0.0)
    # A whole microsecond at least: nothing means for ever here.
    left = 0 if seconds is None else max(int((seconds - whole) * 1e6), 0 if whole else 1)
    for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
        sock.setsockopt(socket.SOL_SOCKET, name, struct.pack("ll", whole, left))
