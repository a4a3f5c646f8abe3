from __future__ import annotations

import multiprocessing
import os
import signal
import subprocess
import sys
import threading
from functools import partial
from types import ModuleType
from typing import TYPE_CHECKING, Any

import anyio
import pytest

from qanat._engine import process_child, process_frames
from qanat._engine import processes as module
from qanat._engine import threads as threads_module
from qanat._engine.clock import RealClock
from qanat._engine.loop import running_loop
from qanat._engine.process_frames import error_from, frame_of, report_of, thing_in
from qanat._engine.processes import Processes
from qanat._engine.threads import Call
from qanat.errors import ProcessDiedError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

# What the children run is mostly `eval` or `exec`, so that a test shows its handler on one line.
PID = "__import__('os').getpid()"


class Unloadable:
    """Pickles, but raises ValueError as it is unpickled."""

    def __reduce__(self) -> Any:
        return int, ("x",)


class Evaluated:
    """A handler that comes out of the pickle as the value of an expression."""

    def __init__(self, expression: str) -> None:
        self.expression = expression

    def __call__(self, item: Any) -> Any: ...

    def __reduce__(self) -> Any:
        return eval, (self.expression,)


async def called(processes: Processes, item: Any) -> Call:
    spot = running_loop().spot()
    call = processes.submit(item, lambda _call: spot.wake())
    await spot.wait()
    return call


async def value_of(processes: Processes, item: Any) -> Any:
    call = await called(processes, item)
    assert call.error is None
    return call.value


async def until(condition: Callable[[], object]) -> None:
    """Poll, for what happens in another thread or process."""
    with anyio.fail_after(30):
        while not condition():
            await anyio.sleep(0.002)


def having(function: Callable[[Any], Any]) -> Processes:
    return Processes(running_loop(), RealClock(), function, "ours")


def let_go_on(fifo: Path) -> None:
    """Write to a child that waits for it; waits for the child to get there."""
    fifo.write_text("go on")


def wait_for_writer(fifo: Path) -> None:
    fifo.read_text()


@pytest.fixture
async def evaluating(anyio_backend: Any) -> AsyncIterator[Processes]:
    processes = having(eval)
    yield processes
    await processes.close()
    assert not module._alive
    assert not multiprocessing.active_children()


@pytest.fixture
def fifo(tmp_path: Path) -> Path:
    """Make a pipe with a name: a child that reads it waits until the test writes it."""
    os.mkfifo(tmp_path / "fifo")
    return tmp_path / "fifo"


# --- calls ---


@pytest.mark.real
async def test_a_child_takes_one_item_after_the_other(evaluating: Processes):
    pids = {await value_of(evaluating, PID) for _ in range(3)}
    assert len(pids) == 1
    assert pids != {os.getpid()}


@pytest.mark.real
async def test_there_are_as_many_children_as_calls_at_once(evaluating: Processes, fifo: Path):
    pids: list[int] = []

    async def keep_pid(item: str) -> None:
        pids.append(await value_of(evaluating, item))

    async with anyio.create_task_group() as group:
        group.start_soon(keep_pid, f"open({os.fspath(fifo)!r}).read() and {PID}")
        await until(lambda: evaluating.running)
        await keep_pid(PID)
        let_go_on(fifo)
    assert len(set(pids)) == 2
    assert await value_of(evaluating, PID) in pids


@pytest.mark.real
async def test_an_exception_comes_with_the_traceback_of_the_child(evaluating: Processes):
    call = await called(evaluating, "1 / 0")
    assert isinstance(call.error, ZeroDivisionError)
    (note,) = call.error.__notes__
    assert note.startswith("In the child process:\nTraceback (most recent call last):\n")
    assert note.endswith('File "<string>", line 1, in <module>\nZeroDivisionError: division by zero')
    assert "qanat" not in note
    assert call.error.__traceback__ is None


@pytest.mark.real
async def test_an_exit_that_the_function_asks_for_is_the_error_of_its_job(evaluating: Processes):
    pid = await value_of(evaluating, PID)
    call = await called(evaluating, "__import__('sys').exit(3)")
    assert isinstance(call.error, SystemExit)
    assert call.error.code == 3
    assert await value_of(evaluating, PID) == pid


