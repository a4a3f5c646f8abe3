"""`qanat map --journal`: a command that was cut short, given again, does the rest."""

from __future__ import annotations

import json
import os
import random
import signal
import sqlite3
import subprocess
import time
from collections import Counter
from itertools import product
from typing import TYPE_CHECKING, Any

import pytest

from qanat._cli.completing import Completion
from qanat._cli.usage import UsageError
from qanat._cli.writing import open_output
from tests._cli.shell import APP, begin, call, command, ended, environment, results, wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MORE = """
async def slow(item):
    await asyncio.sleep(0.02)
    return {"item": item}
def counted(item):
    with open("calls", "a") as calls: calls.write(item + "\\n")
    with open("bad") as bad: words = bad.read().split()
    if item in words: raise ValueError("bad " + item)
    return item
def large(item): time.sleep(0.01); return item * 5000
class Unnamed:
    def __call__(self, item): return item
unnamed = Unnamed()
async def climb(item):
    import qanat
    job = qanat.current_job()
    if len(item) < 4:
        job.spawn(item + "x"), job.spawn(item + "y")
    if len(item) < 3:
        job.after_children(add_up, gather=True)
    await asyncio.sleep(0.05)
    with open("calls", "a") as calls: calls.write(item + "\\n")
    return 1
async def add_up(children):
    with open("added", "a") as added: added.write(f"{sum(children.values())}\\n")
    return 1 + sum(children.values())
"""


@pytest.fixture
def where(tmp_path: Path) -> Path:
    (tmp_path / "app.py").write_text(APP + MORE)
    (tmp_path / "bad").write_text("")
    (tmp_path / "calls").write_text("")
    return tmp_path


def lines(where: Path, name: str = "out.jsonl") -> list[tuple[Any, ...]]:
    """Return the lines but for their times."""
    return [
        tuple(json.dumps(found[name]) for name in ("id", "item", "ok", "value", "error", "attempts"))
        for found in results((where / name).read_text())
    ]


def write(where: Path, *items: str, name: str = "items.txt") -> None:
    (where / name).write_text("".join(f"{item}\n" for item in items))


def calls(where: Path) -> list[str]:
    found = (where / "calls").read_text().split()
    (where / "calls").write_text("")
    return found


def counted(where: Path, *more: str) -> tuple[int, str]:
    flags = ["--journal", "run.db", *(["--no-progress"] if "--progress" not in more else []), *more]
    ran = call(where, "map", "app:counted", "items.txt", "-o", "out.jsonl", *flags)
    return ran.returncode, ran.stderr


def test_second_run_starts_nothing_and_leaves_the_output(where):
    write(where, "a", "b", "c")
    assert counted(where) == (0, "")
    first = (where / "out.jsonl").read_bytes()
    assert sorted(calls(where)) == ["a", "b", "c"]
    assert counted(where) == (0, "")
    assert (where / "out.jsonl").read_bytes() == first
    assert calls(where) == []


def test_summary_says_how_many_came_from_the_journal(where):
    write(where, "a", "b")
    counted(where)
    assert "2 of 2 done, 2 of them from the journal in" in counted(where, "--progress")[1]


def test_failed_line_is_replaced_when_its_item_runs_again(where):
    write(where, "a", "b", "c")
    (where / "bad").write_text("b")
    assert counted(where)[0] == 1
    (where / "bad").write_text("")
    assert counted(where)[0] == 0
    assert calls(where)[-1] == "b"
    assert sorted(line[:4] for line in lines(where)) == [
        ("1", '"a"', "true", '"a"'), ("2", '"b"', "true", '"b"'), ("3", '"c"', "true", '"c"')
    ]  # fmt: skip


def test_retry_failed_runs_what_failed_only(where):
    write(where, "a", "b")
    (where / "bad").write_text("b")
    counted(where)
    calls(where)
    write(where, "a", "b", "c")
    (where / "bad").write_text("")
    assert counted(where, "--retry-failed") == (0, "")
    assert calls(where) == ["b"]
    assert [line[1] for line in lines(where)] == ['"a"', '"b"']


def test_fresh_forgets_what_was_done(where):
    write(where, "a")
    counted(where)
    status, said = counted(where, "--fresh")
    assert status == 2
    assert "out.jsonl is not empty" in said
    assert counted(where, "--fresh", "--overwrite") == (0, "")
    assert calls(where) == ["a", "a"]
    assert len(lines(where)) == 1


