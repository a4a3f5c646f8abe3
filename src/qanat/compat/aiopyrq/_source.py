"""From what aio-py-rq is handed - a pool or a client of redis-py, our URL, an open store - to a `Store`.

redis-py is never imported here: whoever hands in its objects has done so, and classes are known by their
names. Only their settings are taken; the connections are the store's own.

aio-py-rq has nothing to open or to close. So a store is opened by the first call in an event loop and
shared by all who name the same place there. An async generator holds it: asyncio closes those when
`asyncio.run` ends.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final, Generic, TypeVar, cast
from urllib.parse import quote, urlencode
from weakref import WeakKeyDictionary

import qanat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping

H = TypeVar("H")

_CONNECTIONS: Final = {
    "redis.asyncio.connection.Connection": "redis",
    "redis.asyncio.connection.SSLConnection": "rediss",
    "redis.asyncio.connection.UnixDomainSocketConnection": "unix",
    "redis.asyncio.sentinel.SentinelManagedConnection": "redis+sentinel",
    "redis.asyncio.sentinel.SentinelManagedSSLConnection": "rediss+sentinel",
}
"""Class of connections -> scheme of our URL."""
_POOL: Final = "redis.asyncio.connection.ConnectionPool"
_CLIENT: Final = "redis.asyncio.client.Redis"
_CONNECTION: Final = "redis.asyncio.connection.AbstractConnection"

_NOT_CARRIED: Final = (
    "credential_provider", "redis_connect_func", "ssl_ca_path", "ssl_ca_data", "ssl_ciphers",
    "ssl_password", "ssl_context", "ssl_validate_ocsp", "ssl_validate_ocsp_stapled", "ssl_ocsp_context",
    "ssl_ocsp_expected_cert",
)  # fmt: skip
"""Settings without which another server would be met, or none, or one that is not who it should be."""
_FILES: Final = {"ssl_ca_certs": "ca", "ssl_certfile": "cert", "ssl_keyfile": "key"}
_ANSWER: Final = 10.0
"""Seconds that an answer may take, where redis-py waits for ever."""

_open: WeakKeyDictionary[asyncio.AbstractEventLoop, dict[str, _Shared]] = WeakKeyDictionary()


class Source:
    """Where a queue's store is.

    Args:
        redis: What aio-py-rq is handed.
        replicas_within: Milliseconds that replicas get; 0 or less is the store's own time.

    Raises:
        TypeError: If it is nothing of the kind, or its class of connections is not known.
        ValueError: If it has a setting that cannot be carried over, or is no URL.

    Attributes:
        encoding: That of items which are bytes.
        as_bytes: Whether items are given back as bytes.
    """

    def __init__(self, redis: object, replicas_within: float = 0.0) -> None:
        self.encoding: str = "utf-8"
        self.as_bytes: bool = False
        self._store: qanat.Store | None = None
        self._url = ""
        if isinstance(redis, qanat.Store):
            self._store = redis
            return
        if isinstance(redis, str):
            self._url = redis
        else:
            settings = _settings_of(redis)
            self.encoding = str(settings.get("encoding") or "utf-8")
            self.as_bytes = not settings.get("decode_responses")
            self._url = _url_of(settings, replicas_within / 1000.0)
        # What is wrong with a URL is told now, not by the first call.
        qanat.open(self._url)

    async def store(self) -> qanat.Store:
        """Return the store, which the first call in this event loop opens.

        Raises:
            StoreError: If it cannot be used.
        """
        return self._store if self._store is not None else await self.shared().store()

    def shared(self) -> _Shared:
        """Return what has the store of this event loop, unless one was handed in."""
        shared = _open.setdefault(asyncio.get_running_loop(), {})
        if self._url not in shared:
            shared[self._url] = _Shared(self._url)
        return shared[self._url]

    @property
    def is_handed_in(self) -> bool:
        """Whether it is an open store."""
        return self._store is not None


class Handles(Generic[H]):
    """A queue or a rotation of each event loop's store.

    Args:
        source: Where the stores are.
        make: Makes what is kept for each.
    """

    def __init__(self, source: Source, make: Callable[[qanat.Store], H]) -> None:
        self._source = source
        self._make = make
        self._known: dict[asyncio.AbstractEventLoop, tuple[qanat.Store, H, _Shared | None]] = {}

    def at_hand(self) -> H | None:
        """Return that of this event loop if it was got before and its store is still open."""
        known = self._known.get(asyncio.get_running_loop())
        return known[1] if known is not None and (known[2] is None or not known[2].is_over) else None

    async def get(self) -> H:
        """Return that of this event loop; errors as `Source.store`."""
        store = await self._source.store()
        loop = asyncio.get_running_loop()
        known = self._known.get(loop)
        if known is None or known[0] is not store:
            for each in [each for each in self._known if each.is_closed()]:
                del self._known[each]
            shared = None if self._source.is_handed_in else self._source.shared()
            known = self._known[loop] = (store, self._make(store), shared)
        return known[1]


class _Shared:
    """A store of one event loop.

    Attributes:
        is_over: Whether it is closed, or about to be.
    """

    def __init__(self, url: str) -> None:
        self.is_over: bool = False
        self._url = url
        self._opening = asyncio.Lock()
        self._store: qanat.Store | None = None
        self._held: AsyncGenerator[qanat.Store] | None = None

    async def store(self) -> qanat.Store:
        if self._store is None:
            async with self._opening:
                if self._store is None:
                    held = _hold(self, self._url)
                    self._store = await anext(held)
                    self._held = held
        return self._store


async def _hold(shared: _Shared, url: str) -> AsyncGenerator[qanat.Store]:
    """Keep a store open until the generator is closed."""
    loop = asyncio.get_running_loop()
    try:
        async with qanat.open(url) as store:
            try:
                yield store
            finally:
                shared.is_over = True
    finally:
        _open.get(loop, {}).pop(url, None)


# --- the settings of redis-py ----------------------------------------------------------------------


def _settings_of(redis: object) -> dict[str, Any]:
    """Return the settings of a connection, with its `scheme` and, for sentinels, where they are."""
    if _is_a(redis, _CLIENT):
        redis = cast("Any", redis).connection_pool
    if _is_a(redis, _POOL):
        pool = cast("Any", redis)
        settings = {**pool.connection_kwargs, "scheme": _scheme_of(pool.connection_class)}
        if settings["scheme"].endswith("sentinel"):
            settings |= _sentinels_of(pool)
        return settings
    if _is_a(redis, _CONNECTION):
        return _of_connection(cast("Any", redis))
    raise TypeError(
        "redis must be an asyncio ConnectionPool or client of redis-py, a URL such as "
        f"'redis://localhost', or an open qanat.Store, got {_name_of(type(redis))}"
    )


def _of_connection(connection: Any) -> dict[str, Any]:
    """Return the settings of a lone connection, which has them as attributes."""
    kind: type = connection.__class__
    scheme = _scheme_of(kind)
    names = ("host", "port", "path", "db", "username", "password", "credential_provider", "socket_timeout")
    settings: dict[str, Any] = {
        name: getattr(connection, name) for name in names if getattr(connection, name, None) is not None
    }
    context = getattr(connection, "ssl_context", None)
    if context is not None:
        for name in ("ca_certs", "certfile", "keyfile", "ca_path", "ca_data", "ciphers", "cert_reqs"):
            settings[f"ssl_{name}"] = getattr(context, name, None)
    encoder = getattr(connection, "encoder", None)
    return {
        **settings, "scheme": scheme, "encoding": getattr(encoder, "encoding", None),
        "decode_responses": getattr(encoder, "decode_responses", False),
    }  # fmt: skip


def _scheme_of(kind: type) -> str:
    name = _name_of(kind)
    scheme = _CONNECTIONS.get(name)
    if scheme is None:
        raise TypeError(
            f"redis has connections of the class {name}, and what they do is not known: give a URL, such as "
            "'redis+cluster://host', or an open qanat.Store"
        )
    return scheme


def _sentinels_of(pool: Any) -> dict[str, Any]:
    if not pool.is_master:
        raise ValueError("redis is a pool of replicas, which take no writes: use master_for")
    manager = pool.sentinel_manager
    pools = [sentinel.connection_pool for sentinel in manager.sentinels]
    if any(_is_a_tls(each.connection_class) != _is_a_tls(pool.connection_class) for each in pools):
        raise ValueError(
            "redis has sentinels with TLS and a master without, or the other way round, which cannot be "
            "carried over: use it for both"
        )
    nodes = [each.connection_kwargs for each in pools]
    login: dict[str, Any] = manager.sentinel_kwargs or {}
    return {
        "hosts": [(node.get("host", "localhost"), node.get("port", 26379)) for node in nodes],
        "name": pool.service_name,
        "sentinel_user": login.get("username"),
        "sentinel_password": login.get("password"),
    }


def _url_of(settings: Mapping[str, Any], wait: float) -> str:
    scheme = settings["scheme"]
    for name in _NOT_CARRIED:
        if settings.get(name):
            raise ValueError(f"redis has the setting {name}, which cannot be carried over: give a URL")
    if scheme.startswith("rediss") and not _checks(settings.get("ssl_cert_reqs", "required")):
        raise ValueError(
            "redis has the setting ssl_cert_reqs that trusts any server, which cannot be carried over: name "
            "the certificates to trust in ssl_ca_certs"
        )
    db = int(settings.get("db") or 0)
    if scheme == "unix":
        return f"unix://{_login(settings)}{quote(str(settings.get('path', '')))}{_query(settings, wait, db)}"
    hosts = settings.get("hosts") or [(settings.get("host", "localhost"), settings.get("port", 6379))]
    listed = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in hosts)
    name = f"/{quote(str(settings['name']), safe='')}" if "name" in settings else ""
    return f"{scheme}://{_login(settings)}{listed}{name}/{db}{_query(settings, wait, 0)}"


def _login(settings: Mapping[str, Any]) -> str:
    user, password = settings.get("username"), settings.get("password")
    if not user and not password:
        return ""
    return f"{quote(_text(user), safe='')}:{quote(_text(password), safe='')}@"


def _query(settings: Mapping[str, Any], wait: float, db: int) -> str:
    """Return the options: times, files of TLS, the login at sentinels."""
    timeout = float(settings.get("socket_timeout") or _ANSWER)
    options: dict[str, Any] = {"db": db} if db else {}
    wait = wait if wait > 0.0 else min(2.0, timeout / 2.0)
    options |= {"wait": wait, "timeout": max(timeout, 2.0 * wait)}
    if settings.get("socket_connect_timeout"):
        options["connect_timeout"] = float(settings["socket_connect_timeout"])
    for name, ours in _FILES.items():
        if settings["scheme"].startswith("rediss") and settings.get(name):
            options[ours] = str(settings[name])
    for name in ("sentinel_user", "sentinel_password"):
        if settings.get(name):
            options[name] = _text(settings[name])
    return f"?{urlencode(options)}"


def _is_a_tls(kind: type) -> bool:
    return _scheme_of(kind).startswith("rediss")


def _checks(cert_reqs: Any) -> bool:
    """Say whether the server has to show a certificate: "required", or ssl.CERT_REQUIRED."""
    return cert_reqs is None or cert_reqs == "required" or getattr(cert_reqs, "value", cert_reqs) == 2


def _text(value: Any) -> str:
    return value.decode() if isinstance(value, bytes) else str(value or "")


def _is_a(thing: object, name: str) -> bool:
    return any(_name_of(kind) == name for kind in type(thing).__mro__)


def _name_of(kind: type) -> str:
    return f"{kind.__module__}.{kind.__qualname__}"
