"""The error for a run that nothing can wake, with where each of its tasks waits."""

from __future__ import annotations

from pathlib import PurePath
from typing import TYPE_CHECKING

from qanat.errors import QanatError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from types import FrameType

_FRAMES_SHOWN = 4  # the innermost ones
_LIBRARIES = {"anyio", "asyncio", "trio"}  # of these only the doorstep is shown, not the cellar


class DeadlockError(QanatError, RuntimeError):
    """Say that all tasks are blocked and nothing is left that could wake one.

    Attributes:
        now: The virtual time at which the run stands.
        waiting: A line for each task: its name and where it waits.
    """

    def __init__(self, now: float, waiting: Iterable[str]) -> None:
        """Tell the time and the waiting tasks."""
        self.now = now
        self.waiting: tuple[str, ...] = tuple(waiting)
        super().__init__(
            f"virtual time stands at {now!r} and nothing can wake these tasks, as no timer is set and no "
            "known thread or process works for them; if something outside would have, "
            "hold the time with `with time.still():`" + "".join(f"\n  {line}" for line in self.waiting)
        )


def place(name: str, frames: Iterable[tuple[FrameType, int]]) -> str:
    """Return a task's name and where it waits: the user's own frames, and what the last awaits.

    Args:
        name: The task's name.
        frames: What it awaits, from the outside in, with line numbers.
    """
    where: list[str] = []
    inside_library = True
    for frame, line in frames:
        was_inside, inside_library = inside_library, _is_library(frame)
        if not (was_inside and inside_library):
            code = frame.f_code
            where.append(f"{PurePath(code.co_filename).name}:{line} in {code.co_qualname}")
    return f"{name}: {' > '.join(where[-_FRAMES_SHOWN:]) or 'in no code of yours'}"


def _is_library(frame: FrameType) -> bool:
    module = frame.f_globals.get("__name__", "")
    return module.partition(".")[0] in _LIBRARIES or module.startswith("qanat.testing.")


def await_frames(awaitable: object) -> Iterator[tuple[FrameType, int]]:
    """Walk down a suspended coroutine or generator to what it awaits at the bottom."""
    while awaitable is not None:
        for kind, below in (("cr", "cr_await"), ("gi", "gi_yieldfrom"), ("ag", "ag_await")):
            frame: FrameType | None = getattr(awaitable, f"{kind}_frame", None)
            if frame is not None:
                yield frame, frame.f_lineno
                awaitable = getattr(awaitable, below)
                break
        else:
            return
