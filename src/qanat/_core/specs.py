"""Limits as a text from which they can be made again, where that is possible."""

from __future__ import annotations

import ast
from typing import TYPE_CHECKING, Any

from qanat._core import limits

if TYPE_CHECKING:
    from qanat._core.limit import Limit


def limit_spec(limit: Limit, now: float) -> str | None:
    """Return what makes a limit again, which is its repr; None if it cannot be.

    A limit of the user's own cannot, nor can one that remembers something from before.
    """
    if limits.__dict__.get(type(limit).__name__) is not type(limit):
        return None
    text = repr(limit)
    try:
        return text if repr(make_limit(text)) == text and limit.fresh_at(now) <= now else None
    except Exception:  # noqa: BLE001 - whatever it is that it cannot do
        return None


def make_limit(spec: str) -> Limit:
    """Make a limit from its repr: a call of one of our limits with plain values.

    Raises:
        ValueError: If it is anything else.
    """
    try:
        call = ast.parse(spec, mode="eval").body
        if not isinstance(call, ast.Call):
            raise ValueError(spec)  # noqa: TRY004 - told below, as what is wrong with the text
        name = ast.unparse(call.func)
        if name not in limits.__all__:
            raise ValueError(spec)
        args = [ast.literal_eval(argument) for argument in call.args]
        options = {option.arg or "": ast.literal_eval(option.value) for option in call.keywords}
    except (ValueError, SyntaxError):
        raise ValueError(f"{spec!r} is none of our limits with plain values") from None
    made: Any = getattr(limits, name)
    limit: Limit = made(*args, **options)
    return limit
