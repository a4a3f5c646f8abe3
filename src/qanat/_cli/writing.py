"""Where the lines go: whole ones, each as soon as its job has ended.

A line is written by one call to a descriptor that only appends, so whatever ends the process, the
file holds whole lines. A disk that runs full may take a part of a line; that part is cut off again.
"""

from __future__ import annotations

import errno
import os
import select
import stat
import sys
from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from itertools import islice
from pathlib import Path
from threading import Condition, Thread

from qanat._cli.usage import UsageError

BATCH = 64
"""Lines that a thread writes in one go at most."""

_BLOCK = 65536


class Output:
    """A descriptor that takes whole lines.

    Attributes:
        name: What it is called in messages.
        problem: Why it takes no more lines; None as long as it does.
        is_regular: Whether it is a file on a disk: writing to it does not block for long.
        unwritten: Lines that it did not take.
        show: Set for a terminal on which progress is drawn: writes lines without harming that.
    """

    def __init__(self, fd: int, name: str) -> None:
        """Take over an open descriptor."""
        self.fd = fd
        self.name = name
        self.is_regular = stat.S_ISREG(os.fstat(fd).st_mode)
        self.problem: OSError | None = None
        self.unwritten: list[bytes] = []
        self.show: Callable[[str], bool] | None = None

    @property
    def is_closed_pipe(self) -> bool:
        """Whether whoever read it has gone, as `head` does."""
        return self.problem is not None and self.problem.errno == errno.EPIPE

    def write(self, line: bytes) -> None:
        """Write a line, or several, or keep them in `unwritten` and set `problem`."""
        if self.problem is None:
            self.problem = self._written(line)
        if self.problem is not None:
            self.unwritten.append(line)

    def try_again(self) -> None:
        """Write what was not written: there may be room now."""
        if self.problem is not None and not self.is_closed_pipe:
            self.problem = None
            lines, self.unwritten = self.unwritten, []
            for line in lines:
                self.write(line)

    def _written(self, line: bytes) -> OSError | None:
        if self.show is not None and self.show(line.decode().removesuffix("\n")):
            return None
        done = 0
        try:
            while done < len(line):
                try:
                    done += os.write(self.fd, line[done:] if done else line)
                except BlockingIOError:  # somebody who shares it set it so
                    select.select([], [self.fd], [])
        except OSError as error:
            if done and self.is_regular:
                whole = os.fstat(self.fd).st_size - done
                os.ftruncate(self.fd, whole)
                os.lseek(self.fd, whole, os.SEEK_SET)  # standard output may not be set to append
            return error
        return None

    def close(self) -> None:
        """Close the descriptor."""
        try:
            os.close(self.fd)
        except OSError as error:  # some file systems report only here that the disk is full
            self.problem = self.problem or error


class ThreadedOutput:
    """An output that a thread of its own writes to: a reader that is slow blocks nobody else."""

    def __init__(self, output: Output, wrote: Callable[[], object]) -> None:
        """Start the thread; `wrote` is called in it after lines were written."""
        self._output = output
        self._wrote = wrote
        self._lines = deque[bytes]()
        self._wake = Condition()
        self._ended = False
        self._thread = Thread(target=self._work, name="qanat-output", daemon=True)
        self._thread.start()

    def __len__(self) -> int:
        """Return how many lines wait to be written."""
        return len(self._lines)

    def write(self, line: bytes) -> None:
        """Let the thread write a line."""
        with self._wake:
            self._lines.append(line)
            if len(self._lines) == 1:
                self._wake.notify()

    def finish(self, seconds: float) -> bool:
        """Wait until all is written, so many seconds at most; False if it is not."""
        with self._wake:
            self._ended = True
            self._wake.notify()
        self._thread.join(seconds)
        return not self._thread.is_alive()

    def unwritten(self) -> list[bytes]:
        """Return the lines that still wait, if the thread has not ended."""
        with self._wake:
            return list(self._lines) if self._thread.is_alive() else []

    def _work(self) -> None:
        while True:
            with self._wake:
                while not self._lines:
                    if self._ended:
                        return
                    self._wake.wait()
                lines = list(islice(self._lines, BATCH))
            self._output.write(b"".join(lines))
            with self._wake:
                for _ in lines:
                    self._lines.popleft()
            self._wrote()


def check_output(path: str | None, *, append: bool, overwrite: bool) -> None:
    """Check that results may be written there, without touching anything.

    Raises:
        UsageError: If they may not, or would mix with what is there.
    """
    if append and overwrite:
        raise UsageError("--append and --overwrite exclude each other")
    if path is None:
        if append or overwrite:
            raise UsageError(f"--{'append' if append else 'overwrite'} needs --output FILE")
        return
    try:
        status = Path(path).stat()
    except FileNotFoundError:
        if not Path(path).parent.is_dir():
            raise UsageError(f"{path}: there is no directory {str(Path(path).parent)!r}") from None
        return
    except (OSError, ValueError) as error:
        raise UsageError(f"{path}: {getattr(error, 'strerror', None) or error}") from None
    if stat.S_ISDIR(status.st_mode):
        raise UsageError(f"{path}: Is a directory")
    if stat.S_ISREG(status.st_mode) and status.st_size and not append and not overwrite:
        raise UsageError(
            f"{path} is not empty: add to it with --append, replace it with --overwrite, or name another file"
        )


