"""The command `qanat`: what it returns and what it says when it cannot begin."""

from __future__ import annotations

import json
import os
import signal
import sys
import threading
from collections.abc import Callable, Generator
from contextlib import contextmanager

from qanat._app.text import safe_text
from qanat._cli.usage import UsageError
from qanat.errors import InputError


def main(arguments: list[str] | None = None) -> None:
    """Run the command line and end the process with its exit status.

    Args:
        arguments: The arguments without the program's name; None takes those of the process.
    """
    with _quiet_interrupts() as loaded:
        status = run(sys.argv[1:] if arguments is None else arguments, loaded)
    for number, stream in ((1, sys.stdout), (2, sys.stderr)):
        try:
            if stream is not None:
                stream.flush()
        except OSError:  # whoever read it has gone
            # Or the interpreter would try again at its end, and give a status of its own.
            os.dup2(os.open(os.devnull, os.O_WRONLY), number)
    sys.exit(status)


@contextmanager
def _quiet_interrupts() -> Generator[Callable[[], object]]:
    """Let Ctrl-C end the process without a word until what is given is called: modules are loaded."""

    def restore() -> None:
        if signal.getsignal(signal.SIGINT) is leave:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def leave(_number: int, _frame: object) -> None:
        os._exit(128 + signal.SIGINT)

    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, leave)
    try:
        yield restore
    finally:
        restore()


def run(arguments: list[str], loaded: Callable[[], object] = lambda: None) -> int:
    """Run the command line and return its exit status; `loaded` is called once all is imported."""
    try:
        from qanat._cli.app import read_call
    except ModuleNotFoundError as error:
        if (error.name or "").partition(".")[0] not in {"cyclopts", "rich"}:
            raise
        _say("the command line is an extra: pip install 'qanat[cli]'")
        return 2
    try:
        asked_for = read_call(arguments, _version)
        loaded()
        returned = asked_for()
    except (UsageError, InputError) as error:
        _say(str(error), as_json="--json" in arguments)
        return 2
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except BrokenPipeError:
        return 0
    return returned if isinstance(returned, int) else 0


def _version() -> str:
    from importlib.metadata import version

    return version("qanat")


def _say(text: str, *, as_json: bool = False) -> None:
    """Say what is wrong on standard error, in one line or in several if it has several."""
    if as_json:
        said = json.dumps({"event": "error", "text": text})
    else:
        said = "\n".join(safe_text(line, 2000) for line in f"qanat: {text}".splitlines())
    try:
        print(said, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass  # nobody to hear it
