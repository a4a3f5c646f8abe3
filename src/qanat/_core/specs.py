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
    if isinstance(limit, limits.Balance):
        return _balance_text(limit)
    return repr(limit)


def _balance_text(balance: limits.Balance) -> str:
    targets = balance._targets.values()
    if sum(len(target.limits) for target in targets) > len(balance._inside):
        raise ValueError(balance)  # made again, targets would share a limit no more
    weights = {target.key: target.weight for target in targets}
    inside = ", ".join(
        f"{target.key!r}: ({''.join(f'{_text_of(limit)}, ' for limit in target.limits)})"
        for target in targets
        if target.limits
    )
    return f"Balance({weights!r}, limits={{{inside}}})" if inside else f"Balance({weights!r})"


def _options(settings: dict[str, object]) -> str:
    return ", ".join(f"{name}={value!r}" for name, value in settings.items())


def noted_limit(limit: Limit, now: float) -> str | None:
    """Return the spec of a limit that is about to be used; None if it is in use already, or has none."""
    # Another node has it, too, or it drew from another source of randomness.
    inside = limit._inside if isinstance(limit, limits.Balance) else []
    is_new = all(each._rng is None for each in (limit, *inside))
    return limit_spec(limit, now) if is_new else None


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
        name, args, options = _read(call)
    except (ValueError, SyntaxError):
        raise ValueError(f"{spec!r} is none of our limits with plain values") from None
    return _made(name, args, options)


def _read(call: ast.AST) -> tuple[str, list[Any], dict[str, Any]]:
    """Return what is called, and with what."""
    if not isinstance(call, ast.Call) or (name := ast.unparse(call.func)) not in limits.__all__:
        raise ValueError(call)
    args = [ast.literal_eval(argument) for argument in call.args]
    return name, args, {option.arg or "": _value(option.value) for option in call.keywords}


def _value(node: ast.expr) -> Any:
    """Return a plain value, or one that holds limits: those of the targets of a `Balance`."""
    if isinstance(node, ast.Call):
        return _made(*_read(node))
    if isinstance(node, ast.Tuple):
        return tuple(_value(each) for each in node.elts)
    if isinstance(node, ast.Dict):
        return {
            ast.literal_eval(key or node): _value(value)
            for key, value in zip(node.keys, node.values, strict=True)
        }
    return ast.literal_eval(node)


def _made(name: str, args: list[Any], options: dict[str, Any]) -> Limit:
    if options.get("check") is True:
        options["check"] = _recorded_check
    made: Any = getattr(limits, name)
    limit: Limit = made(*args, **options)
    return limit
