"""The arguments of a command for one item, and which programs there are."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._cli.commands import Command
from qanat._cli.usage import UsageError


@pytest.mark.parametrize(
    ("arguments", "item", "filled"),
    [
        (["echo", "{}"], "a b", ["echo", "a b"]),
        (["echo", "<{}>", "{}"], "a", ["echo", "<a>", "a"]),
        (["echo"], "a", ["echo", "a"]),
        (["echo", "{}"], {"n": [1, None]}, ["echo", '{"n":[1,null]}']),
        (["echo"], 5, ["echo", "5"]),
        (["echo", "{n}-{m}"], {"n": 1, "m": "x"}, ["echo", "1-x"]),
        (["echo", "{first name}"], {"first name": "A"}, ["echo", "A"]),
        (["echo", "{n}"], "a", ["echo", "{n}", "a"]),
        (["awk", "{print $1}"], {"n": 1}, ["awk", "{print $1}", '{"n":1}']),
        (["x", "{{n}}", "{n}"], {"n": 1}, ["x", "{{n}}", "1"]),
        (["x", '{"a":{n}}'], {"n": 1}, ["x", '{"a":1}']),
        (["x", '{"a":{}}'], "b", ["x", '{"a":b}']),
        (["echo", "{}"], "{n} $(rm) ;", ["echo", "{n} $(rm) ;"]),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_arguments_are_filled(
    monkeypatch: pytest.MonkeyPatch, arguments: list[str], item: Any, filled: list[str]
) -> None:
    monkeypatch.setattr("shutil.which", lambda name: name)
    assert Command(tuple(arguments)).arguments_for(item) == filled


def test_a_field_that_is_not_there_fails_the_job() -> None:
    with pytest.raises(LookupError, match=r"no field 'm' for the argument '\{m\}'"):
        Command(("echo", "{m}")).arguments_for({"n": 1})


@pytest.mark.parametrize("arguments", [(), ("",), ("no-such-program-here",)])
def test_programs_that_cannot_be_run(arguments: tuple[str, ...]) -> None:
    with pytest.raises(UsageError):
        Command(arguments)
