"""`Rules`: one frozen value, one validation, at the call and before anything runs."""

from __future__ import annotations

import dataclasses
import math
from typing import TYPE_CHECKING, Any

import anyio
import pytest

import qanat
from qanat import Adaptive, Balance, Budget, CircuitBreaker, Concurrency, Retry, Rules, SlidingWindow, Spacing
from qanat._core.limit import Limit
from qanat._core.orders import Fifo, KeyOrder, Lifo, Shuffle

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat.testing import VirtualTime

on_both = pytest.mark.virtual_time("asyncio", "trio")


class Watching:
    def event(self, event: object) -> None:
        """Be told."""

    def close(self) -> None:
        """Be told."""


class HalfWatching:
    def event(self, event: object) -> None:
        """Be told."""


def function(item: Any) -> Any:
    return item


# For each rule the wrong values, by the error that they are.
WRONG_TYPE: dict[str, list[Any]] = {
    "concurrency": [None, "10", 1.5, 2.0, True, [3], SlidingWindow(1, 1.0)],
    "rate": [10, 1.5, True, ["1/s"], b"1/s"],
    "limits": ["1/s", 3, [3], [SlidingWindow(1, 1.0), None], True],
    "lane": ["host", 3, True],
    "lane_limits": ["host", 3, SlidingWindow(1, 1.0)],
    "weights": ["a", 3, {"a": "1"}, {"a": True}, {"a": None}, [("a", 1)]],
    "order": [None, 3, True, ["fifo"], qanat.Priority],
    "priority": ["high", 3],
    "deadline": [3, "1s"],
    "cost": ["tokens", 3, {"tokens": 3}],
    "retry": [None, "3", 1.5, True, [3]],
    "timeout": ["1s", True, [1]],
    "executor": [3, True, ["loop"]],
    "buffer": [None, "10", 1.5, 10.0, True],
    "id": ["id", 3],
    "start_within": ["1s", True],
    "max_failures": ["3", True, [1]],
    "progress": ["yes", 1, 0],
    "observers": [3, HalfWatching(), [Watching(), 3], "watch"],
}

WRONG_VALUE: dict[str, list[Any]] = {
    "concurrency": [0, -1],
    "rate": ["", "fast", "0/s", "-1/s", "1/x", "1/0s", "1 per s", "nan/s", "inf/s", "1/s sometimes"],
    "weights": [{"a": 0}, {"a": 1, "b": -1}, {"a": math.nan}, {"a": math.inf}],
    "order": ["random", "", "FIFO"],
    "retry": [-1],
    "timeout": [0, 0.0, -1.0, math.nan, math.inf, -math.inf, 10**400],
    "executor": ["", "fiber", "Loop"],
    "buffer": [0, -1],
    "start_within": [0, -1.0, math.nan, math.inf],
    "max_failures": [0, -1, 0.0, -0.5, 1.0, 1.5, math.nan, math.inf],
}

RIGHT: dict[str, list[Any]] = {
    "concurrency": [1, 10_000, Concurrency(3), Adaptive(1, 9)],
    "rate": [None, "100/s", "300/15m", "0.05/s", "2.5/s", "100/s evenly", SlidingWindow(1, 1.0)],
    "limits": [(), [], SlidingWindow(1, 1.0), [SlidingWindow(1, 1.0), Spacing(1.0)], iter([Spacing(1.0)])],
    "lane": [None, function],
    "lane_limits": [None, lambda lane: Spacing(1.0)],
    "weights": [None, float, {}, {"a": 2, None: 0.5, 3: 1e-12}],
    "order": ["fifo", "lifo", "priority", "deadline", "shuffle", Lifo, qanat.Priority(ageing=1)],
    "priority": [None, float],
    "deadline": [None, float],
    "cost": [None, float, lambda item: {"tokens": item}],
    "retry": [0, 5, Retry(3)],
    "timeout": [None, 1, 0.001, 1e9],
    "executor": [None, "loop", "thread"],
    "buffer": [1, 10**9],
    "id": [None, str],
    "start_within": [None, 1, 0.5],
    "max_failures": [None, 1, 1000, 0.001, 0.5, 0.999],
    "state": [None, 3, object()],
    "progress": [None, True, False],
    "observers": [(), [], Watching(), [Watching(), Watching()]],
}


