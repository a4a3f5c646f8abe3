"""Text from items, errors and names, made safe to show: escapes in it are shown, not obeyed."""

from __future__ import annotations

import re
from typing import Final

LONGEST: Final = 200
"""Characters of a text that are shown unless more are asked for: about two lines of a terminal."""

UNSAFE: Final = (
    "\x00-\x1f\x7f-\x9f"  # C0 and C1, ESC and the line ends among them
    "\u00ad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180e\u200b-\u200f\u2060-\u2065\u206a-\u206f"  # of no width
    "\u2028-\u202e\u2066-\u2069"  # line ends, and what turns the direction of writing
    "\u3164\ufeff\uffa0\ufff9-\ufffb\U000e0000-\U000e0fff"  # of no width, and tags
    "\ud800-\udfff"  # halves of a pair, which no encoding can write
)
"""The characters that a terminal obeys, hides or cannot write, for use in a regular expression."""

_UNSAFE: Final = re.compile(f"[{UNSAFE}]")
_SHORT: Final = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}


def safe_text(text: object, most: int = LONGEST, *, markup: bool = False) -> str:
    r"""Return a text in one line with what a terminal would obey written out, such as `\x1b`.

    Args:
        text: Anything; its `str`, or a word about it if that raises.
        most: How many characters to show; a longer text ends in an ellipsis.
        markup: Also escape what rich takes for markup.

    Examples:
        >>> safe_text("\x1b[2Jgone\n")
        '\\x1b[2Jgone\\n'
    """
    if not isinstance(text, str):
        try:
            text = str(text)
        except Exception as error:  # noqa: BLE001 - the user's code may raise anything
            text = f"<{type(text).__name__}, whose str raised {type(error).__name__}>"
    # Cut first: what is cut off need not be looked at. And after, as escapes are longer.
    shown = _UNSAFE.sub(_written_out, text[: most + 1])
    if len(shown) > most:
        shown = shown[: most - 1] + "…"
    if markup:
        from rich.markup import escape

        shown = escape(shown)
    return shown


def _written_out(found: re.Match[str]) -> str:
    character = found.group()
    code = ord(character)
    if code > 0xFFFF:
        return f"\\U{code:08x}"
    return _SHORT.get(character) or (f"\\x{code:02x}" if code < 0x100 else f"\\u{code:04x}")
