"""Walk a folder and hash what is in it, in as many processes as there are processors.

    python examples/folders.py FOLDER                   # prints a SHA-256 for each file and each folder

A folder's digest is made of the names and digests of what is in it, so two folders with the same digest
hold the same.
"""

from __future__ import annotations

import argparse
import hashlib
import os
import sys
from collections import defaultdict
from pathlib import Path

import qanat

PART = 1_048_576
"""Bytes read at once."""


def look(path: str) -> str | None:
    """Return a file's digest; of a folder, hand in what is in it. Runs in a process."""
    if os.path.islink(path):
        return hashlib.sha256(os.readlink(path).encode()).hexdigest()
    if os.path.isdir(path):
        for entry in sorted(os.listdir(path)):
            qanat.current_job().spawn(os.path.join(path, entry))
        return None
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while part := file.read(PART):
            digest.update(part)
    return digest.hexdigest()


def add_up(outcomes: qanat.Outcomes[str, str | None]) -> dict[str, str]:
    """Return the digests of files and folders: the deepest first, as folders are made of what is in them."""
    inside: dict[str, list[tuple[str, str]]] = defaultdict(list)
    digests: dict[str, str] = {}
    for outcome in sorted(outcomes, key=lambda each: each.item.count(os.sep), reverse=True):
        path = outcome.item
        if not outcome.ok:
            digest = f"not read: {outcome.error}"
        elif outcome.value is not None:
            digest = outcome.value
        else:
            digest = hashlib.sha256(repr(sorted(inside.pop(path, []))).encode()).hexdigest()
        digests[path] = digest
        parent, name = os.path.split(path)
        inside[parent].append((name, digest))
    return digests


def main() -> int:
    """Hash what the command line says."""
    options = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    options.add_argument("folder", type=Path)
    options.add_argument("--processes", type=int, default=os.cpu_count() or 1)
    given = options.parse_args()
    if not given.folder.is_dir():
        print(f"{given.folder} is not a folder", file=sys.stderr)
        return 2
    # Depth first: few folders are open at a time.
    outcomes = qanat.run(
        look, [str(given.folder)], executor="process", concurrency=given.processes, order="lifo"
    )
    for path, digest in sorted(add_up(outcomes).items()):
        print(f"{digest}  {path}")
    print(outcomes.summary(), file=sys.stderr)
    return 1 if outcomes.failed else 0


if __name__ == "__main__":
    sys.exit(main())
