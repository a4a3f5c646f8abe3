"""The scripts: where their text is, what each is made of, and how one is run.

A script is a fixed text of our own; whatever comes from users travels as an argument. Each deed is one
script, so one atomic step. It is sent by its hash; a server that does not know it (new, flushed, after
a failover) gets the text instead, with the same arguments: a script that is not known did nothing.
"""

from __future__ import annotations

from functools import cache
from hashlib import sha1
from pathlib import Path
from typing import Final, NamedTuple

_FOLDER: Final = Path(__file__).parent / "lua"
_GROUND: Final = ("clock", "ground", "waking")
_LONG: Final = ("prelude", "records", "unit")
_LIFE: Final = (*_LONG, "life")
_PARTS: Final[dict[str, tuple[str, ...]]] = {
    "put": (*_GROUND, "answers", "short_rotation_put", "short_put", "shortly", *_LIFE, "put"),
    "claim": (
        *_GROUND,
        "short_lanes",
        "short_rotation_claim",
        "short_claim",
        "shortly",
        "short_keys",
        "short_lined",
        "shortly",
        *_LIFE,
        "claim",
    ),
    "settle": (
        *_GROUND,
        "answers",
        "short_rotation_settle",
        "short_settle",
        "shortly",
        "short_keys",
        "short_release",
        "shortly",
        *_LIFE,
        "settle",
    ),
    "extend": (*_GROUND, *_LIFE, "extend"),
    "rescue": (*_GROUND, *_LIFE, "rescue"),
    "cancel": (*_GROUND, *_LIFE, "cancel"),
    "requeue": (*_GROUND, *_LIFE, "requeue"),
    "delete": (*_GROUND, "short_lanes", "short_delete", "shortly", *_LIFE, "deleting", "delete"),
    "purge": (*_GROUND, *_LIFE, "deleting", "purge"),
    "forget": (*_GROUND, *_LIFE, "forget"),
    "get": (*_GROUND, "short_get", "shortly", *_LONG, "describing", "get"),
    "find": (*_GROUND, *_LONG, "describing", "find"),
    "resume": (*_GROUND, *_LONG, "resume"),
    "count": (*_GROUND, "prelude", "count"),
    "conf": (*_GROUND, *_LONG, "conf"),
    "check": (*_GROUND, *_LIFE, "looking", "check"),
    "now": ("clock", "now"),
}
"""What each script is made of; the files are put one behind the other."""
CLOCK: Final = (
    "local now = (function(t) return t[1] * 1000 + math.floor(t[2] / 1000) end)(redis.call('TIME'))\n"
)
_MOVED_BY_HAND: Final = "local now = tonumber(ARGV[#ARGV])\n"


class Script(NamedTuple):
    """A script and the hash by which a server knows it."""

    text: str
    sha: str


@cache
def script(name: str, *, by_hand: bool = False) -> Script:
    """Return a script.

    Args:
        name: Which deed.
        by_hand: Whether the time comes as the last argument instead of from the server: for tests.
    """
    text = "".join((_FOLDER / f"{part}.lua").read_text("utf-8") for part in _PARTS[name])
    if by_hand:
        text = text.replace(CLOCK, _MOVED_BY_HAND)
    return Script(text, sha1(text.encode(), usedforsecurity=False).hexdigest())
