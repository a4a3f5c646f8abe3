"""Which job this code runs for."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from qanat._engine.context import running_cell

if TYPE_CHECKING:
    from qanat._core.job import Job


def current_job() -> Job[Any]:
    """Return the job that the calling code runs for.

    Works in handlers on the loop and in threads, and in what they call or start.

    Raises:
        LookupError: If the calling code does not run for a job.
    """
    cell = running_cell.get(None)
    job = None if cell is None else cell.job
    if job is None:
        raise LookupError(
            "current_job() works inside a handler, on the loop or in a thread; here no job runs: "
            "call it from the handler and pass on what you need"
        )
    return job
