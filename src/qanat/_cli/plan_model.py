"""What `qanat plan` reckons with: items, how long each takes, and which fail."""

from __future__ import annotations

import math
import re
from pathlib import Path
from statistics import NormalDist
from typing import TYPE_CHECKING, Any, Final

from qanat._cli.reading import Kind
from qanat._cli.sources import find_sources, records
from qanat._cli.usage import UsageError
from qanat._core.arguments import duration

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.ports import Random

    Latency = float | Callable[[Any, Random, int], float]

MOST_DIGITS: Final = 18
"""Of a number of items: what the length of anything in Python can be."""

_NUMBER: Final = re.compile(r"[0-9][0-9_,]*")
_SPREAD: Final = re.compile(r"p50\s*=\s*([^,=]+?)\s*[, ]\s*p99\s*=\s*([^,=]+?)\s*")
_NORMAL: Final = NormalDist()
_AT_99: Final = _NORMAL.inv_cdf(0.99)


def read_items(given: tuple[str, ...], kind: Kind | None, fields: tuple[str, ...]) -> list[Any] | range:
    """Return the items: so many of them, or those of files.

    Raises:
        UsageError: If neither is named.
        InputError: If a file cannot be read.
    """
    if not given:
        raise UsageError("name a number of items or a file, such as: qanat plan 10000 --latency 0.5")
    if len(given) == 1 and _NUMBER.fullmatch(given[0]) is not None and not fields:
        digits = given[0].replace("_", "").replace(",", "").lstrip("0")
        if len(digits) > MOST_DIGITS:
            raise UsageError(f"a plan takes up to {MOST_DIGITS} digits of items, got {len(digits)}")
        return range(int(digits or "0"))
    if len(given) == 1 and _NUMBER.fullmatch(given[0]) is not None and not Path(given[0]).exists():
        raise UsageError(
            f"{fields[0]!r} is a field of items, and a number of them has none: name a file instead"
        )
    sources = find_sources(given, kind)
    if fields and all(source.kind == "txt" for source in sources):
        raise UsageError(f"{fields[0]!r} needs items with fields: csv or jsonl")
    return [record.value for record in records(sources, fields)]


def read_latency(text: str | None) -> Latency:
    """Return how long an attempt takes: `0.5`, `500ms`, `0.5..2`, or `p50=0.4,p99=3`.

    Two numbers with dots between are equally likely between them. From two percentiles comes the
    log-normal distribution that has them, the usual shape of the time that a call takes.

    Raises:
        UsageError: If it is none of them.
    """
    if text is None:
        raise UsageError("--latency is needed: 0.5, 500ms, 0.5..2 or p50=0.4,p99=3")
    try:
        spread = _SPREAD.fullmatch(text.strip())
        if spread is not None:
            return _log_normal(*(duration(part, "--latency") for part in spread.groups()))
        low, dots, high = text.partition("..")
        if dots:
            return _uniform(_seconds(low), _seconds(high))
        return _seconds(text)
    except ValueError:
        raise UsageError(
            f"--latency must be a time such as 0.5 or 500ms, a range such as 0.5..2, or p50=0.4,p99=3, "
            f"got {text!r}"
        ) from None


def _seconds(text: str) -> float:
    return 0.0 if text.strip() in {"0", "0s"} else duration(text, "--latency")


def _uniform(low: float, high: float) -> Latency:
    if high < low:
        raise ValueError
    return lambda _item, rng, _running: low + (high - low) * rng.random()


def _log_normal(p50: float, p99: float) -> Latency:
    if p99 < p50:
        raise ValueError
    middle, spread = math.log(p50), math.log(p99 / p50) / _AT_99

    def latency(_item: Any, rng: Random, _running: int) -> float:
        # A source of randomness may give 0, which has no place in the distribution.
        return math.exp(middle + spread * _NORMAL.inv_cdf(max(rng.random(), 1e-12)))

    return latency if spread else p50


def read_failures(text: str | None) -> float | None:
    """Return which share of attempts fails: `5%` or `0.05`.

    Raises:
        UsageError: If it is none.
    """
    if text is None:
        return None
    number, percent, rest = text.strip().partition("%")
    try:
        share = float(number) / (100.0 if percent else 1.0)
    except ValueError:
        share = math.nan
    if rest or not 0.0 <= share <= 1.0:
        raise UsageError(f"--failures must be a share from 0 to 1 or such as 5%, got {text!r}")
    return share
