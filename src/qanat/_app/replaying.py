"""`replay`: every decision of a recording once more."""

from __future__ import annotations

import os
import random
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

import msgspec

from qanat._app.rules import Rules
from qanat._core.dispatcher.replaying import OpaqueError, Replay
from qanat._core.flight import Flight, FlightError
from qanat.errors import InputError

if TYPE_CHECKING:
    from qanat._app.rule_args import RuleArgs
    from qanat._core.limit import Limit


class Replayed(msgspec.Struct, frozen=True):
    """What came of a replay; `str` says it in words.

    Attributes:
        path: The recording.
        rules: The rules of the run, in words.
        decisions: How many decisions were the same.
        difference: The first that was not, in words; None if all were.
        torn: Bytes at the end of the file that were torn, and cut off.
    """

    path: str
    rules: str
    decisions: int
    difference: str | None
    torn: int

    def __str__(self) -> str:
        """Say it in a few lines."""
        lines = [f"{self.path}: {self.rules}"]
        if self.torn:
            lines.append(f"the recording was cut off: the last {self.torn:,} bytes are torn")
        if self.difference is None:
            lines.append(f"{self.decisions:,} decisions, all the same")
        else:
            lines.append(f"{self.decisions:,} decisions are the same, then: {self.difference}")
        return "\n".join(lines)


def read_flight(path: str | os.PathLike[str]) -> Flight:
    """Read a recording.

    Raises:
        InputError: If it cannot be read, or is of another format.
    """
    name = os.fspath(path)
    try:
        return Flight(Path(path).read_bytes())
    except OSError as error:
        raise InputError(name, None, error.strerror or str(error)) from None
    except (FlightError, msgspec.MsgspecError) as error:
        raise InputError(name, None, str(error)) from None


def replay(
    path: str | os.PathLike[str], *, rules: Rules | None = None, **options: Unpack[RuleArgs]
) -> Replayed:
    """Make every decision of a recording once more, and compare.

    Args:
        path: What `record=` wrote.
        rules: The rules of the run, with limits as they were at its beginning: needed only if they
            hold objects of your own that a file cannot hold.
        **options: Single rules, see `Rules`; they win over `rules`.

    Returns:
        How many decisions were the same, and the first that was not.

    Raises:
        InputError: If the file cannot be read, is of another format, or holds what no run records.
        ValueError: If the rules hold objects of your own, and were not given.
        TypeError: If a rule is of the wrong kind.
    """
    flight = read_flight(path)
    limits: tuple[Limit, ...] | None = None
    own: Rules | None = None
    if rules is not None or options:
        own = Rules.of(rules, options)
        limits = own.all_limits
    try:
        done = Replay(
            flight, random.Random(flight.header.seed),
            limits=limits,
            make_order=None if own is None else own.make_order,
            lane_limits=None if own is None else own.lane_limits,
        ).run()  # fmt: skip
    except FlightError as problem:
        raise InputError(os.fspath(path), None, str(problem)) from problem.__cause__
    except OpaqueError as problem:
        raise ValueError(
            f"{problem} of the run are objects of your own or were used before it, which a file cannot hold: "
            f"call qanat.testing.replay({os.fspath(path)!r}, rules=...) with the same rules"
        ) from None
    return Replayed(os.fspath(path), flight.header.words, done.decisions, done.difference, flight.torn)
