"""Whatever arrives, fails and changes: nothing is lost, doubled, starved or above a limit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests._core.dispatcher.plans import Plan, check, fixed_plans, make_plan, play


@st.composite
def plans(draw: Any) -> Plan:
    return make_plan(lambda options: draw(st.sampled_from(options)))


@pytest.mark.slow
@settings(max_examples=60, deadline=None)
@given(plans())
def test_dispatcher_keeps_its_promises(plan: Plan):
    check(plan)


@pytest.mark.slow
def test_dispatcher_keeps_its_promises_for_plans_that_are_always_the_same():
    for plan in fixed_plans(100):
        check(plan)


def test_the_same_plan_has_the_same_trace():
    for plan in fixed_plans(30):
        assert play(plan).result.trace == play(plan).result.trace
