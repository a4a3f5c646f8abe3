"""The rules of a run in words, for summaries and logs."""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any, Final, cast

from qanat._core.limits import Adaptive, Balance, Budget, CircuitBreaker, Concurrency
from qanat._core.retry import Retry

if TYPE_CHECKING:
    from qanat._app.rules import Rules
    from qanat._core.limit import Limit

_KINDS: Final[dict[type[Limit], str]] = {
    Balance: "balance",
    Budget: "budget",
    CircuitBreaker: "circuit breaker",
}


def _limit(limit: Limit) -> str:
    """Say a limit, and what it is where its own words do not tell."""
    kind = _KINDS.get(type(limit))
    return str(limit) if kind is None else f"{kind} ({limit})"


def named(value: object) -> str:
    """Say the value of a rule: a function by its name."""
    if isinstance(value, Concurrency):
        return str(value.at_once)
    if isinstance(value, Adaptive):
        return f"{value.lowest} to {value.highest}"
    return getattr(value, "__name__", None) or str(value)


def in_words(rules: Rules) -> list[str]:
    """Say those rules that were set."""
    words = [f"{named(rules.concurrency)} at once"]
    if rules.rate is not None:
        words.append(f"at most {rules.rate}")
    words += [_limit(limit) for limit in cast("tuple[Limit, ...]", rules.limits)]
    if rules.lane is not None:
        words.append(f"lanes by {named(rules.lane)}")
    words += _choice(rules)
    retry = Retry.of(rules.retry)
    if retry.times:
        words.append(str(retry))
    if rules.timeout is not None:
        words.append(f"timeout {rules.timeout:g} s")
    if rules.executor is not None:
        words.append(f"in a {rules.executor}" if rules.executor != "loop" else "on the loop")
    if rules.batch is not None:
        words.append(f"in {rules.batch}")
    if rules.buffer != 1000:
        words.append(f"buffer {rules.buffer}")
    words += _trees(rules)
    if rules.journal is not None:
        words.append(
            f"journal {os.fspath(rules.journal)}" + (", only what failed" if rules.retry_failed else "")
        )
    if rules.queue is not None:
        words.append(f"over the queue {rules.queue.name}")
    if rules.start_within is not None:
        words.append(f"a first job within {rules.start_within:g} s")
    if rules.max_failures is not None:
        share = isinstance(rules.max_failures, float)
        words.append(f"at most {f'{100 * rules.max_failures:g}%' if share else rules.max_failures} failures")
    return words


def _trees(rules: Rules) -> list[str]:
    """Say what is known of jobs that spawn others."""
    words: list[str] = []
    if rules.key is not None:
        words.append(f"once by {named(rules.key)}")
    if rules.max_depth is not None:
        words.append(f"at most {rules.max_depth} deep")
    if rules.max_jobs is not None:
        words.append(f"at most {rules.max_jobs} jobs")
    return words


def _choice(rules: Rules) -> list[str]:
    """Say what chooses among the jobs that wait."""
    words: list[str] = []
    if rules.lane_limits is not None:
        words.append(f"each with {named(rules.lane_limits)}")
    weights: Any = rules.weights
    if isinstance(weights, Mapping):
        by_lane = cast("Mapping[Any, float]", weights)
        words.append(" ".join(["weights", *(f"{lane}={weight:g}" for lane, weight in by_lane.items())]))
    elif weights is not None:
        words.append(f"weights by {named(weights)}")
    if rules.order != "fifo":
        words.append(f"{named(rules.order)} order")
    if rules.priority is not None:
        words.append(f"priority by {named(rules.priority)}")
    if rules.id is not None:
        words.append(f"ids by {named(rules.id)}")
    if rules.deadline is not None:
        words.append(f"deadlines by {named(rules.deadline)}")
    return words
