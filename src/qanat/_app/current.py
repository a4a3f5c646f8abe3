"""Which job this code runs for."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from qanat._engine.context import running_cell

if TYPE_CHECKING:
    from qanat._core.job import Job


def current_job() -> Job[Any]:
    """Return the job that the calling code runs for.

    Works in handlers on the loop, in threads and in processes, and in what they call or start. In a
    process the job can describe itself and spawn; what a handle or a limit would be asked stays outside.

    Raises:
        LookupError: If the calling code does not run for a job.
    """
    cell = running_cell.get(None)
    job = None if cell is None else cell.job
    if job is None and cell is not None:
        job = cell.made()
    if job is None:
        raise LookupError(
            "current_job() works inside a handler; here no job runs: "
            "call it from the handler and pass on what you need"
        )
    if job._task.node is None:
        _let_spawn(job)
    return job


def _let_spawn(job: Job[Any]) -> None:
    """Let a job in a child process spawn, if it may."""
    child: Any = sys.modules.get("qanat._engine.process_child")
    if child is not None and child.present.errand is not None and job._task.spawner is None:
        from qanat._app.spawning_in_child import Collector

        job._task.spawner = Collector(child.present)
