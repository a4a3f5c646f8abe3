"""Hash a folder and all that is in it, in as many processes as there are processors.

    python examples/folders.py FOLDER                   # a SHA-256 for each file, each link and each folder

A file's digest is the one that `sha256sum` gives. A folder's is made of the names, kinds and digests of what
is in it, so two folders of one digest hold the same. A folder of which something could not be read has none.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import stat
import sys
from io import TextIOWrapper
from pathlib import Path
from typing import NamedTuple

import qanat


class Found(NamedTuple):
    """What is known of a file, a link or a folder."""

    name: str
    kind: str
    digest: str


def look(path: Path) -> Found | None:
    """Read a file or a link; hand in what is in a folder. Runs in a process."""
    mode = path.lstat().st_mode
    if stat.S_ISLNK(mode):
        return Found(path.name, "link", hashlib.sha256(os.fsencode(path.readlink())).hexdigest())
    if stat.S_ISREG(mode):
        with path.open("rb") as file:
            return Found(path.name, "file", hashlib.file_digest(file, "sha256").hexdigest())
    if not stat.S_ISDIR(mode):
        raise qanat.Discard("neither a file nor a folder")  # a pipe or a device may have no end
    job = qanat.current_job()
    for entry in sorted(path.iterdir()):
        job.spawn(entry)
    job.after_children(add_up, gather=True)
    return None


def add_up(children: qanat.Children[Found]) -> Found:
    """Return a folder's digest, once all that is in it is done; it is the job's value."""
    if missing := children.failed + children.cancelled:
        raise qanat.Discard(f"{missing} of what is in it could not be read")
    folder: Path = qanat.current_job().item
    inside = repr([tuple(found) for found in children.values()])
    return Found(folder.name, "folder", hashlib.sha256(inside.encode()).hexdigest())


def reason(error: BaseException | None) -> str:
    """Say why something has no digest, without the path, which stands beside it."""
    return (isinstance(error, OSError) and error.strerror) or str(error)


def main() -> int:
    """Hash what the command line says."""
    options = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1, help="how many work at once")
    given = options.parse_args()
    if not given.folder.is_dir():
        options.error(f"FOLDER must be a folder, got {str(given.folder)!r}")
    if given.processes < 1:
        options.error(f"--processes must be at least 1, got {given.processes}")
    # Depth first, so that few folders wait for what is in them.
    root = given.folder.resolve() if given.folder.is_symlink() else given.folder
    outcomes = qanat.run(look, [root], executor="process", concurrency=given.processes, order="lifo")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):
            stream.reconfigure(errors="surrogateescape")  # names need not be text
    for outcome in sorted(outcomes, key=lambda outcome: outcome.item):
        if outcome.value is not None:
            print(f"{outcome.value.digest}  {outcome.item}")
        else:
            print(f"{outcome.item}: {reason(outcome.error)}", file=sys.stderr)
    if not sys.stderr.isatty():  # where the live view has said it
        print(outcomes.summary(), file=sys.stderr)
    return 1 if outcomes.failed else 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit(130)
