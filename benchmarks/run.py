"""Measure qanat beside floors written by hand and beside its peers, and write the figures down.

Run it with `make bench`; `BENCH=quick make bench` takes a short look and writes nothing, and
`make bench ARGS="no-op memory"` runs these scenarios alone. Nothing here passes or fails: each
wanted figure is printed with its target and whether it holds.
"""

from __future__ import annotations

import argparse
import os
import platform
import subprocess
import sys
import time
from typing import TYPE_CHECKING

from benchmarks.compat import compat
from benchmarks.crew import ROOT, Plan
from benchmarks.limits import limits
from benchmarks.queues import queues
from benchmarks.redis_store import redis_store
from benchmarks.report import as_markdown, as_text, between_markers, wanted_as_markdown
from benchmarks.scenarios.attempts import retries, timeouts
from benchmarks.scenarios.calls_in_threads import calls_in_threads
from benchmarks.scenarios.loops import loops
from benchmarks.scenarios.memory import memory
from benchmarks.scenarios.overhead import no_op, pause
from benchmarks.scenarios.pacing import pacing
from benchmarks.scenarios.scale import many_at_once, many_in_all
from benchmarks.scenarios.timer import timer
from benchmarks.sqlite_store import sqlite_store
from benchmarks.trees import trees

if TYPE_CHECKING:
    from collections.abc import Callable

    from benchmarks.report import Table

PAGE = ROOT / "docs" / "explanation" / "speed.md"
NEWEST = (3, 12)
"""The Python from which on all peers can be installed."""

SCENARIOS: dict[str, Callable[[Plan], list[Table]]] = {
    "no-op": no_op,
    "sleep": pause,
    "timeout": timeouts,
    "retry": retries,
    "many-at-once": many_at_once,
    "many-in-all": many_in_all,
    "memory": memory,
    "rate": pacing,
    "timer": timer,
    "loops": loops,
    "threads": calls_in_threads,
    "limits": limits,
    "trees": trees,
    "compat": compat,
    "sqlite-store": sqlite_store,
    "redis": redis_store,
    "queues": queues,
}


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


def main() -> None:
    """Measure what was asked for."""
    parser = argparse.ArgumentParser(prog="make bench", description=__doc__)
    parser.add_argument(
        "scenario", nargs="*", help=f"what to run, all if none is named: {', '.join(SCENARIOS)}"
    )
    parser.add_argument("--quick", action="store_true", help="take a short look; the same as BENCH=quick")
    arguments = parser.parse_args()
    if unknown := [name for name in arguments.scenario if name not in SCENARIOS]:
        parser.error(f"scenario must be one of {', '.join(SCENARIOS)}, got {unknown[0]!r}")
    plan = plan_of(arguments.quick or os.environ.get("BENCH") == "quick")
    names = arguments.scenario or list(SCENARIOS)
    began = time.monotonic()
    tables: list[Table] = []
    for name in names:
        for table in SCENARIOS[name](plan):
            print(as_text(table), end="\n\n", flush=True)
            tables.append(table)
    missed = sum(not each.holds for table in tables for each in table.wanted)
    of = sum(len(table.wanted) for table in tables)
    print(f"{of - missed} of {of} wanted figures hold; {time.monotonic() - began:.0f} s")
    if not plan.quick and not arguments.scenario:
        write(tables, plan)


def write(tables: list[Table], plan: Plan) -> None:
    """Write the figures into the documentation."""
    said = (
        f"Made with `make bench` on Python {platform.python_version()}, "
        f"{plan.runs} interleaved runs of each unless a table says otherwise."
    )
    figures = "\n".join([said, "", wanted_as_markdown(tables), *map(as_markdown, tables)])
    PAGE.write_text(between_markers(PAGE.read_text(encoding="utf-8"), figures), encoding="utf-8")
    print(f"written to {PAGE.relative_to(ROOT)}")


if __name__ == "__main__":
    main()
