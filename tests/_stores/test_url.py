"""URLs of stores: what each names, what is refused, and that no secret is ever shown."""

import traceback
from typing import Any, cast

import pytest

from qanat._stores.url import StoreUrl, parse_url

SECRET = "s3cr3t"  # noqa: S105 - what must not be seen


@pytest.mark.parametrize(
    ("url", "wanted"),
    [
        ("memory://", StoreUrl("memory", "memory")),
        ("sqlite:///work.db", StoreUrl("sqlite", "sqlite", "work.db")),
        ("sqlite:////var/lib/a%20b.db", StoreUrl("sqlite", "sqlite", "/var/lib/a b.db")),
        ("SQLite:///a.db?sync=normal", StoreUrl("sqlite", "sqlite", "a.db", options={"sync": "normal"})),
        ("redis://localhost", StoreUrl("redis", "redis", hosts=(("localhost", 6379),))),
        ("redis://[::1]:1/2", StoreUrl("redis", "redis", hosts=(("::1", 1),), db=2)),
        (
            "rediss://me:p%40ss@h:7000/3?a=b",
            StoreUrl("rediss", "redis", "", (("h", 7000),), "me", "p@ss", 3, tls=True, options={"a": "b"}),
        ),
        ("redis://:pw@h", StoreUrl("redis", "redis", "", (("h", 6379),), None, "pw")),
        ("unix:///run/redis.sock?db=4", StoreUrl("unix", "redis", "/run/redis.sock", db=4)),
        ("unix://u:p@/run/r", StoreUrl("unix", "redis", "/run/r", (), "u", "p")),
        (
            "redis+sentinel://a,b:1/main/2",
            StoreUrl("redis+sentinel", "sentinel", "", (("a", 26379), ("b", 1)), db=2, name="main"),
        ),
        ("redis+cluster://a,b:1", StoreUrl("redis+cluster", "cluster", "", (("a", 6379), ("b", 1)))),
        ("rediss+cluster://a", StoreUrl("rediss+cluster", "cluster", "", (("a", 6379),), tls=True)),
    ],
)
def test_a_url_names_a_store(url, wanted):
    assert parse_url(url) == wanted


@pytest.mark.parametrize(
    ("url", "told"),
    [
        ("work.db", "url must begin with one of memory://, sqlite://.*a file is sqlite:///work.db$"),
        ("postgres://x", "got 'postgres'"),
        ("memory://x", "memory:// alone"),
        ("sqlite://work.db", "three slashes"),
        ("sqlite:///", "name a file"),
        ("sqlite:///:memory:", "use memory://"),
        ("sqlite:///a%00b", "NUL"),
        ("sqlite:///a\nb", "control characters"),
        ("sqlite:///a#b", "'#'"),
        ("sqlite:///a?b", "options of another form"),
        ("sqlite:///a?b=1&c=2&b=3", "each option once, got 'b' twice"),
        ("redis://", "name a host"),
        ("redis://h:", "a port after the colon"),
        ("redis://h:0", "the port as a number"),
        ("redis://h:1x", "the port as a number"),
        ("redis://h/x", "the database as a number"),
        ("redis://h/1/2", "more parts"),
        ("redis://a,b", "one host, got 2"),
        ("redis://::1", "in brackets"),
        ("redis://[::1", "IPv6"),
        ("redis://[::1]x", "IPv6"),
        ("redis://me@h", "without a colon"),
        ("unix://run/redis.sock", "absolute path"),
        ("redis+sentinel://h", "master's name"),
        ("redis+cluster://h/1", "more parts"),
    ],
)
def test_what_names_no_store_is_refused(url, told):
    with pytest.raises(ValueError, match=f"^url .*{told}|{told}"):
        parse_url(url)


def test_a_url_is_a_text():
    with pytest.raises(TypeError, match="^url must be a text"):
        parse_url(cast("Any", 7))


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        (f"redis://me:{SECRET}@h/2?key={SECRET}", "redis://me:***@h:6379/2?key=***"),
        (f"redis://:{SECRET}@[::1]", "redis://:***@[::1]:6379"),
        (f"unix://:{SECRET}@/run/r", "unix://:***@/run/r"),
        (f"redis+sentinel://:{SECRET}@h/main", "redis+sentinel://:***@h:26379/main"),
        (f"sqlite:///a.db?key={SECRET}", "sqlite:///a.db?key=***"),
        ("sqlite:////a.db", "sqlite:////a.db"),
        ("memory://", "memory://"),
    ],
)
def test_secrets_are_not_shown(url, shown):
    parsed = parse_url(url)
    assert str(parsed) == f"{parsed}" == shown
    assert SECRET not in repr(parsed)


@pytest.mark.parametrize(
    "url",
    [
        f"redis://me:{SECRET}@h:x",
        f"redis://me:a/{SECRET}@h",
        f"redis://{SECRET}@h",
        f"redis://me:{SECRET}@h,i",
        f"redis://h?{SECRET}",
        f"memory://{SECRET}",
        f"{SECRET} of mine://h",
        f"{SECRET}",
        f"redis://h?a={SECRET}&a={SECRET}",
    ],
)
def test_refusals_show_no_secrets(url):
    with pytest.raises(ValueError, match="^url ") as caught:
        parse_url(url)
    assert SECRET not in "".join(traceback.format_exception_only(caught.value))
    assert caught.value.__suppress_context__ or caught.value.__context__ is None
