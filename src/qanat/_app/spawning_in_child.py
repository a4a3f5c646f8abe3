"""Jobs that spawn others in a child process: collected there, and handed in when the call has ended.

Only a child whose function asks for `current_job()` imports this.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NoReturn

from qanat._app.durable.lineage import Scope
from qanat._app.handle import Handle
from qanat._app.spawning import check_spawn, checked_callback
from qanat._core.branch import check_twice, checked_failure, checked_key, child_id, key_text
from qanat._core.family import ended_before
from qanat._core.job import Job
from qanat._engine.process_frames import frame_of, kind_of, said

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from qanat._core.branch import Failure, Key
    from qanat._engine.process_child import Present


class _Elsewhere:
    """Stand where an engine would, which is in another process."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(
            "a handle of a job that was spawned in a process cannot be awaited, cancelled or asked there, as "
            "the job is handed in when the call has ended: use after_children, or a handler on the loop"
        )


class Collector:
    """What a job in a child process calls to spawn others."""

    def __init__(self, present: Present) -> None:
        """Collect for the job that is there now."""
        self.problems: dict[Any, Exception] = {}  # nothing is kept here
        self._present = present
        self._errand = present.errand
        self._place = 0
        self._calls_back = False
        self._known: dict[Any, Handle[Any, Any]] = {}

    def _check_runs(self, what: str) -> None:
        errand = self._errand
        if errand is None or self._present.errand is not errand:
            raise ended_before(what)
        if not errand.may_spawn:
            raise RuntimeError(f"{what}() works in the handler, and not in the job's after_children callback")

    def spawn(
        self, job: Job[Any], item: Any, handler: Callable[..., Any] | str | None, key: Key | None,
        id: int | str | None, priority: float | None, lane: Hashable, delay: float,
        metadata: Mapping[str, Any] | None, failure: Failure,
    ) -> Handle[Any, Any]:  # fmt: skip
        """Collect a job; see `Job.spawn`."""
        self._check_runs("spawn")
        checked_failure(failure)
        check_spawn(delay, priority, lane, id, metadata)
        if key is not None:
            checked_key(key)
            if ("key", key) in self._known:
                return self._known["key", key]
        if handler is not None and not callable(handler) and not self._is_name(handler):
            raise TypeError(f"handler must be a function of one item, got {handler!r}")
        found = self._id(job, self._place, key) if id is None else id
        known = self._known.get(("id", found))
        if known is not None:
            check_twice(known.job, item)
        self._keep("spawn", "item", item, handler, key, id, priority, lane, delay, metadata, failure)
        if key is None:
            self._place += 1
        if known is not None:
            return known
        child = Job(found, item, job.index, job._task, parent=job.id)
        handle: Handle[Any, Any] = Handle(child, _Elsewhere())
        self._known["id", found] = handle
        if key is not None:
            self._known["key", key] = handle
        return handle

    def _is_name(self, function: object) -> bool:
        """Whether a function is told by its name, as it may be in a queue."""
        return isinstance(function, str) and self._errand is not None and self._errand.scope is not None

    def _id(self, job: Job[Any], place: int, key: Key | None) -> int | str:
        """Return the id that a job will have."""
        scope = None if self._errand is None else self._errand.scope
        if scope is None:
            return child_id(job.id, place if key is None else key_text(key))
        return Scope(str(job.id), *scope).child(place, key)

    def after_children(self, job: Job[Any], callback: Any, gather: bool) -> None:
        """Collect a callback; see `Job.after_children`."""
        self._check_runs("after_children")
        if not self._is_name(callback):
            checked_callback(callback, gather)
        if self._calls_back:
            raise RuntimeError("after_children was called before in this attempt: one callback does it all")
        self._keep("after_children", "callback", callback, gather)
        self._calls_back = True

    def _keep(self, what: str, name: str, *given: Any) -> None:
        try:
            frame = frame_of((what, given))
        except BaseException as error:
            raise TypeError(
                f"{name} must pickle to leave its process, got {kind_of(given[0])}: {said(error)}"
            ) from error
        self._present.spawned.append(frame)
