"""What is sent to SQLite: constants with parameters, and none that goes through a whole table."""

from __future__ import annotations

import ast
import re
import sqlite3
from importlib import import_module
from pathlib import Path

import pytest

from qanat._core.store.values import Conf, NewJob, Settle
from qanat._stores.sqlite import schema
from tests._stores.sqlite.bench import HandClock, open_store

ROOM = Path(schema.__file__).parent
MODULES = sorted(
    path.stem for path in ROOM.glob("*.py") if path.stem not in {"__init__", "opener", "paths", "trouble"}
)
SENDERS = {"execute", "executemany", "executescript"}

SEEN_WHOLE = {
    "checking": "a check reads all that there is",
    "looking._LEASED": "leases are few, and sorted",
    "store._QUEUES": "all queues are asked for",
    "plain._INSERT_MANY": "the rows that it goes through are its own",
}
"""Statements that may go through many rows, or sort, and why."""

COUNTED = {"plain._INSERT", "plain._INSERT_MANY"}
"""Statements whose parameters are numbered by a function, as there are 403 of them."""


def statements() -> dict[str, str]:
    found: dict[str, str] = {}
    for name in MODULES:
        module = import_module(f"qanat._stores.sqlite.{name}")
        for constant, value in vars(module).items():
            if isinstance(value, str) and value.startswith(
                ("SELECT ", "INSERT ", "UPDATE ", "DELETE ", "REPLACE ")
            ):
                found[f"{name}.{constant}"] = value
    return found


STATEMENTS = statements()


@pytest.fixture(scope="module")
def connection():
    connection = sqlite3.connect(":memory:")
    for statement in schema.KIND.schema:
        connection.execute(statement)
    yield connection
    connection.close()


def plan(connection: sqlite3.Connection, statement: str) -> list[str]:
    numbered = [int(number) for number in re.findall(r"\?([0-9]+)", statement)]
    count = max(numbered) if numbered else statement.count("?")
    parameters: tuple[str, ...] | dict[str, float] = ("1",) * count
    if ":queue" in statement:
        parameters = {"queue": 1, "now": 1.0, "then": 1.0}
    return [row[3] for row in connection.execute("EXPLAIN QUERY PLAN " + statement, parameters)]


def test_all_statements_are_known():
    assert len(STATEMENTS) > 60


@pytest.mark.parametrize("name", STATEMENTS)
def test_no_statement_of_a_deed_goes_through_a_table(connection, name):
    steps = plan(connection, STATEMENTS[name])
    if name in SEEN_WHOLE or name.partition(".")[0] in SEEN_WHOLE:
        return
    # What json_each gives is the batch itself, and a scan of a subquery is one of what it found.
    scans = [step for step in steps if step.startswith("SCAN") and "VIRTUAL TABLE" not in step]
    assert [step for step in scans if "SCAN CONSTANT ROW" not in step] == []
    assert [step for step in steps if "TEMP B-TREE" in step] == []


@pytest.mark.parametrize(
    ("name", "index"),
    [
        ("claiming._FIRST", "jobs_ready"),
        ("claiming._NEXT", "jobs_ready"),
        ("claiming._SUSPECTS", "jobs_suspect"),
        ("claiming._DUE", "jobs_due"),
        ("claiming._FIRST_DUE", "jobs_due"),
        ("claiming._FIRST_LEASE", "jobs_lease"),
        ("settling._EXPIRED", "jobs_lease"),
        ("settling._OVER", "jobs_expiring"),
        ("sheet._LOAD", "jobs_id"),
        ("looking._STATE", "jobs_state"),
        ("looking._CHILDREN", "jobs_parent"),
        ("looking._READY", "jobs_ready"),
    ],
)
def test_statement_goes_by_its_index(connection, name, index):
    assert any(f"INDEX {index} " in step for step in plan(connection, STATEMENTS[name]))


def _is_constant(node: ast.expr) -> bool:
    if isinstance(node, ast.Constant):
        return isinstance(node.value, str)
    if isinstance(node, ast.Name):
        return node.id.isupper() or node.id == "statement"
    return False


@pytest.mark.parametrize("name", MODULES)
def test_statements_are_constants(name):
    """User text reaches SQLite as a parameter only: what is sent has a name in capitals, or stands there."""
    tree = ast.parse((ROOM / f"{name}.py").read_text())
    calls = [
        node
        for node in ast.walk(tree)
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in SENDERS
    ]
    assert [ast.unparse(call) for call in calls if not _is_constant(call.args[0])] == []


@pytest.mark.parametrize("name", MODULES)
def test_constants_are_made_of_constants(name):
    """No f-string, no format: a statement is text and the names of columns, joined when it is imported."""
    tree = ast.parse((ROOM / f"{name}.py").read_text())
    for node in tree.body:
        if isinstance(node, ast.AnnAssign | ast.Assign) and node.value is not None:
            target = node.target if isinstance(node, ast.AnnAssign) else node.targets[0]
            if f"{name}.{ast.unparse(target)}" in STATEMENTS.keys() - COUNTED:
                inner = [type(part).__name__ for part in ast.walk(node.value)]
                assert set(inner) <= {"Constant", "BinOp", "Add", "Name", "Load"}


def steps_of_deaths(folder: Path, families: int, after: str) -> int:
    """Return how many hundred steps SQLite takes for a claim in which that many children die of age."""
    clock = HandClock()
    store = open_store(folder / f"{families}-{after}.db", clock)
    store.conf("q", Conf(max_age=5.0))
    store.put("q", [NewJob(id=f"p{each}") for each in range(families)])
    parents = store.claim("q", families, worker="w", lease=60.0).jobs
    store.settle(
        "q",
        [
            Settle(id=job.id, token=job.token, kind="done", children=(NewJob(id=f"c{job.id}"),), after=after)
            for job in parents
        ],
    )
    clock.advance(6.0)
    steps = 0

    def count() -> None:
        nonlocal steps
        steps += 1

    store._database._connection.set_progress_handler(count, 100)  # type: ignore[union-attr]
    claim = store.claim("q", 1000, worker="w", lease=60.0)
    assert sum(ended.id.startswith("c") for ended in claim.ended) == families
    assert len(claim.jobs) == (families if after else 0)
    store.close()
    return steps


@pytest.mark.parametrize("after", ["", "callback"])
def test_claim_in_which_many_children_die_costs_each_the_same(tmp_path, after):
    """Four times as many take four times as long, and not sixteen times."""
    few, many = (steps_of_deaths(tmp_path, families, after) for families in (50, 200))
    assert many < 7 * few
