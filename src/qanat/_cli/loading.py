"""`APP:FN`: the function that the user named on the command line."""

from __future__ import annotations

import importlib
import re
import sys
import traceback
from collections.abc import Callable
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Final

from qanat._app.text import safe_text
from qanat._cli.usage import UsageError

_IDENTIFIER: Final = r"[^\W\d]\w*"
_DOTTED: Final = rf"{_IDENTIFIER}(?:\.{_IDENTIFIER})*"
_NAMED: Final = re.compile(rf"({_DOTTED}):({_DOTTED})")

FRAMES = 3
"""Frames of the user's own traceback that are shown."""


def is_function_name(text: str) -> bool:
    """Whether a text looks like `APP:FN`."""
    return _NAMED.fullmatch(text) is not None


def load(text: str) -> Callable[[Any], Any]:
    """Import what `APP:FN` names; the working directory comes first on the path.

    Only names are followed: nothing is evaluated, and no name with two leading underscores.

    Raises:
        UsageError: If the text is not of that form, there is no such module or name, the module
            raises, or what is found cannot be called.
    """
    found = _NAMED.fullmatch(text)
    if found is None:
        raise UsageError(
            f"the function must be named like app:fetch or package.module:name, got {safe_text(text)!r}"
        )
    module_name, path = found.groups()
    for name in (*module_name.split("."), *path.split(".")):
        if name.startswith("__"):
            raise UsageError(f"the function must not be reached through {name!r}")
    target: Any = _imported(module_name)
    so_far = module_name
    for name in path.split("."):
        try:
            target = getattr(target, name)
        except AttributeError:
            raise UsageError(f"{so_far} has no {name!r}{_hint(target, name)}") from None
        so_far = f"{so_far}.{name}"
    if not callable(target):
        raise UsageError(f"{text} is not a function, but {safe_text(repr(target), 80)}")
    function: Callable[[Any], Any] = target
    return function


def _imported(name: str) -> Any:
    here = str(Path.cwd())
    if not sys.path or sys.path[0] != here:
        sys.path.insert(0, here)
    importlib.invalidate_caches()
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        missing = error.name or ""
        if name == missing or name.startswith(f"{missing}."):
            raise UsageError(f"there is no module {missing!r}, neither in {here} nor installed") from None
        raise UsageError(f"module {name!r} could not be imported:\n{_shortly(error)}") from None
    except SystemExit as error:
        raise UsageError(
            f"module {name!r} ended the program while it was imported (exit {error.code}): "
            'put what is to run as a script under `if __name__ == "__main__":`'
        ) from None
    except Exception as error:  # noqa: BLE001 - the user's code may raise anything
        raise UsageError(f"module {name!r} could not be imported:\n{_shortly(error)}") from None


def _shortly(error: BaseException) -> str:
    """Return the last frames of an error's traceback, those of the user's own code."""
    trace: TracebackType | None = error.__traceback__
    while trace is not None and _is_ours(trace.tb_frame.f_code.co_filename):
        trace = trace.tb_next
    frames = traceback.format_tb(trace)[-FRAMES:]
    lines = "".join((*frames, *traceback.format_exception_only(error))).splitlines()
    return "\n".join(safe_text(line, 500) for line in lines)


def _is_ours(file: str) -> bool:
    return file.startswith("<frozen importlib") or file in (__file__, importlib.__file__)


def _hint(target: Any, name: str) -> str:
    near = [each for each in dir(target) if each.lower() == name.lower()]
    if near:
        return f"; did you mean {near[0]!r}?"
    if not isinstance(target, ModuleType):
        return ""
    names = [
        each for each in dir(target) if getattr(getattr(target, each), "__module__", "") == target.__name__
    ]
    return f"; it has {', '.join(names[:8])}" if names else ""
