"""From a URL to which store it names, with every secret in it kept out of sight.

    memory://                                     in this process
    sqlite:///work.db   sqlite:////abs/work.db    a file, relative or absolute
    redis://[user:password@]host[:6379][/0]       a server;  rediss:// the same over TLS
    unix:///run/redis.sock[?db=0]                 a server, by its socket
    redis+sentinel://host:26379,host2/name[/0]    the master that sentinels know by that name
    redis+cluster://host:6379,host2               a cluster, by some of its nodes

Options follow as `?name=value`; which there are, each store says.
"""

from __future__ import annotations

from typing import Final, Literal, TypeAlias, cast
from urllib.parse import parse_qsl, unquote

from msgspec import Struct, field

Kind: TypeAlias = Literal["memory", "sqlite", "redis", "sentinel", "cluster"]

SCHEMES: Final[dict[str, tuple[Kind, int]]] = {
    "memory": ("memory", 0),
    "sqlite": ("sqlite", 0),
    "redis": ("redis", 6379),
    "rediss": ("redis", 6379),
    "unix": ("redis", 0),
    "redis+sentinel": ("sentinel", 26379),
    "rediss+sentinel": ("sentinel", 26379),
    "redis+cluster": ("cluster", 6379),
    "rediss+cluster": ("cluster", 6379),
}
"""Scheme -> kind of store, and the port if none is given."""
HIDDEN: Final = "***"


class StoreUrl(Struct, frozen=True, repr_omit_defaults=False):
    """Which store, in parts. `str` and `repr` show neither the password nor any option's value.

    Attributes:
        scheme: As it was given, in small letters.
        kind: Which kind of store it is.
        path: The file or the socket; "" without.
        hosts: Host and port of each node.
        user: Who logs in; None without.
        password: None without.
        db: Number of the database.
        name: What sentinels call the master; "" without.
        tls: Whether the connection is encrypted.
        options: What followed the question mark.
    """

    scheme: str
    kind: Kind
    path: str = ""
    hosts: tuple[tuple[str, int], ...] = ()
    user: str | None = None
    password: str | None = None
    db: int = 0
    name: str = ""
    tls: bool = False
    options: dict[str, str] = field(default_factory=dict[str, str])

    def __str__(self) -> str:
        login = "" if self.user is None and self.password is None else f"{self.user or ''}:{HIDDEN}@"
        hosts = ",".join(f"[{host}]:{port}" if ":" in host else f"{host}:{port}" for host, port in self.hosts)
        path = f"/{self.path}" if self.kind == "sqlite" else self.path
        if self.name:
            path = f"/{self.name}"
        if self.db and self.hosts:
            path = f"{path}/{self.db}"
        options = "&".join(f"{name}={HIDDEN}" for name in self.options)
        return f"{self.scheme}://{login}{hosts}{path}{'?' if options else ''}{options}"

    def __repr__(self) -> str:
        return f"StoreUrl({str(self)!r})"


def parse_url(url: str) -> StoreUrl:
    """Return which store a URL names.

    Args:
        url: As in the table above. What is special in a user or a password is written as %XX.

    Raises:
        TypeError: If it is no text.
        ValueError: If it names no store; no message shows a password or an option's value.
    """
    if not isinstance(cast("object", url), str):
        raise TypeError(f"url must be a text such as 'sqlite:///work.db', got {type(url).__name__}")
    scheme, mark, rest = url.partition("://")
    scheme = scheme.lower()
    if not mark or scheme not in SCHEMES:
        # What is no scheme may be anything, even a password.
        shown = repr(scheme) if mark and scheme.replace("+", "").isalnum() else "something else"
        known = ", ".join(f"{each}://" for each in SCHEMES)
        raise ValueError(f"url must begin with one of {known}, got {shown}: a file is sqlite:///work.db")
    if any(ord(letter) < 32 or letter == "\x7f" for letter in rest):
        raise ValueError("url must not hold control characters: write them as %XX")
    rest, _, fragment = rest.partition("#")
    if fragment:
        raise ValueError("url must not hold a '#': write it as %23")
    place, _, query = rest.partition("?")
    options = _options(query)
    kind, port = SCHEMES[scheme]
    if kind == "memory":
        if place.strip("/"):
            raise ValueError("url of a store in memory is memory:// alone, got more")
        return StoreUrl(scheme, kind, options=options)
    if kind == "sqlite":
        return StoreUrl(scheme, kind, _file(place), options=options)
    if scheme == "unix":
        return _socket(place, options)
    return _server(scheme, kind, port, place, options)