@pytest.mark.real
async def test_what_does_not_pickle_is_the_error_of_its_job(evaluating: Processes):
    unpicklable = await called(evaluating, lambda: None)
    assert isinstance(unpicklable.error, TypeError)
    assert str(unpicklable.error).startswith("item must pickle to reach its process, got builtins.function: ")
    assert not module._alive  # no child was troubled
    unloadable = await called(evaluating, Unloadable())
    assert isinstance(unloadable.error, TypeError)
    assert str(unloadable.error).startswith(
        "item must unpickle in the process that runs the job: ValueError: "
    )
    result = await called(evaluating, "lambda: None")
    assert isinstance(result.error, TypeError)
    assert str(result.error).startswith(
        "the handler's result must pickle to leave its process, got builtins.function: "
    )
    unloadable_result = await called(evaluating, "type('T', (), {'__reduce__': lambda _: (int, ('x',))})()")
    assert isinstance(unloadable_result.error, TypeError)
    assert str(unloadable_result.error).startswith(
        "the handler's result must unpickle outside its process: ValueError: "
    )
    assert await value_of(evaluating, "6 * 7") == 42


@pytest.mark.real
async def test_a_child_prints_where_its_parent_does_and_reads_nothing(
    evaluating: Processes, capfd: pytest.CaptureFixture[str]
):
    assert await value_of(evaluating, "__import__('sys').stdin.read()") == ""
    await value_of(evaluating, "print('heard')")
    await value_of(evaluating, "print('seen', file=__import__('sys').stderr)")
    assert capfd.readouterr() == ("heard\n", "seen\n")


@pytest.mark.real
async def test_running_calls_can_be_told_by_name(evaluating: Processes, fifo: Path):
    item = f"open({os.fspath(fifo)!r}).read()"
    call = evaluating.submit(item, lambda _call: None)
    await until(lambda: call.began)
    (told,) = evaluating.running
    assert told.startswith("eval(\"open('")
    let_go_on(fifo)
    await until(lambda: not evaluating.running)


# --- deaths ---


@pytest.mark.real
@pytest.mark.parametrize(
    ("item", "exitcode"),
    [
        ("__import__('os')._exit(7)", 7),
        ("__import__('signal').raise_signal(9)", -9),
        ("__import__('ctypes').string_at(0)", -signal.SIGSEGV),
        ("(__import__('os').closerange(3, 256), __import__('time').sleep(1000))", -9),
    ],
    ids=["exit", "killed", "segfault", "closes its pipe"],
)
async def test_a_child_that_dies_takes_its_job_with_it_and_is_replaced(
    evaluating: Processes, item: str, exitcode: int
):
    pid = await value_of(evaluating, PID)
    call = await called(evaluating, item)
    assert isinstance(call.error, ProcessDiedError)
    assert call.error.exitcode == exitcode
    assert await value_of(evaluating, PID) != pid


@pytest.mark.real
@pytest.mark.parametrize(
    "start",
    [
        "pid = subprocess.Popen(['sleep', '1000'], close_fds=False).pid",
        "pid = os.fork(); pid or time.sleep(1000)",
    ],
    ids=["started", "forked"],
)
async def test_what_a_child_leaves_behind_does_not_hide_its_death(start: str, tmp_path: Path):
    processes, left = having(exec), tmp_path / "pid"
    call = await called(
        processes,
        f"import os, subprocess, time; {start}; open({os.fspath(left)!r}, 'w').write(str(pid)); os._exit(5)",
    )
    os.kill(int(left.read_text()), signal.SIGKILL)
    assert isinstance(call.error, ProcessDiedError)
    assert call.error.exitcode == 5
    await processes.close()


@pytest.mark.real
async def test_a_child_that_died_at_leisure_costs_no_job(evaluating: Processes):
    pid = await value_of(evaluating, PID)
    (child,) = evaluating._idle
    module._kill_leftovers()
    await until(lambda: not child.is_alive())
    assert await value_of(evaluating, PID) != pid
    (child,) = evaluating._idle
    child.kill()
    await until(lambda: not child.is_alive())
    await evaluating.close()


@pytest.mark.real
async def test_a_call_is_ended_by_killing_its_child(evaluating: Processes, fifo: Path):
    told: list[Call] = []
    pid = await value_of(evaluating, PID)
    call = evaluating.submit(
        f"open({os.fspath(fifo)!r}, 'w') and __import__('time').sleep(1000)", told.append
    )
    wait_for_writer(fifo)  # the function runs
    evaluating.kill(call)
    await until(lambda: told)
    assert told == [call]
    assert call.error is not None
    assert await value_of(evaluating, PID) != pid


