"""The rules of a `qanat map`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from qanat._cli.map_rules import Fields, make_rules
from qanat._cli.usage import UsageError
from qanat._core.retry import Retry

if TYPE_CHECKING:
    from pathlib import Path


def from_file(path: Path, text: str, **flags: Any) -> Any:
    (path / "rules.toml").write_text(text)
    return make_rules(flags, str(path / "rules.toml"))


def test_flags_win_over_the_file(tmp_path: Path) -> None:
    rules, lane = from_file(
        tmp_path, 'concurrency = 4\nrate = "5/s"\nlane = "host"\n', concurrency=2, rate=None
    )
    assert (rules.concurrency, rules.rate, lane) == (2, "5/s", Fields(lane="host"))


def test_everything_that_a_file_may_set(tmp_path: Path) -> None:
    text = """
        concurrency = 4
        rate = "5/s"
        order = "lifo"
        timeout = "2m"
        executor = "thread"
        buffer = 7
        start_within = 3
        max_failures = "5%"
        progress = false
        retry = { times = 2, deadline = "1h", budget = 0.5, max_throttles = 3 }
    """
    rules, _ = from_file(tmp_path, text)
    assert (rules.timeout, rules.start_within, rules.max_failures) == (120.0, 3.0, 0.05)
    assert (rules.buffer, rules.progress, rules.order) == (7, False, "lifo")
    retry = Retry.of(rules.retry)
    assert (retry.times, retry.deadline, retry.budget, retry.max_throttles) == (2, 3600.0, 0.5, 3)


@pytest.mark.parametrize(
    ("given", "meant"), [("1..200", "1 to 200"), (" 5 .. 9 ", "5 to 9"), (" 7", "7"), (7, "7")]
)
def test_concurrency_is_a_number_or_two_to_adapt_between(given: Any, meant: str) -> None:
    rules, _ = make_rules({"concurrency": given}, None)
    assert str(rules) == f"{meant} at once"


def test_a_file_may_say_so_too(tmp_path: Path) -> None:
    rules, _ = from_file(tmp_path, 'concurrency = "1..200"')
    assert str(rules) == "1 to 200 at once"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            "x..9",
            "concurrency must be a whole number, or two such as \"1..200\" to adapt between, got 'x..9'",
        ),
        ("9..1", 'concurrency "9..1": highest must be at least lowest, 9, got 1'),
        ("0..1", 'concurrency "0..1": lowest must be at least 1, got 0'),
        ("0", "concurrency must be at least 1, got 0"),
    ],
)
def test_a_concurrency_that_is_none_is_refused(text: str, says: str) -> None:
    with pytest.raises(UsageError) as caught:
        make_rules({"concurrency": text}, None)
    assert str(caught.value) == says


@pytest.mark.parametrize(
    ("halt", "most"), [("3", 3), ("5%", 0.05), ("12.5 %", 0.125), ("0.2", 0.2), (4, 4), (0.5, 0.5)]
)
def test_halt_is_a_count_or_a_share(halt: Any, most: float) -> None:
    rules, _ = make_rules({"max_failures": halt}, None)
    assert rules.max_failures == most
    assert type(rules.max_failures) is type(most)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("concurrency =", "is not TOML"),
        ("concurency = 1", "'concurency' is not a rule; the rules are .*concurrency"),
        ("limits = []", "takes Python objects"),
        ("concurrency = 0", "concurrency must be at least 1"),
        ("concurrency = true", "concurrency must be"),
        ('rate = "x"', "rate must be"),
        ("timeout = 0", "timeout must be"),
        ('max_failures = "x"', "max_failures"),
        ('max_failures = "100%"', "max_failures"),
        ("retry = { time = 3 }", "retry has no 'time'"),
        ("retry = { deadline = 3 }", "how many times"),
        ("lane = 3", "lane must be the name"),
    ],
)
def test_what_is_wrong_is_told(tmp_path: Path, text: str, says: str) -> None:
    with pytest.raises(UsageError, match=says):
        from_file(tmp_path, text)


def test_a_file_that_is_not_there() -> None:
    with pytest.raises(UsageError, match=r"nope\.toml: No such file"):
        make_rules({}, "nope.toml")


@pytest.mark.parametrize("name", ["priority", "deadline"])
@pytest.mark.parametrize("has_order", [True, False], ids=["no field", "no order"])
def test_an_order_and_its_field_go_together(name: str, has_order: bool):
    flags = {"order": name} if has_order else {name: "p"}
    with pytest.raises(UsageError, match="go together"):
        make_rules(flags, None)