def test_append_and_overwrite_write_every_line(where):
    write(where, "a", "b")
    counted(where)
    assert counted(where, "--append") == (0, "")
    assert len(lines(where)) == 4
    assert counted(where, "--overwrite") == (0, "")
    assert len(lines(where)) == 2
    assert len(calls(where)) == 2


def test_output_that_is_gone_is_written_from_the_journal(where):
    write(where, "a", "b")
    counted(where)
    (where / "out.jsonl").unlink()
    assert counted(where) == (0, "")
    assert len(lines(where)) == 2
    assert len(calls(where)) == 2
    ran = call(where, "map", "app:counted", "items.txt", "--journal", "run.db")
    assert len(results(ran.stdout)) == 2


@pytest.mark.parametrize("order", [[], ["--keep-order"]])
def test_changed_input_gives_the_lines_of_an_undisturbed_run(where, order):
    write(where, "a", "b", "c", "d")
    counted(where, *order)
    write(where, "c", "x", "a", "d", "e")
    assert counted(where, *order) == (0, "")
    assert sorted(calls(where)) == ["a", "b", "c", "d", "e", "x"]
    call(where, "map", "app:counted", "items.txt", "-o", "other.jsonl", *order)
    found, wanted = lines(where), lines(where, "other.jsonl")
    assert found == wanted if order else sorted(found) == sorted(wanted)


@pytest.mark.parametrize("order", [[], ["--keep-order"]])
def test_equal_items_have_a_line_each(where, order):
    write(where, "a", "b", "a", "a")
    counted(where, *order)
    whole = (where / "out.jsonl").read_bytes().splitlines(keepends=True)
    for kept in ([0, 3], [1, 2], [3], []):  # what a kill may have left
        (where / "out.jsonl").write_bytes(b"".join(whole[number] for number in kept) + b'{"torn":')
        assert counted(where, *order) == (0, "")
        found = lines(where)
        assert sorted(line[0] for line in found) == ["1", "2", "3", "4"]
        assert found == sorted(found) or not order
    assert sorted(calls(where)) == ["a", "b"]


def test_several_inputs_are_told_apart(where):
    write(where, "a", "b")
    write(where, "b", "a", name="more.txt")
    both = ("map", "app:counted", "items.txt", "more.txt", "-o", "out.jsonl", "--journal", "run.db")
    for _ in range(2):
        assert call(where, *both).returncode == 0
        assert len(results((where / "out.jsonl").read_text())) == 4
    assert sorted(calls(where)) == ["a", "b"]


def test_fields_of_items_may_come_in_any_order(where):
    (where / "items.jsonl").write_text('{"host":"a","n":1}\n')
    arguments = ("map", "app:host", "items.jsonl", "-o", "out.jsonl", "--journal", "run.db")
    assert call(where, *arguments).returncode == 0
    (where / "items.jsonl").write_text('{"n":1,"host":"a"}\n')
    assert call(where, *arguments).returncode == 0
    assert len(lines(where)) == 1


def test_command_is_known_by_its_arguments(where):
    write(where, "a", "b")
    base = ("map", "items.txt", "-o", "out.jsonl", "--journal", "run.db", "--")
    script = "echo {} >> calls; echo {}"
    for _ in range(2):
        assert call(where, *base, "sh", "-c", script).returncode == 0
    assert sorted(calls(where)) == ["a", "b"]
    (where / "out.jsonl").unlink()
    assert call(where, *base, "sh", "-c", script + " again").returncode == 0
    assert sorted(calls(where)) == ["a", "b"]
    assert sorted(line[3] for line in lines(where)) == ['"a again"', '"b again"']


def test_rules_file_may_set_journal_and_version(where):
    write(where, "a")
    for version in (1, 2):
        (where / "rules.toml").write_text(f'journal = "run.db"\nversion = {version}\n')
        assert call(where, "map", "app:counted", "items.txt", "--rules", "rules.toml").returncode == 0
    assert calls(where) == ["a", "a"]


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--fresh"], "--fresh goes with --journal FILE"),
        (["--retry-failed"], "retry_failed goes with a journal"),
        (
            ["--journal", "run.db", "--fresh", "--retry-failed"],
            "--fresh and --retry-failed exclude each other",
        ),
        (["--journal", "items.txt"], "items.txt is no database"),
        (["--journal", "no/run.db"], "there is no directory no"),
        (["--journal", "run.db", "--record", "run.trace"], "record must be None with a journal"),
    ],
)
def test_wrong_use_is_told_before_anything_is_touched(where, arguments, said):
    write(where, *("x" * 100 for _ in range(20)))
    ran = call(where, "map", "app:counted", "items.txt", "-o", "out.jsonl", *arguments)
    assert ran.returncode == 2
    assert said in ran.stderr
    assert not (where / "out.jsonl").exists()
    assert calls(where) == []


