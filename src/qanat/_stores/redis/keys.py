"""The names of keys. All keys of a queue hold its name in braces, so a cluster keeps them together."""

from __future__ import annotations

from typing import Final

from qanat._core.store.bounds import checked_name

PREFIX: Final = "qanat"
"""What all keys begin with, unless a store is told otherwise."""


KNOWN: Final = 1_000
"""Queues whose names need no second look."""


class Keys:
    """The keys of one store.

    Args:
        prefix: What they begin with; made of what names are made of.
    """

    def __init__(self, prefix: str = PREFIX) -> None:
        self.prefix = checked_name("prefix", prefix)
        self.queues = f"{self.prefix}:queues"
        """The set of all queues' names. In a cluster it may lie on another node than a queue."""
        self._known: dict[str, tuple[str, str]] = {}

    def meta(self, queue: str) -> str:
        """Return the key of a queue's settings and counters, whose name the scripts make others from."""
        return f"{self.prefix}:{{{checked_name('queue', queue)}}}:meta"

    def of(self, queue: str) -> tuple[str, str]:
        """Return the keys that a script names: that of `meta`, and one that is never there.

        While a cluster moves a slot key by key, a node that has some of what a script names, and lacks
        some, refuses it (TRYAGAIN). A script that named `meta` alone would run without the keys that have
        gone already, and write them anew.
        """
        keys = self._known.get(queue)
        if keys is None:
            meta = self.meta(queue)
            keys = meta, meta[: -len("meta")] + "none"
            if len(self._known) < KNOWN:
                self._known[queue] = keys
        return keys
