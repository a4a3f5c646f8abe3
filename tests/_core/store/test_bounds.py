"""Checks before a deed: what is of the wrong kind is named."""

from itertools import product
from typing import Any, cast

import pytest
from msgspec.structs import replace

from qanat._core.store import bounds, values
from qanat._core.store.values import Stamp

# Also what no type checker lets through.
Conf: Any = values.Conf
Lease: Any = values.Lease
NewJob: Any = values.NewJob
Settle: Any = values.Settle


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: bounds.checked_name("queue", 7), "queue must be a text, got 7"),
        (lambda: bounds.check_text("id", b"a"), "id must be a text, got b'a'"),
        (lambda: bounds.check_seconds("delay", True), "delay must be seconds, got True"),
        (lambda: bounds.check_whole("n", 1.0, 0, 1), "n must be a whole number, got 1.0"),
        (lambda: bounds.check_job(NewJob(id="a", priority="1")), "priority must be a number, got '1'"),
        (lambda: bounds.check_job(NewJob(id="a", body="x")), "body must be bytes, got 'x'"),
        (
            lambda: bounds.check_extend("q", [Lease("a", 1, note=7)], 1.0),
            "note must be a text, got 7",
        ),
    ],
)
def test_what_is_of_the_wrong_kind_is_refused(call, told):
    with pytest.raises(TypeError, match=f"^{told}$"):
        call()


LEASE = Lease("a", 1)


@pytest.mark.parametrize(
    ("call", "told"),
    [
        (lambda: bounds.check_stamp(Stamp("", 1)), "stamp.client must have 1 to 512 bytes, got 0"),
        (lambda: bounds.check_stamp(Stamp("c", -1)), "stamp.number must be 0 to"),
        (lambda: bounds.check_text("id", "x" * 600), "id must have 1 to 512 bytes, got 600: 'x{40}...'"),
        (lambda: bounds.check_put("q", [NewJob(id="a", parent=Lease("", 1))], None), "parent.id must have 1"),
        (
            lambda: bounds.check_settle("q", [Settle(id="a", token=1, kind="finish")], None),
            "kind must be one of done, retry",
        ),
        (
            lambda: bounds.check_settle("q", [Settle(id="a", token=1, kind="dead", value=b"1")], None),
            "value goes with done, again, not with dead, got b'1'",
        ),
        (
            lambda: bounds.check_settle(
                "q", [Settle(id="a", token=1, kind="done", children=(NewJob(id="b", parent=LEASE),))], None
            ),
            "parent must be None for a child of a settle",
        ),
        (
            lambda: bounds.check_settle(
                "q", [Settle(id="a", token=1, kind="done", also=(NewJob(id="b", parent=LEASE),))], None
            ),
            "parent must be None for a job put with a settle",
        ),
        (
            lambda: bounds.check_settle(
                "q",
                [
                    Settle(id=str(each), token=1, kind="done", also=(NewJob(id="b"),) * 300, after="f")
                    for each in range(4)
                ],
                None,
            ),
            "children and also must be at most 1000 in one batch, got 1200",
        ),
        (
            lambda: bounds.check_settle("q", [Settle(id="a", token=1, kind="dead", reason="\ud800")], None),
            "reason must be text that UTF-8 can hold",
        ),
        (
            lambda: bounds.check_settle("q", [Settle(id="a", token=1, kind="dead", reason="x" * 501)], None),
            "reason must be at most 500 characters, got 501",
        ),
        (
            lambda: bounds.check_settle("q", [Settle(id="a", token=1, kind="done", yields=True)], None),
            "yields goes with release, not with done, got True",
        ),
        (lambda: bounds.check_find("q", "lost", None, 1), "state must be one of scheduled,"),
        (lambda: bounds.check_purge("q", "lost", 1), "state must be one of scheduled, ready, waiting, done"),
        (lambda: bounds.check_conf(Conf(unique="often")), "unique must be None, 'pending'"),
        (lambda: bounds.check_conf(Conf(order="shuffle")), "order must be 'fifo', 'lifo' or 'due'"),
    ],
)
def test_what_is_out_of_bounds_is_refused(call, told):
    with pytest.raises(ValueError, match=f"^{told}"):
        call()


def test_what_yields_is_a_bool():
    with pytest.raises(TypeError, match="^yields must be a bool, got 1"):
        bounds.check_settle("q", [Settle(id="a", token=1, kind="release", yields=cast("Any", 1))], None)


def test_settles_that_say_no_more_than_their_kind_are_told_apart():
    def settles(*given: Any) -> list[Settle]:
        return [Settle(id="a", token=1, kind=kind, yields=yields) for kind, yields in given]

    done, release, yielding, again = ("done", False), ("release", False), ("release", True), ("again", False)
    kinds = [done, release, yielding, again]
    for one, other in product(kinds, kinds):
        assert bounds.check_settle("q", settles(one, other), None) == (one is other)


@pytest.mark.parametrize(
    "more", [{"reason": "why"}, {"error": "trace"}, {"value": b"1"}, {"token": -1}, {"delay": 1}]
)
def test_what_comes_again_is_plain_unless_it_says_more_than_when(more: dict[str, Any]):
    later = Settle(id="a", token=1, kind="again", delay=5.0)
    assert bounds.check_settle("q", [later, replace(later, delay=0.25)], None)
    assert not bounds.check_settle("q", [later, replace(later, **more)], None)


def test_what_is_within_bounds_passes():
    bounds.check_settle("q", [Settle(id="a", token=1, kind="dead", reason="nö", error="é")], Stamp("c", 0))
    bounds.check_extend("q", [LEASE, Lease("a", 1, "half")], 1.0)
    bounds.check_conf(Conf(max_age=1.0, keep_dead=0.0, weights={"": 1000}))
