"""From a URL to a client of the driver: one server, a socket, sentinels or a cluster.

The driver retries nothing by itself: it cannot know which calls may be sent twice. `calling` does.
"""

from __future__ import annotations

import ssl
from ipaddress import ip_address
from typing import TYPE_CHECKING, Any, Final, cast

from msgspec import Struct
from redis import Redis, RedisCluster, Sentinel
from redis.backoff import NoBackoff
from redis.cluster import ClusterNode
from redis.retry import Retry

from qanat._stores.redis.edge import ERRORS, translated
from qanat._stores.redis.keys import PREFIX
from qanat._stores.url import StoreUrl, parse_url

if TYPE_CHECKING:
    from qanat._stores.redis.edge import Client

TIMEOUT: Final = 10.0
"""Seconds that an answer may take: a script of a thousand jobs takes some milliseconds."""
CONNECT: Final = 5.0
"""Seconds that connecting may take."""
HEALTH: Final = 30
"""Seconds of silence after which a connection is tried with a PING before it is used."""
WAIT: Final = 2.0
"""Seconds that replicas, or the disk, get to tell that they have what was put."""


class Options(Struct, frozen=True):
    """What may follow the question mark.

    Attributes:
        timeout: Seconds that an answer may take.
        connect_timeout: Seconds that connecting may take.
        wait: Seconds that replicas or the disk get.
        prefix: What all keys begin with.
        ca: A file with the certificates that are trusted; "" trusts those of the system.
        cert: A file with the client's certificate; "" without.
        key: A file with its key.
        sentinel_user: Who logs in at the sentinels.
        sentinel_password: With which password.
    """

    timeout: float = TIMEOUT
    connect_timeout: float = CONNECT
    wait: float = WAIT
    prefix: str = PREFIX
    ca: str = ""
    cert: str = ""
    key: str = ""
    sentinel_user: str = ""
    sentinel_password: str = ""


def options_of(url: StoreUrl) -> Options:
    """Return the options of a URL.

    Raises:
        ValueError: If one is unknown, or is no number where one is due.
    """
    given: dict[str, Any] = {}
    for name, text in url.options.items():
        if name not in Options.__struct_fields__:
            known = ", ".join(Options.__struct_fields__)
            raise ValueError(f"url has the unknown option {name!r}: a Redis store knows {known}")
        given[name] = _seconds(name, text) if name in {"timeout", "connect_timeout", "wait"} else text
    options = Options(**given)
    if options.wait >= options.timeout:
        raise ValueError(f"wait must be less than timeout, got {options.wait!r} and {options.timeout!r}")
    if (options.ca or options.cert or options.key) and not url.tls:
        raise ValueError(f"url has options of TLS, but its scheme is {url.scheme!r}: use rediss")
    if (options.sentinel_user or options.sentinel_password) and url.kind != "sentinel":
        raise ValueError(
            f"url has options of sentinels, but its scheme is {url.scheme!r}: use redis+sentinel"
        )
    return options


def _seconds(name: str, text: str) -> float:
    try:
        seconds = float(text)
    except ValueError:
        seconds = 0.0
    if not 0 < seconds <= 3600:
        raise ValueError(f"{name} must be seconds, above 0 and at most 3600")
    return seconds


def connect(url: StoreUrl | str) -> tuple[Client, Options]:
    """Return a client for a URL, and the options that the URL gave. Nothing is sent yet, but to a cluster.

    Raises:
        StoreUnavailable: If no node of a cluster answers.
        StoreError: If it refuses the login.
        ValueError: If the URL makes no sense.
    """
    url = parse_url(url) if isinstance(url, str) else url
    options = options_of(url)
    shared = _shared(url, options)
    if url.kind == "sentinel":
        login = {"username": options.sentinel_user or None, "password": options.sentinel_password or None}
        sentinel = cast("Any", Sentinel)(
            list(url.hosts), sentinel_kwargs={**_sockets(url, options), **login}, db=url.db, **shared
        )
        return cast("Client", sentinel.master_for(url.name)), options
    if url.kind == "cluster":
        nodes = [cast("Any", ClusterNode)(host, port) for host, port in url.hosts]
        try:
            # One node that is down stops its own queues, not those of the others.
            return cast(
                "Client", RedisCluster(startup_nodes=nodes, require_full_coverage=False, **shared)
            ), options
        except ERRORS as error:
            raise translated(error) from error
    if url.kind != "redis":
        raise ValueError(f"url must name a Redis or Valkey server, got {url.scheme}://")
    if url.path:
        return cast("Client", Redis(unix_socket_path=url.path, db=url.db, **shared)), options
    [(host, port)] = url.hosts
    return cast("Client", Redis(host=host, port=port, db=url.db, **shared)), options


def is_exposed(url: StoreUrl | str) -> bool:
    """Say whether what is sent there crosses a network, and without TLS."""
    url = parse_url(url) if isinstance(url, str) else url
    return not url.tls and any(not _is_here(host) for host, _ in url.hosts)


def _is_here(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _shared(url: StoreUrl, options: Options) -> dict[str, Any]:
    return {**_sockets(url, options), "username": url.user, "password": url.password}


def _sockets(url: StoreUrl, options: Options) -> dict[str, Any]:
    settings: dict[str, Any] = {
        "socket_timeout": options.timeout,
        "socket_connect_timeout": options.connect_timeout,
        "health_check_interval": HEALTH,
        "retry": Retry(NoBackoff(), 0),
        # Answers of scripts are the same shape on every server so.
        "protocol": 2,
    }
    if url.scheme != "unix":
        settings["socket_keepalive"] = True
    if url.tls:
        settings |= {
            "ssl": True,
            "ssl_cert_reqs": "required",
            "ssl_check_hostname": True,
            "ssl_min_version": ssl.TLSVersion.TLSv1_2,
            "ssl_ca_certs": options.ca or None,
            "ssl_certfile": options.cert or None,
            "ssl_keyfile": options.key or None,
        }
    return settings