def _options(query: str) -> dict[str, str]:
    try:
        pairs = parse_qsl(query, keep_blank_values=True, strict_parsing=bool(query), errors="strict")
    except ValueError:
        raise ValueError("url must end in ?name=value&name=value, got options of another form") from None
    options = dict(pairs)
    if len(options) < len(pairs):
        twice = next(name for place, (name, _) in enumerate(pairs) if name in dict(pairs[:place]))
        raise ValueError(f"url must give each option once, got {twice!r} twice")
    return options


def _file(place: str) -> str:
    if not place.startswith("/"):
        raise ValueError(
            "url of a file has three slashes, or four if the path is absolute: sqlite:///work.db"
        )
    path = unquote(place[1:])
    if not path or path.endswith("/"):
        raise ValueError("url must name a file, such as sqlite:///work.db: for one in memory use memory://")
    if "\0" in path:
        raise ValueError("url must not hold a NUL")
    if path == ":memory:":
        raise ValueError("url must name a file, got ':memory:': for a store in memory use memory://")
    return path


def _socket(place: str, options: dict[str, str]) -> StoreUrl:
    login, at, path = place.rpartition("@")
    if not path.startswith("/") or path.endswith("/"):
        raise ValueError("url of a socket has an absolute path: unix:///run/redis.sock")
    user, password = _login(login) if at else (None, None)
    db = _number("db", options.pop("db", "0"), 0, 1_000_000)
    return StoreUrl("unix", "redis", unquote(path), (), user, password, db, options=options)


def _server(scheme: str, kind: Kind, port: int, place: str, options: dict[str, str]) -> StoreUrl:
    authority, _, path = place.partition("/")
    login, at, nodes = authority.rpartition("@")
    user, password = _login(login) if at else (None, None)
    hosts = tuple(_host(node, port) for node in nodes.split(","))
    if kind == "redis" and len(hosts) > 1:
        raise ValueError(
            f"url of a single server has one host, got {len(hosts)}: use redis+sentinel:// or redis+cluster://"
        )
    parts = [unquote(part) for part in path.split("/") if part]
    name = ""
    if kind == "sentinel":
        if not parts:
            raise ValueError(
                "url of sentinels ends in the master's name: redis+sentinel://host:26379/mymaster"
            )
        name = parts.pop(0)
    if len(parts) > 1 or (parts and kind == "cluster"):
        raise ValueError("url has more parts in its path than a store of this kind knows")
    db = _number("the database", parts[0], 0, 1_000_000) if parts else 0
    return StoreUrl(scheme, kind, "", hosts, user, password, db, name, scheme.startswith("rediss"), options)


def _login(login: str) -> tuple[str | None, str | None]:
    user, colon, password = login.partition(":")
    # A password alone, without a colon, would be taken for a name and shown.
    if not colon:
        raise ValueError("url must give a login as user:password@ or :password@, got one without a colon")
    return unquote(user) or None, unquote(password)


def _host(node: str, port: int) -> tuple[str, int]:
    if node.startswith("["):
        host, bracket, tail = node[1:].partition("]")
        if not bracket or (tail and not tail.startswith(":")):
            raise ValueError("url must write an IPv6 address as [::1] or [::1]:6379")
        given = tail[1:]
    else:
        host, colon, given = node.partition(":")
        if ":" in given:
            raise ValueError("url must write an IPv6 address in brackets, such as [::1]:6379")
        if colon and not given:
            raise ValueError("url must give a port after the colon")
    if not host:
        raise ValueError("url must name a host")
    return host, _number("the port", given, 1, 65_535) if given else port


def _number(name: str, text: str, least: int, most: int) -> int:
    if not (text.isascii() and text.isdigit() and len(text) < 10 and least <= int(text) <= most):
        # What stands there may be the end of a password with a slash or an @ in it.
        raise ValueError(
            f"url must give {name} as a number from {least} to {most}: write '/', '@', ':' as %XX"
        )
    return int(text)
