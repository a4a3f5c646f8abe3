"""Where a consumer's jobs come from: claims, no larger than what can soon be started here.

What must stay true:

- **No more is held than can soon start.** As many are claimed as there are free slots, and beyond
  that as many as end in the time of a claim, or a quarter of a second. While something other than the
  slots holds jobs up here, such as a rate, claims get smaller, down to one.
- **Settles hold up no claims.** What has ended and is not answered is bounded in `settling`, which lets
  nothing start beyond that. Taken off the room here, it left the loop idle for half of a drain.
- **A lane that waits here is not claimed from**, and does not use up the room of others.
- **Idle is idle.** Whoever makes jobs ready wakes it, here or elsewhere; else it looks when something
  falls due, and into a store that others reach at least once a second, as a hint may be lost.
"""

from __future__ import annotations

import logging
import math
from typing import TYPE_CHECKING, Any, Final

import anyio

from qanat._core.store.bounds import MOST
from qanat._stores.deeds import Wish
from qanat.errors import StoreFull, StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from qanat._app.durable.holding import Holding
    from qanat._app.durable.settling import Settling
    from qanat._app.durable.store import Store
    from qanat._core.dispatcher.node import Node
    from qanat._core.job import Task
    from qanat._core.store.values import Claim, Rescued, StoredJob
    from qanat._engine.engine import Engine
    from qanat._engine.loop import Spot

_log = logging.getLogger("qanat")

AHEAD: Final = 0.25
"""Seconds for which jobs are claimed ahead, at the pace at which they end."""
FIRST_WINDOW: Final = 8
"""Jobs of the first claim at most where something may hold them up; doubled while all starts at once."""
LEAST_WAIT: Final = 0.05
LONGEST_BACKOFF: Final = 5.0
RESCUE: Final = 5.0
"""Seconds between two looks for leases that have expired, where others may have left some."""