def flat(table: dict[str, list[Any]]) -> list[Any]:
    return [
        pytest.param(name, value, id=f"{name} {number} {str(value)[:20]}")
        for name, values in table.items()
        for number, value in enumerate(values)
    ]


@pytest.mark.parametrize(("name", "value"), flat(WRONG_TYPE))
def test_a_value_of_the_wrong_kind_is_a_type_error(name: str, value: Any):
    with pytest.raises(TypeError) as caught:
        Rules(**{name: value})
    assert str(caught.value).startswith(f"{name} ")
    assert "got" in str(caught.value)
    assert not str(caught.value).endswith(".")


@pytest.mark.parametrize(("name", "value"), flat(WRONG_VALUE))
def test_a_value_out_of_range_is_a_value_error(name: str, value: Any):
    with pytest.raises(ValueError, match=f"^{name} must") as caught:
        Rules(**{name: value})
    assert "got" in str(caught.value)


@pytest.mark.parametrize(("name", "value"), flat(RIGHT))
def test_a_right_value_is_taken(name: str, value: Any):
    order: dict[str, Any] = {"order": name} if name in {"priority", "deadline"} else {}
    Rules(**{name: value}, **order)


class OwnOrder(Fifo):
    """An order of the user's own, which may look at anything."""


@pytest.mark.parametrize("order", ["fifo", "lifo", "shuffle", "deadline"])
def test_priorities_that_no_order_looks_at_are_refused(order: Any):
    with pytest.raises(
        ValueError, match=f"priority must be None with order '{order}'.*set order=\"priority\""
    ):
        Rules(order=order, priority=float)


@pytest.mark.parametrize(
    "order",
    ["fifo", "lifo", "shuffle", "priority", qanat.Priority()],
    ids=["fifo", "lifo", "shuffle", "priority", "a Priority"],
)
def test_deadlines_that_no_order_looks_at_are_refused(order: Any):
    with pytest.raises(ValueError, match='deadline must be None with order .*set order="deadline"'):
        Rules(order=order, deadline=float)


def test_an_order_of_ones_own_may_look_at_anything():
    Rules(order=OwnOrder, priority=float, deadline=float)
    Rules(order=qanat.Priority(ageing=1), priority=float)


@pytest.mark.parametrize(
    "rule", [{"weights": {"a": 2}}, {"lane_limits": lambda _: ()}], ids=["weights", "limits"]
)
async def test_what_is_for_lanes_is_refused_where_there_can_be_none(rule: Any):
    (name,) = rule
    with pytest.raises(ValueError, match=f"{name} must be None without lane"):
        await qanat.collect(str, [1], **rule)
    with pytest.raises(ValueError, match=f"{name} must be None without lane"):
        qanat.simulate([1], latency=1.0, **rule)
    # Here `submit` may name lanes.
    qanat.Pool(str, **rule)


@pytest.mark.parametrize("items", ["text", b"text"], ids=["str", "bytes"])
async def test_a_text_is_not_read_letter_by_letter(items: Any):
    for call in qanat.map, qanat.collect:
        with pytest.raises(TypeError, match=r"items must be an iterable of items, got .*text'.*write \["):
            await call(str, items)
    with pytest.raises(TypeError, match="items must be an iterable of items"):
        qanat.stream(str, items)
    with pytest.raises(TypeError, match="items must be an iterable of items"):
        qanat.simulate(items, latency=1.0)


@pytest.mark.parametrize("name", [*WRONG_TYPE, "unknown"])
@on_both
async def test_every_way_in_checks_the_rules_at_the_call(virtual_time: VirtualTime, name: str):
    started: list[int] = []

    async def handler(item: int) -> None:
        started.append(item)

    options: dict[str, Any] = {name: WRONG_TYPE.get(name, [1])[0]}
    if name == "retry":
        options = {"retry": "3"}
    ways: list[Callable[[], Any]] = [
        lambda: qanat.collect(handler, [1], **options),
        lambda: qanat.map(handler, [1], **options),
    ]
    for way in ways:
        with pytest.raises(TypeError, match=name):
            await way()
    for plain in (
        lambda: qanat.stream(handler, [1], **options),
        lambda: qanat.run(handler, [1], **options),
        lambda: qanat.Pool(handler, **options),
    ):
        with pytest.raises(TypeError, match=name):
            plain()
    assert started == []


def test_an_unknown_rule_is_named_with_those_that_there_are():
    with pytest.raises(TypeError, match="^'concurency' is not a rule; the rules are batch, buffer, "):
        Rules.of(None, {"concurency": 3})


