"""What type checkers say of the calls of other libraries."""

import subprocess
import sys
from pathlib import Path

import pytest

WRONG = """
from qanat.compat.aiopyrq import Queue
from qanat.compat.aqute import Aqute

async def handler(number: int) -> str:
    return f"success {number}"

async def main() -> None:
    aqute = Aqute(handle_coro=handler, workers_count=10)
    await aqute.add_task("10")
    right: list[str] = [task.unwrap() for task in await aqute.apply_to_all([1])]
    Aqute[int, int](handle_coro=handler, workers_count=10)
    queue = Queue("emails", "memory://")
    await queue.add_item("a@b.c")
    items: list[str] = await queue.get_items(await queue.get_count())
    await queue.ack_items(items)
    await queue.get_items("10")
"""


@pytest.mark.real
@pytest.mark.long
@pytest.mark.timeout(300)
def test_a_wrong_argument_is_an_error_to_mypy(tmp_path: Path):
    pytest.importorskip("mypy")
    script = tmp_path / "wrong.py"
    script.write_text(WRONG, encoding="utf-8")
    told = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path), script],
        capture_output=True, text=True, check=False, cwd=tmp_path,
    ).stdout  # fmt: skip
    lines = [line for line in told.splitlines() if "error:" in line]
    assert len(lines) == 3, told
    assert 'Argument 1 to "add_task" of "Aqute" has incompatible type "str"; expected "int"' in lines[0]
    assert 'Argument "handle_coro" to "Aqute" has incompatible type' in lines[1]
    assert 'Argument 1 to "get_items" of "Waiting" has incompatible type "str"; expected "int"' in lines[2]
