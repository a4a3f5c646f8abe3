"""Limits inside a Balance, and limits that answer nonsense, as users meet them."""

from __future__ import annotations

from typing import Any

import pytest

import qanat
from qanat import Balance, Concurrency, Limit, Rules, Throttled


class Named(Limit):
    """A limit with a name that always says yes."""

    def __init__(self, name: str) -> None:
        self.name = name

    def ready_at(self, job: Any, now: float) -> float:
        return now


class Silent(Limit):
    """A limit that forgets to answer."""

    def ready_at(self, job: Any, now: float) -> Any:
        return None


async def test_throttled_finds_a_limit_inside_a_balance(virtual_time: Any):
    begun: list[float] = []

    async def handler(_item: int) -> None:
        begun.append(virtual_time.now())
        if len(begun) == 1:
            raise Throttled(5.0, limit="api")

    outcomes = await qanat.collect(handler, [1], limits=Balance({"eu": 1}, limits={"eu": Named("api")}))
    assert [outcome.state for outcome in outcomes] == ["done"]
    assert begun == [0.0, 5.0]


async def test_a_name_that_there_is_not_is_told_with_those_inside(virtual_time: Any):
    async def handler(_item: int) -> None:
        raise Throttled(5.0, limit="apo")

    (outcome,) = await qanat.collect(handler, [1], limits=Balance({"eu": 1}, limits={"eu": Named("api")}))
    assert "its named limits are 'api'" in str(outcome.error)


def test_a_limit_inside_and_beside_a_balance_is_refused():
    slots = Concurrency(2)
    with pytest.raises(ValueError, match=r"limits must be different ones, got Concurrency\(2\) twice"):
        Rules(limits=[slots, Balance({"eu": 1}, limits={"eu": slots})])
    with pytest.raises(ValueError, match="limits must be different ones for 'eu'"):
        Balance({"eu": 1}, limits={"eu": [slots, slots]})
    Rules(limits=Balance({"eu": 1, "us": 1}, limits=lambda _: slots))


@pytest.mark.parametrize("given", ["", "1/s", b""], ids=repr)
def test_a_text_is_no_limit_of_a_target(given: Any):
    with pytest.raises(TypeError, match="limits must give a limit or limits for 'eu', got"):
        Balance({"eu": 1}, limits={"eu": given})


def test_weights_whose_sum_overflows_are_refused():
    with pytest.raises(ValueError, match=r"weights must add up to at most 1e\+300"):
        Balance({"eu": 1e308, "us": 1e308})


@pytest.mark.parametrize("rules", [{}, {"lane": str}], ids=["one lane", "lanes"])
async def test_a_limit_that_gives_no_time_is_named(virtual_time: Any, rules: dict[str, Any]):
    (outcome,) = await qanat.collect(str, [1], executor="loop", limits=[Concurrency(2), Silent()], **rules)
    assert isinstance(outcome.error, TypeError)
    assert "Silent object" in str(outcome.error)
    assert "ready_at must return a time, got None" in str(outcome.error)
