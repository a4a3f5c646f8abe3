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


@pytest.mark.parametrize("stream", ["stdout", "stderr"])
def test_what_nobody_can_read_any_more_does_not_change_the_exit_status(tmp_path: Path, stream: str) -> None:
    number = 1 if stream == "stdout" else 2
    code = (
        "import os, sys\n"
        "from qanat._cli import main\n"
        "def end(arguments, loaded):\n"
        f"    os.dup2(os.open('/dev/full', os.O_WRONLY), {number})\n"
        f"    sys.{stream} = os.fdopen({number}, 'w', buffering=1 << 16)\n"
        f"    sys.{stream}.write('lost')\n"
        "    return 129\n"
        "main.run = end\n"
        "main.main([])\n"
    )
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, env=environment())
    assert ran.returncode == 129
