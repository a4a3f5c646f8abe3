"""Limits as a text from which they can be made again, where that is possible."""

from __future__ import annotations

import ast
import builtins
from typing import TYPE_CHECKING, Any

from qanat._core import limits

if TYPE_CHECKING:
    from qanat._core.limit import Limit


def limit_spec(limit: Limit, now: float) -> str | None:
    """Return what makes a limit again, with all its settings; None if it cannot be made.

    A limit of the user's own cannot, nor can one that remembers something from before.
    """
    if limits.__dict__.get(type(limit).__name__) is not type(limit):
        return None
    try:
        text = _text_of(limit)
        return text if _text_of(make_limit(text)) == text and limit.fresh_at(now) <= now else None
    except Exception:  # noqa: BLE001 - whatever it is that it cannot do
        return None


def made_anew(limit: Limit) -> Limit:
    """Return a limit with the same settings that knows nothing.

    Raises:
        ValueError: If it is none of ours, or its settings are no plain values.
    """
    return make_limit(_text_of(limit))


def _text_of(limit: Limit) -> str:
    """Return a limit as a call: its repr, but for those that say less than all or have a state to tell."""
    if isinstance(limit, limits.CircuitBreaker):
        settings: dict[str, object] = {
            "rate": limit._rate, "window": limit._window, "cooldown": limit._cooldown,
            "probes": limit._probes, "fail_fast": limit._fail_fast,
        }  # fmt: skip
        if limit.check is not None:
            settings["check"] = True
        return f"CircuitBreaker({limit._failures}, {_options(settings)})"
    if isinstance(limit, limits.Adaptive):
        if limit._on != (ConnectionError, TimeoutError):
            raise ValueError(limit)  # classes are no plain values
        settings = {"start": limit._start, "tolerance": limit._tolerance}
        settings |= {f"max_{signal}": limit._limits.get(signal) for signal in ("lag", "cpu", "memory")}
        return f"Adaptive({limit.lowest}, {limit.highest}, {_options(settings)})"
    return repr(limit)


def _options(settings: dict[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def noted_limit(limit: Limit, now: float) -> str | None:
    """Return the spec of a limit that is about to be used; None if it is in use already, or has none."""
    # Another node has it, too, or it drew from another source of randomness.
    return limit_spec(limit, now) if limit._rng is None else None


def _recorded_check() -> None:
    """Stand for a check whose answers are in the recording: nobody calls it."""


def unrecordable(limit: Limit) -> str | None:
    """Say what of a limit decides and is not in a recording; None if there is nothing."""
    if isinstance(limit, limits.Balance):
        found = (unrecordable(part) for part in limit._inside)
        return next((each for each in found if each is not None), None)
    if isinstance(limit, limits.Adaptive):
        for kind in limit._on:
            if rebuildable(f"{kind.__module__}.{kind.__qualname__}") is None:
                return f"Adaptive(on={kind.__qualname__}), as errors are recorded by name"
    return None


def rebuildable(name: str) -> type[Exception] | None:
    """Return the built-in exception class of this name if an error of it can be made again."""
    module, _, own = name.rpartition(".")
    found = getattr(builtins, own, None) if module == "builtins" else None
    if not isinstance(found, type) or not issubclass(found, Exception):
        return None
    try:
        found("again")
    except TypeError:
        return None
    return found


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
    if options.get("check") is True:
        options["check"] = _recorded_check
    made: Any = getattr(limits, name)
    limit: Limit = made(*args, **options)
    return limit