@on_both
async def test_ordered_is_true_or_false(virtual_time: VirtualTime):
    with pytest.raises(TypeError, match="^ordered must"):
        qanat.stream(function, [1], ordered=1)  # type: ignore[call-overload]


@on_both
async def test_rules_are_a_rules(virtual_time: VirtualTime):
    for wrong in ({"concurrency": 3}, 3, "fast"):
        with pytest.raises(TypeError, match="^rules must be a Rules, got"):
            await qanat.collect(function, [1], rules=wrong)  # type: ignore[call-overload]


# --- as a value ----------------------------------------------------------------------------------


def test_rules_are_frozen():
    with pytest.raises(dataclasses.FrozenInstanceError):
        Rules().concurrency = 3  # type: ignore[misc]


def test_rules_take_keywords_only():
    with pytest.raises(TypeError):
        Rules(3)  # type: ignore[call-arg]


def test_equal_rules_are_equal():
    assert Rules(concurrency=3, timeout=2) == Rules(timeout=2.0, concurrency=3)
    assert Rules(concurrency=3) != Rules()


def test_the_defaults_are_those_of_the_reference():
    rules = Rules()
    assert (rules.concurrency, rules.buffer, rules.retry, rules.order) == (10, 1000, 0, "fifo")
    unset = (
        "rate",
        "lane",
        "lane_limits",
        "priority",
        "cost",
        "timeout",
        "executor",
        "id",
        "start_within",
        "max_failures",
    )
    assert {name: getattr(rules, name) for name in unset} == dict.fromkeys(unset)
    assert (rules.limits, rules.observers, rules.state, rules.progress) == ((), (), None, None)


def test_replacing_makes_rules_with_other_values():
    rules = Rules(concurrency=3, timeout=1.0)
    assert rules.replace(timeout=None, rate="1/s") == Rules(concurrency=3, rate="1/s")
    assert rules.timeout == 1.0


def test_replacing_checks_like_making():
    with pytest.raises(ValueError, match="^timeout must"):
        Rules().replace(timeout=0)
    with pytest.raises(TypeError, match="not a rule"):
        Rules().replace(unknown=0)


def test_keywords_win_over_rules_given_as_a_value():
    rules = Rules(concurrency=3, timeout=1.0)
    assert Rules.of(rules, {"concurrency": 5}) == Rules(concurrency=5, timeout=1.0)
    assert Rules.of(None, {"concurrency": 5}) == Rules(concurrency=5)
    assert Rules.of(rules, {}) == rules


@on_both
async def test_a_call_takes_rules_and_keywords_together(virtual_time: VirtualTime):
    rules = Rules(concurrency=1, timeout=10.0)
    await qanat.collect(anyio.sleep, [1.0] * 4, rules=rules, concurrency=2)
    assert virtual_time.now() == 2.0


def test_single_limits_and_observers_become_tuples():
    limit, observer = Spacing(1.0), Watching()
    rules = Rules(limits=limit, observers=observer)
    assert (rules.limits, rules.observers) == ((limit,), (observer,))


def test_slots_are_a_number_or_counted_by_a_limit():
    shared = Concurrency(3)
    assert (Rules(concurrency=4).capacity, Rules(concurrency=4).all_limits) == (4, ())
    assert (Rules(concurrency=shared).capacity, Rules(concurrency=shared).all_limits) == (math.inf, (shared,))


def test_all_limits_are_slots_then_the_rate_then_the_rest():
    shared, rest, given = Concurrency(3), Spacing(1.0), SlidingWindow(1, 1.0)
    limits = Rules(concurrency=shared, rate="5/s", limits=rest).all_limits
    assert limits[0] is shared
    assert str(limits[1]) == "5/s"
    assert limits[2] is rest
    assert Rules(rate=given).all_limits == (given,)


@pytest.mark.parametrize(
    ("order", "kind"),
    [
        ("fifo", Fifo),
        ("lifo", Lifo),
        ("priority", KeyOrder),
        ("deadline", KeyOrder),
        ("shuffle", Shuffle),
        (qanat.Priority(ageing=0.5), KeyOrder),
    ],
)
def test_an_order_is_made_by_its_name(order: Any, kind: type):
    assert isinstance(Rules(order=order).make_order(), kind)