@pytest.mark.real
async def test_a_call_can_be_ended_before_it_has_a_child(evaluating: Processes):
    begun, gate, told = threading.Event(), threading.Event(), list[Call]()

    class Slow:
        def __reduce__(self) -> Any:
            begun.set()
            gate.wait(20)
            return str, ("1",)

    call = evaluating.submit(Slow(), told.append)
    assert begun.wait(20)
    evaluating.kill(call)
    gate.set()
    await until(lambda: told)
    assert isinstance(call.error, ProcessDiedError)
    assert str(call.error) == "the process that ran the job died with exit status -9"
    evaluating.kill(call)  # it has ended: nothing happens
    assert await value_of(evaluating, "6 * 7") == 42


@pytest.mark.real
async def test_a_call_can_be_ended_while_its_child_loads_the_handler():
    processes, calls, told = having(Evaluated("__import__('time').sleep(1000)")), list[Call](), list[Call]()
    for times in (1, 2):
        calls.append(processes.submit(None, told.append))
        await until(lambda: calls[-1].item.child)
        processes.kill(calls[-1])
        await until(lambda: calls == told)
        assert len(told) == times
        assert str(calls[-1].error) == "the process that ran the job died with exit status -9"
    await processes.close()


@pytest.mark.real
async def test_a_kill_that_comes_too_late_hits_no_other_job(
    evaluating: Processes, monkeypatch: pytest.MonkeyPatch
):
    ask, calls = module._Child.ask, list[Call]()

    def ask_and_be_killed(child: Any, frame: bytes) -> bytes | None:
        answer = ask(child, frame)
        if thing_in(answer or b"") != (True, None):
            evaluating.kill(calls[0])
        return answer

    monkeypatch.setattr(module._Child, "ask", ask_and_be_killed)
    spot = running_loop().spot()
    calls.append(evaluating.submit(PID, lambda _call: spot.wake()))
    await spot.wait()
    assert calls[0].error is None
    assert await value_of(evaluating, PID) != calls[0].value


# --- children that do not start ---


@pytest.mark.real
async def test_a_handler_that_does_not_load_is_told_to_every_job_and_tried_once(
    monkeypatch: pytest.MonkeyPatch,
):
    processes = having(Evaluated("__import__('nowhere_to_be_found')"))
    first = await called(processes, None)
    monkeypatch.setattr(module, "_Child", None)
    for call in (first, await called(processes, None)):
        assert isinstance(call.error, ProcessDiedError)
        assert call.error.exitcode == 1
        assert str(call.error) == "the process for the job ended with exit status 1 before it was ready"
        (note,) = call.error.__notes__
        assert note.startswith("It cannot load the handler: Traceback")
        assert note.endswith("ModuleNotFoundError: No module named 'nowhere_to_be_found'")
    await processes.close()


@pytest.mark.real
async def test_a_child_that_is_killed_before_it_is_ready_does_not_speak_for_the_next(tmp_path: Path):
    flag = os.fspath(tmp_path / "flag")
    processes = having(
        Evaluated(f"len if __import__('os').path.exists({flag!r}) else __import__('signal').raise_signal(9)")
    )
    call = await called(processes, "four")
    assert isinstance(call.error, ProcessDiedError)
    assert call.error.exitcode == -9
    (tmp_path / "flag").touch()
    assert await value_of(processes, "four") == 4
    await processes.close()


@pytest.mark.real
async def test_once_a_child_was_ready_every_job_tries_to_start_another(tmp_path: Path):
    flag = tmp_path / "flag"
    processes = having(Evaluated(f"open({os.fspath(flag)!r}, 'x') and eval"))
    assert await value_of(processes, "6 * 7") == 42
    await called(processes, "__import__('os')._exit(7)")
    assert isinstance((await called(processes, "6 * 7")).error, ProcessDiedError)
    flag.unlink()
    assert await value_of(processes, "6 * 7") == 42
    await processes.close()


async def test_a_process_that_the_system_does_not_start_is_the_error_of_its_job(
    monkeypatch: pytest.MonkeyPatch,
):
    def start(_process: object) -> None:
        raise BlockingIOError("Resource temporarily unavailable")

    monkeypatch.setattr(module._spawning.Process, "start", start)
    processes = having(eval)
    assert isinstance((await called(processes, "1")).error, BlockingIOError)
    assert not module._alive
    await processes.close()


# --- the handler ---


async def coroutine_function(item: object) -> None: ...


async def generator_function(item: object) -> Any:
    yield  # pragma: no cover - never called


class AsyncCallable:
    async def __call__(self, item: object) -> None: ...


