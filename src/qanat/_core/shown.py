"""A value as messages show it: short, and whatever it is."""

from __future__ import annotations

from reprlib import Repr
from typing import Final

MOST: Final = 450
"""Characters of one value: enough for any float with all its digits."""

_short: Final = Repr()
_short.maxlevel = 3
_short.maxstring = _short.maxother = _short.maxlong = MOST
_short.maxlist = _short.maxtuple = _short.maxset = _short.maxfrozenset = _short.maxdeque = _short.maxdict = 10


def shown(value: object) -> str:
    """Return the `repr` of a value for a message; what is long is cut, what cannot be shown is named.

    A refusal must not fail itself, nor carry along a megabyte that was handed in by mistake.
    """
    text = said_by(_short, value)
    return text if len(text) <= MOST else f"{text[: MOST - 3]}..."


def said_by(by: Repr, value: object) -> str:
    """Return what a `Repr` says of a value; what cannot be shown is named."""
    try:
        return by.repr(value)
    except Exception:  # noqa: BLE001 - the `repr` of a user's class may raise anything, and a number be too long
        return f"<{type(value).__name__}>"
