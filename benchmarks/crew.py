"""The processes that measure: one for each contender, asked in turn."""

from __future__ import annotations

import json
import platform
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from benchmarks.figures import Sample

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from types import TracebackType

ROOT = Path(__file__).parent.parent
TIME_WAY = "benchmarks.child:time_way"
NEWEST = (3, 12)
"""The Python from which on all peers can be installed."""


class MeasureError(Exception):
    """A contender failed; the text says how."""


@dataclass(frozen=True)
class Plan:
    """How much to measure.

    Attributes:
        runs: Counted runs of each contender.
        items: Items of a usual run.
        many: Items of a large run.
        seconds: Seconds for what is measured over time.
        quick: Whether this is only a look.
        newer: A newer Python with the peers that need one; None if there is none.
        newer_version: Its version, in words.
    """

    runs: int
    items: int
    many: int
    seconds: float
    quick: bool
    newer: str | None = None
    newer_version: str = ""


def newer_python() -> tuple[str | None, str]:
    """Return the interpreter with the peers that need a newer Python, if there is one, and its version."""
    if sys.version_info >= NEWEST:
        return sys.executable, platform.python_version()
    found = ROOT / ".venv-bench" / "newer" / "bin" / "python"
    if not found.exists():
        return None, ""
    code = "import platform, aqueue, qanat, werkpool; print(platform.python_version())"
    answer = subprocess.run([found, "-c", code], capture_output=True, text=True, check=False)
    return (str(found), answer.stdout.strip()) if answer.returncode == 0 else (None, "")


def plan_of(quick: bool) -> Plan:
    """Return how much to measure."""
    newer, version = newer_python()
    if quick:
        return Plan(
            runs=3, items=5_000, many=100_000, seconds=2, quick=True, newer=newer, newer_version=version
        )
    return Plan(
        runs=7, items=20_000, many=1_000_000, seconds=5, quick=False, newer=newer, newer_version=version
    )


@dataclass(frozen=True)
class Contender:
    """Someone who takes part.

    Attributes:
        name: For the table.
        arguments: What its probe is called with.
        probe: What its process calls, as `module:name`.
        python: The interpreter; None is this one.
    """

    name: str
    arguments: Mapping[str, Any] = field(default_factory=dict)
    probe: str = TIME_WAY
    python: str | None = None


class Child:
    """A process that measures one contender."""

    def __init__(self, contender: Contender) -> None:
        """Start it."""
        self.contender = contender
        self._process = subprocess.Popen(
            [contender.python or sys.executable, "-m", "benchmarks.child"],
            cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )  # fmt: skip

    def __enter__(self) -> Self:
        """Return itself."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """End the process."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        try:
            self._process.wait(10)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def send(self, **more: Any) -> None:
        """Ask for a measurement."""
        assert self._process.stdin is not None
        request = {"probe": self.contender.probe, "arguments": {**self.contender.arguments, **more}}
        self._process.stdin.write(json.dumps(request) + "\n")
        self._process.stdin.flush()

    def receive(self) -> dict[str, Any]:
        """Wait for the measurement that was asked for.

        Raises:
            MeasureError: If the contender failed.
        """
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(line) if line else {"error": "its process died"}
        if "error" in answer:
            raise MeasureError(answer["error"])
        result: dict[str, Any] = answer["result"]
        return result

    def ask(self, **more: Any) -> dict[str, Any]:
        """Ask and wait."""
        self.send(**more)
        return self.receive()


def in_turns(contenders: Sequence[Contender], runs: int) -> tuple[dict[str, list[Sample]], list[str]]:
    """Let contenders take turns, each in its own process, after one run each that does not count.

    Returns:
        The runs of each that came through, by name, and a line on each that did not.
    """
    children = [Child(contender) for contender in contenders]
    samples: dict[str, list[Sample]] = {contender.name: [] for contender in contenders}
    failed: dict[str, str] = {}
    try:
        for number in range(runs + 1):
            for child in children:
                name = child.contender.name
                if name in failed:
                    continue
                try:
                    result = child.ask(warm=number > 0)
                except MeasureError as error:
                    failed[name] = str(error)
                    continue
                if number:
                    samples[name].append(Sample(result["wall"], result["cpu"]))
    finally:
        for child in children:
            child.__exit__(None, None, None)
    return (
        {name: found for name, found in samples.items() if name not in failed},
        [f"{name} ({why})" for name, why in failed.items()],
    )
