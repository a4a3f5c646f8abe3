"""What crosses between a process and its child: pickled things, and exceptions however strange.

An exception that pickles and unpickles arrives as itself. Many with an `__init__` of their own do
not: such a one arrives as the nearest built-in kind, with its own type and message in the text.
Either way the child's traceback comes along as a note, because stack frames do not cross.
"""

from __future__ import annotations

import builtins
import pickle
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from types import TracebackType

__all__ = ["Errand", "Report", "error_from", "frame_of", "kind_of", "report_of", "said", "thing_in"]

# The exception itself, if it pickles; the built-in kinds that it is of, nearest first; its type
# and message; the text of its traceback.
Report: TypeAlias = tuple[bytes | None, list[str], str, str]


class Errand(NamedTuple):
    """An item on its way to a child where its job may ask to spawn.

    Attributes:
        item: What the function is called with.
        may_spawn: Whether it may spawn: a callback may not.
        scope: In a queue, what the ids of what it spawns are made of beside its own: its life, its root,
            and that one's life.
    """

    item: Any
    may_spawn: bool
    scope: tuple[str, str, str] | None = None


def frame_of(thing: Any) -> bytes:
    """Pickle something."""
    return pickle.dumps(thing, pickle.HIGHEST_PROTOCOL)


def thing_in(frame: bytes) -> Any:
    """Unpickle something; both ends are one program, so it is as good as the program."""
    return pickle.loads(frame)  # noqa: S301 - see above


def report_of(error: BaseException, own_file: str) -> Report:
    """Turn an exception into what can cross.

    Args:
        error: What was raised.
        own_file: The file whose frames the traceback leaves out: users look for theirs.
    """
    import traceback  # dear to import, and a child that never fails never needs it

    error = BaseException.with_traceback(error, _without(own_file, error.__traceback__))
    try:
        text = "".join(traceback.format_exception(error))
    except Exception:  # noqa: BLE001 - one that cannot even be shown
        text = said(error)
    kinds = [kind.__name__ for kind in type(error).__mro__ if kind.__module__ == "builtins"]
    return _pickled(error), kinds, said(error), text


def error_from(report: Report) -> BaseException:
    """Make the exception anew, as itself or as the nearest built-in kind."""
    pickled, kinds, message, text = report
    error = _unpickled(pickled) or _nearest_builtin(kinds, message)
    try:
        error.add_note(f"In the child process:\n{text.rstrip()}")
    except Exception:  # noqa: BLE001, S110 - one that takes no note, as a frozen dataclass does
        pass
    return error


def kind_of(thing: object) -> str:
    """Return the full name of a thing's type."""
    kind = type(thing)
    return f"{kind.__module__}.{kind.__qualname__}"


def said(error: BaseException) -> str:
    """Return the exception's type and message."""
    name = type(error).__qualname__
    try:
        message = str(error)
    except Exception:  # noqa: BLE001 - its own words fail it
        return name
    return f"{name}: {message}" if message else name


def _without(own_file: str, trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == own_file:
        trace = trace.tb_next
    return trace


def _pickled(error: BaseException) -> bytes | None:
    try:
        frame = frame_of(error)
    except BaseException:  # noqa: BLE001 - it does not pickle, for whatever reason
        return None
    return frame if _unpickled(frame) is not None else None


def _unpickled(frame: bytes | None) -> BaseException | None:
    if frame is None:
        return None
    try:
        error = thing_in(frame)
    except BaseException:  # noqa: BLE001 - its `__init__` wants other arguments, for one
        return None
    return error if isinstance(error, BaseException) else None


def _nearest_builtin(kinds: list[str], message: str) -> BaseException:
    """Keep the family, so that a retry on `ConnectionError` still knows its own."""
    for kind in kinds:
        try:
            error: BaseException = getattr(builtins, kind)(message)
        except (TypeError, AttributeError):  # one that wants more, as UnicodeDecodeError does
            continue
        return error
    return RuntimeError(message)
