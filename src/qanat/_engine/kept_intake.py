"""Where jobs come from when there is a journal: each is looked up before it is offered."""

from __future__ import annotations

from itertools import islice
from typing import TYPE_CHECKING, Any, Final

import anyio

from qanat._core.job import Job
from qanat._engine.intake import CHUNK, LONG, Intake

if TYPE_CHECKING:
    from collections.abc import AsyncIterable, Iterable

    from qanat._core.job import Task
    from qanat._engine.engine import Engine
    from qanat._engine.keeper import Keeper

MANY: Final = 256
"""Items read in one go at most, and for which there has to be room before the reader goes on."""


class KeptIntake(Intake):
    """Read items in a task of its own and hand their jobs to the keeper, with room for so many."""

    def __init__(
        self, items: Iterable[Any] | AsyncIterable[Any], engine: Engine, task: Task, keeper: Keeper,
        **options: Any,
    ) -> None:  # fmt: skip
        """Read nothing yet; the options are those of an `Intake`."""
        super().__init__(items, engine, task, **options)
        self._keeper = keeper
        keeper.reader = self
        # Each look is a journey to another thread, so many items are to go together.
        self._least_room = min(self._buffer // 4, MANY)
        self._starts = 0
        self._hand_in = keeper.arrived
        self.draws = False
        self.needs_task = True

    def room(self) -> int:
        """Return how many more items may be read now."""
        if self._whole:
            return CHUNK
        keeper = self._keeper
        # What waits for its commit is about to be unread; where everything counts as read, so does it.
        return super().room() - (keeper.pending if self.counts_unread else keeper.waiting)

    def is_full(self) -> bool:
        """Whether no more jobs can come before some that came are started."""
        return not self._keeper.pending and self.room() <= 0

    def pull(self) -> bool:
        """Hear that there may be room; nothing comes of it at once.

        Where the buffer is kept full, this is called after every start; else when nothing waits any more,
        as until then each commit says that there may be room.
        """
        self._starts -= 1
        # Outcomes that are read make room as well, and of several that are the engine hears once.
        if self._starts <= 0 or self.counts_unread or not self.tops_up:
            self._let_read()
        return False

    def look_for_room(self) -> None:
        """Let the task read on if there is room now, as many jobs may have ended at once."""
        self._starts = 0
        self._let_read()

    def _let_read(self) -> None:
        """Let the task read on; not for a few items, or it would read one each time that one starts."""
        spot = self._room_spot
        if spot is None:
            return
        room = self.room()
        if room > self._least_room:
            self._room_spot = None
            spot.wake()
        else:
            # Each start makes room for one: before so many there is no need to look.
            self._starts = self._least_room + 1 - room

    async def run(self) -> None:
        """Read the source in a task of its own."""
        with anyio.CancelScope() as self._scope:
            if self.is_async:
                await self._run_async()
            else:
                await self._run_plain()
            if not self._is_closed:
                await self._keeper.wait_answered()
        if not self._is_closed:
            self.ended()

    async def _run_plain(self) -> None:
        engine = self._engine
        while not self._is_closed:
            room = self.room()
            if room <= 0:
                spot = self._room_spot = engine.loop.spot()
                await spot.wait()
                continue
            begun = engine.now()
            chunk = min(room, self._chunk)
            if self._read(chunk) < chunk:
                if not self.went_dry():
                    return
                spot = self._room_spot = engine.loop.spot()
                await spot.wait()
                continue
            if engine.now() - begun > LONG:
                self._chunk = max(1, self._chunk // 2)
            elif self._chunk < MANY:
                self._chunk *= 2
            await engine.loop.checkpoint()

    def _read(self, chunk: int) -> int:
        """Read up to so many items; fewer mean that the source has ended."""
        if self._callbacks:
            return self._read_each(chunk)
        task, now = self.task, self._engine.now()
        number = first = self.count
        jobs: list[Job[Any]] = []
        problem: BaseException | None = None
        self._reading = True
        try:
            for item in islice(self.iterator, chunk):
                jobs.append(Job(number, item, number, task, now))
                number += 1
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            problem = error
        self._reading = False
        self.count = number
        self._keeper.arrived_all(jobs, now)
        if problem is not None:
            self._fail(problem)
            return -1
        return number - first

    def _read_each(self, chunk: int) -> int:
        """Read items, and ask the user's functions about each before the next one."""
        now = self._engine.now()
        first = number = self.count
        self._reading = True
        try:
            for item in islice(self.iterator, chunk):
                self._offer(item, number, now)
                number += 1
                self.count = number
        except BaseException as error:  # noqa: BLE001 - the user's code may raise anything
            self._fail(error)
            return -1
        finally:
            self._reading = False
        return number - first

    def _ended_unoffered(self) -> None:
        self._engine.offered()
