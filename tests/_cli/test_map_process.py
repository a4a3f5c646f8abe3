"""`qanat map` as a process: signals, kills, full disks, readers that leave."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import time
from typing import TYPE_CHECKING

import pytest

from tests._cli.shell import begin, call, command, ended, environment, results, values, wait_for

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_an_endless_input_is_read_as_it_comes(tmp_path: Path) -> None:
    process = begin(tmp_path, "map", "app:upper", stdin=subprocess.PIPE)
    assert process.stdin is not None
    assert process.stdout is not None
    for text in ("a", "b", "c"):
        process.stdin.write(f"{text}\n".encode())
        process.stdin.flush()
        assert json.loads(process.stdout.readline())["value"] == text.upper()
    process.send_signal(signal.SIGINT)
    status, _, err = ended(process)
    assert status == 130
    assert "stopped by SIGINT" in err


def test_a_named_pipe_is_waited_for_and_can_be_left(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    process = begin(tmp_path, "map", "app:upper", "pipe", "--progress")
    with (tmp_path / "pipe").open("w") as pipe:
        pipe.write("a\nb\n")
    code, out, _ = ended(process)
    assert code == 0
    assert sorted(values(out)) == ["A", "B"]
    process = begin(tmp_path, "map", "app:upper", "pipe", "--json")
    assert process.stderr is not None
    process.stderr.readline()  # it runs
    process.send_signal(signal.SIGINT)
    assert ended(process, 5)[0] == 130


class TestOutput:
    def test_a_kill_leaves_whole_lines(self, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("".join(f"{number}{'x' * 5000}\n" for number in range(100_000)))
        process = begin(tmp_path, "map", "app:same", "in.txt", "-o", "out.jsonl")
        end = time.monotonic() + 60
        while not (tmp_path / "out.jsonl").exists() or (tmp_path / "out.jsonl").stat().st_size < 1_000_000:
            assert time.monotonic() < end
            time.sleep(0.001)
        process.kill()
        ended(process)
        # The system itself may end a write of several pages half-way when it kills the writer: then, and
        # only then, the last line is torn, which `--append` cuts off.
        whole, end_of_line, _ = (tmp_path / "out.jsonl").read_text().rpartition("\n")
        assert len(results(whole + end_of_line)) > 50

    def test_a_full_disk_ends_with_a_whole_line_and_status_1(self, tmp_path: Path) -> None:
        def limit() -> None:
            resource.setrlimit(resource.RLIMIT_FSIZE, (10_000, 10_000))

        (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(10_000)))
        variables = {"PYTHONDONTWRITEBYTECODE": "1"}  # or it would write the half of a file
        process = begin(
            tmp_path,
            "map",
            "app:same",
            "in.txt",
            "-o",
            "out.jsonl",
            "--keep-order",
            preexec_fn=limit,
            env=variables,
        )
        status, _, err = ended(process)
        assert status == 1
        text = (tmp_path / "out.jsonl").read_text()
        assert 9_800 < len(text) <= 10_000
        assert len(results(text)) < 200
        assert "out.jsonl: File too large" in err
        missing = len(results(text)) + 1
        assert f"from line {missing} of in.txt on" in err
        assert "has its line" not in err
        assert "Traceback" not in err

    def test_a_disk_that_is_full_is_told_from_a_small_file_system(self, tmp_path: Path) -> None:
        small = tmp_path / "small"
        small.mkdir()
        mounted = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", "size=64k", "tmpfs", str(small)], capture_output=True, check=False
        )
        if mounted.returncode:
            pytest.skip("no file system can be mounted here")
        try:
            (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(10_000)))
            ran = call(tmp_path, "map", "app:same", "in.txt", "-o", "small/out.jsonl")
            assert ran.returncode == 1
            assert "No space left on device" in ran.stderr
            assert len(results((small / "out.jsonl").read_text())) > 50
        finally:
            subprocess.run(["umount", str(small)], check=True)

    def test_a_reader_that_leaves_ends_it_quietly(self, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("".join(f"{number}\n" for number in range(200_000)))
        process = begin(tmp_path, "map", "app:same", "in.txt")
        assert process.stdout is not None
        first = process.stdout.readline()
        process.stdout.close()
        process.stdout = None
        status, _, err = ended(process)
        assert json.loads(first)["ok"]
        assert status == 0
        assert "Traceback" not in err
        assert "Broken" not in err

    def test_a_slow_reader_stops_new_starts(self, tmp_path: Path) -> None:
        (tmp_path / "in.txt").write_text("".join(f"{number:05}{'x' * 2000}\n" for number in range(3_000)))
        (tmp_path / "app.py").write_text(
            "import os\nasync def note(item):\n    open('log', 'ab', 0).write(b'.')\n    return item\n"
        )
        (tmp_path / "rules.toml").write_text("buffer = 100\n")
        process = begin(tmp_path, "map", "app:note", "in.txt", "--rules", "rules.toml")
        assert process.stdout is not None
        wait_for(tmp_path, "log")
        time.sleep(1.0)
        started = (tmp_path / "log").stat().st_size
        assert started < 400
        status, out, _ = ended(process)
        assert status == 0
        assert len(results(out)) == 3_000

    def test_closed_streams_do_no_harm(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text("def same(item):\n    print(item)\n    return item\n")
        (tmp_path / "in.txt").write_text("1\n2\n")
        line = " ".join(command("map", "app:same", "in.txt", "-o", "out.jsonl", "--progress"))
        for number, closed in enumerate((">&-", "2>&-", ">&- 2>&-", "<&- >&- 2>&-")):
            (tmp_path / "out.jsonl").unlink(missing_ok=True)
            ran = subprocess.run(
                ["sh", "-c", f"{line} {closed}"], cwd=tmp_path, env=environment(), check=False,
                capture_output=True, timeout=30,
            )  # fmt: skip
            assert ran.returncode == 0, (closed, ran.stderr)
            assert len(results((tmp_path / "out.jsonl").read_text())) == 2, number


class TestSignals:
    @pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
    @pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
    def test_the_first_lets_running_jobs_end(
        self, tmp_path: Path, number: int, status: int, loop: str
    ) -> None:
        (tmp_path / "in.txt").write_text("".join(f"{item}\n" for item in range(1, 51)))
        process = begin(
            tmp_path, "map", "app:quick_then_slow", "in.txt", "-j", "2", "-o", "out", "--loop", loop
        )
        wait_for(tmp_path, "started-*", 4)
        process.send_signal(number)
        code, _, err = ended(process)
        assert code == status, err
        started = len(list(tmp_path.glob("started-*")))
        assert len(results((tmp_path / "out").read_text())) == started < 10
        assert "waits for 2 running jobs" in err
        assert f"stopped by {signal.Signals(number).name}" in err
        assert f"not done: {50 - started} not started, " in err
        assert f"from line {started + 1} of in.txt on" in err or f"after line {started} of in.txt" in err

    @pytest.mark.parametrize("handler", ["touch_and_sleep", "nap60"])
    def test_the_second_cancels_them(self, tmp_path: Path, handler: str) -> None:
        command_given = ["map", "app:touch_and_sleep", "-j", "2", "-"]
        if handler == "nap60":
            command_given = ["map", "-j", "2", "-", "--", "sh", "-c", "touch started-$0; sleep 60 & wait"]
        process = begin(tmp_path, *command_given, stdin=subprocess.PIPE)
        assert process.stdin is not None
        process.stdin.write(b"2\n3\n4\n")
        process.stdin.flush()
        wait_for(tmp_path, "started-*", 2)
        process.send_signal(signal.SIGINT)
        time.sleep(0.3)
        process.send_signal(signal.SIGINT)
        code, out, err = ended(process, 10)
        assert (code, out) == (130, "")
        assert "2 cancelled while they ran" in err
        assert "from line 1 of standard input on" in err

    @pytest.mark.parametrize("handler", ["block", "block_loop"])
    def test_the_third_ends_at_once(self, tmp_path: Path, handler: str) -> None:
        (tmp_path / "in.txt").write_text("1\n2\n")
        process = begin(tmp_path, "map", f"app:{handler}", "in.txt", "-j", "1")
        wait_for(tmp_path, "started-*")
        for _ in range(25):  # two that come before the process has its turn are one
            process.send_signal(signal.SIGTERM)
            time.sleep(0.2)
            if process.poll() is not None:
                break
        code, _, err = ended(process, 5)
        assert code == 143
        assert "cancels them" in err or handler == "block_loop"
        assert err.endswith("\nqanat: ended at once; what ended has its line in the output\n")

    def test_jobs_that_waited_for_a_retry_are_told_apart(self, tmp_path: Path) -> None:
        (tmp_path / "app.py").write_text(
            "import qanat\ndef f(item):\n    if item == '9':\n        open('started', 'w').close()\n"
            "    if item != '1':\n        raise OSError('again')\n"
        )
        (tmp_path / "in.txt").write_text("".join(f"{item}\n" for item in range(1, 10)))
        (tmp_path / "rules.toml").write_text("concurrency = 1\nretry = 9\n")
        process = begin(tmp_path, "map", "app:f", "in.txt", "--rules", "rules.toml", "-o", "out")
        wait_for(tmp_path, "started")
        process.send_signal(signal.SIGINT)
        code, _, err = ended(process)
        assert code == 130
        assert "8 dropped while they waited for a retry, from line 2 of in.txt on" in err
        assert "cancelled while they ran" not in err

    def test_an_idle_run_stops_at_once(self, tmp_path: Path) -> None:
        process = begin(tmp_path, "map", "app:same", stdin=subprocess.PIPE)
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(b"1\n")
        process.stdin.flush()
        process.stdout.readline()
        process.send_signal(signal.SIGTERM)
        code, _, _ = ended(process, 5)
        assert code == 143
