"""`examples/folders.py`: digests of files and folders, made in processes."""

from __future__ import annotations

import hashlib
import os
from typing import TYPE_CHECKING

import pytest

from tests.examples.scripts import EXAMPLES, run_example

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = [pytest.mark.real, pytest.mark.skipif(os.name == "nt", reason="folders of a POSIX system")]

VANISHING = f"""
import sys
sys.path.insert(0, {str(EXAMPLES)!r})
import folders
look = folders.look
def look_too_late(path):
    if path.name == "gone":
        path.unlink()  # somebody was quicker
    return look(path)
if __name__ == "__main__":
    folders.look = look_too_late
    sys.exit(folders.main())
"""


def sha(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def expected(path: Path) -> dict[str, str]:
    """Return the digests of a folder and of all in it, by their paths."""
    digests: dict[str, str] = {}
    inside: list[tuple[str, str, str]] = []
    for entry in sorted(path.iterdir()):
        if entry.is_symlink():
            kind, digest = "link", sha(os.fsencode(entry.readlink()))
        elif entry.is_dir():
            below = expected(entry)
            kind, digest = "folder", below[str(entry)]
            digests |= below
        else:
            kind, digest = "file", sha(entry.read_bytes())
        digests[str(entry)] = digest
        inside.append((entry.name, kind, digest))
    return digests | {str(path): sha(repr(inside).encode())}


def said(text: str) -> dict[str, str]:
    """Return the digests that were printed, by their paths."""
    lines = [line.split("  ", 1) for line in text.splitlines()]
    return {path: digest for digest, path in lines}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return a folder with folders, an empty one, links that lead nowhere and round, and odd names."""
    root = tmp_path / "root"
    (root / "deep" / "deeper" / "deepest").mkdir(parents=True)
    (root / "empty").mkdir()
    (root / "a.txt").write_bytes(b"a")
    (root / "nothing").write_bytes(b"")
    (root / "deep" / "large").write_bytes(b"0123456789abcdef" * 200_000)
    (root / "deep" / "deeper" / "deepest" / "x").write_bytes(b"x")
    (root / "deep" / "same").write_bytes(b"a")
    (root / "deep" / "a.txt").symlink_to("nowhere")
    (root / "round").symlink_to(root)
    (root / os.fsdecode(b"\xff odd  name")).write_bytes(b"odd")
    return root


def test_every_digest_is_that_of_hashlib(folder: Path, tmp_path: Path) -> None:
    ran = run_example("folders.py", folder, where=tmp_path)
    assert ran.returncode == 0, ran.stderr
    assert said(ran.stdout) == expected(folder)
    assert ran.stderr.startswith("13 of 13 done in ")


def test_paths_are_told_as_they_were_given(folder: Path) -> None:
    ran = run_example("folders.py", ".", "--processes", "1", where=folder / "deep")
    given = {str(folder / "deep" / path): digest for path, digest in said(ran.stdout).items()}
    assert given == expected(folder / "deep")


def test_an_empty_folder_has_a_digest(tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "link").symlink_to("empty")
    for name in ("empty", "link"):
        ran = run_example("folders.py", name, where=tmp_path)
        assert ran.returncode == 0, ran.stderr
        assert list(said(ran.stdout).values()) == [sha(b"[]")]


def test_what_cannot_be_read_is_named_and_folders_above_it_have_no_digest(folder: Path) -> None:
    os.mkfifo(folder / "deep" / "deeper" / "pipe")
    ran = run_example("folders.py", "root", where=folder.parent)
    assert ran.returncode == 1
    above = ["root", "root/deep", "root/deep/deeper"]
    assert {str(folder.parent / path): digest for path, digest in said(ran.stdout).items()} == {
        path: digest
        for path, digest in expected_without(folder, "pipe").items()
        if path not in {str(folder.parent / each) for each in above}
    }
    assert ran.stderr.splitlines()[:4] == [
        *(f"{path}: 1 of what is in it could not be read" for path in above),
        "root/deep/deeper/pipe: neither a file nor a folder",
    ]


def expected_without(path: Path, name: str) -> dict[str, str]:
    """Return the digests once a file of that name is gone."""
    for each in path.rglob(name):
        each.unlink()
    return expected(path)


def test_a_file_that_vanishes_is_named(tmp_path: Path) -> None:
    (tmp_path / "root").mkdir()
    for name in ("gone", "here"):
        (tmp_path / "root" / name).write_text(name)
    (tmp_path / "vanishing.py").write_text(VANISHING)
    ran = run_example(str(tmp_path / "vanishing.py"), "root", where=tmp_path)
    assert ran.returncode == 1
    assert said(ran.stdout) == {"root/here": sha(b"here")}
    assert ran.stderr.splitlines()[:2] == [
        "root: 1 of what is in it could not be read",
        "root/gone: No such file or directory",
    ]


@pytest.mark.skipif(os.name != "nt" and os.geteuid() == 0, reason="root may read everything")
def test_what_may_not_be_read_is_named(tmp_path: Path) -> None:
    (tmp_path / "root" / "locked").mkdir(parents=True)
    (tmp_path / "root" / "locked").chmod(0o000)
    (tmp_path / "root" / "key").write_text("secret")
    (tmp_path / "root" / "key").chmod(0o000)
    try:
        ran = run_example("folders.py", "root", where=tmp_path)
    finally:
        (tmp_path / "root" / "locked").chmod(0o700)
    assert ran.returncode == 1
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[:3] == [
        "root: 2 of what is in it could not be read",
        "root/key: Permission denied",
        "root/locked: Permission denied",
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["nowhere"], "FOLDER must be a folder, got 'nowhere'"),
        (["file"], "FOLDER must be a folder, got 'file'"),
        ([".", "--processes", "0"], "--processes must be at least 1, got 0"),
        ([], "the following arguments are required: folder"),
    ],
    ids=["missing", "file", "processes", "nothing"],
)
def test_wrong_calls_are_refused(arguments: list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    ran = run_example("folders.py", *arguments, where=tmp_path)
    assert (ran.returncode, ran.stdout) == (2, "")
    assert message in ran.stderr
