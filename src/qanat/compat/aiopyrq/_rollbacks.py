"""How often items failed: counters that all consumers share, and that end by themselves.

Every failure is an entry `[item, number]` of a rotation, which falls due when it is to be forgotten; who
counts takes out now and then what is due. So a counter does not outlive an item that never comes again.
Numbers go up to one more than `max_retry`; that one stands for all that come later.
"""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, Final

from qanat.compat.aiopyrq._names import stored_name
from qanat.compat.aiopyrq._source import Handles
from qanat.compat.aiopyrq._texts import seconds, whole

if TYPE_CHECKING:
    import qanat
    from qanat.compat.aiopyrq._source import Source

RETRY_SUFFIX: Final = "-retry-count"
REMEMBERED: Final = 7 * 86_400.0
"""Seconds beyond `max_timeout` for which a failure is counted."""
SWEEP: Final = 60.0
"""Seconds between two looks for what is to be forgotten."""
MOST: Final = 1_000
KNOWN: Final = 10_000
"""Items of which it is known here how far they were counted."""


class Rollbacks:
    """Count the failures of a queue's items.

    Args:
        queue: The queue's name.
        source: Where it is.
        options: `max_retry` and `max_timeout`, in either spelling.

    Raises:
        TypeError: If one of these is no number.
        ValueError: If `max_retry` is 1,000 or more.
    """

    def __init__(self, queue: str, source: Source, options: dict[str, Any]) -> None:
        self.name: str = queue + RETRY_SUFFIX
        self._stored_as = stored_name(self.name)
        self._rotations = Handles(source, self._make)
        most = options.get("max_retry_rollback") or options.get("max_retry")
        minutes = options.get("max_timeout_in_queue") or options.get("max_timeout")
        if most and whole("max_retry", most) >= MOST:
            raise ValueError(f"max_retry must be below {MOST}, got {most!r}")
        self._last = max(most, 0) + 1 if most else 0
        self._seconds: float | None = seconds("max_timeout", minutes) * 60.0 if minutes else None
        self._known: dict[str, int] = {}
        self._swept_at = float("-inf")

    async def may(self, text: str) -> bool:
        """Count a failure, and say whether the item may be tried again; errors as `can_rollback_item`."""
        last, longest = self._last, self._seconds
        if not last or longest is None:
            raise ValueError(
                "max_retry and max_timeout must be given to the queue, or max_retry_rollback and "
                "max_timeout_in_queue, got none of them"
            )
        rotation = self._rotations.at_hand() or await self._rotation()
        forgotten_in = REMEMBERED + max(longest, 0.0)
        # What others counted is found out on the way.
        number = min(self._known.get(text, 0) + 1, last)
        while not (is_new := await rotation.add([text, number], due=forgotten_in) > 0) and number < last:
            number += 1
        self._note(text, number)
        await self._sweep(rotation)
        if number < last:
            return True
        if not is_new:
            await rotation.remove([text, last])
            await rotation.add([text, last], due=forgotten_in)
        times = await self._times(rotation, text)
        gaps = [number for number in range(1, last) if number not in times]
        if gaps:
            # Somebody reset the counter, or what it began with is forgotten.
            if not is_new:
                await rotation.add([text, gaps[0]], due=forgotten_in)
            self._note(text, gaps[0] - is_new)
            return True
        return max(times.values()) - min(times.values()) <= longest

    async def forget(self, text: str) -> None:
        """Let an item begin anew."""
        self._known.pop(text, None)
        rotation = await self._rotation()
        await rotation.remove(*([text, number] for number in range(1, (self._last or MOST) + 1)))

    def _make(self, store: qanat.Store) -> qanat.Rotation[list[Any]]:
        return store.rotation(self._stored_as, every=REMEMBERED, jitter=0.0)

    async def _rotation(self) -> qanat.Rotation[list[Any]]:
        return await self._rotations.get()

    def _note(self, text: str, number: int) -> None:
        if len(self._known) >= KNOWN:
            self._known.clear()
        self._known[text] = number

    async def _times(self, rotation: qanat.Rotation[list[Any]], text: str) -> dict[int, float]:
        """Return when failures were counted, by their numbers; asked at the same time they go together."""
        numbers = range(1, self._last + 1)
        jobs = await asyncio.gather(*(rotation.get([text, number]) for number in numbers))
        found = zip(numbers, jobs, strict=True)
        return {number: job.put_at or 0.0 for number, job in found if job is not None}

    async def _sweep(self, rotation: qanat.Rotation[list[Any]]) -> None:
        now = asyncio.get_running_loop().time()
        if now - self._swept_at < SWEEP:
            return
        self._swept_at = now
        while old := await rotation.lease(MOST):
            await rotation.remove(*(job.item for job in old))
