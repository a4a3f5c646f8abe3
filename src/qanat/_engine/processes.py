"""Processes for plain functions: a thread converses with a child, and the child may die.

Each open call has a thread (threads.py), and that thread a child of its own while the call lasts:
an idle one or else a new one. So there are never more children than calls at once, and a child
is handled by one thread at a time. The other side of the conversation is process_child.py.

What must stay true:

- A child that dies takes one job with it. It is not put back, and the next call starts another.
- `kill` comes from the loop's thread while another one converses. Under `_lock` it either finds
  the errand's child, or finds that the errand has none (yet, or any more). A child once killed
  never becomes idle, so no other job can meet that death.
- A child that cannot be reached is killed and waited for before its job ends, so no slot is given
  back while the function might still run.
- Ctrl-C in a terminal reaches children even while Python starts in them. They are started with
  that signal blocked, and ignore it before they unblock it.
"""

from __future__ import annotations

import atexit
import inspect
import multiprocessing
import signal
import sys
from multiprocessing import resource_tracker
from threading import Lock
from typing import TYPE_CHECKING, Any

from qanat._engine import process_child
from qanat._engine.callee import without_partials
from qanat._engine.context import running_cell
from qanat._engine.process_child import GOODBYE
from qanat._engine.process_frames import Errand, error_from, frame_of, kind_of, said, thing_in
from qanat._engine.process_job import description_in, with_job
from qanat._engine.threads import Call, Threads, WorkOutside, described
from qanat.errors import ProcessDiedError

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._engine.loop import Loop

__all__ = ["Processes"]

# Seconds that a child may take to leave by itself before it is killed. Its exit handlers and
# threads are the user's and are given time, but no result depends on them.
_LEAVING = 5.0

_GUARD = (
    "a child process imports the main script anew, so what starts the work belongs under a guard, "
    'if __name__ == "__main__"'
)

_NOT_READY = f"What it wrote to standard error says why. If that speaks of bootstrapping: {_GUARD}."

_spawning = multiprocessing.get_context("spawn")

# Starting and reaping are one at a time: multiprocessing reaps other dead children as it starts
# one, and of two that wait for the same child only one learns its exit status.
_births_and_deaths = Lock()

_alive: set[_Child] = set()
_is_ending = False


class _Child:
    """One child process and the pipe to it."""

    def __init__(self, name: str) -> None:
        """Start the process; it is not ready yet.

        Raises:
            OSError: If the system has no room for it.
        """
        self.killed = False
        self._pipe, theirs = _spawning.Pipe()
        self._process = _spawning.Process(target=process_child.main, args=(theirs,), name=name, daemon=False)
        try:
            with _births_and_deaths:
                if _is_ending:
                    raise RuntimeError("a process cannot be started any more: the interpreter is ending")
                _block_interrupts()
                self._process.start()
                _alive.add(self)
        except BaseException:
            self._pipe.close()
            raise
        finally:
            theirs.close()

    def ask(self, frame: bytes) -> bytes | None:
        """Send a frame and wait for the answer; None: it died."""
        try:
            self._pipe.send_bytes(frame)
            while (text := description_in(answer := self._pipe.recv_bytes())) is not None:
                if (cell := running_cell.get(None)) is not None and (job := cell.made()) is not None:
                    job.describe(text)
            return answer
        except (OSError, EOFError):
            return None

    def is_alive(self) -> bool:
        """Say whether it has not died meanwhile."""
        return self._process.exitcode is None

    def kill(self) -> None:
        """Kill the process; does not wait."""
        self.killed = True
        self._process.kill()

    def bury(self, patience: float = 0.0) -> int | None:
        """Make sure that it is dead and return its exit status.

        A child that dies by itself closes its pipe when its exit status is already settled, so
        killing it then changes nothing. One that merely closed the pipe has to be killed.

        Args:
            patience: Seconds to wait for a child that is about to end by itself.
        """
        if patience:
            self._process.join(patience)
        with _births_and_deaths:
            self._process.kill()
            self._process.join()
            exitcode = self._process.exitcode
        self._pipe.close()
        _alive.discard(self)
        return exitcode

    def dismiss(self) -> None:
        """Let it leave in peace, but not for ever."""
        try:
            self._pipe.send_bytes(GOODBYE)
        except OSError:
            pass  # it is dead
        self.bury(_LEAVING)


