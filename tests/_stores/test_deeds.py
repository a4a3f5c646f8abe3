"""Deeds as a courier asks for them: claims of one worker go together, and each gets what it asked for."""

from __future__ import annotations

import pytest

from qanat._core.store.values import Claim, Conf, NewJob
from qanat._stores.deeds import Deeds, Wish
from qanat._stores.memory import MemoryStore
from qanat.errors import StoreUnavailable


class Counted(MemoryStore):
    """A store that notes what was claimed in one step."""

    claimed: list[tuple[int, int]]

    def claim(self, queue, n, *, worker, lease, skip=(), suspects=1) -> Claim:
        self.claimed.append((n, suspects))
        return super().claim(queue, n, worker=worker, lease=lease, skip=skip, suspects=suspects)


@pytest.fixture
def store() -> Counted:
    store = Counted()
    store.claimed = []
    return store


def wish(n: int, **given) -> Wish:
    return Wish(n=n, **{"worker": "w", "lease": 60.0, **given})


def claimed(store: Counted, *wishes: Wish) -> list[list[str]]:
    return [[job.id for job in claim.jobs] for claim in Deeds(store).do("claim q", [*wishes])]


def put(store: Counted, *ids: str) -> None:
    store.put("q", [NewJob(id=id) for id in ids])


def test_claims_of_one_worker_are_one_step_and_who_asked_first_gets_the_first_jobs(store: Counted):
    put(store, *"abcde")
    assert claimed(store, wish(1), wish(2), wish(1), wish(3), wish(1)) == [
        ["a"],
        ["b", "c"],
        ["d"],
        ["e"],
        [],
    ]
    assert store.claimed == [(8, 5)]
    assert store.count("q").leased == 5


@pytest.mark.parametrize("other", [{"worker": "v"}, {"lease": 30.0}, {"skip": frozenset({"x"})}])
def test_claims_that_differ_are_steps_of_their_own(store: Counted, other):
    put(store, *"abc")
    assert claimed(store, wish(1), wish(1, **other), wish(1)) == [["a"], ["b"], ["c"]]
    assert store.claimed == [(1, 1), (1, 1), (1, 1)]


def test_no_more_is_claimed_together_than_a_step_may_take(store: Counted):
    put(store, *"abc")
    assert claimed(store, wish(300), wish(200), wish(1), wish(1000)) == [["a", "b", "c"], [], [], []]
    assert store.claimed == [(500, 2), (1, 1), (1000, 1)]


def lost(store: Counted, *ids: str) -> None:
    """Let jobs that wait lose their worker."""
    assert [job.id for job in store.claim("q", len(ids), worker="v", lease=1e-9).jobs] == [*ids]
    assert store.rescue("q").ids == [*ids]
    store.claimed.clear()


def test_each_of_them_may_have_one_that_lost_its_worker_and_who_said_none_gets_none(store: Counted):
    put(store, *"abcd")
    lost(store, "a", "b")
    assert claimed(store, wish(2, suspects=0), wish(2), wish(1)) == [["c", "d"], ["a"], ["b"]]
    assert store.claimed == [(5, 2)]


def test_who_may_have_one_that_lost_its_worker_gets_no_more(store: Counted):
    put(store, *"abcdef")
    lost(store, "a", "b")
    assert claimed(store, wish(3), wish(3)) == [["a", "c", "d"], ["b", "e", "f"]]


def test_who_asks_for_more_that_lost_their_worker_than_there_is_room_for_gets_as_many_as_fit(store: Counted):
    put(store, *"ab")
    lost(store, "a", "b")
    assert claimed(store, wish(1, suspects=5), wish(1, suspects=0)) == [["a"], []]


def test_no_more_that_lost_their_worker_are_claimed_together_than_one_claim_looks_at(store: Counted):
    put(store, *(ids := [f"{number:03d}" for number in range(150)]))
    lost(store, *ids)
    assert claimed(store, *[wish(1)] * 150) == [[id] for id in ids]
    assert store.claimed == [(100, 100), (50, 50)]


def test_who_got_nothing_asks_alone_where_there_may_be_more(store: Counted):
    put(store, *"ab")
    store.claim("q", 1, worker="v", lease=1e-9)
    store.claimed.clear()
    assert claimed(store, wish(1), wish(1), wish(1)) == [["b"], [], []]
    # A lease has expired, so the claim says that there is more to be done.
    assert store.claimed == [(3, 3), (1, 1), (1, 1)]


def test_who_got_nothing_does_not_ask_alone_for_a_lease_that_has_expired(store: Counted):
    put(store, "a")
    store.claim("q", 1, worker="v", lease=1e-9)
    store.claimed.clear()
    assert claimed(store, wish(1), wish(1), wish(1)) == [[], [], []]
    assert store.claimed == [(3, 3)]


def test_what_some_got_is_told_where_others_cannot_ask_any_more(store: Counted, monkeypatch):
    put(store, *"ab")
    store.claim("q", 1, worker="v", lease=1e-9)
    claim = Counted.claim

    def once(self, queue, n, **given) -> Claim:
        if n == 1:
            raise StoreUnavailable("gone")
        return claim(self, queue, n, **given)

    monkeypatch.setattr(Counted, "claim", once)
    assert claimed(store, wish(1), wish(1), wish(1)) == [["b"], [], []]


def test_a_paused_queue_says_so_to_each(store: Counted):
    put(store, "a")
    store.pause("q")
    claims = Deeds(store).do("claim q", [wish(1), wish(1)])
    assert [(claim.jobs, claim.paused) for claim in claims] == [([], True), ([], True)]


def test_what_ended_is_told_and_who_got_nothing_asks_alone(store: Counted):
    store.conf("q", Conf(max_age=1e-9))
    for begin in (0, 750):
        put(store, *[str(number) for number in range(begin, begin + 750)])
    claims = Deeds(store).do("claim q", [wish(1), wish(1)])
    assert [len(claim.ended) for claim in claims] == [1500, 0]
    assert store.claimed == [(2, 2), (1, 1), (1, 1)]


def test_what_ended_in_a_claim_is_told_once(store: Counted):
    store.conf("q", Conf(max_age=1e-9))
    put(store, *"ab")
    claims = Deeds(store).do("claim q", [wish(1), wish(1)])
    assert [[(each.id, each.reason) for each in claim.ended] for claim in claims] == [
        [("a", "age"), ("b", "age")],
        [],
    ]