def test_an_order_of_ones_own_is_made_by_what_was_given():
    assert Rules(order=Lifo).make_order is Lifo


@pytest.mark.parametrize(
    ("rules", "chooses"),
    [
        (Rules(), False),
        (Rules(order="lifo"), True),
        (Rules(lane=function), True),
        (Rules(order="priority", priority=float), True),
        (Rules(lane_limits=lambda lane: ()), False),
    ],
    ids=["plain", "order", "lane", "priority", "lane limits"],
)
def test_items_are_chosen_among_where_lanes_or_an_order_say(rules: Rules, chooses: bool):
    assert rules.chooses is chooses


# --- in words ---------------------------------------------------------------------------------------


def host(item: Any) -> Any:
    return item


class Odd(Limit):
    def __str__(self) -> str:
        return "something odd"


@pytest.mark.parametrize(
    ("rules", "words"),
    [
        (Rules(), "10 at once"),
        (Rules(concurrency=Concurrency(3)), "3 at once"),
        (Rules(concurrency=Adaptive(1, 200)), "1 to 200 at once"),
        (Rules(rate="100/s"), "10 at once, at most 100/s"),
        (Rules(rate="100/s evenly"), "10 at once, at most 100/s evenly"),
        (Rules(rate=SlidingWindow(5, "15m")), "10 at once, at most 5/15m"),
        (Rules(limits=[Spacing(2.0), Odd()]), "10 at once, 2s apart, something odd"),
        (
            Rules(limits=[CircuitBreaker(3), Balance({"eu": 3}), Budget("m", tokens="5/m")]),
            "10 at once, circuit breaker (3 failures in a row, closed), balance (eu 3), budget (m: 5/m tokens)",
        ),
        (Rules(lane=host, lane_limits=host), "10 at once, lanes by host, each with host"),
        (Rules(lane=host, weights=host), "10 at once, lanes by host, weights by host"),
        (Rules(lane=host, weights={"a": 2, "b": 0.5}), "10 at once, lanes by host, weights a=2 b=0.5"),
        (Rules(order="lifo"), "10 at once, lifo order"),
        (Rules(order="priority", priority=host), "10 at once, priority order, priority by host"),
        (Rules(id=host), "10 at once, ids by host"),
        (Rules(order=Lifo), "10 at once, Lifo order"),
        (
            Rules(order=qanat.Priority(ageing=0.1)),
            "10 at once, priority (0.1 smaller each second) order",
        ),
        (
            Rules(order="deadline", deadline=function),
            "10 at once, deadline order, deadlines by function",
        ),
        (Rules(retry=1), "10 at once, 1 retry after 0.5s doubling up to 1m, full jitter"),
        (Rules(timeout=2.5), "10 at once, timeout 2.5 s"),
        (Rules(executor="loop"), "10 at once, on the loop"),
        (Rules(executor="thread"), "10 at once, in a thread"),
        (Rules(buffer=5), "10 at once, buffer 5"),
        (Rules(start_within=2), "10 at once, a first job within 2 s"),
        (Rules(max_failures=3), "10 at once, at most 3 failures"),
        (Rules(max_failures=0.25), "10 at once, at most 25% failures"),
        (Rules(max_failures=0.125), "10 at once, at most 12.5% failures"),
    ],
    ids=lambda value: None if isinstance(value, Rules) else value,
)
def test_rules_can_be_said_in_words(rules: Rules, words: str):
    if "retry" in words:
        assert str(rules).startswith("10 at once, 1 retry after ")
    else:
        assert str(rules) == words


@pytest.mark.parametrize(
    ("name", "value", "kind", "message"),
    [
        ("limits", "100/s", TypeError, "got '100/s': a text is a rate"),
        ("limits", [Balance({"a": 1}), Balance({"b": 1})], ValueError, "must have one Balance at most"),
        ("concurrency", "1..20", TypeError, "'1..20': a Concurrency or an Adaptive"),
        ("order", Fifo(), TypeError, "pass its class"),
        ("lane_limits", {"a": Concurrency(1)}, TypeError, "a plain function of a lane's key"),
    ],
    ids=["text as limit", "two balances", "text as concurrency", "an order", "mapping of lanes"],
)
def test_a_likely_mistake_is_told_the_way_out(name: str, value: Any, kind: type[Exception], message: str):
    with pytest.raises(kind, match=f"^{name} must") as caught:
        Rules(**{name: value})
    assert message in str(caught.value)
