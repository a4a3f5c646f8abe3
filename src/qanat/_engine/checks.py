"""Calls the checks of limits: a circuit breaker asks whether the other side is well again.

A limit whose check is wanted has one task here, which waits until the check is due, calls it, tells the
limit, and goes on as long as the check is wanted. The tasks live in the engine's group: they keep
nothing alive, and are cancelled when the run ends. Then another run that uses the limit
takes over, or the limit does without.
"""

from __future__ import annotations

import functools
import inspect
import logging
import math
from typing import TYPE_CHECKING, Any

import anyio

from qanat._engine.callee import is_coroutine_function
from qanat.errors import blamed_on_job

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.checks import Checked
    from qanat._core.limit import Limit
    from qanat._engine.engine import Engine
    from qanat._engine.threads import Call

LONGEST = 10.0
"""Seconds that a check may take before it counts as bad."""

_log = logging.getLogger("qanat")


def _is_cancelled() -> bool:
    """Whether a scope around this code was cancelled; else a cancellation came from elsewhere."""
    return anyio.current_effective_deadline() == -math.inf


class _Use:
    """A limit with a check that this engine uses."""

    __slots__ = ("call", "count", "limit", "scope")

    def __init__(self, limit: Checked) -> None:
        self.limit = limit
        self.count = 0
        self.scope: anyio.CancelScope | None = None
        # A plain check in a thread that took too long and could not be stopped.
        self.call: Call | None = None


class Checks:
    """See to the checks of all limits that an engine uses."""

    __slots__ = ("_engine", "_is_open", "_uses")

    def __init__(self, engine: Engine) -> None:
        """Do nothing until `open`."""
        self._engine = engine
        self._is_open = False
        # By identity: limits may have no hash.
        self._uses: dict[int, _Use] = {}

    # --- which limits there are ----------------------------------------------------------------

    def bound(self, limit: Limit) -> None:
        """Hear that a node has a limit."""
        for part in limit.checked_parts():
            use = self._uses.setdefault(id(part), _Use(part))
            use.count += 1
            if use.count == 1 and self._is_open:
                part.add_checker(self)

    def forgotten(self, limit: Limit) -> None:
        """Hear that such a node is forgotten."""
        for part in limit.checked_parts():
            use = self._uses[id(part)]
            use.count -= 1
            if not use.count:
                self._remove(self._uses.pop(id(part)))

    def open(self) -> None:
        """Begin: tasks can be started from now on."""
        self._is_open = True
        for use in list(self._uses.values()):
            use.limit.add_checker(self)

    def close(self) -> None:
        """Call no more checks, and let go of all limits."""
        self._is_open = False
        while self._uses:
            self._remove(self._uses.popitem()[1])

    def _remove(self, use: _Use) -> None:
        use.limit.remove_checker(self)
        if use.scope is not None:
            use.scope.cancel()

    # --- calling them --------------------------------------------------------------------------

    def check_wanted(self, limit: Checked) -> None:
        """Hear that a limit's check is to be called once it is due."""
        self._engine._start(functools.partial(self._watch, self._uses[id(limit)]))

    async def _watch(self, use: _Use) -> None:
        """Call a limit's check whenever it is due, for as long as it is wanted."""
        engine, limit = self._engine, use.limit
        try:
            with anyio.CancelScope() as use.scope:
                while use.count and (due := limit.check_due_at) < math.inf:
                    ahead = due - engine.now()
                    if ahead > 0.0:
                        await engine.clock.sleep(ahead)
                    else:
                        limit.check_ended(await self._ask(use), engine.now())
        except engine.cancellation:
            if _is_cancelled():
                raise
            # The check cancelled the very task that calls it, which must not end the run.
        finally:
            if use.count and limit.check_due_at < math.inf:
                # Cut off in the midst of it: whoever else can is to go on.
                limit.remove_checker(self)

    async def _ask(self, use: _Use) -> bool:
        """Call a check, and return whether it says that all is well."""
        function = use.limit.check
        assert function is not None  # noqa: S101 - or it would not be wanted
        value: Any = False
        with anyio.move_on_after(LONGEST) as scope:
            try:
                value = await self._call(use, function)
            except BaseException as error:
                if isinstance(error, self._engine.cancellation) and _is_cancelled():
                    raise
                _log.info("the check of %s raised %r", use.limit, blamed_on_job(error))
        if scope.cancelled_caught:
            _log.info("the check of %s took longer than %g s", use.limit, LONGEST)
        return value is not False

    async def _call(self, use: _Use, function: Callable[[], Any]) -> Any:
        """Call a check where it belongs: on the loop, or a plain one in a thread."""
        if is_coroutine_function(function):
            return await function()
        if use.call is not None and not use.call.ended:
            return False  # the one before still runs
        outside = self._engine.outside
        call = use.call = outside.submit_to_thread(lambda _: function(), None)
        try:
            await outside.wait(call)
        except BaseException:
            outside.withdraw_from_thread(call)
            raise
        if call.error is not None:
            raise call.error
        return await call.value if inspect.isawaitable(call.value) else call.value
