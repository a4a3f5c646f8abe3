"""The levels of durability that a store may promise, from weak to strong."""

from __future__ import annotations

import re
from typing import Final

from qanat._core.shown import shown

LEVELS: Final = ("none", "process", "~1s", "fsync")
"""The levels without a number; "replicas(n)" is above them."""

_REPLICAS: Final = re.compile(r"replicas\(([1-9][0-9]*)\)")
_WORDS: Final = {
    "none": "jobs may be lost at any time",
    "process": "jobs survive the end of every process, and not a loss of power",
    "~1s": "a loss of power takes about the last second of jobs with it",
    "fsync": "jobs survive a loss of power",
    "unverified": "nobody can tell what survives, as the server lets nobody look",
}


def rank(name: str, level: object) -> tuple[int, int]:
    """Return a level as something that can be compared.

    Raises:
        TypeError: If it is no text.
        ValueError: If there is no such level; `name` is what the message calls it.
    """
    if not isinstance(level, str):
        raise TypeError(f"{name} must be a text, got {shown(level)}")
    if level in LEVELS:
        return LEVELS.index(level), 0
    found = _REPLICAS.fullmatch(level)
    if found is None:
        raise ValueError(f"{name} must be one of {', '.join(LEVELS)} and replicas(n), got {shown(level)}")
    return len(LEVELS), int(found.group(1))


def suffices(found: str, required: str) -> bool:
    """Say whether a store that promises one level gives another; one that cannot tell does not."""
    return found != "unverified" and rank("guarantees", found) >= rank("require_durability", required)


def level_in_words(level: str) -> str:
    """Say what a level means for jobs."""
    replicas = _REPLICAS.fullmatch(level)
    if replicas is not None:
        return f"jobs survive the loss of {replicas.group(1)} machines"
    return _WORDS.get(level, "what that means this version cannot tell")
