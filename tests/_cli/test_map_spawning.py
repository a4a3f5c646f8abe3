"""`qanat map` where handlers spawn further jobs."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests._cli.shell import call, results

if TYPE_CHECKING:
    from pathlib import Path


def test_spawned_jobs_have_lines_of_their_own(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:tree", "--keep-order", "-j", "1", stdin="a\nb\n")
    assert ran.returncode == 0, ran.stderr
    lines = {str(line["id"]): line for line in results(ran.stdout)}
    assert sorted(lines) == sorted(["1", "1/0", "1/1", "1/0/0", "1/0/1", "2", "2/0", "2/1", "2/0/0", "2/0/1"])
    assert lines["1"]["value"] == ["ax", "AY"]
    assert "parent" not in lines["1"]
    assert (lines["1/0"]["parent"], lines["1/0"]["item"], lines["1/0"]["value"]) == (1, "ax", "ax")
    assert (lines["1/0/1"]["parent"], lines["1/0/1"]["value"]) == ("1/0", "AXY")
    assert [line["id"] for line in results(ran.stdout) if "parent" not in line] == [1, 2]


def test_values_of_spawned_jobs_and_callbacks_that_are_not_json_fail_their_jobs(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "app:odd_tree", stdin="a\n")
    assert ran.returncode == 1
    lines = {str(line["id"]): line for line in results(ran.stdout)}
    assert [lines[id]["error"]["type"] for id in ("1", "1/0")] == ["SerialisationError", "SerialisationError"]
    assert lines["1/0"]["item"] == "{1}"


def test_output_of_spawned_jobs_is_completed_from_a_journal(tmp_path: Path) -> None:
    (tmp_path / "in.txt").write_text("a\nb\n")
    args = ("map", "app:tree", "in.txt", "-o", "out.jsonl", "--journal", "run.db")
    assert call(tmp_path, *args).returncode == 0
    output = tmp_path / "out.jsonl"
    whole = results(output.read_text())
    kept = output.read_text().splitlines(keepends=True)[:4]
    output.write_text("".join(kept) + '{"torn')
    for flag in ((), ("--keep-order",)):
        ran = call(tmp_path, *args, *flag)
        assert ran.returncode == 0, ran.stderr
        again = results(output.read_text())
        facts = [
            sorted((str(line["id"]), line["item"], str(line["value"])) for line in each)
            for each in (whole, again)
        ]
        assert facts[0] == facts[1]
    assert "10 of them from the journal" in ran.stderr
