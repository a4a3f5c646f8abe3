"""`qanat map` from end to end."""

from __future__ import annotations

import json
import os
import time
from typing import TYPE_CHECKING

import pytest

from tests._cli.shell import call, results, values

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_every_item_gets_a_line_of_the_promised_form(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\n\nb\n")
    ran = call(tmp_path, "map", "app:upper", "in.txt", "-j", "1")
    assert ran.returncode == 0
    first, second = results(ran.stdout)
    assert list(first) == ["id", "item", "ok", "value", "error", "attempts", "waited", "seconds"]
    assert [first["id"], first["item"], first["ok"], first["value"], first["error"], first["attempts"]] == [
        1, "a", True, "A", None, 1,
    ]  # fmt: skip
    assert isinstance(first["waited"], float)
    assert isinstance(first["seconds"], float)
    assert [second["id"], second["value"]] == [3, "B"]


def test_failed_items_get_a_line_and_status_1(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:fail_on_b", "--keep-order", stdin="a\nb\nc\n")
    assert ran.returncode == 1
    lines = results(ran.stdout)
    assert [line["ok"] for line in lines] == [True, False, True]
    assert lines[1]["error"] == {"type": "ValueError", "message": "no b"}
    assert lines[1]["value"] is None
    assert "2 done, 1 failed" in ran.stderr


def test_values_that_are_not_json_fail_their_job_once(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:odd", "--retries", "3", "--keep-order", stdin="object\nset\nnan\ngood\n")
    assert ran.returncode == 1
    lines = results(ran.stdout)
    assert [line["ok"] for line in lines] == [False, False, False, True]
    assert {line["error"]["type"] for line in lines[:3]} == {"SerialisationError"}
    assert [line["attempts"] for line in lines] == [1, 1, 1, 1]


def test_what_handlers_print_does_not_mix_with_the_data(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:prints", stdin="a\n")
    assert values(ran.stdout) == ["a"]
    assert "printed a" in ran.stderr
    assert "from a child" in ran.stderr


def test_retries_timeout_and_rate_are_heeded(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:flaky", "--retries", "2", stdin="a\n")
    assert [(line["value"], line["attempts"]) for line in results(ran.stdout)] == [(3, 3)]
    ran = call(tmp_path, "map", "app:nap", "--timeout", "100ms", stdin="60\n0\n")
    assert sorted(line["ok"] for line in results(ran.stdout)) == [False, True]
    begun = time.monotonic()
    ran = call(tmp_path, "map", "app:same", "--rate", "2/s", stdin="1\n2\n3\n")
    assert ran.returncode == 0
    assert time.monotonic() - begun >= 1.0


def test_keep_order_writes_in_input_order(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:nap", "--keep-order", stdin="0.3\n0.2\n0.1\n0\n")
    assert values(ran.stdout) == ["0.3", "0.2", "0.1", "0"]


def test_keep_order_waits_for_a_retry_with_a_full_buffer(tmp_path: Path) -> None:
    (tmp_path / "rules.toml").write_text("buffer = 2\nretry = 3\nconcurrency = 2\n")
    items = [str(number) for number in range(30)]
    ran = call(
        tmp_path, "map", "app:flaky_zero", "--keep-order", "--rules", "rules.toml", stdin="\n".join(items)
    )
    assert values(ran.stdout) == items


def test_a_full_standard_output_ends_it(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("1\n2\n")
    ran = call(tmp_path, "map", "app:same", "in.txt", "-o", "/dev/full", "-j", "1")
    assert ran.returncode == 1
    assert "/dev/full: No space left on device; " in ran.stderr
    assert "lost" in ran.stderr


@pytest.mark.parametrize("loop", ["asyncio", "uvloop", "trio"])
def test_each_event_loop_serves(tmp_path: Path, loop: str) -> None:
    ran = call(tmp_path, "map", "app:same", "--loop", loop, stdin="1\n2\n")
    assert ran.returncode == 0, ran.stderr
    assert sorted(values(ran.stdout)) == ["1", "2"]
    ran = call(tmp_path, "map", "--loop", loop, "-", "--", "echo", "{}", stdin="1\n2\n")
    assert sorted(values(ran.stdout)) == ["1", "2"]


def test_several_files_are_told_apart(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("x\n")
    (tmp_path / "b.jsonl").write_text('{"n": 1}\n')
    (tmp_path / "c.csv").write_text("n,m\n1,2\n")
    ran = call(tmp_path, "map", "app:same", "a.txt", "b.jsonl", "c.csv", "-", "--keep-order", stdin="y\n")
    lines = results(ran.stdout)
    assert [(line["file"], line["id"]) for line in lines] == [
        ("a.txt", 1), ("b.jsonl", 1), ("c.csv", 2), ("-", 1),
    ]  # fmt: skip
    assert [line["value"] for line in lines] == ["x", {"n": 1}, {"n": "1", "m": "2"}, "y"]


def test_the_item_is_written_as_it_was_read(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:add", "--format", "jsonl", stdin='{"b": 1.50, "a": "\\ud83d\\ude00"}\n')
    (line,) = results(ran.stdout)
    assert line["item"] == {"b": 1.5, "a": "\U0001f600"}
    assert line["value"] == {"b": 1.5, "a": "\U0001f600", "more": 1}


class TestBrokenInput:
    @pytest.mark.parametrize(
        ("kind", "good", "bad", "line"),
        [
            ("txt", b"a\nb\n", b"c\xff\nd\n", 3),
            ("jsonl", b'"a"\n"b"\n', b'{"x":\n"d"\n', 3),
            ("jsonl", b'"a"\n"b"\n', b"NaN\n", 3),
            ("jsonl", b'"a"\n"b"\n', b'"\xff"\n', 3),
            ("jsonl", b'"a"\n"b"\n', b"[" * 100000 + b"\n", 3),
            ("csv", b"h\na\nb\n", b"c,d\n", 4),
            ("csv", b"h\na\nb\n", b'"c"d\n', 4),
            ("csv", b"h\na\nb\n", b'"c\nd\n', 4),
        ],
        ids=["txt", "json", "nan", "json-utf8", "deep", "csv-fields", "csv-quote", "csv-open"],
    )
    def test_earlier_items_are_written_before_it_is_said(
        self, tmp_path: Path, kind: str, good: bytes, bad: bytes, line: int
    ) -> None:
        path = tmp_path / f"in.{kind}"
        path.write_bytes(good + bad)
        ran = call(tmp_path, "map", "app:mark" if kind == "txt" else "app:same", path.name)
        assert ran.returncode == 2
        assert len(results(ran.stdout)) == 2
        assert f"in.{kind}, line {line}: " in ran.stderr
        assert "Traceback" not in ran.stderr
        piped = call(tmp_path, "map", "app:same", "--format", kind, stdin=good + bad)
        assert piped.returncode == 2
        assert len(results(piped.stdout)) == 2
        assert f"-, line {line}: " in piped.stderr

    @pytest.mark.parametrize("name", ["missing.txt", "folder", "secret.txt"])
    def test_a_file_that_cannot_be_read_ends_it_before_any_work(self, tmp_path: Path, name: str) -> None:
        (tmp_path / "a.txt").write_text("1\n")
        (tmp_path / "folder").mkdir()
        (tmp_path / "secret.txt").write_text("1\n")
        (tmp_path / "secret.txt").chmod(0)
        if name == "secret.txt" and os.access(tmp_path / "secret.txt", os.R_OK):
            pytest.skip("this user may read everything")
        ran = call(tmp_path, "map", "app:mark", "a.txt", name)
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.startswith(f"qanat: {name}: ")
        assert not list(tmp_path.glob("started-*"))

    def test_nul_bytes_and_huge_lines_are_text(self, tmp_path: Path) -> None:
        huge = "x" * 20_000_000
        ran = call(tmp_path, "map", "app:length", "--keep-order", stdin=f"a\0b\n{huge}\n")
        assert values(ran.stdout) == [3, 20_000_000]
        ran = call(tmp_path, "map", "-", "--", "echo", stdin="a\0b\nc\n")
        assert sorted(line["ok"] for line in results(ran.stdout)) == [False, True]


class TestOutput:
    def test_a_file_that_is_not_empty_is_refused(self, tmp_path: Path) -> None:
        (tmp_path / "out.jsonl").write_text("kept\n")
        ran = call(tmp_path, "map", "app:mark", "-o", "out.jsonl", stdin="1\n")
        assert ran.returncode == 2
        assert "--append" in ran.stderr
        assert (tmp_path / "out.jsonl").read_text() == "kept\n"
        assert not list(tmp_path.glob("started-*"))

    def test_append_cuts_a_torn_line_off(self, tmp_path: Path) -> None:
        (tmp_path / "out.jsonl").write_text('{"id":1}\n{"id":2,"it')
        ran = call(tmp_path, "map", "app:same", "-o", "out.jsonl", "--append", stdin="1\n")
        assert (ran.returncode, ran.stdout) == (0, "")
        lines = results((tmp_path / "out.jsonl").read_text())
        assert [line.get("item") for line in lines] == [None, "1"]

    def test_overwrite_replaces(self, tmp_path: Path) -> None:
        (tmp_path / "out.jsonl").write_text("old\n")
        ran = call(tmp_path, "map", "app:same", "-o", "out.jsonl", "--overwrite", stdin="1\n")
        assert ran.returncode == 0
        assert values((tmp_path / "out.jsonl").read_text()) == ["1"]

    @pytest.mark.parametrize("flag", ["--overwrite", "--append"])
    @pytest.mark.parametrize("name", ["in.txt", "link", "hard", "rules.toml"])
    def test_a_file_that_is_read_is_never_written(self, tmp_path: Path, name: str, flag: str) -> None:
        (tmp_path / "in.txt").write_text("1\n")
        (tmp_path / "link").symlink_to("in.txt")
        (tmp_path / "hard").hardlink_to(tmp_path / "in.txt")
        (tmp_path / "rules.toml").write_text("buffer = 5\n")
        before = (tmp_path / name).read_text()
        ran = call(tmp_path, "map", "app:same", "in.txt", "--rules", "rules.toml", "-o", name, flag)
        assert ran.returncode == 2
        assert "name another file for the output" in ran.stderr
        assert (tmp_path / name).read_text() == before


def test_an_input_without_items_is_said(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("\n")
    ran = call(tmp_path, "map", "app:same", "in.txt")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert ran.stderr.endswith("qanat: there are no items in in.txt\n")
    assert "no items in standard input" in call(tmp_path, "map", "app:same").stderr


def test_a_share_is_said_as_it_was_given(tmp_path: Path) -> None:
    assert "at most 1.5% failures" in call(tmp_path, "map", "app:same", "--halt", "1.5%", "--dry-run").stderr


class TestLimits:
    def test_halt_stops_the_run(self, tmp_path: Path) -> None:
        text = "".join(f"{number}\n" for number in range(1000))
        ran = call(tmp_path, "map", "app:fail", "--halt", "3", "-j", "1", stdin=text)
        assert ran.returncode == 1
        assert len(results(ran.stdout)) == 4
        assert "4 of 4 finished jobs failed" in ran.stderr
        ran = call(tmp_path, "map", "app:fail", "--halt", "50%", "-j", "1", stdin=text)
        assert len(results(ran.stdout)) == 20

    def test_lanes_take_turns(self, tmp_path: Path) -> None:
        rows = ["host,n", *(f"a,{number}" for number in range(5)), "b,9"]
        (tmp_path / "in.csv").write_text("\n".join(rows) + "\n")
        ran = call(tmp_path, "map", "app:host", "in.csv", "--lane", "host", "-j", "1")
        assert values(ran.stdout).index("b") <= 2
        ran = call(tmp_path, "map", "app:host", "in.csv", "--lane", "nope")
        assert ran.returncode == 2
        assert "'nope'" in ran.stderr

    def test_a_dry_run_counts_and_starts_nothing(self, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("1\n\n2\n")
        ran = call(tmp_path, "map", "app:mark", "in.txt", "--dry-run", "-o", "out", "-j", "3")
        assert (ran.returncode, ran.stdout) == (0, "")
        assert "2 items in in.txt" in ran.stderr
        assert "3 at once" in ran.stderr
        assert not list(tmp_path.glob("started-*"))
        assert not (tmp_path / "out").exists()

    def test_json_tells_programs_how_it_went(self, tmp_path: Path) -> None:
        ran = call(tmp_path, "map", "app:fail_on_b", "--json", stdin="a\nb\n")
        summary = json.loads(ran.stderr.splitlines()[-1])
        assert (summary["event"], summary["done"], summary["failed"]) == ("summary", 1, 1)
        assert summary["errors"] == [
            {"type": "ValueError", "count": 1, "again": 0, "sample": "no b", "id": 2}
        ]


class TestPrecedence:
    @pytest.mark.parametrize(
        ("flag", "variable", "in_file", "at_once"),
        [
            ("2", "3", "4", "2"),
            (None, "3", "4", "3"),
            (None, None, "4", "4"),
            (None, None, None, "10"),
            ("2", None, "4", "2"),
            ("2", "3", None, "2"),
        ],
    )
    def test_flags_win_over_variables_over_the_file(
        self, tmp_path: Path, flag: str | None, variable: str | None, in_file: str | None, at_once: str
    ) -> None:
        arguments = ["map", "app:same", "--dry-run"]
        if flag is not None:
            arguments += ["-j", flag]
        if in_file is not None:
            (tmp_path / "rules.toml").write_text(f"concurrency = {in_file}\n")
            arguments += ["--rules", "rules.toml"]
        variables = {} if variable is None else {"QANAT_MAP_CONCURRENCY": variable}
        ran = call(tmp_path, *arguments, **variables)
        assert f"{at_once} at once" in ran.stderr

    def test_every_flag_has_a_variable(self, tmp_path: Path) -> None:
        (tmp_path / "in.data").write_text('{"a":1}\n{"a":2}\n')
        (tmp_path / "r.toml").write_text("buffer = 7\n")
        ran = call(
            tmp_path, "map", "app:same", "in.data",
            QANAT_MAP_OUTPUT="out", QANAT_MAP_CONCURRENCY="1", QANAT_MAP_RATE="50/s", QANAT_MAP_RETRIES="2",
            QANAT_MAP_TIMEOUT="1m", QANAT_MAP_ORDER="lifo", QANAT_MAP_KEEP_ORDER="true", QANAT_MAP_HALT="5%",
            QANAT_MAP_RULES="r.toml", QANAT_MAP_FORMAT="jsonl", QANAT_MAP_LANE="a", QANAT_MAP_DRY_RUN="1",
            QANAT_MAP_JSON="1", QANAT_MAP_LOOP="trio", QANAT_MAP_PROGRESS="0",
        )  # fmt: skip
        assert ran.returncode == 0, ran.stderr
        said = json.loads(ran.stderr)["text"]
        for words in (
            "2 items",
            "1 at once",
            "50/s",
            "2 retries",
            "60 s",
            "lifo",
            "buffer 7",
            "to out",
            "5%",
        ):
            assert words in said, words


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["map"], "name a function"),
        (["map", "in.txt"], "'in.txt' is no function"),
        (["map", "nope:same"], "no module 'nope'"),
        (["map", "app:nope"], "app has no 'nope'"),
        (["map", "app:number"], "app:number is not a function, but 5"),
        (["map", "app:two"], "exactly one argument"),
        (["map", "app:__builtins__"], "must not be reached"),
        (["map", "broken:same"], "ZeroDivisionError"),
        (["map", "leaves:same"], "ended the program"),
        (["map", "needs:same"], "No module named 'not_there'"),
        (["map", "app:same", "-j", "0"], "concurrency must be at least 1"),
        (["map", "app:same", "-j", "x"], "-j"),
        (["map", "app:same", "-j", "1.5"], "-j: must be a whole number, got '1.5'"),
        (
            ["map", "app:same", "-j", "5-10"],
            "-j: must be a whole number, got '5-10', or two such as \"1..200\"",
        ),
        (["map", "app:same", "--retries", "2.7"], "--retries: must be a whole number"),
        (["map", "app:same", "in.txt", "--", "echo"], "give either a function or a command after --"),
        (["map", "app.py:same"], "write app:same, without .py"),
        (["map", "./src/app.py:same"], "write src.app:same, without .py"),
        (["map", "app:same", "--rate", "fast"], "rate must be"),
        (["map", "app:same", "--timeout", "-1"], "timeout"),
        (["map", "app:same", "--halt", "200%"], 'got "200%"'),
        (["map", "app:same", "--nope"], "--nope"),
        (["map", "app:same", "--rules", "nope.toml"], "nope.toml"),
        (["map", "app:same", "--rules", "bad.toml"], "'concurency' is not a rule"),
        (["map", "app:same", "--rules", "limits.toml"], "cannot be set in a file"),
        (["map", "app:same", "--append"], "needs --output"),
        (["map", "app:same", "--append", "--overwrite", "-o", "x"], "exclude each other"),
        (["map", "app:same", "-o", "no/such/x"], "no directory"),
        (["map", "app:same", "-o", "."], "Is a directory"),
        (["map", "app:same", "-", "-"], "named twice"),
        (["map", "app:same", "--lane", "x"], "needs items with fields"),
        (["map", "-", "--"], "name a command after --"),
        (["map", "app:same", "--loop", "twisted"], "twisted"),
        (["nope"], "nope"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_wrong_calls_are_told_in_words_with_status_2(tmp_path: Path, arguments: list[str], says: str) -> None:
    (tmp_path / "in.txt").write_text("1\n")
    (tmp_path / "broken.py").write_text("def f():\n    1 / 0\nf()\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    (tmp_path / "needs.py").write_text("import not_there\n")
    (tmp_path / "bad.toml").write_text("concurency = 3\n")
    (tmp_path / "limits.toml").write_text("limits = []\n")
    ran = call(tmp_path, *arguments, stdin="1\n")
    assert (ran.returncode, ran.stdout) == (2, "")
    assert says in ran.stderr
    assert ran.stderr.startswith("qanat: ")


def test_help_and_version(tmp_path: Path) -> None:
    assert call(tmp_path, "--version").stdout.strip() == "0.1.0"
    shown = call(tmp_path, "map", "--help").stdout
    for flag in (
        "--output",
        "-j",
        "--rate",
        "--halt",
        "--keep-order",
        "--dry-run",
        "--no-progress",
        "QANAT_MAP_RATE",
    ):
        assert flag in shown


def test_priority_names_the_field_whose_smaller_values_are_first(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"u":1,"p":3}\n{"u":2,"p":1}\n{"u":3,"p":2}\n')
    ran = call(
        tmp_path, "map", "jobs.jsonl", "-j", "1", "--order", "priority", "--priority", "p",
        "--", "echo", "{u}",
    )  # fmt: skip
    assert ran.returncode == 0
    assert values(ran.stdout) == ["2", "3", "1"]


def test_deadline_names_the_field_whose_items_are_due_soonest_first(tmp_path: Path) -> None:
    (tmp_path / "jobs.jsonl").write_text('{"u":1,"due":30}\n{"u":2,"due":1.5}\n{"u":3,"due":"2"}\n')
    ran = call(
        tmp_path, "map", "jobs.jsonl", "-j", "1", "--order", "deadline", "--deadline", "due",
        "--", "echo", "{u}",
    )  # fmt: skip
    assert ran.returncode == 0
    assert values(ran.stdout) == ["2", "3", "1"]


def test_deadline_needs_items_with_fields(tmp_path: Path) -> None:
    (tmp_path / "jobs.txt").write_text("a\n")
    ran = call(tmp_path, "map", "jobs.txt", "--order", "deadline", "--deadline", "due", "--", "echo")
    assert ran.returncode == 2
    assert "deadline 'due' needs items with fields" in ran.stderr


def test_shuffle_starts_every_item_once(tmp_path: Path) -> None:
    (tmp_path / "jobs.txt").write_text("a\nb\nc\n")
    ran = call(tmp_path, "map", "jobs.txt", "--order", "shuffle", "--", "echo")
    assert ran.returncode == 0
    assert sorted(values(ran.stdout)) == ["a", "b", "c"]
