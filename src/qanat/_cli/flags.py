"""How flags are said: their groups, their variables, and how numbers and a lone dash are read."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from cyclopts import Group, Parameter, Token

STDIN = "\0-"
"""Stands for `-` while flags are told from files; no argument can hold a NUL."""

RULES = Group("Rules", sort_key=1)
INPUT = Group("Input and output", sort_key=2)
RUN = Group("The run", sort_key=3)


def whole(_kind: object, tokens: Sequence[Token]) -> int:
    """Return a flag's whole number; a fraction is not rounded."""
    text = tokens[0].value
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"must be a whole number, got {text!r}") from None


def whole_or_range(kind: object, tokens: Sequence[Token]) -> int | str:
    """Return a flag's whole number, or its text if it names two of them."""
    text = tokens[0].value
    try:
        return text if ".." in text else whole(kind, tokens)
    except ValueError as error:
        raise ValueError(f'{error}, or two such as "1..200"') from None


def flag(
    name: str,
    *short: str,
    group: Group,
    help: str,  # noqa: A002
    negative: str | None = None,
    converter: Callable[..., Any] | None = None,
    command: str = "MAP",
) -> Parameter:
    variable = f"QANAT_{command}_{name.upper().replace('-', '_')}"
    return Parameter(
        name=(f"--{name}", *short), env_var=variable, group=group, help=help,
        negative="" if negative is None else negative, converter=converter,
    )  # fmt: skip


def plain(text: str) -> str:
    return text.replace(STDIN, "-")
