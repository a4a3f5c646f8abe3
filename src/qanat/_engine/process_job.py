"""The job of a call in a child process: what of it goes there, and what it says of itself from there.

Behind an item's pickle lies another one, with a few facts on its job, from which the child makes a
job of its own for `current_job()`. What that one describes is sent to the parent at once, as a frame
before the answer; from when the call is over nothing more is sent for it, or the parent would take it
for the next one's.
"""

from __future__ import annotations

import io
import pickle
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any

from qanat._core.job import RUNNING, Job, Task
from qanat._core.retry import Retry
from qanat._engine.context import Cell, running_cell
from qanat._engine.process_frames import frame_of

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

__all__ = ["description_in", "job_around", "parts_of", "with_job"]

_DESCRIBED = b"describe:"
"""How a frame begins that is a description; no pickle does."""

_OURS = ("id", "index", "attempt", "priority", "parent")
"""What of a job always pickles."""
_USERS = ("lane", "metadata", "target", "cost")
"""What is the user's own, and may not."""


def with_job(item_frame: bytes, *, and_item: bool = False) -> bytes:
    """Return an item's frame with the facts on the job that the calling code runs for, if it does.

    Args:
        item_frame: What the function is called with, pickled.
        and_item: Whether that is not the job's item, which has to come along then.
    """
    cell = running_cell.get(None)
    job = None if cell is None else cell.made()
    if job is None:
        return item_frame
    facts = {name: getattr(job, name) for name in _OURS}
    if and_item:
        facts["item"] = job.item  # it has crossed before
    try:
        return item_frame + frame_of(facts | {name: getattr(job, name) for name in _USERS})
    except Exception:  # noqa: BLE001 - a lane may be anything, and is of no use there then
        return item_frame + frame_of(facts)


def parts_of(frame: bytes) -> tuple[Any, dict[str, Any]]:
    """Return the item in a frame, and the facts on its job, if any came along."""
    stream = io.BytesIO(frame)
    item = pickle.load(stream)  # noqa: S301 - both ends are one program
    if stream.tell() == len(frame):
        return item, {}
    try:
        return item, pickle.load(stream)  # noqa: S301
    except Exception:  # noqa: BLE001 - a lane that does not unpickle here
        return item, {}


def description_in(frame: bytes) -> str | None:
    """Return the description that a frame is; None if it is an answer."""
    if not frame.startswith(_DESCRIBED):
        return None
    return frame[len(_DESCRIBED) :].decode("utf-8", "surrogatepass")


@contextmanager
def job_around(item: Any, facts: dict[str, Any], send: Callable[[bytes], object]) -> Generator[None]:
    """Let `current_job()` find the job while the block lasts."""
    if not facts:
        yield
        return
    # The handler may have threads of its own, and may leave them behind.
    lock = Lock()
    is_over = False

    def describe(_job: Job[Any], text: str) -> None:
        with lock:
            if not is_over:
                send(_DESCRIBED + text.encode("utf-8", "surrogatepass"))

    cell = Cell()
    task = Task("", None, None, Retry(0), describe=describe)
    cell.job = Job(_task=task, _status=RUNNING, **({"item": item} | facts))
    token = running_cell.set(cell)
    try:
        yield
    finally:
        running_cell.reset(token)
        with lock:
            is_over = True
