"""The rules of a `qanat map`, from its flags, the environment and a file."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any, Final, cast

from qanat._app.rules import Rules
from qanat._cli.usage import UsageError
from qanat._core.arguments import seconds
from qanat._core.limits import Adaptive
from qanat._core.retry import Retry
from qanat.errors import SerialisationError

_NOT_IN_FILE: Final = frozenset(
    {"limits", "lane_limits", "batch", "cost", "id", "key", "state", "observers", "queue"}
)
_RETRY: Final = frozenset({"times", "deadline", "budget", "max_throttles"})
_CONCURRENCY: Final = re.compile(r"(-?[0-9]+)(?:\s*\.\.\s*([0-9]+))?")
_HALT: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*(%?)")


@dataclass(frozen=True, slots=True)
class Fields:
    """Fields of the items that say where their jobs go; None is not given.

    Attributes:
        lane: The field whose value is an item's lane.
        priority: The field whose value is an item's priority.
        deadline: The field whose value is the seconds until an item is due.
    """

    lane: str | None = None
    priority: str | None = None
    deadline: str | None = None

    @property
    def named(self) -> tuple[str, ...]:
        """The fields that were given."""
        return tuple(name for name in (self.lane, self.priority, self.deadline) if name is not None)


def make_rules(flags: Mapping[str, Any], file: str | None) -> tuple[Rules, Fields]:
    """Return the rules and the fields: flags win over the file, which wins over the defaults.

    Args:
        flags: What was given by flags or the environment, by the rules' names; None was not.
        file: A TOML file with rules by their names.

    Raises:
        UsageError: If something is not a rule, or its value is wrong.
    """
    given = {} if file is None else _read(file)
    given.update({name: value for name, value in flags.items() if value is not None})
    names = {name: given.pop(name, None) for name in ("lane", "priority", "deadline")}
    for name, field in names.items():
        if field is not None and not isinstance(field, str):
            raise UsageError(f"{name} must be the name of a field, got {field!r}")
    for name in ("priority", "deadline"):
        if (given.get("order") == name) != (names[name] is not None):
            raise UsageError(f"order {name} and the field for it go together: --order {name} --{name} FIELD")
    if given.get("weights") is not None and names["lane"] is None:
        raise UsageError("weights are for lanes, and there are none: name their field with --lane or lane")
    try:
        if flags.get("max_failures") is not None:
            given["max_failures"] = _halt_flag(flags["max_failures"])
        options = {name: _AS[name](value) if name in _AS else value for name, value in given.items()}
        rules = Rules(**options)
    except (TypeError, ValueError) as error:
        raise UsageError(str(error)) from None
    # A value that cannot be written will not be otherwise the next time.
    retry = Retry.of(rules.retry)
    never_on = (*cast("tuple[type[BaseException], ...]", retry.never_on), SerialisationError)
    return rules.replace(retry=replace(retry, never_on=never_on)), Fields(**names)


def names_given(flags: Mapping[str, Any], file: str | None) -> set[str]:
    """Return the names of the rules that were given, by flags or in the file."""
    given = {name for name, value in flags.items() if value is not None}
    return given if file is None else given | set(_read(file))


def _read(file: str) -> dict[str, Any]:
    try:
        found = tomllib.loads(Path(file).read_text("utf-8-sig"))
    except OSError as error:
        raise UsageError(f"{file}: {error.strerror}") from None
    except ValueError as error:
        raise UsageError(f"{file} is not TOML: {error}") from None
    known = {field.name for field in fields(Rules)}
    for name in found:
        if name in _NOT_IN_FILE:
            raise UsageError(f"{file}: the rule {name!r} takes Python objects and cannot be set in a file")
        if name not in known:
            rules = ", ".join(sorted(known - _NOT_IN_FILE))
            raise UsageError(f"{file}: {name!r} is not a rule; the rules are {rules}")
    return found


def _halt(value: object) -> object:
    """Return what `max_failures` means: a count, a share, or a text with either."""
    if not isinstance(value, str):
        return value
    found = _HALT.fullmatch(value.strip())
    if found is None:
        raise ValueError(f'max_failures must be a count or a share such as "5%", got {value!r}')
    number, percent = found.groups()
    if percent:
        return float(number) / 100.0
    return float(number) if "." in number else int(number)


def _halt_flag(text: str) -> object:
    """Return what `--halt` means.

    Raises:
        ValueError: If it means nothing, with what was typed.
    """
    try:
        return Rules(max_failures=cast("float", _halt(text))).max_failures
    except (TypeError, ValueError):
        raise ValueError(
            f'--halt must be a count of at least 1 or a share between 0% and 100% such as 5%, got "{text}"'
        ) from None


def _retry(value: object) -> object:
    if not isinstance(value, dict):
        return value
    table = cast("dict[str, Any]", value)
    unknown = sorted(set(table) - _RETRY)
    if unknown:
        raise ValueError(f"retry has no {unknown[0]!r} in a file, only {', '.join(sorted(_RETRY))}")
    if "times" not in table:
        raise ValueError("retry must say how many times")
    if "deadline" in table:
        table["deadline"] = seconds("retry.deadline", table["deadline"])
    return Retry(**table)


def _concurrency(value: object) -> object:
    """Return what `concurrency` means: a number, or in a text two numbers between which it adapts."""
    if not isinstance(value, str):
        return value
    found = _CONCURRENCY.fullmatch(value.strip())
    if found is None:
        raise ValueError(
            f'concurrency must be a whole number, or two such as "1..200" to adapt between, got {value!r}'
        )
    lowest, highest = found.groups()
    try:
        return int(lowest) if highest is None else Adaptive(int(lowest), int(highest))
    except ValueError as error:
        raise ValueError(f'concurrency "{value}": {error}') from None


_AS: Final[dict[str, Callable[[Any], Any]]] = {
    "concurrency": _concurrency,
    "timeout": lambda value: seconds("timeout", value),
    "start_within": lambda value: seconds("start_within", value),
    "max_failures": _halt,
    "retry": _retry,
}
