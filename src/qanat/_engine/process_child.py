"""The child's side of a process that runs a plain function, one call at a time.

The parent speaks first: one frame with the pickled function, then one with each item. To every
frame there is one answer, a pickled pair: `(True, value)`, or `(False, report)` of what was raised;
and a third thing with it if the job spawned others: their frames. Before the answer to an item there
may be descriptions, see `process_job`.
An empty frame says goodbye. A pipe that ends without one means that the parent is dead, and so is
the child at once: whatever it may still do would help nobody.

Children start while jobs wait for them, so this module imports little.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from threading import Thread
from typing import TYPE_CHECKING, Any

from qanat._engine.process_frames import Errand, frame_of, kind_of, report_of, said, thing_in
from qanat._engine.process_job import job_around, parts_of

if TYPE_CHECKING:
    from collections.abc import Callable
    from multiprocessing.connection import Connection

__all__ = ["GOODBYE", "main", "serve"]

GOODBYE = b""

# Exit statuses of a child that does not leave in peace.
NO_FUNCTION = 1
NO_PARENT = 2


class Present:
    """The job that is here now.

    Attributes:
        errand: Whether it may spawn, and more; None if nothing can be spawned.
        spawned: What it spawned and registered, a frame each.
    """

    def __init__(self) -> None:
        self.errand: Errand | None = None
        self.spawned: list[bytes] = []


present = Present()


def main(connection: Connection[Any, Any]) -> None:
    """Be the child: the target of the process."""
    _ignore_interrupts()
    if hasattr(os, "register_at_fork"):
        # What the function starts must not hold this pipe open when the child has died.
        os.set_inheritable(connection.fileno(), False)
        os.register_at_fork(after_in_child=connection.close)
    Thread(target=_die_with_parent, name="qanat-parent", daemon=True).start()
    status = serve(connection)
    if status:
        os._exit(status)


def serve(connection: Connection[Any, Any]) -> int:
    """Answer the parent's frames until it says goodbye; return the exit status."""
    try:
        greeting = connection.recv_bytes()
        try:
            function = thing_in(greeting)
        except BaseException as error:  # noqa: BLE001 - whatever it is, the parent has to know
            connection.send_bytes(frame_of((False, report_of(error, __file__))))
            return NO_FUNCTION
        connection.send_bytes(frame_of((True, None)))
        while frame := connection.recv_bytes():
            answer = _answer(function, frame, connection.send_bytes)
            del frame  # nothing of a job is kept until the next one comes
            _flush()
            connection.send_bytes(answer)
            del answer
    except (EOFError, OSError):
        return NO_PARENT
    return 0


def _answer(function: Callable[[Any], Any], frame: bytes, send: Callable[[bytes], object]) -> bytes:
    """Call the function with the frame's item and pickle what comes of it."""
    try:
        item, facts = _item_in(frame)
        if type(item) is Errand:
            present.errand, item = item, item.item
        with job_around(item, facts, send):
            return _value_frame(function(item))
    except BaseException as error:  # noqa: BLE001 - SystemExit and the like are the job's, too
        return frame_of(_with_spawned(False, report_of(error, __file__)))
    finally:
        present.errand = None
        present.spawned = []


def _with_spawned(returned: bool, value: Any) -> tuple[Any, ...]:
    return (returned, value, present.spawned) if present.spawned else (returned, value)


def _item_in(frame: bytes) -> tuple[Any, dict[str, Any]]:
    try:
        return parts_of(frame)
    except BaseException as error:
        raise TypeError(f"item must unpickle in the process that runs the job: {said(error)}") from error


def _value_frame(value: Any) -> bytes:
    try:
        return frame_of(_with_spawned(True, value))
    except BaseException as error:
        raise TypeError(
            f"the handler's result must pickle to leave its process, got {kind_of(value)}: {said(error)}"
        ) from error


def _flush() -> None:
    """Let what the function printed be seen now, not when the process ends."""
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except Exception:  # noqa: BLE001, S112 - None, closed or broken: not the job's fault
            continue


def _ignore_interrupts() -> None:
    """Leave Ctrl-C to the parent, which decides what becomes of the jobs."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is not None:
        mask(signal.SIG_UNBLOCK, {signal.SIGINT})


def _die_with_parent() -> None:
    """End this process, in the middle of whatever it does, when the parent is gone."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(NO_PARENT)
