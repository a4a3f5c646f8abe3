"""The command `qanat` as a whole."""

from __future__ import annotations

import subprocess
import sys
from typing import TYPE_CHECKING

import pytest

from tests._cli.shell import call, environment

if TYPE_CHECKING:
    from pathlib import Path

pytestmark = pytest.mark.real


def test_without_the_extra_one_line_says_what_to_install(tmp_path: Path) -> None:
    code = (
        "import sys\n"
        "sys.modules['cyclopts'] = None\n"
        "from qanat._cli.main import main\n"
        "main(['map', 'app:same'])\n"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, env=environment()
    )
    assert ran.returncode == 2
    assert ran.stderr == "qanat: the command line is an extra: pip install 'qanat[cli]'\n"


def test_importing_qanat_does_not_import_the_command_line() -> None:
    code = "import sys, qanat; sys.exit(bool({'cyclopts', 'rich', 'qanat._cli'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], check=False, env=environment()).returncode == 0


def test_errors_are_objects_for_programs(tmp_path: Path) -> None:
    ran = call(tmp_path, "map", "nope:fn", "--json")
    assert ran.returncode == 2
    assert ran.stderr.startswith('{"event": "error", "text": "there is no module')


def test_escapes_in_arguments_are_shown(tmp_path: Path) -> None:
    for arguments in (["\x1b[2J"], ["map", "\x1b[2J"], ["map", "app:same", "\x1b[2J"], ["map", "--\x1b[2J"]):
        ran = call(tmp_path, *arguments)
        assert ran.returncode == 2
        assert "\x1b" not in ran.stderr, arguments
        assert "\\x1b[2J" in ran.stderr, arguments


def test_an_interrupt_while_modules_are_loaded_is_quiet(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'cyclopts': os.kill(os.getpid(), signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from qanat._cli.main import main\n"
        "main(['--version'])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment())
    assert (ran.returncode, ran.stdout, ran.stderr) == (130, b"", b"")
