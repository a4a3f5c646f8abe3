"""`qanat map` with a command for each item."""

from __future__ import annotations

import sys
import time
from pathlib import Path

import pytest

from tests._cli.shell import call, results, values

pytestmark = pytest.mark.real


class TestCommands:
    def test_arguments_are_filled_and_no_shell_looks_at_them(self, tmp_path: Path) -> None:
        show = "import sys; print(sys.argv[1:])"
        ran = call(
            tmp_path, "map", "-", "--keep-order", "--", sys.executable, "-c", show, "<{}>", "{x}", "$HOME",
            stdin="a b\n; rm *\n",
        )  # fmt: skip
        assert values(ran.stdout) == ["['<a b>', '{x}', '$HOME']", "['<; rm *>', '{x}', '$HOME']"]
        ran = call(tmp_path, "map", "-", "--", "echo", "-n", stdin="a\n")
        assert values(ran.stdout) == ["a"]

    def test_fields_and_json(self, tmp_path: Path) -> None:
        (tmp_path / "in.csv").write_text('name,age\n"A, B",3\n')
        ran = call(tmp_path, "map", "in.csv", "--", "echo", "{name} is {age}")
        assert values(ran.stdout) == ["A, B is 3"]
        ran = call(tmp_path, "map", "--format", "jsonl", "-", "--", "echo", "{}", stdin='{"a":[1,null]}\n7\n')
        assert sorted(values(ran.stdout)) == ["7", '{"a":[1,null]}']

    def test_a_failure_tells_status_and_the_last_words(self, tmp_path: Path) -> None:
        ran = call(
            tmp_path, "map", "-", "--", "sh", "-c", "echo first >&2; echo last >&2; exit 3", stdin="a\n"
        )
        (line,) = results(ran.stdout)
        assert ran.returncode == 1
        assert line["error"] == {
            "type": "CommandError", "message": "the command ended with exit status 3: last",
        }  # fmt: skip

    def test_a_missing_program_is_told_before_any_work(self, tmp_path: Path) -> None:
        ran = call(tmp_path, "map", "-", "--", "no-such-program", stdin="a\n")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert "no-such-program" in ran.stderr

    def test_a_timeout_kills_all_that_the_command_started(self, tmp_path: Path) -> None:
        script = "sleep 300 & echo $! > child; wait"
        ran = call(tmp_path, "map", "--timeout", "0.5", "-", "--", "sh", "-c", script, stdin="a\n")
        (line,) = results(ran.stdout)
        assert line["error"]["type"] == "JobTimeoutError"
        child = int((tmp_path / "child").read_text())
        end = time.monotonic() + 5
        while _runs(child):
            assert time.monotonic() < end
            time.sleep(0.01)

    def test_standard_input_is_empty_and_errors_do_not_fill_the_pipe(self, tmp_path: Path) -> None:
        script = "cat; head -c 3000000 /dev/zero >&2; printf 'a\\n\\n'"
        ran = call(tmp_path, "map", "-", "--", "sh", "-c", script, stdin="x\n")
        assert values(ran.stdout) == ["a\n"]


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False
