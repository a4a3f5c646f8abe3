"""A command for each item: arguments, never text for a shell.

The command runs in a session of its own, so that a Ctrl-C on the terminal is ours to pass on or
not, and so that a timeout or a cancellation ends it together with all that it started.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, cast

import anyio
from anyio.abc import ByteReceiveStream, Process

from qanat._cli.results import as_json
from qanat._cli.usage import UsageError
from qanat.errors import CommandError

LONGEST_OUTPUT: Final = 128 * 2**20
"""Bytes that a command may write to standard output, which is kept in memory as the value."""
LONGEST_STDERR: Final = 64 * 2**10
"""Bytes of standard error that are kept: its end."""

_FIELD: Final = re.compile(r"\{([^{}]*)\}")
_NAME: Final = re.compile(r"[^\W\d]\w*")


class Command:
    """Run a command for each item and give what it wrote to standard output.

    `{}` in any argument is the item: a text as it is, anything else as JSON. `{field}` is a field
    of an item that has fields. If there is neither, the item is the last argument. In doubled
    braces, `{{field}}`, a name is left alone.
    """

    def __init__(self, arguments: tuple[str, ...]) -> None:
        """Keep the arguments.

        Raises:
            UsageError: If there is no such program.
        """
        if not arguments or not arguments[0]:
            raise UsageError("name a command after --, such as: qanat map urls.txt -- curl -s {}")
        program = arguments[0]
        if _FIELD.search(program) is None and shutil.which(program) is None:
            raise UsageError(f"there is no program {program!r} that could be run")
        self._arguments = arguments
        self._takes_item = any("{}" in argument for argument in arguments)
        self.__qualname__ = Path(program).name

    def arguments_for(self, item: object) -> list[str]:
        """Return the arguments for one item.

        Raises:
            LookupError: If an argument names a field that the item does not have.
        """
        whole = item if isinstance(item, str) else as_json(item)
        fields = cast("Mapping[str, Any]", item) if isinstance(item, dict) else None
        used = self._takes_item

        def filled(found: re.Match[str]) -> str:
            nonlocal used
            name, text = found.group(1), found.string
            if not name:
                return whole
            if fields is None or (
                text[: found.start()].endswith("{") and text[found.end() :].startswith("}")
            ):
                return found.group()
            if name in fields:
                used = True
                value = fields[name]
                return value if isinstance(value, str) else as_json(value)
            if _NAME.fullmatch(name):
                raise LookupError(f"the item has no field {name!r} for the argument {text!r}")
            return found.group()

        arguments = [_FIELD.sub(filled, argument) for argument in self._arguments]
        return arguments if used else [*arguments, whole]

    async def __call__(self, item: object) -> str:
        """Run the command for an item.

        Raises:
            CommandError: If its exit status is not 0.
            OSError: If it could not be started.
        """
        process = await anyio.open_process(
            self.arguments_for(item),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            start_new_session=True,
        )
        assert process.stdout is not None  # noqa: S101 - asked for
        assert process.stderr is not None  # noqa: S101
        written: list[bytes] = []
        errors = deque[bytes]()
        ended = too_long = False
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(_keep_end, process.stderr, errors)
                too_long = not await _keep_all(process.stdout, written)
                if too_long:
                    kill_all(process)
            status = await process.wait()
            ended = True
        finally:
            with anyio.CancelScope(shield=True):
                if not ended:
                    kill_all(process)
                await process.aclose()
        if too_long:
            raise ValueError(f"the command wrote more than {LONGEST_OUTPUT:,} bytes to its standard output")
        if status != 0:
            raise CommandError(status, b"".join(errors)[-LONGEST_STDERR:].decode(errors="replace"))
        return b"".join(written).decode(errors="replace").removesuffix("\n")


async def _keep_all(stream: ByteReceiveStream, into: list[bytes]) -> bool:
    """Read a stream to its end; False if it is too long to be kept."""
    size = 0
    with suppress(anyio.BrokenResourceError):
        async for chunk in stream:
            size += len(chunk)
            if size > LONGEST_OUTPUT:
                return False
            into.append(chunk)
    return True


async def _keep_end(stream: ByteReceiveStream, into: deque[bytes]) -> None:
    """Read a stream to its end and keep the last of it."""
    size = 0
    with suppress(anyio.BrokenResourceError):
        async for chunk in stream:
            into.append(chunk)
            size += len(chunk)
            while size - len(into[0]) >= LONGEST_STDERR:
                size -= len(into.popleft())


def kill_all(process: Process) -> None:
    """Kill a process and all that it started and did not give a session of its own."""
    try:
        if hasattr(os, "killpg"):
            # The session's first process gave its number to the group.
            os.killpg(process.pid, signal.SIGKILL)
        else:
            process.kill()
    except (ProcessLookupError, PermissionError):
        pass  # all of it has gone
