"""Jobs that spawn others: `job.spawn` and `job.after_children`, from wherever the handler runs.

On the loop a child arrives at once. In a thread its job is made there and then, under a lock, so that its
handle says which job it is; it arrives with the next hop to the loop, which is before the end of the
call is heard of. A process collects what its call spawns, and it arrives when the call has ended.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping
from functools import partial
from itertools import count as count_up
from threading import Lock, get_ident
from typing import TYPE_CHECKING, Any

from qanat._app import waiting
from qanat._app.handle import Handle
from qanat._app.handlers import check_returns, name_of
from qanat._app.nest import Nest
from qanat._app.stages import Stages
from qanat._core.arguments import at_least, number
from qanat._core.batch import BatchJob
from qanat._core.branch import AfterJob, Branch, FamilyJob, checked_failure, checked_key
from qanat._core.family import Family, end_unseen, ended_before
from qanat._core.job import CHILDREN, Task
from qanat._core.orders import Priority
from qanat._engine.after import CallAfter
from qanat._engine.callee import Callee, callee_of, is_coroutine_function
from qanat._engine.context import running_carrier
from qanat._engine.intake import Callbacks, checked_id, checked_lane
from qanat._engine.process_frames import thing_in
from qanat._engine.threads import running_call
from qanat.errors import JobCancelledError, PoolClosedError, blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable, Hashable

    from qanat._app.kept_trees import KeptTrees, Kind, Row, Sprout
    from qanat._app.rules import Rules
    from qanat._core.branch import Failure, Key
    from qanat._core.job import Job
    from qanat._core.outcome import Outcome
    from qanat._engine.carrier import Carrier
    from qanat._engine.engine import Engine
    from qanat._engine.keeper import Keeper

_log = logging.getLogger("qanat")


def no_roots() -> int:
    """Say that nothing came from outside."""
    return 0


class Spawner:
    """What the jobs of one engine call to spawn others.

    Attributes:
        tells: Whether the outcomes of jobs have to be told to those who hold their handles.
        count_roots: How many jobs came from outside by now.
        stages: The handlers.
        seal: What the value of a callback becomes, given the job; None is as it is.
        problems: Why what a job spawned in a process could not be kept in a journal.
    """

    def __init__(self, engine: Engine, rules: Rules) -> None:
        """Spawn nothing yet."""
        self.tells = True
        self.count_roots: Callable[[], int] = no_roots
        self.seal: Callable[[Job[Any], Any], Any] | None = None
        self.problems: dict[Job[Any], Exception] = {}
        self._engine = engine
        self._rules = rules
        self._kept: KeptTrees | None = None
        self._keeper: Keeper | None = None
        self._thread = get_ident()
        self._lock = Lock()
        self._book: Family | None = None
        self._key = rules.key
        self._inherits = isinstance(rules.order, Priority) and rules.order.inherit
        self._callbacks = Callbacks(rules.lane, rules.priority, cost=rules.cost, deadline=rules.deadline)
        self._asks = bool(self._callbacks)
        # Whether no rule has anything to ask or to give a child, but for `max_depth`.
        self._is_plain = not (self._asks or self._inherits or self._key or rules.max_jobs is not None)
        self.stages = Stages(engine, rules)
        self.stages.on_first = self._count_all
        # By the code of a callback and its kind: whether it is a coroutine function.
        self._known: dict[Any, bool] = {}

    def serve(self, handler: Callable[..., Any], task: Task) -> Task:
        """Let the jobs of the run's own handler spawn."""
        task.spawner = self
        self.stages.set_main(handler, task)
        return task

    def begin(self) -> None:
        """Keep trees from the start, as jobs from outside are known by keys; in the loop's thread."""
        self._begin()
        self._raise_family()

    def keep(self, kept: KeptTrees, keeper: Keeper) -> None:
        """Let a journal know the trees."""
        self._kept, self._keeper = kept, keeper
        self.stages.kind_of = kept.kind_of
        if self._book is not None:
            self._keep_book(self._book)

    def _keep_book(self, book: Family) -> None:
        """Let a family and a keeper know each other's jobs; from any thread."""
        keeper = self._keeper
        assert keeper is not None  # noqa: S101 - there is a journal
        book.seal = keeper.seal
        if self._key is not None:
            return  # and roots are known by it

        def know(key: Any, root: Job[Any]) -> None:
            book.seen.setdefault((None, None, key), root)

        keeper.when_arrived = know
        for key, job in keeper.under_way():
            if job.parent is None:
                know(key, job)

    def first(self, root: FamilyJob) -> Job[Any]:
        """Return the job that is visited for the key of a root: itself, if no other is known by it."""
        assert self._book is not None  # noqa: S101 - begun by whoever has a key
        with self._lock:
            return self._book.first(root)

    @property
    def left_out(self) -> dict[str, int]:
        """How many jobs were not taken, by the rule that left no room for them."""
        return {} if self._book is None else self._book.left_out

    # --- what a job calls --------------------------------------------------------------------

    def spawn(  # noqa: C901, PLR0912 - each is a question that most calls skip, and a call costs more
        self, job: Job[Any], item: Any, handler: Callable[..., Any] | None, key: Key | None,
        id: int | str | None, priority: float | None, lane: Hashable, delay: float,
        metadata: Mapping[str, Any] | None, failure: Failure,
    ) -> Handle[Any, Any]:  # fmt: skip
        """Spawn a job; see `Job.spawn`."""
        carrier = running_carrier.get(None)
        if carrier is None or carrier.job is not job or type(job) is BatchJob:
            carrier = self._carrier_of(job, "spawn")
        on_loop = get_ident() == self._thread
        if not on_loop:
            self._heed_thread(carrier, job, "spawn")
        if failure != "continue":
            failure = checked_failure(failure)
        if delay != 0.0 or priority is not None or lane is not None or id is not None or metadata is not None:
            check_spawn(delay, priority, lane, id, metadata)
        if key is None and self._key is not None:
            key = self._key(item)
        if key is not None:
            key = checked_key(key)
        sprout: Sprout | None = None
        kept = self._kept
        if kept is not None and kept.holds(job):
            kind = self.kind_of(job) if handler is None else self.kind_for(handler)
            sprout = kept.sprout(kind, item, handler is not None, key, id, priority, lane, metadata)
        task: Task | None = None
        if handler is None:
            task = self.stages.own(job)
        elif on_loop:
            task = self.stages.task(handler)
        else:
            self.stages.check(handler)
        with self._lock:
            book = self._book or self._begin()
            branch = book.branch(job)
            if sprout is None:
                child, is_new = book.adopt(
                    branch, item, task or job._task, key, id, failure, self.count_roots
                )
            else:
                child, is_new = self._adopt_kept(
                    book, branch, item, task or job._task, key, id, failure, sprout
                )
        if failure != "continue":
            self._divert(carrier, job, on_loop=on_loop)
        if is_new and type(child) is FamilyJob:
            asks = True
            if priority is not None or lane is not None or metadata is not None or self._inherits:
                asks = self._fill(child, job, priority, lane, metadata)
            found = None if sprout is None else sprout.key
            if on_loop:
                self._arrive(child, delay, asks, kept_by=found)
                if job._task.nest is None and self._is_plain and handler is None and kept is None:
                    self._build_nest(book, job._task, child._task)
            else:
                self._engine.outside.tell(partial(self._arrive, child, delay, asks, handler, found))
        elif sprout is not None:
            # What was left out is recorded, too, so the end goes the way of families.
            self._raise_soon(on_loop=on_loop)
        return Handle(child, self._engine)

    def _build_nest(self, book: Family, above: Task, task: Task) -> None:
        """Let the next children of a task's jobs go the short way, where it was found that they are plain."""
        lone = self._engine.dispatcher._lone
        if lone is not None and task.node is lone.parent and not self.stages.by_node:
            above.nest = Nest(task, book, self._engine, lone, self._rules.max_depth, self._lock)
            book.is_plain, book.tells = True, self.tells

    def _count_all(self) -> None:
        """Hear of every end from now on, as jobs are counted."""
        if self._book is not None:
            self._book.is_plain = False

    def _adopt_kept(
        self, book: Family, branch: Branch, item: Any, task: Task, key: Key | None, id: int | str | None,
        failure: Failure, sprout: Sprout,
    ) -> tuple[Job[Any], bool]:  # fmt: skip
        """Return what is spawned in a run with a journal, noted for that unless it was left out."""
        child, is_new = book.adopt(branch, item, task, key, id, failure, self.count_roots, sprout.known)
        if is_new or sprout.known in book.seen or (key is not None and key in book.seen):
            branch.note(sprout.known, branch.place, sprout.row)
        return child, is_new

    def spawn_again(self, job: Job[Any], rows: list[Row], left: dict[str, int]) -> None:
        """Let what a job had spawned arrive that is recalled from a journal; in the loop's thread."""
        with self._lock:
            book = self._book or self._begin()
            branch = book.branch(job)
        self._raise_family()
        for row in rows:
            branch.places = count_up(row.place)
            task = self.stages.own(job) if row.handler is None else self.stages.task(row.handler)
            with self._lock:
                child, is_new = book.adopt(
                    branch, row.item, task, row.key, row.id, "continue", self.count_roots, row.sprout.known
                )
            if not is_new or type(child) is not FamilyJob:
                continue
            asks = self._fill(child, job, row.priority, row.lane, row.metadata)
            self._arrive(child, 0.0, asks, kept_by=row.sprout.key)
        for rule, times in left.items():
            book.count_left_out(rule, times)

    def _fill(
        self, child: FamilyJob, parent: Job[Any], priority: float | None, lane: Hashable,
        metadata: Mapping[str, Any] | None,
    ) -> bool:  # fmt: skip
        """Give a child what it was spawned with; return whether the rule `priority` is to be asked."""
        child.metadata = metadata
        child.lane = lane
        if priority is None and not self._inherits:
            return True
        child.priority = parent.priority if priority is None else priority
        return False

    def kind_of(self, job: Job[Any]) -> Kind:
        """Return by what a journal knows what a job spawns without naming a handler."""
        assert self._kept is not None  # noqa: S101 - there is a journal
        return self.stages.kind(job) or self._kept.main

    def kind_for(self, handler: Callable[..., Any]) -> Kind:
        """Return by what a journal knows a handler of spawned jobs; from any thread.

        Raises:
            TypeError: If it is no function of one item.
            ValueError: If a journal could not tell it from others.
        """
        assert self._kept is not None  # noqa: S101 - there is a journal
        return self._kept.kind_of(self.stages.check(handler), handler)

    def after_children(self, job: Job[Any], callback: object, gather: bool) -> None:
        """Register a callback; see `Job.after_children`."""
        carrier = running_carrier.get(None)
        if carrier is None or carrier.job is not job or type(job) is BatchJob:
            carrier = self._carrier_of(job, "after_children")
        on_loop = get_ident() == self._thread
        if not on_loop:
            self._heed_thread(carrier, job, "after_children")
        function: Any = callback
        if self._is_async(callback, gather):
            callee = Callee(function, on_loop=True)
        else:
            callee = callee_of(function, self._rules.executor)
            if on_loop:
                callee.prepare(self._engine.outside)
        with self._lock:
            book = self._book or self._begin()
            book.register(book.branch(job), callee, gather=gather)
        if on_loop:
            carrier.divert(job)
            if self._engine.dispatcher.family is None:
                self._raise_family()
        else:
            self._divert(carrier, job, on_loop=False)
            self._raise_soon(on_loop=False)

    def scope(self, _job: Job[Any]) -> None:
        """Return what a child process needs to know beside the job's id: nothing here."""

    # --- who calls ---------------------------------------------------------------------------

    def _carrier_of(self, job: Job[Any], what: str) -> Carrier:
        """Return who carries a job, for a call from elsewhere than its handler.

        Raises:
            RuntimeError: If nobody does.
            PoolClosedError: If the run is over.
        """
        engine = self._engine
        if engine.over:
            raise PoolClosedError(f"{what}() works while the run or Pool goes on, and this one is over")
        if not job.members:
            for carrier in list(engine.carriers):
                held = carrier.job
                if held is job or (held is not None and job in held.members):
                    return carrier
        else:
            raise RuntimeError(
                f"{what}() needs one job, and this is a batch of {len(job.members)}: "
                f"call it on one of `current_job().members`"
            )
        if job._status == CHILDREN:
            raise RuntimeError(
                f"{what}() works in the handler, and not in the job's after_children callback: "
                "spawn before, or let a job further up wait for more"
            )
        raise ended_before(what)

    def _heed_thread(self, carrier: Carrier, job: Job[Any], what: str) -> None:
        """Refuse a call from a thread whose attempt is over, such as one that timed out."""
        call = running_call.get()
        if call is None:
            # A thread of the handler's own. Nobody hears of its end, and the handler may hold up the loop
            # until then, so it is the end of the attempt that takes in what was told.
            carrier.divert(job)
        elif self._engine.outside.has_left(call):
            raise ended_before(what)

    def _divert(self, carrier: Carrier, job: Job[Any], *, on_loop: bool) -> None:
        """See to it that the end of a job's attempt goes the long way, as it may be held."""
        if on_loop:
            carrier.divert(job)
        else:
            self._engine.outside.tell(partial(carrier.divert, job))

    # --- families ----------------------------------------------------------------------------

    def _begin(self) -> Family:
        """Begin to keep trees.

        Raises:
            RuntimeError: If the run is recorded.
        """
        rules = self._rules
        if rules.record is not None:
            raise RuntimeError(
                "spawn() and after_children() do not work in a run with record=, whose recording holds "
                f"jobs that come from outside, got record={rules.record!r}: run it without"
            )
        book = Family(max_depth=rules.max_depth, max_jobs=rules.max_jobs, on_end=self._ended)
        if self._keeper is not None:
            self._keep_book(book)
        self._book = book
        return book

    def _raise_soon(self, *, on_loop: bool) -> None:
        """Let the dispatcher know of the trees, from any thread."""
        if on_loop:
            self._raise_family()
        else:
            self._engine.outside.tell(self._raise_family)

    def _raise_family(self) -> None:
        """Let the dispatcher know of the trees; in the loop's thread."""
        book, dispatcher = self._book, self._engine.dispatcher
        if dispatcher.family is None and book is not None:
            dispatcher.raise_family(book, self._stand_in)

    def _arrive(
        self, child: FamilyJob, delay: float, asks_priority: bool,
        handler: Callable[..., Any] | None = None, kept_by: Any = None,
    ) -> None:  # fmt: skip
        """Hand a new job to the dispatcher, in the loop's thread; one from another comes with its handler."""
        engine, above = self._engine, child._above
        dispatcher = engine.dispatcher
        if dispatcher.family is None:
            self._raise_family()
        if handler is not None:
            child._task = self.stages.task(handler)
        assert above is not None  # noqa: S101 - it was spawned
        if above.is_over:
            # A thread went on after its job had ended.
            end_unseen(child, JobCancelledError("the job that spawned it had ended"))
            return
        above.born += 1
        self.stages.arrived(child)
        now = engine.now()
        problem: BaseException | None = None
        if self._asks:
            try:
                self._callbacks.fill(child, now, lane=child.lane is None, priority=asks_priority)
            except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
                problem = blamed_on_job(error)
        if problem is not None:
            dispatcher.refuse(child, problem, now)
        elif kept_by is not None and engine.keeper is not None:
            engine.keeper.arrived(child, now, delay, kept_by)
            return
        else:
            dispatcher.offer(child, now, delay=delay)
        if engine.stopped:
            dispatcher.cancel(child, now)
        if not engine.called or dispatcher.ended:
            engine.offered()

    def _ended(self, job: Job[Any], outcome: Outcome[Any, Any]) -> None:
        """Hear that a job of a family has ended for good."""
        if self.tells:
            if job._waiter is None:
                job._waiter = outcome
            else:
                waiting.ended(job, outcome)
        nest = job._task.nest
        if nest is not None and nest.job is job:
            nest.leave()
        if self.stages.by_node:
            self.stages.ended(job)

    def _stand_in(self, branch: Branch) -> AfterJob:
        """Return the job that calls a callback."""
        job = branch.job
        assert job is not None  # noqa: S101 - its end is held
        task = job._task
        after = task.after
        if after is None:
            after = task.after = Task(
                task.name, CallAfter(self.seal), task.node, task.retry, task.timeout, task.state, task.charge
            )
        return AfterJob(
            job.id, None, job.index, after, priority=job.priority, lane=job.lane, metadata=job.metadata,
            parent=job.parent,
        )  # fmt: skip

    # --- callbacks ---------------------------------------------------------------------------

    def _is_async(self, callback: object, gather: object) -> bool:
        """Return whether a callback is a coroutine function, checked if it is new."""
        code = (getattr(callback, "__code__", None), type(callback))
        if code[0] is not None and gather in (True, False) and (known := self._known.get(code)) is not None:
            return known
        is_async = is_coroutine_function(checked_callback(callback, gather))
        if code[0] is not None:
            self._known[code] = is_async
        return is_async

    # --- from processes ----------------------------------------------------------------------

    def hear(self, job: Job[Any], frames: list[bytes]) -> None:
        """Hand in what a call in a process spawned and registered, in the loop's thread."""
        for frame in frames:
            try:
                what, given = thing_in(frame)
                getattr(self, what)(job, *given)
            except Exception as error:  # noqa: BLE001 - the user's code may raise anything
                if self._kept is not None and self._kept.holds(job):
                    # Recorded without it, the job would be recalled, and nobody would do this one.
                    self.problems[job] = error
                    return
                _log.warning("what job %r spawned in a process was not taken: %s", job.id, error)