class Feed:
    """The source of a consumer's engine."""

    is_async = False
    needs_task = True
    is_empty = False
    tops_up = True

    def __init__(
        self, store: Store, queue: str, engine: Engine, holding: Holding, settling: Settling, *,
        lease: float, buffer: int, gathers: int, burst: bool, knows_lanes: bool, slots_only: bool,
        took: Callable[[list[StoredJob], float], object], give_back: Callable[[list[StoredJob]], object],
        has_retries: Callable[[], bool], release: Callable[[set[str]], object],
    ) -> None:  # fmt: skip
        """Claim nothing yet.

        Args:
            store: Where the queue is.
            queue: Its name.
            engine: Who is fed.
            holding: What is held.
            settling: What is not settled.
            lease: Seconds of a lease.
            buffer: How many jobs may wait here at most.
            gathers: How many jobs make up a batch; 0 without.
            burst: Whether to end when the queue is empty.
            knows_lanes: Whether the lanes here are those of the store.
            slots_only: Whether nothing but a number of slots holds jobs up. Then all slots are filled by
                the first claim: begun small, 200 handlers of 10 ms had a sixth of a short run behind
                them before all slots were in use.
            took: Called with the jobs of a claim, and since when they are ours at least.
            give_back: Called with jobs that came when nobody wanted them any more.
            has_retries: Whether a job that failed here is to be tried again soon.
            release: Called with lanes whose waiting jobs are to be given back, to make room.
        """
        self._store = store
        self._queue = queue
        self._engine = engine
        self._holding = holding
        self._settling = settling
        self._lease = lease
        self._buffer = buffer
        self._gathers = gathers
        self._burst = burst
        self._knows_lanes = knows_lanes
        self._took = took
        self._give_back = give_back
        self._has_retries = has_retries
        self._release = release
        self.tasks: list[Task] = []
        self._closed = False
        self._scope: anyio.CancelScope | None = None
        self._spot: Spot | None = None
        self._wants_room = False
        self._look_below = 0
        self._window = float(MOST if slots_only else FIRST_WINDOW)
        self._was_full = False
        self._skipped: frozenset[str] = frozenset()
        self._held_suspect = False
        self._came_back = False
        self.is_dry = False
        self._pace = 0.0
        self._left = 0
        self._paced_at = self._began = engine.now()
        self._trip = 0.0
        self._rescued_at = engine.now()
        self._rescues_every = min(RESCUE, lease / 3.0)
        self._backoff = 0.0
        self._token = 0

    # --- the engine's side -------------------------------------------------------------------

    def pull(self) -> bool:
        """Let the task claim on if there is reason to; nothing comes of it at once."""
        if self._spot is not None and (self._has_room() if self._wants_room else self._freed()):
            self.wake()
        return False

    def _look_when_some_started(self, *, wanted: bool) -> None:
        """Be pulled with each job that starts, if that may be a reason to claim."""
        if self._engine.source is self:
            self._engine.tops_up = wanted or bool(self._skipped)

    def _has_room(self) -> bool:
        """Whether it is worth to claim, looked at once enough of what waits has started: asked often."""
        if self._engine.dispatcher.waiting > self._look_below:
            return False
        return self._missing() <= 0

    def wake(self) -> None:
        """Let the task look again."""
        self.is_dry = False
        if self._spot is not None:
            self._spot.wake()

    def settled(self, back: bool = False) -> None:
        """Hear that settles were answered, and whether jobs went to the queue with that."""
        self._came_back = self._came_back or back
        if self._burst or self._wants_room or (self._held_suspect and not self._holding.suspects):
            self.wake()

    def close(self) -> None:
        """Claim nothing more."""
        self._closed = True
        if self._scope is not None:
            self._scope.cancel()

    async def run(self) -> None:
        """Claim until closed, or in a burst until nothing is left."""
        with anyio.CancelScope() as self._scope, self._store.hints.listening(self._queue, self.wake):
            try:
                await self._claim_on()
            except Exception as error:  # noqa: BLE001 - a store may raise anything, and it ends all here
                self._engine.cancel(error)
                return
        if not self._closed:
            self._engine.source_ended()

    async def _claim_on(self) -> None:
        while not self._closed:
            if self._room() <= 0:
                self._make_room()
            if self._missing() > 0:
                began = self._engine.now()
                await self._wait(math.inf, for_room=True)
                self._size(self._engine.now() - began)
            elif await self._claim():
                break

    async def _claim(self) -> bool:
        """Claim once, and wait if there is nothing; True if the burst is over."""
        n = min(self._room(), self._store.step)
        self._skipped = frozenset(list(self._parked())[:MOST]) if self._knows_lanes else frozenset()
        wish = Wish(
            n=n, worker=self._store.worker, lease=self._lease, skip=self._skipped,
            suspects=0 if self._holding.suspects else 1,
        )  # fmt: skip
        spot = self._spot = self._engine.loop.spot()
        self._look_when_some_started(wanted=False)
        sent = self._engine.now()
        self._came_back = False
        try:
            claim: Claim = (await self._store.claim_desk.ask(f"claim {self._queue}", [wish], self._late))[0]
        except (StoreUnavailable, StoreFull) as error:
            await self._back_off(error)
            return False
        self._backoff = 0.0
        if self._closed:  # in the very turn of the loop in which the answer came
            self._give_back(claim.jobs)
            return False
        self._measure(sent)
        self._check_tokens(claim.jobs)
        self._took(claim.jobs, sent)
        asked_for_all = wish.suspects > 0 and not wish.skip
        # From now on who waits is woken when there is none any more.
        self._held_suspect = self._holding.suspects > 0
        self._was_full = len(claim.jobs) >= n
        self.is_dry = not self._was_full
        if claim.jobs:
            self._engine.offered()
        if self.is_dry and self._gathers:
            self._engine.poke()  # batches may wait for nothing more
        if self._was_full or claim.ended:  # the end of a job may have sent its parent on
            # What a lost worker left does not wait until all that is ready is done.
            if self._engine.now() - self._rescued_at >= self._rescues_every:
                await self._take_back()
            return False
        rescued = await self._rescue(claim)
        if self._burst and asked_for_all and not (claim.jobs or rescued) and self._is_over(claim):
            return True
        if not rescued:
            due = math.inf if claim.next_due is None else max(claim.next_due, LEAST_WAIT)
            if self._burst and self._has_retries():
                due = min(due, 1.0)  # somebody else may have them
            await self._wait(min(due, self._store.poll), spot)
        return False

    def _check_tokens(self, jobs: list[StoredJob]) -> None:
        """Tell of a store that has forgotten leases: tokens rise for as long as a queue lives."""
        if not jobs:
            return
        lowest = min(stored.token for stored in jobs)
        if lowest <= self._token:
            _log.error(
                "queue %s: the store has lost what it had stored, as token %d follows %d: it was emptied, "
                "began anew without its data, or a replica took over", self._queue, lowest, self._token,
            )  # fmt: skip
        self._token = max(stored.token for stored in jobs)

    def _is_over(self, claim: Claim) -> bool:
        """Whether nothing is left to do that a burst waits for."""
        if self._came_back:
            return False  # after the claim had been answered
        if claim.paused:
            return not self._holding.live and not self._settling.pending
        return not (self._holding.live or self._settling.pending or self._has_retries())

    async def _wait(self, seconds: float, spot: Spot | None = None, *, for_room: bool = False) -> None:
        self._wants_room = for_room
        waiting = self._engine.dispatcher.waiting
        self._look_below = waiting - max(waiting // 8, self._missing())
        spot = self._spot = spot or self._engine.loop.spot()
        self._look_when_some_started(wanted=for_room)
        try:
            with anyio.move_on_after(seconds):
                await spot.wait()
        finally:
            self._spot = None
            self._wants_room = False

    async def _back_off(self, error: Exception) -> None:
        if not self._backoff:
            _log.warning("queue %s: jobs cannot be leased, and it is tried again: %s", self._queue, error)
        self._backoff = min(max(self._backoff * 2.0, 0.1), LONGEST_BACKOFF)
        self._spot = None
        await self._engine.clock.sleep(self._backoff)

    async def _rescue(self, claim: Claim) -> bool:
        """Take back leases that have expired, if it is time; True if the queue may hold more now."""
        waited = self._engine.now() - self._rescued_at
        if claim.next_due != 0.0 and (self._store.is_private or waited < self._rescues_every):
            return False
        return await self._take_back()

    async def _take_back(self) -> bool:
        """Take back leases that have expired; True if there were any."""
        self._rescued_at = self._engine.now()
        try:
            rescued: Rescued = (await self._store.desk.ask(f"rescue {self._queue}", [None]))[0]
        except (StoreUnavailable, StoreFull):
            return False
        if rescued.ids:
            _log.info("queue %s: took back %d jobs whose worker was lost", self._queue, len(rescued.ids))
        return bool(rescued.ids or rescued.ended) or rescued.more

    def _late(self, answers: list[Any]) -> None:
        self._give_back([stored for claim in answers for stored in claim.jobs])

    # --- how much ----------------------------------------------------------------------------

    def _missing(self) -> int:
        """Return how much room is missing for a claim that is worth its price; 0 or less if none is.

        While jobs wait here nobody is idle, and a claim waits until it may be for a third of what is held
        ahead: asked for as soon as there was some room, large and small ones took turns, and a small one
        costs a round trip, or a write to the disk, as well. For half, the store would have nothing to do
        whenever somewhat more than half came.
        """
        room, active = self._room(), self._active()
        if room <= 0 or self._gathers or active <= 0:
            return 1 - room
        dispatcher = self._engine.dispatcher
        parked = dispatcher.waiting + dispatcher.scheduled - active
        third = int(min(self._ahead(), self._buffer - parked)) // 3
        return max(1, min(third, self._store.step)) - room

    def _ahead(self) -> float:
        """Return how many jobs may wait here beyond those for which slots are free.

        No more than have ended here: a few that were quick tell little of those to come.
        """
        return min(self._pace * max(AHEAD, 2.0 * self._trip), self._buffer, self._holding.left)

    def _active(self) -> int:
        """Return how many jobs wait here, but for those whose lane waits: they are in nobody's way."""
        dispatcher = self._engine.dispatcher
        parked = sum(len(lane.order) for lane in self._parked_lanes())
        return dispatcher.waiting + dispatcher.scheduled - parked

    def _room(self) -> int:
        """Return how many jobs may be claimed now."""
        dispatcher = self._engine.dispatcher
        waiting = dispatcher.waiting + dispatcher.scheduled
        active = self._active()
        slots = dispatcher.capacity - dispatcher.running
        free = 0.0 if active > 0 else slots
        if self._gathers:
            free = slots * self._gathers - active
        room = min(min(free, self._window) + int(self._ahead()) - (0 if self._gathers else active),
                   self._buffer - waiting, MOST)  # fmt: skip
        return max(0, math.floor(room)) if room < math.inf else MOST

    def _measure(self, sent: float) -> None:
        """Note how long a claim took and how fast jobs end, and size the next one."""
        now = self._engine.now()
        self._trip += (now - sent - self._trip) / 4.0
        elapsed = now - self._paced_at
        if elapsed > 0.0:
            left = self._holding.left
            # The mean of a quarter of a second; of all that there was before as much is over.
            mean_over = min(AHEAD, now - self._began)
            self._pace += ((left - self._left) / elapsed - self._pace) * min(1.0, elapsed / mean_over)
            self._left = left
            self._paced_at = now
        if self._was_full:
            self._window = min(self._window * 2.0, float(MOST))

    def _size(self, waited: float) -> None:
        """Size the next claim by how long the last one took to start."""
        dispatcher = self._engine.dispatcher
        if waited > AHEAD and (
            dispatcher.running < dispatcher.capacity / 2 or dispatcher.capacity == math.inf
        ):
            # Slots were free, and something else held up what was here.
            self._window = max(1.0, self._window / 4.0)

    def _parked_lanes(self) -> Iterator[Node]:
        """Give the lanes that wait for a limit of their own."""
        for task in self.tasks:
            node: Node = task.node
            if node.uses_lanes:
                for lane in node.lanes.values():
                    if lane.cause is not None and len(lane.order):
                        yield lane

    def _parked(self) -> Iterator[str]:
        for lane in self._parked_lanes():
            yield "" if lane.key is None else str(lane.key)

    def _freed(self) -> bool:
        """Whether a lane that was left out may be claimed from again."""
        return bool(self._skipped) and not self._skipped.issubset(self._parked())

    def _make_room(self) -> None:
        """Give back jobs of lanes that wait, if they take up all the room."""
        if self._engine.dispatcher.waiting >= self._buffer:
            parked = set(self._parked())
            if parked:
                self._release(parked)
