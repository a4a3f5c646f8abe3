"""Call the command line as users do, in a directory of its own."""

from __future__ import annotations

import importlib
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from threading import Thread
from typing import TYPE_CHECKING, Any
from unittest import mock

from qanat._cli.main import run

if TYPE_CHECKING:
    from collections.abc import Generator

APP = """
import asyncio, os, time

def same(item): return item
async def upper(item): return item.upper()
def fail(item): raise ValueError(f"no {item}")
def fail_on_b(item):
    if item == "b": raise ValueError("no b")
    return item
def odd(item): return {"object": object(), "set": {1}, "nan": float("nan"), "good": 1}[item]
def prints(item): print("printed", item); os.system("echo from a child"); return item
async def nap(item):
    await asyncio.sleep(float(item)); return item
def mark(item):
    open(f"started-{item}", "w").close(); time.sleep(0.2); return item
async def touch_and_sleep(item):
    open(f"started-{item}", "w").close()
    await asyncio.sleep(1.0 if item == "1" else 60)
    return item
async def quick_then_slow(item):
    open(f"started-{item}", "w").close()
    await asyncio.sleep(0.05 if int(item) <= 2 else 0.7)
    return item
def block(item):
    open(f"started-{item}", "w").close(); time.sleep(60)
async def block_loop(item):
    open(f"started-{item}", "w").close(); time.sleep(60)
def flaky(item, seen={}):
    seen[item] = seen.get(item, 0) + 1
    if seen[item] < 3: raise OSError("again")
    return seen[item]
def flaky_zero(item): return item if item != "0" else flaky(item) and item
def length(item): return len(item)
def tree(item):
    import qanat
    job = qanat.current_job()
    if len(item) < 3: job.spawn(item + "x"); job.spawn(item + "y", handler=upper)
    if item == "a": job.after_children(lambda children: children.values(), gather=True)
    return item
def odd_tree(item):
    import qanat
    qanat.current_job().spawn({1}, handler=give_set)
    qanat.current_job().after_children(lambda children: {1})
    return item
def give_set(item): return item
def host(item): return item["host"]
def add(item): item["more"] = 1; return item
class Things:
    def method(self, item): return "method " + item
things = Things()
number = 5
two = lambda a, b: 1
"""


def environment(**more: str) -> dict[str, str]:
    """Return the environment for a call, without variables of ours from outside."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("QANAT")}
    for name in ("NO_COLOR", "TERM", "COLUMNS", "LINES"):
        kept.pop(name, None)
    return {**kept, "PYTHONWARNINGS": "error", **more}


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-m", "qanat", *arguments]


@dataclass(frozen=True)
class Ran:
    """How a call ended."""

    returncode: int
    stdout: str
    stderr: str


def call(where: Path, *arguments: str, stdin: str | bytes = b"", **variables: str) -> Ran:
    """Run `qanat` in this process, with descriptors, environment and directory of its own."""
    given = stdin.encode() if isinstance(stdin, str) else stdin
    with in_directory(where), mock.patch.dict(os.environ, environment(**variables), clear=True):
        kept = [os.dup(fd) for fd in range(3)]
        files = [tempfile.TemporaryFile() for _ in range(2)]  # noqa: SIM115 - closed below
        reading, writing = os.pipe()
        writer = Thread(target=_fill, args=(writing, given))
        writer.start()
        try:
            for fd, source in enumerate((reading, files[0].fileno(), files[1].fileno())):
                os.dup2(source, fd)
            with (
                open(1, "w", closefd=False) as out,
                open(2, "w", buffering=1, closefd=False) as err,
                mock.patch.multiple(sys, stdout=out, stderr=err),
            ):
                status = run(list(arguments))
        finally:
            for fd, source in enumerate(kept):
                os.dup2(source, fd)
                os.close(source)
            os.close(reading)
            writer.join()
        said: list[str] = []
        for file in files:
            file.seek(0)
            said.append(file.read().decode(errors="surrogateescape"))
            file.close()
    return Ran(status, *said)


@contextmanager
def in_directory(where: Path) -> Generator[None]:
    """Make a directory with the handlers of these tests the current one, and forget its modules."""
    if not (where / "app.py").exists():
        (where / "app.py").write_text(APP)
    before, path, modules = Path.cwd(), list(sys.path), set(sys.modules)
    os.chdir(where)
    try:
        yield
    finally:
        os.chdir(before)
        sys.path[:] = path
        for name in set(sys.modules) - modules:
            if str(getattr(sys.modules[name], "__file__", "")).startswith(str(where)):
                del sys.modules[name]
        importlib.invalidate_caches()


def _fill(fd: int, content: bytes) -> None:
    try:
        with open(fd, "wb", buffering=0) as pipe:
            rest = memoryview(content)
            while rest:
                rest = rest[pipe.write(rest) :]
    except BrokenPipeError:
        pass  # not all was asked for


def begin(where: Path, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Start `qanat` and return at once."""
    if not (where / "app.py").exists():
        (where / "app.py").write_text(APP)
    variables = options.pop("env", {})
    options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "stdin": subprocess.DEVNULL, **options}
    return subprocess.Popen(command(*arguments), cwd=where, env=environment(**variables), **options)


def wait_for(where: Path, pattern: str, number: int = 1, seconds: float = 20.0) -> None:
    """Wait until so many files of that name are there."""
    end = time.monotonic() + seconds
    while len(list(where.glob(pattern))) < number:
        assert time.monotonic() < end, f"{number} x {pattern} did not appear"
        time.sleep(0.01)


def ended(process: subprocess.Popen[bytes], seconds: float = 20.0) -> tuple[int, str, str]:
    """Wait for the end of a call and return its status and what it wrote."""
    try:
        out, err = process.communicate(timeout=seconds)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.communicate()
        raise
    return process.returncode, (out or b"").decode(), (err or b"").decode()


def results(text: str) -> list[dict[str, Any]]:
    """Return the objects of some lines, each of which has to be whole."""
    assert text == "" or text.endswith("\n")
    return [json.loads(line) for line in text.splitlines()]


def values(text: str) -> list[Any]:
    return [result["value"] for result in results(text)]