def test_function_without_a_name_needs_a_version(where):
    write(where, "a")
    ran = call(where, "map", "app:unnamed", "items.txt", "--journal", "run.db")
    assert ran.returncode == 2
    assert "version must say which handler this is" in ran.stderr


@pytest.mark.parametrize("line", ["precious", "[1]", '{"id":1}', '{"id":"a","ok":true,"item":1,"value":1}'])
def test_output_with_anything_else_is_refused_and_left(where, line):
    write(where, "a")
    (where / "out.jsonl").write_text(line + "\n")
    status, said = counted(where)
    assert status == 2
    assert "out.jsonl, line 1 holds no result of qanat map, so it cannot be completed" in said
    assert (where / "out.jsonl").read_text() == line + "\n"


def test_two_runs_do_not_complete_one_output(where):
    write(where, "a")
    counted(where)
    first = Completion(str(where / "out.jsonl")).open()
    with pytest.raises(UsageError, match="is being written by another run"):
        Completion(str(where / "out.jsonl")).open()
    first.close()


def test_output_is_read_again_if_another_run_ended_meanwhile(where):
    write(where, "a")
    counted(where)
    line = (where / "out.jsonl").read_bytes()
    late = Completion(str(where / "out.jsonl"))
    (where / "out.jsonl").write_bytes(line + line.replace(b'"id":1', b'"id":2') + b"torn")
    output = late.open()
    assert (late.has_spawned(1, "a", ok=True), len(late._keys)) == (False, 2)
    output.close()
    late = Completion(str(where / "out.jsonl"))
    (where / "out.jsonl").write_bytes(b"nonsense\n")
    with pytest.raises(UsageError, match="holds no result of qanat map"):
        late.open()
    open_output(str(where / "out.jsonl"), append=True, overwrite=False).close()


def test_output_that_cannot_be_replaced_is_left(where, monkeypatch):
    write(where, "a")
    (where / "bad").write_text("a")
    counted(where)
    before = (where / "out.jsonl").read_bytes()

    def refuse(*_args: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "replace", refuse)
    status, said = counted(where)
    assert status == 2
    assert "out.jsonl cannot be written anew: No space left on device" in said
    assert (where / "out.jsonl").read_bytes() == before
    assert not list(where.glob(".out*"))


def test_dry_run_makes_no_journal(where):
    write(where, "a")
    assert counted(where, "--dry-run")[0] == 0
    assert not (where / "run.db").exists()


# --- real processes ----------------------------------------------------------------------------


@pytest.mark.real
@pytest.mark.parametrize("order", [[], ["--keep-order"]])
def test_kills_in_the_middle_leave_no_trace(where, order):
    """Killed with -9 again and again, and given again: exactly the lines of an undisturbed run."""
    items = [f"item {number % 90}" for number in range(100)]
    write(where, *items)
    arguments = ["map", "app:slow", "items.txt", "-o", "out.jsonl", "--journal", "run.db", "-j", "3", *order]
    rng = random.Random(7)
    kills = 0
    for _ in range(6):
        process = begin(where, *arguments)
        end = time.monotonic() + 20
        size = (where / "out.jsonl").stat().st_size if (where / "out.jsonl").exists() else 0
        while process.poll() is None and time.monotonic() < end:
            if (where / "out.jsonl").exists() and (where / "out.jsonl").stat().st_size != size:
                time.sleep(rng.random() * 0.12)
                break
            time.sleep(0.002)
        process.send_signal(signal.SIGKILL)
        kills += ended(process)[0] == -signal.SIGKILL
    assert kills >= 2
    assert ended(begin(where, *arguments))[0] == 0
    assert ended(begin(where, "map", "app:slow", "items.txt", "-o", "other.jsonl", "-j", "3", *order))[0] == 0
    found, wanted = lines(where), lines(where, "other.jsonl")
    assert found == wanted if order else sorted(found) == sorted(wanted)


@pytest.mark.real
def test_stopped_run_says_how_to_go_on(where):
    write(where, "1", "2", "3", "4")
    arguments = (
        "map",
        "app:touch_and_sleep",
        "items.txt",
        "-o",
        "out.jsonl",
        "--journal",
        "run.db",
        "-j",
        "1",
    )
    process = begin(where, *arguments)
    wait_for(where, "started-1")
    process.send_signal(signal.SIGINT)
    status, _, said = ended(process)
    assert status == 130
    assert "qanat: to go on, run the same command again: what is done is in run.db" in said
    assert [line[1] for line in lines(where)] == ['"1"']


