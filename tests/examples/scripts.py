"""Run the examples as their readers do: by themselves, in a directory of one's own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from tests._cli.shell import environment

if TYPE_CHECKING:
    from collections.abc import Mapping

EXAMPLES = Path(__file__).parents[2] / "examples"


def run_example(
    name: str, *arguments: str | bytes | Path, where: Path, variables: Mapping[str, str] | None = None
) -> subprocess.CompletedProcess[str]:
    """Run an example, or a script elsewhere, to its end."""
    return subprocess.run(
        [sys.executable, str(EXAMPLES / name), *arguments], cwd=where, env=environment(**(variables or {})),
        stdin=subprocess.DEVNULL, capture_output=True, text=True, errors="surrogateescape", timeout=50,
        check=False,
    )  # fmt: skip