@pytest.mark.parametrize(
    "handler",
    [coroutine_function, generator_function, AsyncCallable(), partial(partial(coroutine_function))],
    ids=["function", "generator", "object", "partial"],
)
async def test_a_coroutine_function_is_refused_at_once(handler: Any):
    with pytest.raises(TypeError, match="handler must be a plain function to run in a process, got the cor"):
        having(handler)


async def test_a_handler_that_does_not_pickle_is_refused_at_once():
    with pytest.raises(TypeError, match=r"handler must pickle .* define it at the top level of a module"):
        having(lambda item: item)


async def test_a_handler_of_a_session_without_a_file_is_refused_at_once(monkeypatch: pytest.MonkeyPatch):
    def handler(item: object) -> None: ...

    session = ModuleType("__main__")
    session.handler = handler  # type: ignore[attr-defined]  # as if it had been typed there
    handler.__module__, handler.__qualname__ = "__main__", "handler"
    monkeypatch.setitem(sys.modules, "__main__", session)
    with pytest.raises(TypeError, match=r"handler must be importable .* put it into a module"):
        having(handler)


async def test_a_child_that_imports_the_main_script_starts_no_child(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(multiprocessing.current_process(), "_inheriting", True, raising=False)
    with pytest.raises(RuntimeError, match="__main__"):
        having(eval)


# --- the end ---


@pytest.mark.real
async def test_close_lets_the_children_leave_in_peace(tmp_path: Path):
    processes, flag = having(exec), tmp_path / "flag"
    await value_of(processes, f"import atexit; atexit.register(open, {os.fspath(flag)!r}, 'x')")
    await processes.close()
    assert flag.exists()
    assert not module._alive
    with pytest.raises(RuntimeError, match="closed"):
        processes.submit("", lambda _call: None)


@pytest.mark.real
async def test_close_waits_for_the_calls_that_run(evaluating: Processes, fifo: Path):
    told, closed = list[Call](), anyio.Event()
    call = evaluating.submit(f"open({os.fspath(fifo)!r}).read()", told.append)

    async def close() -> None:
        await evaluating.close()
        assert told == [call]
        closed.set()

    async with anyio.create_task_group() as group:
        group.start_soon(close)
        await anyio.wait_all_tasks_blocked()
        let_go_on(fifo)
        assert not closed.is_set()
    assert call.value == "go on"


@pytest.mark.real
async def test_close_does_not_wait_for_ever_for_what_a_handler_left_running(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(module, "_LEAVING", 0.05)
    processes = having(exec)
    await value_of(processes, "from threading import *; Thread(target=Event().wait).start()")
    await processes.close()
    assert not module._alive


async def test_a_call_that_no_thread_has_taken_can_be_withdrawn(monkeypatch: pytest.MonkeyPatch):
    class Idle(threading.Thread):
        def start(self) -> None:
            if self.name.endswith("-last"):
                raise RuntimeError("can't start new thread")

        def join(self, timeout: float | None = None) -> None:
            pass

    monkeypatch.setattr(threads_module, "Thread", Idle)
    processes, told = having(eval), list[Call]()
    call = processes.submit("1", told.append)
    assert processes.withdraw(call)
    processes.kill(call)
    await processes.close()
    assert not told


# --- scripts ---

PREAMBLE = """
import os, signal, sys, time
import anyio
from qanat._engine.clock import clock_in_use
from qanat._engine.loop import running_loop
from qanat._engine.processes import Processes

async def called(processes, item):
    spot = running_loop().spot()
    call = processes.submit(item, lambda call: spot.wake())
    await spot.wait()
    return call

def having(function):
    return Processes(running_loop(), clock_in_use(), function)

"""


def started(tmp_path: Path, script: str) -> subprocess.Popen[str]:
    path = tmp_path / "script.py"
    path.write_text(PREAMBLE + script)
    return subprocess.Popen(
        [sys.executable, path],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    )


@pytest.mark.real
def test_a_script_without_a_guard_is_told_so(tmp_path: Path):
    script = """
async def main():
    processes = having(eval)
    for _ in range(3):
        call = await called(processes, "1")
        print(repr(call.error), call.error.__notes__)
    await processes.close()

anyio.run(main)
"""
    with started(tmp_path, script) as process:
        out, err = process.communicate(timeout=50)
    assert process.returncode == 0
    lines = out.splitlines()
    assert len(lines) == 3
    for line in lines:
        assert line.startswith("ProcessDiedError(")
        assert "before it was ready" in line
        assert 'under a guard, if __name__ == "__main__"' in line
    assert err.count("Traceback (most recent call last)") == 1
    assert "RuntimeError: a process cannot be started while the main script is imported" in err


@pytest.mark.real
@pytest.mark.parametrize("item", ["1", "time.sleep(1000)"], ids=["idle", "busy"])
def test_children_die_with_a_parent_that_is_killed(tmp_path: Path, item: str):
    script = f"""
def handler(item):
    print("begun", flush=True)
    {item}

async def main():
    processes = having(handler)
    await called(processes, None)
    print("ended", flush=True)
    await anyio.sleep_forever()

if __name__ == "__main__":
    anyio.run(main)
"""
    with started(tmp_path, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "begun\n"
        if item == "1":
            assert process.stdout.readline() == "ended\n"
        process.kill()
        process.communicate(timeout=50)  # ends when nobody is left who could write


@pytest.mark.real
def test_children_do_not_hear_an_interrupt(tmp_path: Path, fifo: Path):
    """Neither while Python starts in them nor while they run the handler."""
    script = f"""
def handler(item):
    return open({os.fspath(fifo)!r}).read()

async def main():
    processes = having(handler)
    calls = [processes.submit(1, lambda call: None)]
    while calls[0].item.child is None:
        await anyio.sleep(0.001)
    print("starting", flush=True)
    await processes._threads.wait_idle()
    print(calls[0].value, calls[0].error)
    await processes.close()

if __name__ == "__main__":
    signal.signal(signal.SIGINT, lambda *_: None)
    anyio.run(main, backend="trio")
"""
    with started(tmp_path, script) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "starting\n"
        os.killpg(process.pid, signal.SIGINT)
        with fifo.open("w") as pipe:
            os.killpg(process.pid, signal.SIGINT)
            pipe.write("unharmed")
        assert process.communicate(timeout=50) == ("unharmed None\n", "")


@pytest.mark.real
def test_a_script_that_does_not_close_ends_all_the_same(tmp_path: Path):
    script = """
async def main():
    processes = having(eval)
    print((await called(processes, "6 * 7")).value)
    processes.submit("__import__('time').sleep(1000)", print)

if __name__ == "__main__":
    anyio.run(main)
"""
    with started(tmp_path, script) as process:
        assert process.communicate(timeout=50) == ("42\n", "")
    assert process.returncode == 0


@pytest.mark.real
async def test_no_child_is_started_once_the_interpreter_is_ending(
    evaluating: Processes, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.setattr(module, "_is_ending", False)
    await value_of(evaluating, PID)
    (child,) = evaluating._idle
    module._end()
    await until(lambda: not child.is_alive())
    call = await called(evaluating, PID)
    assert isinstance(call.error, RuntimeError)
    assert "the interpreter is ending" in str(call.error)


# --- the child's side, on this one ---


@pytest.fixture
def pipe() -> Any:
    ours, theirs = multiprocessing.Pipe()
    with ours, theirs:
        yield ours, theirs


def answers(ours: Any) -> list[Any]:
    got = []
    while ours.poll():
        got.append(thing_in(ours.recv_bytes()))
    return got


def test_serve_answers_every_frame_until_it_is_told_goodbye(pipe: Any):
    ours, theirs = pipe
    for frame in (frame_of(len), frame_of("four"), frame_of([]), process_child.GOODBYE):
        ours.send_bytes(frame)
    assert process_child.serve(theirs) == 0
    assert answers(ours) == [(True, None), (True, 4), (True, 0)]


def test_serve_reports_what_is_raised(pipe: Any):
    ours, theirs = pipe
    for frame in (frame_of(eval), frame_of(Unloadable()), frame_of("1 / 0"), frame_of("lambda: 1"), b""):
        ours.send_bytes(frame)
    assert process_child.serve(theirs) == 0
    errors = [error_from(report) for returned, report in answers(ours) if not returned]
    assert [type(error) for error in errors] == [TypeError, ZeroDivisionError, TypeError]


def test_serve_reports_a_function_that_does_not_load(pipe: Any):
    ours, theirs = pipe
    ours.send_bytes(frame_of(Unloadable()))
    assert process_child.serve(theirs) == process_child.NO_FUNCTION
    ((returned, report),) = answers(ours)
    assert not returned
    assert isinstance(error_from(report), ValueError)


def test_serve_ends_when_the_parent_is_gone(pipe: Any):
    ours, theirs = pipe
    ours.close()
    assert process_child.serve(theirs) == process_child.NO_PARENT


def test_a_child_without_streams_does_not_mind(pipe: Any, monkeypatch: pytest.MonkeyPatch):
    ours, theirs = pipe
    monkeypatch.setattr(sys, "stdout", None)
    for frame in (frame_of(len), frame_of("four"), b""):
        ours.send_bytes(frame)
    assert process_child.serve(theirs) == 0


@pytest.mark.parametrize("posix", [True, False], ids=["posix", "elsewhere"])
@pytest.mark.parametrize("orphaned", [True, False], ids=["orphaned", "dismissed"])
def test_a_child_ignores_interrupts_and_ends_as_served(
    pipe: Any, monkeypatch: pytest.MonkeyPatch, posix: bool, orphaned: bool
):
    ours, theirs = pipe
    exits: list[int] = []
    at_fork: list[Any] = []
    monkeypatch.setattr(os, "_exit", exits.append)
    if posix:
        monkeypatch.setattr(os, "register_at_fork", lambda *, after_in_child: at_fork.append(after_in_child))
    else:
        monkeypatch.delattr(os, "register_at_fork")
        monkeypatch.delattr(signal, "pthread_sigmask")
    ours.send_bytes(frame_of(len))
    if orphaned:
        ours.close()
    else:
        ours.send_bytes(process_child.GOODBYE)
    before = signal.getsignal(signal.SIGINT)
    try:
        process_child.main(theirs)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGINT, before)
    assert exits == [process_child.NO_PARENT] * orphaned
    assert at_fork == [theirs.close] * posix


def test_a_child_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch):
    exits: list[int] = []

    class Parent:
        def join(self) -> None:
            assert not exits

    monkeypatch.setattr(os, "_exit", exits.append)
    monkeypatch.setattr(multiprocessing, "parent_process", Parent)
    process_child._die_with_parent()
    assert exits == [process_child.NO_PARENT]


def test_interrupts_cannot_be_blocked_everywhere(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delattr(signal, "pthread_sigmask")
    module._block_interrupts()


# --- exceptions that cross ---


class PickyError(ConnectionError):
    def __init__(self, host: str, port: int) -> None:
        super().__init__(f"{host}:{port} refused")


class PickyUnicodeError(UnicodeDecodeError):
    def __init__(self) -> None:
        super().__init__("ascii", b"\xff", 0, 1, "no")


class MuteError(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Impostor(Exception):
    def __reduce__(self) -> Any:
        return str, ("not an exception",)


class TidyError(Exception):
    def add_note(self, note: str) -> None:
        raise AttributeError("read only")


class LocalError(ValueError):
    def __reduce__(self) -> Any:
        raise SystemExit


def crossed(error: BaseException) -> BaseException:
    try:
        raise error
    except BaseException as caught:
        return error_from(thing_in(frame_of(report_of(caught, "elsewhere"))))


@pytest.mark.parametrize(
    ("error", "kind", "message"),
    [
        (ValueError("no"), ValueError, "no"),
        (KeyboardInterrupt(), KeyboardInterrupt, ""),
        (PickyError("host", 80), ConnectionError, "PickyError: host:80 refused"),
        (
            PickyUnicodeError(),
            UnicodeError,
            "PickyUnicodeError: 'ascii' codec can't decode byte 0xff in position 0: no",
        ),
        (LocalError("no"), ValueError, "LocalError: no"),
        (Impostor("no"), Exception, "Impostor: no"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, BaseException) else "",
)
def test_an_exception_arrives_as_itself_or_its_nearest_kind(
    error: BaseException, kind: type[BaseException], message: str
):
    arrived = crossed(error)
    assert type(arrived) is kind
    assert str(arrived) == message
    (note,) = arrived.__notes__
    assert "in crossed" in note


def test_an_exception_that_takes_no_note_arrives_without_one():
    assert repr(crossed(TidyError(7))) == "TidyError(7)"


def test_an_exception_without_words_arrives():
    assert isinstance(crossed(MuteError()), MuteError)
    assert process_frames.said(MuteError()) == "MuteError"


def test_an_exception_that_cannot_be_shown_arrives(monkeypatch: pytest.MonkeyPatch):
    def fails(_error: object) -> list[str]:
        raise RecursionError

    monkeypatch.setattr("traceback.format_exception", fails)
    assert crossed(ValueError("no")).__notes__ == ["In the child process:\nValueError: no"]


def test_an_exception_of_no_known_kind_arrives():
    arrived = error_from((None, ["UnicodeDecodeError", "NotBuiltIn"], "Odd: no", "text"))
    assert repr(arrived) == "RuntimeError('Odd: no')"