@pytest.mark.real
def test_two_processes_share_a_journal(where):
    write(where, *map(str, range(60)))
    processes = [
        begin(where, "map", "app:slow", "items.txt", "-o", f"{name}.jsonl", "--journal", "run.db", "-j", "5")
        for name in "ab"
    ]
    assert [ended(process)[0] for process in processes] == [0, 0]
    assert sorted(lines(where, "a.jsonl")) == sorted(lines(where, "b.jsonl"))
    connection = sqlite3.connect(where / "run.db")
    assert connection.execute("SELECT count(DISTINCT key) FROM jobs").fetchone() == (60,)
    assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
    connection.close()


@pytest.mark.real
def test_interrupted_tree_is_gone_on_with(where):
    """Three trees of 15 jobs, three of which call back; a gentle stop, one that cancels, and the rest."""
    write(where, "a", "b", "c")
    arguments = ["map", "app:climb", "items.txt", "-o", "out.jsonl", "--journal", "run.db", "-j", "2"]
    for signals in (1, 2):
        process = begin(where, *arguments)
        before = len((where / "calls").read_text().split())
        until(lambda: len((where / "calls").read_text().split()) >= before + 8, process)  # noqa: B023
        process.send_signal(signal.SIGINT)
        if signals == 2:
            process.send_signal(signal.SIGINT)
        status, _, said = ended(process)
        assert (status, "to go on, run the same command again" in said) == (130, True), said
    assert call(where, *arguments, "--no-progress").returncode == 0
    visited = Counter(calls(where))
    trees = {root + "".join(way) for root in "abc" for n in range(4) for way in product("xy", repeat=n)}
    assert set(visited) == trees
    # Whose callback was not called is visited again, as it is recorded with that; the others once.
    assert {item for item, times in visited.items() if times > 1} <= {each for each in trees if len(each) < 3}
    assert max(visited.values()) <= 3
    # Each callback is called once: of the roots, and of their children.
    assert Counter((where / "added").read_text().split()) == {"2": 6, "6": 3}
    assert call(where, "map", "app:climb", "items.txt", "-o", "other.jsonl", "-j", "2").returncode == 0
    assert facts(where, "out.jsonl") == facts(where, "other.jsonl")


def until(is_so: Callable[[], bool], process: subprocess.Popen[bytes], seconds: float = 20.0) -> None:
    end = time.monotonic() + seconds
    while not is_so():
        assert process.poll() is None
        assert time.monotonic() < end
        time.sleep(0.01)


def facts(where: Path, name: str) -> list[tuple[Any, ...]]:
    found = results((where / name).read_text())
    return sorted((str(each["id"]), each["item"], each["ok"], each["value"]) for each in found)


@pytest.mark.real
def test_second_process_with_the_same_output_is_refused_and_writes_nothing(where):
    write(where, "1", "2", "3")
    arguments = [
        "map",
        "app:touch_and_sleep",
        "items.txt",
        "-o",
        "out.jsonl",
        "--journal",
        "run.db",
        "-j",
        "3",
    ]
    first = begin(where, *arguments)
    wait_for(where, "started-2")
    ran = call(where, *arguments)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert "out.jsonl is being written by another run: name another file" in ran.stderr
    first.send_signal(signal.SIGKILL)
    ended(first)
    assert (
        call(where, "map", "app:same", "items.txt", "-o", "out.jsonl", "--journal", "two.db").returncode == 0
    )
    assert [line[1] for line in lines(where)] == ['"1"', '"2"', '"3"']


@pytest.mark.real
def test_limit_of_a_files_size_stops_the_run_and_loses_nothing(where):
    write(where, *(f"{number:03}" for number in range(60)))
    arguments = command("map", "app:large", "items.txt", "--journal", "run.db", "-j", "2")
    limited = subprocess.run(
        ["sh", "-c", 'ulimit -f 800; exec "$@"', "sh", *arguments],
        cwd=where, env=environment(), capture_output=True, timeout=40, check=False,
    )  # fmt: skip
    out, said = limited.stdout, limited.stderr
    assert limited.returncode == 1, said
    assert b"qanat: halted: run.db cannot" in said.replace(str(where).encode() + b"/", b"")
    assert 0 < len(results(out.decode())) < 60
    again = subprocess.run(
        arguments, cwd=where, env=environment(), capture_output=True, timeout=40, check=False
    )
    assert again.returncode == 0
    assert len(results(again.stdout.decode())) == 60
