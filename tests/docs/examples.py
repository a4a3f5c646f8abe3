"""Runs what the documentation shows, so that it cannot go wrong unseen.

A page is read from top to bottom, once for its Python blocks and once for its `console` blocks:

- A `python` block runs in the page's own namespace, so a block may use what an earlier one
  made. It may `await`: such a block runs in an event loop of its own, on asyncio.
- A `text` block titled "output" holds what the Python blocks since the last such block printed.
- A `console` block with a `qanat` command runs in an empty directory, command by command. The
  lines after a command are what it prints; without any, it only has to succeed. A command may
  fail if the next one is `echo $?`. Other `console` blocks (`pip`, `make`) are left alone.
- A block with any other title ("urls.txt") is a file of that name for the console blocks below.
- `...` in shown output stands for any text.
- `<!-- skip: reason -->` above a block leaves it out; Python must still be valid.
"""

from __future__ import annotations

import ast
import contextlib
import doctest
import io
import os
import re
import subprocess
import sys
from dataclasses import dataclass
from inspect import CO_COROUTINE
from pathlib import Path
from types import CodeType, ModuleType
from typing import TYPE_CHECKING, Any

import anyio
from sybil import Document, Region
from sybil.parsers.markdown.lexers import RawFencedCodeBlockLexer

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    import pytest

PATIENCE = 60.0  # seconds for one command
MISSPELT = {"py": "python", "python3": "python", "pycon": "python", "shell-session": "console"}
INFO = re.compile(r"[ \t]*(?P<language>[\w-]*)(?P<options>[^\n]*)\n")
TITLE = re.compile(r"""\btitle=(["'])(?P<title>.*?)\1""")
SKIP = re.compile(r"<!--\s*skip:(?P<reason>.*?)-->\s*\Z", re.DOTALL)
USES_QANAT = re.compile(r"(?:^|[|;&]\s*)qanat\b")


class ExampleError(AssertionError):
    """An example does not do what the page says."""


@dataclass(frozen=True)
class Block:
    """A fenced block of a page."""

    path: Path
    line: int  # of the opening fence, from 1
    language: str
    title: str | None
    skip: str | None
    source: str

    @property
    def place(self) -> str:
        """Say where the block is, so that an editor can go there."""
        return f"{self.path}:{self.line}"

    @property
    def shows_output(self) -> bool:
        """Tell whether the block holds what the Python blocks above it print."""
        return self.language == "text" and self.title == "output"

    @property
    def is_session(self) -> bool:
        """Tell whether the block holds commands that are ours to run."""
        return self.language == "console" and any(
            USES_QANAT.search(command.line) for command in commands(self.source)
        )


@dataclass
class Command:
    """A command line, and the output shown below it."""

    line: str
    shown: str = ""


def read_blocks(path: Path) -> list[Block]:
    """Read the fenced blocks of a page, in order."""
    document = Document.parse(str(path), _parse)
    return [_block(path, region, example.line) for example in document for region in [example.region]]


def _parse(document: Document) -> Iterable[Region]:
    for region in RawFencedCodeBlockLexer(INFO)(document):
        before = SKIP.search(document.text, 0, region.start)
        region.parsed = None if before is None else before["reason"].strip()
        yield region


def _block(path: Path, region: Region, line: int) -> Block:
    language, options = str(region.lexemes["language"]), str(region.lexemes["options"])
    title = TITLE.search(options)
    block = Block(
        path, line, language, title and title["title"], region.parsed, str(region.lexemes["source"])
    )
    if language in MISSPELT:
        raise ExampleError(f"{block.place}: the language is {language!r}; write {MISSPELT[language]!r}")
    if block.skip == "":
        raise ExampleError(f"{block.place}: a skipped block needs a reason: <!-- skip: reason -->")
    return block


def run_python(blocks: Iterable[Block], monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the Python blocks of a page in order, and compare what they print."""
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    printed = io.StringIO()
    for block in blocks:
        if block.language == "python":
            code = _compile(block)
            if block.skip is None:
                with contextlib.redirect_stdout(printed):
                    _run(code, vars(module))
        elif block.shows_output:
            if block.skip is None:
                compare(block.source, printed.getvalue(), block.place)
            printed = io.StringIO()


def _compile(block: Block) -> CodeType:
    # Empty lines in front make tracebacks name the lines of the page.
    source = "\n" * block.line + block.source
    flags = ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    code: CodeType = compile(source, str(block.path), "exec", flags=flags, dont_inherit=True)
    return code


def _run(code: CodeType, namespace: dict[str, Any]) -> None:
    result = eval(code, namespace)  # noqa: S307 - running the page is the point
    if code.co_flags & CO_COROUTINE:

        async def main() -> None:
            await result

        anyio.run(main)


def run_sessions(blocks: Iterable[Block], directory: Path) -> None:
    """Write the files of a page and run its commands in order, and compare what they print."""
    for block in blocks:
        if block.skip is not None:
            continue
        if block.title is not None and not block.shows_output:
            file = directory / block.title
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(block.source, encoding="utf-8")
        elif block.is_session:
            _run_session(block, directory)


def _run_session(block: Block, directory: Path) -> None:
    status = 0
    todo = commands(block.source)
    for command, following in zip(todo, [*todo[1:], None], strict=True):
        # The status of the command before is there as `$?`.
        script = f"(exit {status}); {command.line}"
        done = subprocess.run(
            ["bash", "-c", script],
            cwd=directory,
            env=_environment(),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            encoding="utf-8",
            timeout=PATIENCE,
            check=False,
        )
        # As a shell says it of a process that a signal ended.
        status = done.returncode if done.returncode >= 0 else 128 - done.returncode
        place = f"{block.place}: $ {command.line}"
        if status and not (following and following.line.startswith("echo $?")):
            raise ExampleError(f"{place}\nended with status {status} and printed:\n{done.stdout}")
        if command.shown:
            compare(command.shown, done.stdout, place)


def _environment() -> dict[str, str]:
    """Return our environment with this Python's commands first and nothing that changes output."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith("QANAT_")}
    path = f"{Path(sys.executable).parent}{os.pathsep}{ours.get('PATH', os.defpath)}"
    return ours | {"PATH": path, "COLUMNS": "100", "NO_COLOR": "1", "TERM": "dumb"}


def commands(source: str) -> list[Command]:
    """Cut a console block into its commands; `> ` continues one."""
    found: list[Command] = []
    for line in source.splitlines():
        if line.startswith("$ "):
            found.append(Command(line[2:]))
        elif line.startswith("> ") and found and not found[-1].shown:
            found[-1].line += "\n" + line[2:]
        elif found:
            found[-1].shown += line + "\n"
    return found


def compare(shown: str, printed: str, place: str) -> None:
    """Raise ExampleError unless the shown output, where `...` is any text, is the printed one."""
    example = doctest.Example("", shown.rstrip() + "\n")
    got = printed.rstrip() + "\n"
    checker = doctest.OutputChecker()
    if not checker.check_output(example.want, got, doctest.ELLIPSIS):
        difference = checker.output_difference(example, got, doctest.ELLIPSIS | doctest.REPORT_NDIFF)
        raise ExampleError(f"{place}\n{difference}")


def pages(root: Path) -> Iterator[Path]:
    """Yield the pages whose examples run: the readme and the documentation."""
    yield root / "README.md"
    yield from sorted((root / "docs").rglob("*.md"))
