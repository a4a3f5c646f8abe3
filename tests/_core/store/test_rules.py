"""What every store must decide alike: the rules say what the table says."""

from itertools import product

import pytest

from qanat._core.store import rules
from qanat._core.store.states import ARROWS, ENDED, LIVE, STATES
from qanat._core.store.values import Conf
from qanat.testing._store_cases import BOUNDS, KEEPS, RESCUES, SETTLES


@pytest.mark.parametrize("case", SETTLES, ids=lambda case: case.name)
def test_where_a_settled_job_goes(case):
    step = rules.after_settle(
        case.conf,
        kind=case.kind,
        attempt=case.attempt,
        phase=case.phase,
        age=case.age,
        delay=case.delay,
        cancel=case.cancel,
        open_children=case.open_children,
        failed_children=case.failed_children,
        after=case.after,
    )
    assert step == case.expected
    assert ("leased", step.state) in ARROWS


@pytest.mark.parametrize("case", RESCUES, ids=lambda case: case.name)
def test_where_a_rescued_job_goes(case):
    step = rules.after_rescue(
        case.conf, attempt=case.attempt, crashes=case.crashes, age=case.age, cancel=case.cancel
    )
    assert step == case.expected
    assert ("leased", step.state) in ARROWS


@pytest.mark.parametrize("case", BOUNDS, ids=lambda case: case.name)
def test_which_bound_forbids_a_lease(case):
    assert rules.beyond(case.conf, attempt=case.attempt, crashes=case.crashes, age=case.age) == case.expected


@pytest.mark.parametrize("case", KEEPS, ids=lambda case: case.name)
def test_how_long_an_ended_job_is_kept(case):
    assert rules.kept_for(case.conf, case.kind, case.keep) == case.expected


def test_a_priority_is_when_a_job_falls_due_only_with_that_order():
    assert rules.priority_at(Conf(order="due"), 3.0, 17.0) == 17.0
    assert rules.priority_at(Conf(), 3.0, 17.0) == rules.priority_at(Conf(order="lifo"), 3.0, 17.0) == 3.0


def test_crashes_are_counted_where_they_are_bounded():
    assert [rules.crashes_after(Conf(), 1), rules.crashes_after(Conf(max_crashes=None), 1)] == [2, 0]


def test_every_state_is_live_or_ended():
    assert (*LIVE, *ENDED) == STATES


def test_arrows_join_states():
    assert {state for arrow in ARROWS for state in arrow} == {None, *STATES}


@pytest.mark.parametrize(
    ("unique", "phase", "holding"),
    [
        (None, 0, ()),
        ("pending", 0, ("scheduled", "ready")),
        ("pending", 1, ()),
        ("active", 0, LIVE),
        ("active", 1, LIVE),
        ("forever", 0, STATES),
    ],
)
def test_when_a_key_is_held(unique, phase, holding):
    assert tuple(state for state in STATES if rules.holds_key(unique, state, phase)) == holding


def test_differences_are_named():
    assert rules.differences(Conf(), Conf()) == ()
    assert rules.differences(Conf(keep=1.0, unique="active"), Conf()) == ("unique", "keep")


@pytest.mark.parametrize("name", ["unique", "order"])
def test_what_is_fixed_changes_only_in_an_empty_queue(name):
    asked = Conf(unique="active") if name == "unique" else Conf(order="lifo")
    assert rules.changed(Conf(), asked, empty=True) == asked
    with pytest.raises(ValueError, match=f"^{name} is .* and cannot become .* while the queue holds"):
        rules.changed(Conf(), asked, empty=False)


def test_the_other_settings_change_at_any_time():
    for keep, most in product((0.0, 5.0), (None, 3)):
        asked = Conf(keep=keep, max_attempts=most)
        assert rules.changed(Conf(), asked, empty=False) == asked
