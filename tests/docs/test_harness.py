"""The harness for the documentation's examples notices what is wrong, and runs what is right."""

import sys
from pathlib import Path
from textwrap import dedent

import pytest

from tests.docs.examples import Block, ExampleError, commands, compare, read_blocks, run_python, run_sessions


@pytest.fixture
def page(tmp_path: Path):
    def write(text: str) -> list[Block]:
        path = tmp_path / "page.md"
        path.write_text(dedent(text), encoding="utf-8")
        return read_blocks(path)

    return write


@pytest.fixture
def qanat_command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a `qanat` that repeats its arguments and ends with status 3 for `fail` first on the path."""
    commands = tmp_path / "bin"
    commands.mkdir()
    script = commands / "qanat"
    script.write_text('#!/bin/sh\necho "qanat got $*"\n[ "$1" != fail ] || exit 3\n', encoding="utf-8")
    script.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(commands / "python"))
    directory = tmp_path / "work"
    directory.mkdir()
    return directory


def test_block_knows_its_place_title_and_reason_to_be_skipped(page):
    (plain, titled, skipped) = page(
        """\
        ```python
        x = 1
        ```

        - In a list:

            ```text title="urls.txt"
            a
              b
            ```

        <!-- skip: needs a network -->
        ```python
        y = 1
        ```
        """
    )
    assert (plain.line, plain.language, plain.title, plain.skip, plain.source) == (
        1,
        "python",
        None,
        None,
        "x = 1\n",
    )
    assert (titled.line, titled.title, titled.source) == (7, "urls.txt", "a\n  b\n")
    assert (skipped.line, skipped.skip) == (13, "needs a network")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        pytest.param("```py\n1\n```\n", "write 'python'", id="misspelt language"),
        pytest.param("<!-- skip: -->\n```python\n1\n```\n", "needs a reason", id="no reason"),
    ],
)
def test_unclear_block_is_refused(page, text, message):
    with pytest.raises(ExampleError, match=message):
        page(text)


def test_skip_holds_for_one_block_only(page):
    skipped, other = page("<!-- skip: slow -->\n```python\n1\n```\n\nWords.\n\n```python\n2\n```\n")
    assert (skipped.skip, other.skip) == ("slow", None)


def test_blocks_share_names_and_may_await(page, monkeypatch):
    run_python(
        page(
            """\
            ```python
            import anyio

            async def double(x):
                await anyio.lowlevel.checkpoint()
                return 2 * x
            ```

            ```python
            value = await double(21)
            print(value)
            ```

            ```text title="output"
            42
            ```

            ```python
            async with anyio.create_task_group():
                print("in a group, over", value)
            if __name__ == "__main__":
                print("as a program")
            ```

            ```text title="output"
            in a group, ... 42
            as a program
            ```
            """
        ),
        monkeypatch,
    )


def test_other_output_than_shown_is_an_error(page, monkeypatch):
    blocks = page('```python\nprint(1)\n```\n\n```text title="output"\n2\n```\n')
    with pytest.raises(ExampleError, match=r"page\.md:5"):
        run_python(blocks, monkeypatch)


def test_error_names_the_line_of_the_page(page, monkeypatch):
    with pytest.raises(ZeroDivisionError) as caught:
        run_python(page("# Title\n\n```python\nx = 0\n1 / x\n```\n"), monkeypatch)
    assert (Path(caught.traceback[-1].path).name, caught.traceback[-1].lineno + 1) == ("page.md", 5)


def test_skipped_python_does_not_run_but_must_be_valid(page, monkeypatch):
    run_python(page("<!-- skip: never ends -->\n```python\n1 / 0\n```\n"), monkeypatch)
    with pytest.raises(SyntaxError):
        run_python(page("<!-- skip: never ends -->\n```python\n1 /\n```\n"), monkeypatch)


def test_only_blocks_that_call_us_are_sessions(page):
    ours, piped, others = page(
        """\
        ```console
        $ qanat map
        ```

        ```console
        $ seq 3 | qanat map -
        ```

        ```console
        $ pip install qanat
        ```
        """
    )
    assert (ours.is_session, piped.is_session, others.is_session) == (True, True, False)


def test_commands_are_cut_with_their_output():
    first, second = commands("$ qanat map \\\n>   --rate 5/s\nout\n  put\n$ echo $?\n")
    assert (first.line, first.shown) == ("qanat map \\\n  --rate 5/s", "out\n  put\n")
    assert (second.line, second.shown) == ("echo $?", "")


def test_dots_stand_for_any_text():
    compare("took ... s\n", "took 0.12 s\n", "here")
    with pytest.raises(ExampleError, match="here"):
        compare("took ... s\n", "took 0.12 ms\n", "here")


@pytest.mark.real
def test_session_has_the_files_of_the_page_and_the_status_before(page, qanat_command):
    run_sessions(
        page(
            """\
            ```text title="urls.txt"
            a
            b
            ```

            ```console
            $ cat urls.txt | qanat map -
            qanat got map -
            $ qanat fail
            $ echo $?
            3
            $ cat urls.txt
            a
            ...
            ```
            """
        ),
        qanat_command,
    )


@pytest.mark.real
@pytest.mark.parametrize(
    "text",
    [
        pytest.param("$ qanat map\nsomething else\n", id="other output"),
        pytest.param("$ qanat fail\n", id="failure"),
    ],
)
def test_session_that_goes_otherwise_is_an_error(page, qanat_command, text):
    with pytest.raises(ExampleError, match=r"page\.md:1: \$ qanat"):
        run_sessions(page(f"```console\n{text}```\n"), qanat_command)
