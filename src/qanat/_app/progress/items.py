"""Items in a few words: bounded, safe to show, and never an error."""

from __future__ import annotations

import reprlib
from typing import Any, Final

from qanat._app.text import safe_text

LONGEST: Final = 120
"""Characters of an item that are looked at."""

_short: Final = reprlib.Repr()
_short.maxstring = _short.maxother = LONGEST
_short.maxlevel = 3


def item_words(item: Any, members: int = 0) -> str:
    """Say an item in a few words; of a batch the first members, and how many there are."""
    if members and isinstance(item, (list, tuple)):
        rest = list[Any](item)  # pyright: ignore[reportUnknownArgumentType]
        first = ", ".join(item_words(each) for each in rest[:3])
        more = ", …" if members > 3 else ""
        return f"{members} items: {first}{more}"
    if type(item) is str:
        return safe_text(item, LONGEST)
    try:
        # Only the ends of what is long, and a few of what is many: an item may be a hundred megabytes.
        return safe_text(_short.repr(item), LONGEST)
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        return f"<{type(item).__name__}, whose repr raised {type(error).__name__}>"