def checked_callback(callback: object, gather: object) -> Callable[..., Any]:
    """Return a callback.

    Raises:
        TypeError: If it is no function of one argument, or `gather` is not True or False.
    """
    if not isinstance(gather, bool):
        raise TypeError(f"gather must be True or False, got {gather!r}")
    if not callable(callback):
        if inspect.iscoroutine(callback):
            callback.close()
        raise TypeError(
            f"callback must be a function of the Children, got {callback!r}: pass it, do not call it"
        )
    check_returns("callback", callback)
    try:
        signature = inspect.signature(callback)
    except (ValueError, TypeError):
        return callback  # built-in functions may not say
    try:
        signature.bind(object())
    except TypeError as error:
        raise TypeError(
            f"callback must take exactly one argument, the Children, but {name_of(callback)}{signature} "
            f"does not ({error}): use functools.partial or a lambda for the others"
        ) from None
    return callback


def check_spawn(delay: object, priority: object, lane: Hashable, id: object, metadata: object) -> None:
    """Check what a job is spawned with.

    Raises:
        TypeError: If something is of the wrong kind.
        ValueError: If a number is out of range.
    """
    at_least("delay", delay, 0.0)
    if priority is not None:
        number("priority", priority)
    if lane is not None:
        checked_lane(lane)
    if id is not None:
        checked_id(id)
    if metadata is not None and not isinstance(metadata, Mapping):
        raise TypeError(f"metadata must be a mapping, got {metadata!r}")
