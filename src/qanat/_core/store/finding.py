"""What an examination of a store finds, as values."""

from __future__ import annotations

from typing import Literal, TypeAlias

from msgspec import Struct

Verdict: TypeAlias = Literal["ok", "advice", "unverified", "broken"]
"""How grave: all is well; could be better; could not be looked at; a promise does not hold."""


class Finding(Struct, frozen=True):
    """One thing that was looked at, and what was found.

    Attributes:
        name: What was looked at.
        verdict: "ok", "advice", "unverified" or "broken": a promise does not hold.
        read: What was read there.
        means: What it means for jobs.
        mend: What mends it, a command if there is one; "" if nothing has to be done.
    """

    name: str
    verdict: Verdict
    read: str
    means: str = ""
    mend: str = ""

    @property
    def ok(self) -> bool:
        """Whether every promise holds here; advice and what could not be looked at break none."""
        return self.verdict != "broken"


def size_in_words(count: float) -> str:
    """Say a number of bytes."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if abs(count) < 1024:
            return f"{count:.0f} {unit}" if unit == "bytes" or count >= 10 else f"{count:.1f} {unit}"
        count /= 1024
    return f"{count:.1f} TiB"


def number_of(count: int, word: str, plural: str = "") -> str:
    """Say how many there are of something: `1 job`, `2 jobs`."""
    return f"{count} {word if count == 1 else plural or f'{word}s'}"


def span_in_words(seconds: float) -> str:
    """Say a length of time as people do: in its largest unit, roughly."""
    seconds = abs(seconds)
    for size, unit, until in ((86_400, "days", 2), (3600, "h", 2), (60, "min", 2)):
        if seconds >= size * until:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s" if seconds >= 10 else f"{seconds:.1f} s"
