"""Where the lines go."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import threading
from contextlib import closing
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st

from qanat._cli.usage import UsageError
from qanat._cli.writing import InOrder, Output, ThreadedOutput, check_output, open_output

if TYPE_CHECKING:
    from pathlib import Path


@given(st.permutations(list(range(8))), st.sets(st.integers(0, 7)))
def test_in_order_passes_everything_on_in_order(arrival: list[int], missing: set[int]) -> None:
    passed: list[bytes] = []
    in_order = InOrder(passed.append)
    for position in arrival:
        in_order.put(position, None if position in missing else b"%d" % position)
    assert passed == [b"%d" % position for position in range(8) if position not in missing]
    assert len(in_order) == 0


def test_in_order_flushes_past_what_never_came() -> None:
    passed: list[bytes] = []
    in_order = InOrder(passed.append)
    in_order.put(3, b"3")
    in_order.put(1, b"1")
    assert (passed, len(in_order)) == ([], 2)
    in_order.flush()
    assert passed == [b"1", b"3"]


class TestOutput:
    @pytest.mark.parametrize(
        ("before", "after"),
        [
            (b"", b""), (b"a\n", b"a\n"), (b"a\nb", b"a\n"), (b"torn", b""),
            (b"a\n" + b"x" * 200_000, b"a\n"),
            (b"x" * 70_000 + b"\n" + b"y" * 65_536, b"x" * 70_000 + b"\n"),
        ],
        ids=["empty", "whole", "torn", "only-torn", "long-torn", "blocks"],
    )  # fmt: skip
    def test_append_cuts_a_torn_line_off(self, tmp_path: Path, before: bytes, after: bytes) -> None:
        path = tmp_path / "out"
        path.write_bytes(before)
        output = open_output(str(path), append=True, overwrite=False)
        output.write(b"new\n")
        output.close()
        assert path.read_bytes() == after + b"new\n"

    def test_others_are_kept_away_but_for_those_that_share_it(self, tmp_path: Path) -> None:
        path = str(tmp_path / "out")
        ways = [(False, False, False), (True, False, False), (False, True, False), (True, False, True)]
        with closing(open_output(path, append=False, overwrite=False)) as first:
            first.write(b"a\n")
            for append, overwrite, shared in ways:
                with pytest.raises(UsageError, match="is being written by another run: name another file"):
                    open_output(path, append=append, overwrite=overwrite, shared=shared)
        with closing(open_output(path, append=True, overwrite=False, shared=True)) as first:
            with closing(open_output(path, append=True, overwrite=False, shared=True)) as second:
                first.write(b"b\n")
                second.write(b"c\n")
            for append, overwrite, shared in ways[:-1]:
                with pytest.raises(UsageError, match="is being written by another run"):
                    open_output(path, append=append, overwrite=overwrite, shared=shared)
        assert (tmp_path / "out").read_bytes() == b"a\nb\nc\n"

    def test_a_file_that_another_run_wrote_meanwhile_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        path = tmp_path / "out"
        check_output(str(path), append=False, overwrite=False)
        path.write_bytes(b"a\n")
        with pytest.raises(UsageError, match="is not empty"):
            open_output(str(path), append=False, overwrite=False)
        with closing(open_output(str(path), append=True, overwrite=False)):
            path.rename(tmp_path / "old")
        flock = fcntl.flock

        def replaced(fd: int, how: int) -> None:
            flock(fd, how)
            path.unlink()

        path.write_bytes(b"b\n")
        monkeypatch.setattr(fcntl, "flock", replaced)
        with pytest.raises(UsageError, match="is being written by another run"):
            open_output(str(path), append=True, overwrite=False)

    def test_a_file_system_without_locks_is_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def missing(_fd: int, _how: int) -> None:
            raise OSError(errno.ENOTSUP, "not supported")

        monkeypatch.setattr(fcntl, "flock", missing)
        open_output(str(tmp_path / "out"), append=False, overwrite=False).close()

    def test_a_line_that_does_not_fit_is_taken_back(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        output = open_output(str(path), append=False, overwrite=False)
        output.write(b"first\n")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, before[1]))
        try:
            output.write(b"second\n")
            output.write(b"x\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        assert output.problem is not None
        assert output.problem.errno == errno.EFBIG
        assert path.read_bytes() == b"first\n"
        assert output.unwritten == [b"second\n", b"x\n"]
        output.try_again()
        output.close()
        assert output.problem is None
        assert path.read_bytes() == b"first\nsecond\nx\n"

    def test_the_end_of_a_file_that_is_not_set_to_append_moves_back(self, tmp_path: Path) -> None:
        path = tmp_path / "out"
        output = Output(os.open(path, os.O_WRONLY | os.O_CREAT), "stdout")
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (3, before[1]))
        try:
            output.write(b"second\n")
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)
        output.try_again()
        output.close()
        assert path.read_bytes() == b"second\n"

    def test_a_reader_that_left(self) -> None:
        reading, writing = os.pipe()
        os.close(reading)
        output = Output(writing, "stdout")
        output.write(b"x\n")
        assert output.is_closed_pipe
        output.try_again()
        assert output.unwritten == [b"x\n"]
        output.close()

    def test_a_device_is_written_as_it_is(self) -> None:
        check_output("/dev/null", append=False, overwrite=False)
        output = open_output("/dev/null", append=False, overwrite=False)
        output.write(b"x\n")
        assert output.problem is None
        output.close()

    def test_a_full_device(self) -> None:
        output = open_output("/dev/full", append=False, overwrite=False)
        output.write(b"x\n")
        output.close()
        assert output.problem is not None
        assert output.problem.errno == errno.ENOSPC


def test_a_pipe_that_does_not_block_takes_everything() -> None:
    reading, writing = os.pipe()
    os.set_blocking(writing, False)
    got: list[bytes] = []

    def read() -> None:
        with os.fdopen(reading, "rb") as file:
            got.append(file.read())

    reader = threading.Thread(target=read)
    reader.start()
    output = Output(writing, "stdout")
    output.write(b"x" * 10**6 + b"\n")
    output.close()
    reader.join()
    assert len(got[0]) == 10**6 + 1


def test_a_thread_writes_in_order_and_says_when() -> None:
    reading, writing = os.pipe()
    wrote = threading.Event()
    output = Output(writing, "stdout")
    threaded = ThreadedOutput(output, wrote.set)
    for number in range(1000):
        threaded.write(b"%d\n" % number)
    assert threaded.finish(10)
    output.close()
    with os.fdopen(reading, "rb") as file:
        assert file.read().split() == [b"%d" % number for number in range(1000)]
    assert wrote.is_set()
    assert len(threaded) == 0


def test_a_slow_reader_is_not_waited_for_without_end() -> None:
    reading, writing = os.pipe()
    output = Output(writing, "stdout")
    threaded = ThreadedOutput(output, lambda: None)
    threaded.write(b"x" * 10**6)
    assert not threaded.finish(0.05)
    os.close(reading)
    assert threaded.finish(5)
    output.close()


@pytest.mark.parametrize(
    ("path", "append", "overwrite", "says"),
    [
        ("full", False, False, "is not empty"),
        ("full", True, True, "exclude each other"),
        (None, True, False, "--append needs"),
        (None, False, True, "--overwrite needs"),
        (".", False, False, "Is a directory"),
        ("no/such", False, False, "no directory"),
        ("a\0b", False, False, "null"),
    ],
)
def test_places_where_nothing_may_be_written(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    path: str | None,
    append: bool,
    overwrite: bool,
    says: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").write_text("x")
    with pytest.raises(UsageError, match=says):
        check_output(path, append=append, overwrite=overwrite)
    assert (tmp_path / "full").read_text() == "x"
