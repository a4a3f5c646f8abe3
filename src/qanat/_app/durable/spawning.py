"""Jobs of a queue that spawn others: collected while the attempt runs, put with its end.

Only an attempt that succeeds leaves children, and they are put in the very step in which it ends. So
there is no moment in which a crash could leave half of them, and what a retry spawns is the same.
"""

from __future__ import annotations

from threading import Lock
from typing import TYPE_CHECKING, Any, Final, NoReturn, cast

from msgspec.structs import replace

from qanat._app.durable.brood import Brood
from qanat._app.durable.holding import held_of
from qanat._app.handle import Handle
from qanat._app.handlers import name_of
from qanat._app.spawning import check_spawn, checked_callback
from qanat._core.branch import FamilyJob, checked_failure, checked_key
from qanat._core.family import end_unseen, ended_before
from qanat._core.job import RUNNING
from qanat._core.orders import Priority
from qanat._core.store import bounds
from qanat._engine.process_frames import thing_in
from qanat.errors import JobCancelledError

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable, Mapping

    from qanat._app.durable.asking import Asking
    from qanat._app.durable.holding import Held
    from qanat._app.rules import Rules
    from qanat._core.branch import Failure, Key
    from qanat._core.job import Job

KEY_KNOWN_FOR: Final = 30 * 86_400.0
"""Seconds after its job's end for which a key is known in its tree, although the record has gone."""


class _Nowhere:
    """Stand where an engine would, which may be another process one day."""

    def __getattr__(self, name: str) -> NoReturn:
        raise RuntimeError(
            "a handle of a job that was spawned in a queue cannot be awaited, cancelled or asked, as the job "
            "is put when the attempt that spawned it has succeeded: use after_children, or the queue's "
            "get(handle.id) later"
        )


class QueueSpawner:
    """What the jobs of one consumer call to spawn others.

    Attributes:
        problems: Why what a job spawned in a process could not be taken; its attempt fails with that.
        left_out: How many jobs were not taken because of `max_depth`.
    """

    def __init__(self, asking: Asking, table: Mapping[str, Callable[..., Any]], rules: Rules) -> None:
        """Spawn nothing yet."""
        self.problems: dict[Job[Any], Exception] = {}
        self.left_out = 0
        self._asking = asking
        self._table = table
        self._max_depth = rules.max_depth
        self._inherits = isinstance(rules.order, Priority) and rules.order.inherit
        self._lock = Lock()

    def spawn(
        self, job: Job[Any], item: Any, handler: Callable[..., Any] | str | None, key: Key | None,
        id: int | str | None, priority: float | None, lane: Hashable, delay: float,
        metadata: Mapping[str, Any] | None, failure: Failure,
    ) -> Handle[Any, Any]:  # fmt: skip
        """Spawn a job; see `Job.spawn`."""
        held = self._held(job, "spawn")
        failure = checked_failure(failure)
        check_spawn(delay, priority, lane, id, metadata)
        if key is not None:
            key = checked_key(key)
        name = held.stored.handler if handler is None else self._name("handler", handler)
        if priority is None:
            priority = held.stored.priority if self._inherits else 0.0
        scope = held.scope
        with self._lock:
            brood = held.brood = held.brood or Brood()
            found = scope.child(brood.places, key) if id is None else cast("str", id)
            known = brood.handles.get(found)
            if known is not None:
                return known
            new = self._asking.new(
                item, id=found, key=key if self._is_unique else None, priority=priority,
                lane=cast("str | None", lane), delay=delay, metadata=metadata, handler=name,
            )  # fmt: skip
            brood.judge(failure)
            if key is None and id is None:
                brood.places += 1
            child = FamilyJob(found, item, job.index, job._task, parent=job.id)
            handle: Handle[Any, Any] = Handle(child, _Nowhere())
            brood.handles[found] = handle
            if self._max_depth is not None and scope.depth + 1 > self._max_depth:
                self.left_out += 1
                rule = f"max_depth={self._max_depth}"
                end_unseen(child, JobCancelledError(f"the job was not taken: {rule} leaves no room for it"))
                return handle
            known_for = new.dedupe_for if id is not None else 0.0 if key is None else KEY_KNOWN_FOR
            new = replace(new, metadata=scope.metadata(metadata), dedupe_for=known_for)
            brood.add(replace(new, failure="fail") if failure == "fail" else new)
        return handle

    def after_children(self, job: Job[Any], callback: Callable[..., Any] | str, gather: bool) -> None:
        """Register a callback; see `Job.after_children`."""
        held = self._held(job, "after_children")
        if isinstance(callback, str):
            if not isinstance(cast("object", gather), bool):
                raise TypeError(f"gather must be True or False, got {gather!r}")
        else:
            checked_callback(callback, gather)
        name = self._name("callback", callback)
        with self._lock:
            brood = held.brood = held.brood or Brood()
            if brood.callback is not None:
                raise RuntimeError(
                    "after_children was called before in this attempt: one callback does it all"
                )
            brood.callback, brood.gather = name, gather

    def scope(self, job: Job[Any]) -> tuple[str, str, str] | None:
        """Return what a child process needs to know the ids of what is spawned there."""
        held = held_of(job)
        return None if held is None else (held.scope.life, held.scope.root, held.scope.root_life)

    def hear(self, job: Job[Any], frames: list[bytes]) -> None:
        """Take what a call in a process spawned and registered, in the loop's thread."""
        for frame in frames:
            try:
                what, given = thing_in(frame)
                getattr(self, what)(job, *given)
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                self.problems[job] = error
                return

    # --- what is asked ---------------------------------------------------------------------

    @property
    def _is_unique(self) -> bool:
        conf = self._asking.conf
        return conf is not None and conf.unique is not None

    def _held(self, job: Job[Any], what: str) -> Held:
        """Return what is held of a job whose handler runs.

        Raises:
            RuntimeError: If it does not.
        """
        if job.members:
            raise RuntimeError(
                f"{what}() needs one job, and this is a batch of {len(job.members)}: "
                f"call it on one of `current_job().members`"
            )
        held = held_of(job)
        if held is None or job._status != RUNNING:
            raise ended_before(what)
        if held.stored.phase:
            raise RuntimeError(
                f"{what}() works in the handler, and not in the job's after_children callback: "
                "spawn before, or let a job further up wait for more"
            )
        if not held.spawns:
            raise ended_before(what)
        return held

    def _name(self, what: str, function: object) -> str:
        """Return the name by which any worker knows a function.

        Raises:
            TypeError: If it is no function.
            ValueError: If it is none that this worker was given.
        """
        if isinstance(function, str):
            bounds.check_text(what, function)
            return function
        if not callable(function):
            raise TypeError(f"{what} must be a function that the worker knows, or a name, got {function!r}")
        # The worker's own handler is in it twice, and only its name is known elsewhere, too.
        names = [name for name, known in self._table.items() if known is function or known == function]
        if names:
            return names[-1]
        raise ValueError(
            f"{what} must be a function that the worker knows, as another process may have to call it by its "
            f"name, got {name_of(function)}: give it to consume with handlers=[...]"
        )
