"""`APP:FN`: the function that the user named."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qanat._cli.loading import is_function_name, load
from qanat._cli.usage import UsageError
from tests._cli.shell import in_directory

if TYPE_CHECKING:
    from pathlib import Path


@pytest.mark.parametrize("text", ["app:fetch", "a.b.c:d.e", "_x:_y", "žluť:kůň"])
def test_names(text: str) -> None:
    assert is_function_name(text)


@pytest.mark.parametrize(
    "text",
    [
        "",
        "app",
        "app:",
        ":fn",
        "a;b:c",
        "../x:y",
        "a:b()",
        "a:b c",
        "a/b:c",
        "a:b:c",
        "1a:b",
        "a..b:c",
        "a:b\n",
    ],
)
def test_what_is_no_name_is_refused(text: str) -> None:
    assert not is_function_name(text)
    with pytest.raises(UsageError, match="must be named like"):
        load(text)


def test_the_working_directory_comes_first(tmp_path: Path) -> None:
    with in_directory(tmp_path):
        assert load("app:same")("x") == "x"
        assert load("app:things.method")("x") == "method x"
        assert load("json:dumps")(1) == "1"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("nope:fn", "there is no module 'nope'"),
        ("app.sub:fn", "there is no module 'app.sub'"),
        ("nope.sub:fn", "there is no module 'nope'"),
        ("app:nope", "app has no 'nope'; it has Things, add, block"),
        ("app:Same", "did you mean 'same'"),
        ("app:number.x", "app.number has no 'x'"),
        ("app:number", "app:number is not a function, but 5"),
        ("app:__builtins__", "'__builtins__'"),
        ("app:same.__globals__", "'__globals__'"),
        ("raises:fn", r"(?s)could not be imported.*line 2, in f.*ZeroDivisionError"),
        ("syntax:fn", r"(?s)syntax.py.*SyntaxError"),
        ("needs:fn", r"(?s)needs.py.*No module named 'not_there'"),
        ("leaves:fn", "ended the program"),
    ],
)
def test_each_way_to_fail_has_its_words(tmp_path: Path, text: str, says: str) -> None:
    (tmp_path / "raises.py").write_text("def f():\n    1 / 0\nf()\n")
    (tmp_path / "syntax.py").write_text("def f(:\n")
    (tmp_path / "needs.py").write_text("import not_there\n")
    (tmp_path / "leaves.py").write_text("raise SystemExit(3)\n")
    with in_directory(tmp_path), pytest.raises(UsageError, match=says) as caught:
        load(text)
    assert "importlib" not in str(caught.value)
    assert "\x1b" not in str(caught.value)
