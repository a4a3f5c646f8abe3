"""The flight recorder of a run: `record="run.trace"`."""

from __future__ import annotations

import logging
import math
import random
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from qanat._core.dispatcher.recording import RecordingDispatcher
from qanat._core.flight import FORMAT, Header, opening
from qanat._core.retry import Retry
from qanat._core.specs import noted_limit

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from qanat._app.rules import Rules
    from qanat._core.dispatcher import Dispatcher
    from qanat._core.limit import Limit

_log = logging.getLogger("qanat")


class Recorder:
    """Write what a dispatcher is told and answers into a file, made anew.

    The file is opened for each block, so nothing of it is open between. If it cannot be written any
    more, that is logged once, and the run goes on without.
    """

    def __init__(self, path: Path) -> None:
        """Make the file.

        Raises:
            OSError: If it cannot be made.
        """
        self._path = path
        self._broken = False
        path.write_bytes(b"")

    def begin(self, header: Header) -> None:
        """Write what the file begins with."""
        self.write(opening(header))

    def write(self, content: bytes) -> None:
        """Add to the file."""
        if self._broken:
            return
        try:
            with self._path.open("ab") as file:
                file.write(content)
        except OSError as error:
            self._broken = True
            _log.error("the recording %s ends here: %s", self._path, error)


def recorded(
    rules: Rules, name: str, *, seed: int | None, now: float
) -> tuple[int | None, Callable[..., Dispatcher] | None]:
    """Return the seed of a run, and what makes its dispatcher; both as they would be without a recorder.

    Raises:
        OSError: If the file cannot be made.
    """
    if rules.record is None:
        return seed, None
    recorder = Recorder(Path(rules.record))
    if seed is None:
        seed = random.SystemRandom().getrandbits(63)
    return seed, partial(_make, recorder, rules, name, seed, now)


def _make(
    recorder: Recorder, rules: Rules, name: str, seed: int, now: float, *,
    capacity: float, limits: Iterable[Limit], precision: float = 0.0, **options: Any,
) -> Dispatcher:  # fmt: skip
    """Make a dispatcher that records, its limits looked at before they are bound."""
    from importlib.metadata import version  # which takes long, and most runs record nothing

    bound = tuple(limits)
    specs = [noted_limit(limit, now) for limit in bound]
    recorder.begin(
        Header(
            format=FORMAT, version=version("qanat"), name=name, seed=seed, precision=precision,
            capacity=None if capacity == math.inf else capacity, limits=specs, rules=plain_rules(rules),
            words=str(rules), byteorder=sys.byteorder,
        )
    )  # fmt: skip
    return RecordingDispatcher(
        write=recorder.write, capacity=capacity, limits=bound, precision=precision, **options
    )


def plain_rules(rules: Rules) -> dict[str, Any]:
    """Return those of the rules that are plain values, for a plan that begins with them."""
    retry = Retry.of(rules.retry)
    found: dict[str, Any] = {
        "concurrency": rules.concurrency, "rate": rules.rate, "order": rules.order, "retry": retry.times,
        "timeout": rules.timeout, "buffer": rules.buffer, "max_failures": rules.max_failures,
    }  # fmt: skip
    return {name: value for name, value in found.items() if isinstance(value, (int, float, str))}