def check_apart(path: str | None, inputs: tuple[str, ...], rules: str | None) -> None:
    """Check that the output is not a file that is read, by whatever name.

    Raises:
        UsageError: If it is.
    """
    if path is None:
        return
    try:
        output = Path(path).stat()
    except (OSError, ValueError):
        return  # there is none, or `check_output` says what is wrong with it
    if not stat.S_ISREG(output.st_mode):
        return
    read = [(name, "input") for name in inputs or ("-",)]
    if rules is not None:
        read.append((rules, "file of --rules"))
    for name, what in read:
        try:
            status = os.fstat(0) if name == "-" and what == "input" else Path(name).stat()
        except (OSError, ValueError):
            continue
        if os.path.samestat(output, status):
            raise UsageError(f"{path} is the {what}, too: name another file for the output")


def open_output(path: str, *, append: bool, overwrite: bool, shared: bool = False) -> Output:
    """Open a file for results, after `check_output`; a torn last line is cut off.

    Other runs are kept away for as long as it is open.

    Args:
        path: The file.
        append: Whether to leave what it holds.
        overwrite: Whether to take that out.
        shared: Whether others that share it may write to it, too: each of their lines is whole.

    Raises:
        UsageError: If it cannot be written, or another run writes to it.
    """
    try:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_APPEND | getattr(os, "O_BINARY", 0), 0o666)
    except OSError as error:
        if error.errno not in {errno.EACCES, errno.EPERM, errno.ENXIO, errno.EINVAL}:
            raise UsageError(f"{path}: {error.strerror}") from None
        try:  # a device or a pipe that can only be written
            fd = os.open(path, os.O_WRONLY | os.O_APPEND)
        except OSError as again:
            raise UsageError(f"{path}: {again.strerror}") from None
    output = Output(fd, path)
    if output.is_regular:
        if not lock(fd, shared=shared) or not _is_in_place(fd, path):
            os.close(fd)
            raise UsageError(f"{path} is being written by another run: name another file")
        try:
            if not append and not overwrite and os.fstat(fd).st_size:
                check_output(path, append=False, overwrite=False)  # written since that was asked first
            if overwrite:
                os.ftruncate(fd, 0)
            elif append:
                _cut_torn_line(fd)
        except OSError as error:
            os.close(fd)
            raise UsageError(f"{path}: {error.strerror}") from None
        except UsageError:
            os.close(fd)
            raise
    return output


def lock(fd: int, *, shared: bool = False) -> bool:
    """Keep other runs away for as long as the descriptor is open; False if another one was first."""
    if sys.platform == "win32":
        return True
    import fcntl

    try:
        fcntl.flock(fd, (fcntl.LOCK_SH if shared else fcntl.LOCK_EX) | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    except OSError:
        return True  # a file system without locks
    return True


def _is_in_place(fd: int, path: str) -> bool:
    """Whether a file is still the one of its name: another run may have put its own there."""
    try:
        return os.path.samestat(os.fstat(fd), Path(path).stat())
    except OSError:
        return False


def _cut_torn_line(fd: int) -> None:
    """Cut off what follows the last line end."""
    size = end = os.fstat(fd).st_size
    while end > 0:
        begin = max(0, end - _BLOCK)
        os.lseek(fd, begin, os.SEEK_SET)
        at = os.read(fd, end - begin).rfind(b"\n")
        if at >= 0:
            end = begin + at + 1
            break
        end = begin
    if end < size:
        os.ftruncate(fd, end)


@contextmanager
def stdout_for_data() -> Generator[Output]:
    """Keep standard output for results: what else is printed there goes to standard error.

    The descriptors themselves are exchanged, so this holds for C code and child processes, too.
    """
    try:
        data = os.dup(1)
    except OSError:  # closed by the caller
        data = os.open(os.devnull, os.O_WRONLY)
    try:
        # Where standard error is closed, what is printed goes nowhere.
        spare = os.dup(2)
    except OSError:
        spare = os.open(os.devnull, os.O_WRONLY)
    before = sys.stdout
    if before is not None:
        before.flush()
    os.dup2(spare, 1)
    os.close(spare)
    sys.stdout = sys.stderr
    output = Output(data, "standard output")
    try:
        yield output
    finally:
        sys.stdout = before
        os.dup2(data, 1)
        output.close()


class InOrder:
    """Pass lines on in the order of the input.

    A position that has no line, as its job was cancelled, is passed on as None.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        """Begin at position 0."""
        self._write = write
        self._early: dict[int, bytes | None] = {}
        self._turn = 0

    def __len__(self) -> int:
        """Return how many wait for those before them."""
        return len(self._early)

    def put(self, position: int, line: bytes | None) -> None:
        """Take a line in, and write all whose turn it is."""
        self._early[position] = line
        while self._turn in self._early:
            following = self._early.pop(self._turn)
            self._turn += 1
            if following is not None:
                self._write(following)

    def flush(self) -> None:
        """Write what is left, in order: those before it never came."""
        for position in sorted(self._early):
            line = self._early[position]
            if line is not None:
                self._write(line)
        self._early.clear()