class _Errand:
    """An item on its way to a child."""

    __slots__ = ("child", "hear", "item", "killed")

    def __init__(self, item: Any, hear: Callable[[list[bytes]], object] | None) -> None:
        self.item = item
        self.hear = hear
        self.child: _Child | None = None
        self.killed = False


class Processes:
    """Run a plain function in child processes, as many as calls are open at once.

    The function is pickled here and unpickled once in each child; items and results are pickled
    for every call. All methods belong to the loop's thread.

    Args:
        loop: The event loop that hears of the ends.
        clock: Told of every call from `submit` until its `on_end` has returned.
        function: What to call; must pickle, so it is defined at the top level of a module.
        name: What the threads and children are called.

    Raises:
        TypeError: If the function is a coroutine function, or cannot be found by a child.
        RuntimeError: If this is a child that still imports the main script.
    """

    def __init__(
        self, loop: Loop, clock: WorkOutside, function: Callable[[Any], Any], name: str = "qanat"
    ) -> None:
        """Check and pickle the function; children come with the calls."""
        if getattr(multiprocessing.current_process(), "_inheriting", False):
            raise RuntimeError(f"a process cannot be started while the main script is imported: {_GUARD}")
        self._function = function
        self._greeting = _pickled_function(function)
        self._name = name
        self._threads = Threads(loop, clock, name)
        self._idle: list[_Child] = []
        self._lock = Lock()
        self._ready_once = False
        self._hopeless: tuple[int, str] | None = None
        self._closing = False

    @property
    def running(self) -> list[str]:
        """Short descriptions of the calls that run at this moment."""
        errands = [call.item for call in self._threads.running]
        return [described(self._function, errand.item) for errand in errands if isinstance(errand, _Errand)]

    def submit(
        self, item: Any, on_end: Callable[[Call], object],
        hear: Callable[[list[bytes]], object] | None = None,
    ) -> Call:  # fmt: skip
        """Call `function(item)` in a child process.

        The call's error is what the function raised, with the child's traceback as a note; an
        error that does not pickle comes as the nearest built-in kind. It is a `ProcessDiedError`
        if the child died, and a TypeError if the item or the result does not pickle.

        Args:
            item: The only argument.
            on_end: Called later with the call, in the loop's thread, exactly once. Must not raise.
            hear: Called with what the call spawned, if it did, before its end, in another thread.

        Raises:
            RuntimeError: If `close` has begun, or no thread can be started and there is none yet.
        """
        if self._closing:
            raise RuntimeError("the processes are closed")

        def ended(call: Call) -> None:
            if call.error is not None:  # its frames are all ours; the child's are in the note
                call.error = BaseException.with_traceback(call.error, None)
            on_end(call)

        return self._threads.submit(self._converse, _Errand(item, hear), ended)

    def withdraw(self, call: Call) -> bool:
        """Take a call back that no thread has taken yet; True if its `on_end` will not be called."""
        return self._threads.withdraw(call)

    def kill(self, call: Call) -> None:
        """Kill the child that runs a call, whose `on_end` follows with a `ProcessDiedError`.

        Where the result is already in, nothing is killed, and `on_end` follows with that.
        """
        errand: _Errand | None = call.item
        if errand is None:
            return
        with self._lock:
            errand.killed = True
            if errand.child is not None:
                errand.child.kill()

    async def close(self) -> None:
        """Wait for the open calls, however long, then end the children and the threads.

        Takes no calls from here on. If the waiting is cancelled, a second `close` goes on with it.
        """
        self._closing = True
        await self._threads.wait_idle()
        while self._idle:
            self._threads.submit(_Child.dismiss, self._idle.pop(), _nothing)
        await self._threads.close()

    def _converse(self, errand: _Errand) -> Any:
        """Have one item worked on by a child; in a thread."""
        frame = _pickled_item(errand.item)
        child = self._idle_child(errand) or self._new_child(errand)
        answer = child.ask(frame)
        if answer is None:
            raise ProcessDiedError(self._lose(errand, child))
        self._let_go(errand, child)
        returned, value, *spawned = _unpickled(answer)
        if spawned and errand.hear is not None:
            errand.hear(spawned[0])
        if returned:
            return value
        raise error_from(value)

    def _idle_child(self, errand: _Errand) -> _Child | None:
        while True:
            try:
                child = self._idle.pop()
            except IndexError:
                return None
            if child.is_alive():
                self._attach(errand, child)
                return child
            child.bury()  # it died in peace: no job was with it

    def _new_child(self, errand: _Errand) -> _Child:
        if self._hopeless is not None:
            raise _stillborn(*self._hopeless)
        child = _Child(self._name)
        self._attach(errand, child)
        answer = child.ask(self._greeting)
        ready, report, *_ = (False, None) if answer is None else _unpickled(answer)
        if ready:
            self._ready_once = True
            return child
        exitcode = self._lose(errand, child, patience=_LEAVING if report else 0.0)
        if errand.killed:
            raise ProcessDiedError(exitcode)
        why = f"It cannot load the handler: {report[3]}" if report else _NOT_READY
        if exitcode is not None and exitcode > 0 and not self._ready_once:
            self._hopeless = exitcode, why  # Python itself ended it, and would end the next one so
        raise _stillborn(exitcode, why)

    def _attach(self, errand: _Errand, child: _Child) -> None:
        with self._lock:
            errand.child = child
            if errand.killed:
                child.kill()

    def _let_go(self, errand: _Errand, child: _Child) -> None:
        """Part from a child that has answered."""
        with self._lock:
            errand.child = None
        if child.killed:  # a moment too late for the job
            child.bury()
        else:
            self._idle.append(child)

    def _lose(self, errand: _Errand, child: _Child, patience: float = 0.0) -> int | None:
        """Part from a child that is of no more use and return its exit status."""
        with self._lock:
            errand.child = None
        return child.bury(patience)


