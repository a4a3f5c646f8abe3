"""Measure each library beside the package of ours that offers its calls, on the same work.

Run it with `make bench ARGS="compat"`, or `python -m benchmarks.compat`. All of it runs on the newer
Python, which two of the libraries need. async-task-manager is on no package registry, so there is nothing to
stand beside.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from benchmarks.contenders.compat import WORKLOADS
from benchmarks.crew import Contender, in_turns, plan_of
from benchmarks.figures import median, ratio
from benchmarks.report import Table, Wanted, as_text, number

if TYPE_CHECKING:
    from benchmarks.crew import Plan

FASTER = 5.0
TREE = 20.0


def compat(plan: Plan) -> list[Table]:
    """Measure no-op work, the library and ours in turns."""
    title = "The calls of other libraries"
    if plan.newer is None:
        why = "werkpool and aqueue need Python 3.12 (`make bench NEWER=python3.12`)"
        return [Table(title, "", ("",), (), (), [why])]
    rows: list[list[str]] = []
    wanted: list[Wanted] = []
    failed: list[str] = []
    for workload, (_, _, in_process, _) in WORKLOADS.items():
        pair = [
            Contender(
                name,
                {
                    "way": f"benchmarks.contenders.compat:{workload}{name}",
                    "handler": "no-op", "items": plan.items, "concurrency": 10,
                },
                python=plan.newer,
            )
            for name in ("", ", ours")
        ]  # fmt: skip
        samples, missing = in_turns(pair, plan.runs)
        failed += [f"{workload}: {each}" for each in missing]
        if missing:
            continue
        theirs, ours = samples[""], samples[", ours"]
        times = ratio(theirs, ours)
        rows.append([
            workload,
            number(median(run.cpu for run in theirs) * 1e6),
            number(median(run.cpu for run in ours) * 1e6),
            number(times),
        ])  # fmt: skip
        if "by hand" in workload:
            continue
        least = 1.0 if not in_process else TREE if "tree" in workload else FASTER
        wanted.append(Wanted(f"{workload}, how many times faster,", times, least=least, unit=" x"))
    about = (
        f"{plan.items:,} no-op items, 10 at once, Python {plan.newer_version}, "
        f"median of {plan.runs} interleaved runs."
    )
    return [Table(title, about, ("", "CPU us", "ours", "x faster"), rows, wanted, failed)]


if __name__ == "__main__":
    import sys

    for table in compat(plan_of("--quick" in sys.argv)):
        print(as_text(table))
