"""Points at which tests let a process die, stop, fail or dawdle: `QANAT_FAILPOINT=put.committed:kill`.

Several are separated by commas; after another colon stands how often a point is passed before it acts
(`settle.written:kill:3`). Without the variable, when this module is imported, there is nothing to call.

A deed passes `put.before` and `put.committed`, in SQLite `put.written` between the two as well, and so
do `claim`, `settle`, `extend`, `rescue` and the others.

    kill   the process gets SIGKILL     stop   it gets SIGSTOP
    raise  StoreUnavailable is raised   delay  it sleeps for 0.2 s
"""

from __future__ import annotations

import os
import signal
import time
from typing import TYPE_CHECKING

from qanat.errors import StoreUnavailable

if TYPE_CHECKING:
    from collections.abc import Callable

VARIABLE = "QANAT_FAILPOINT"
DELAY = 0.2
"""Seconds of a delay: longer than a transaction, shorter than a lease."""


def _kill(_step: str) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _stop(_step: str) -> None:
    os.kill(os.getpid(), signal.SIGSTOP)


def _raise(step: str) -> None:
    raise StoreUnavailable(f"{step} failed, as {VARIABLE} asked for")


def _delay(_step: str) -> None:
    time.sleep(DELAY)


ACTIONS = {"kill": _kill, "stop": _stop, "raise": _raise, "delay": _delay}


def reacher(text: str) -> Callable[[str], None] | None:
    """Return what is to be called at each step; None if nothing is asked for.

    Raises:
        ValueError: If the text is not of the form above.
    """
    plans: dict[str, tuple[Callable[[str], None], int]] = {}
    for each in filter(None, text.split(",")):
        step, _, rest = each.partition(":")
        action, _, passes = rest.partition(":")
        if not step or action not in ACTIONS or not (passes or "0").isdecimal():
            raise ValueError(
                f"{VARIABLE} must be step:action or step:action:passes with one of {', '.join(ACTIONS)}, "
                f"got {each!r}"
            )
        plans[step] = (ACTIONS[action], int(passes or 0))
    if not plans:
        return None

    def reach(step: str) -> None:
        if step in plans:
            act, left = plans[step]
            plans[step] = (act, left - 1)
            if left <= 0:
                act(step)

    return reach


reach = reacher(os.environ.get(VARIABLE, ""))
