"""What `import qanat` brings in, and what it leaves until it is asked for."""

from __future__ import annotations

import subprocess
import sys
from importlib.metadata import version

import pytest

import qanat


@pytest.mark.real
@pytest.mark.parametrize("module", ["importlib.metadata", "email.utils", "multiprocessing", "rich", "trio"])
def test_what_costs_much_is_not_imported_before_it_is_used(module: str):
    code = f"import sys, qanat; sys.exit({module!r} in sys.modules)"
    subprocess.run([sys.executable, "-c", code], check=True)


def test_the_version_is_that_of_the_package():
    assert qanat.__version__ == version("qanat")


def test_another_name_is_told_not_to_be_there():
    with pytest.raises(AttributeError, match="module 'qanat' has no attribute 'version'"):
        qanat.version  # type: ignore[attr-defined]  # noqa: B018