def _pickled_function(function: Callable[[Any], Any]) -> bytes:
    """Pickle the handler, or say at once why a child could not have it."""
    plain = without_partials(function)
    for called in (plain, getattr(plain, "__call__", None)):  # noqa: B004 - to look at it
        if inspect.iscoroutinefunction(called) or inspect.isasyncgenfunction(called):
            raise TypeError(
                f"handler must be a plain function to run in a process, got the coroutine function "
                f"{function!r}; without executor= it runs on the event loop"
            )
    script = sys.modules["__main__"]
    if (
        getattr(plain, "__module__", None) == "__main__"
        and getattr(script, "__spec__", None) is None
        and getattr(script, "__file__", None) is None
    ):
        raise TypeError(
            f"handler must be importable to run in a process, got {function!r} of a session without "
            f"a file; put it into a module and import it from there"
        )
    try:
        return frame_of(function)
    except Exception as error:
        raise TypeError(
            f"handler must pickle to run in a process, got {function!r} ({error}); "
            f"define it at the top level of a module that can be imported"
        ) from error


def _pickled_item(item: Any) -> bytes:
    try:
        frame = frame_of(item)
    except BaseException as error:
        given = item.item if isinstance(item, Errand) else item
        raise TypeError(
            f"item must pickle to reach its process, got {kind_of(given)}: {said(error)}"
        ) from error
    # A callback is called with something else than its job's item.
    return with_job(frame, and_item=isinstance(item, Errand) and not item.may_spawn)


def _unpickled(answer: bytes) -> tuple[Any, ...]:
    try:
        found: tuple[Any, ...] = thing_in(answer)
    except BaseException as error:
        raise TypeError(f"the handler's result must unpickle outside its process: {said(error)}") from error
    return found


def _stillborn(exitcode: int | None, why: str) -> ProcessDiedError:
    """Say that a child ended before it was ready: the fault is not the job's."""
    error = ProcessDiedError(exitcode)
    error.args = (f"the process for the job ended with exit status {exitcode} before it was ready",)
    error.add_note(why.rstrip())
    return error


def _block_interrupts() -> None:
    """Keep Ctrl-C from this thread, which is ours, and so from the children that it starts."""
    mask = getattr(signal, "pthread_sigmask", None)
    if mask is not None:
        resource_tracker.ensure_running()  # which would unblock it if it started a tracker later
        mask(signal.SIG_BLOCK, {signal.SIGINT})


def _nothing(_call: Call) -> None:
    """Hear of a child that has left."""


def _kill_leftovers() -> None:
    for child in list(_alive):
        child.kill()


@atexit.register
def _end() -> None:
    """Leave no child behind when the interpreter ends without `close`.

    This runs before multiprocessing's own exit handler, which was registered earlier and would
    wait for the children for ever: for those, too, that a thread starts meanwhile, so none may.
    """
    global _is_ending  # noqa: PLW0603 - as global as the end of the interpreter
    with _births_and_deaths:
        _is_ending = True
        _kill_leftovers()
