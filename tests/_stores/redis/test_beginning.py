"""Deeds that are begun: sent without waiting, and finished in the ordinary way where anything is amiss."""

from __future__ import annotations

import select
import signal
import socket
import struct
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import pytest
from redis.exceptions import ConnectionError as RedisConnectionError

from qanat._core.store.values import Conf, NewJob, Settle
from qanat._stores import failpoints
from qanat._stores.deeds import FEW, Deeds, Wish
from qanat._stores.redis import RedisStore
from qanat._stores.redis import direct as direct_module
from qanat.errors import StoreUnavailable
from tests._stores.redis.servers import poll

if TYPE_CHECKING:
    from collections.abc import Iterator

pytestmark = pytest.mark.real


@pytest.fixture
def deeds(server) -> Iterator[Deeds]:
    """Give deeds over a connection that was used, and a queue that is known."""
    found = Deeds(RedisStore.open(f"{server.url}?timeout=0.2&wait=0.1"))
    found.do("put q 0 -", [NewJob(id="first", body=b"0")])
    found.do("count q", [None])
    yield found
    found.close()


def job(id: str, body: bytes = b"1") -> NewJob:
    return NewJob(id=id, body=body)


def answers_of(begun: Any) -> list[Any]:
    """Wait for the answers of what was begun."""
    assert begun is not None
    poll(begun.is_over, "the answer")
    answers: list[Any] | None = begun.answers()
    assert answers is not None
    return answers


def ids(deeds: Deeds) -> list[str]:
    """Return the ids of all jobs that wait."""
    return [each.id for each in deeds.store.find("q", "ready").jobs]


def test_a_put_a_claim_and_a_settle_are_begun(deeds: Deeds):
    # The server learns the scripts.
    [claim] = deeds.do("claim q", [Wish(n=5, worker="w", lease=30.0)])
    deeds.do("settle q", [Settle(id=each.id, token=each.token, kind="release") for each in claim.jobs])
    [placed] = answers_of(deeds.begin("put q 0 -", [job("a")]))
    assert (placed.id, placed.why) == ("a", "")
    [claim] = answers_of(deeds.begin("claim q", [Wish(n=5, worker="w", lease=30.0)]))
    assert [each.id for each in claim.jobs] == ["first", "a"]
    settles = [Settle(id=each.id, token=each.token, kind="done") for each in claim.jobs]
    settled = answers_of(deeds.begin("settle q", settles))
    assert [each.status for each in settled] == ["ok", "ok"]
    assert deeds.store.count("q").leased == 0


def test_claims_of_one_worker_are_begun_as_one(deeds: Deeds, server):
    deeds.do("put q 0 -", [job("a"), job("b")])
    wish = Wish(n=1, worker="w", lease=30.0)
    deeds.do("claim q", [Wish(n=0, worker="w", lease=30.0)])
    claims = answers_of(deeds.begin("claim q", [wish] * 4))
    assert [[each.id for each in claim.jobs] for claim in claims] == [["first"], ["a"], ["b"], []]
    assert {each.token for claim in claims for each in claim.jobs} == {1, 2, 3}


def test_who_claimed_with_others_and_may_have_got_too_little_claims_alone(deeds: Deeds):
    wish = Wish(n=1, worker="w", lease=30.0)
    deeds.do("claim q", [Wish(n=0, worker="w", lease=30.0)])
    deeds.store.conf("q", Conf(max_age=2.0), change=True)
    deeds.do("put q 0 -", [job(f"old {number}") for number in range(1_500)])
    time.sleep(2.1)
    deeds.do("put q 0 -", [job("a"), job("b")])
    # More are too old than one step ends.
    begun = deeds.begin("claim q", [wish, wish])
    assert begun is not None
    poll(begun.is_over, "the answer")
    assert begun.answers() is None
    claims = begun.finish()
    assert sum(len(claim.ended) for claim in claims) == 1_501
    assert [each.id for claim in claims for each in claim.jobs] == ["a", "b"]


def test_what_takes_ids_is_begun(deeds: Deeds):
    for deed in ("get", "requeue", "delete", "cancel"):
        deeds.do(f"{deed} q", ["nobody"])
    deeds.do("rescue q", [None])
    deeds.do("put q 0 -", [job("a"), job("b"), job("c")])
    found = answers_of(deeds.begin("get q", ["a", "nobody"]))
    assert [None if each is None else each.body for each in found] == [b"1", None]
    assert answers_of(deeds.begin("cancel q", ["a", "nobody"])) == ["cancelled", "unknown"]
    assert answers_of(deeds.begin("requeue q", ["a", "b"])) == ["unknown", "live"]
    [claim] = deeds.do("claim q", [Wish(n=1, worker="w", lease=30.0)])
    assert [each.id for each in claim.jobs] == ["first"]
    assert answers_of(deeds.begin("delete q", ["first", "b"])) == ["leased", "deleted"]
    assert answers_of(deeds.begin("delete q leased", ["first"])) == ["deleted"]
    rescued = answers_of(deeds.begin("rescue q", [None, None]))
    assert [each.ids for each in rescued] == [[], []]
    assert ids(deeds) == ["c"]


def test_the_number_of_a_socket_is_told(deeds: Deeds):
    begun = deeds.begin("put q 0 -", [job("a")])
    assert begun is not None
    assert begun.fileno() >= 0
    assert begun.finish()[0].why == ""


def test_a_refusal_is_an_answer(deeds: Deeds):
    [placed] = answers_of(deeds.begin("put q 0 -", [job("first")]))
    assert (placed.why, placed.other) == ("id", "first")


@pytest.mark.parametrize(
    ("deed", "asked"),
    [
        ("put other 0 -", [job("a")]),
        ("put q 1 -", [job("a")]),
        ("put q 0 durable", [job("a")]),
        ("put q 0 -", [job("a", b"x" * 20_000)]),
        ("settle q", [Settle(id="first", token=1, kind="done", value=b"x" * 20_000)]),
        ("settle q", [Settle(id="first", token=1, kind="done", children=(job("a"),))]),
        ("claim q", [Wish(n=FEW + 1, worker="w", lease=1.0)]),
        ("claim q", [Wish(n=1, worker="w", lease=1.0), Wish(n=1, worker="v", lease=1.0)]),
        ("claim q", [Wish(n=FEW // 4, worker="w", lease=1.0)] * 3),
        ("count q", [None]),
        ("guarantees", [None]),
    ],
    ids=[
        "first use",
        "replicas",
        "durable",
        "large",
        "large value",
        "children",
        "many",
        "two claims",
        "many claims",
        "another deed",
        "no queue",
    ],
)
def test_what_could_take_longer_is_not_begun(deeds: Deeds, deed: str, asked: list[Any]):
    assert deeds.begin(deed, asked) is None
    assert ids(deeds) == ["first"]


def test_stores_that_wait_for_no_server_begin_nothing(server):
    from qanat._stores.memory import MemoryStore

    assert not Deeds(MemoryStore(lambda: 0.0)).begins
    assert Deeds(RedisStore.open(server.url)).begins


def test_a_connection_that_was_silent_is_looked_after_first(deeds: Deeds, monkeypatch):
    monkeypatch.setattr(direct_module, "FRESH", 0.0)
    assert deeds.begin("put q 0 -", [job("a")]) is None
    assert deeds.do("put q 0 -", [job("a")])[0].why == ""


def test_failpoints_are_passed_by_the_thread(deeds: Deeds, monkeypatch):
    monkeypatch.setattr(failpoints, "reach", lambda _step: None)
    assert deeds.begin("put q 0 -", [job("a")]) is None


def test_a_connection_that_closes_right_behind_an_answer_is_found_closed_by_using_it(
    deeds: Deeds, server, monkeypatch
):
    monkeypatch.setattr(direct_module, "JUST_NOW", 60.0)
    # Sent and refused without a look at the socket, which then is the thread's to make anew.
    store: Any = deeds.store
    connection = store._calls._direct._connection._sock
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    poll(lambda: select.select([connection], [], [], 0)[0], "the end of the connection")
    with pytest.raises(RedisConnectionError):
        deeds.begin("put q 0 -", [job("a")])
    assert deeds.do("put q 0 -", [job("a")])[0].why == ""
    assert ids(deeds) == ["first", "a"]


def test_a_connection_that_the_server_closed_is_not_used(deeds: Deeds, server, monkeypatch):
    monkeypatch.setattr(direct_module, "JUST_NOW", 0.0)
    server.command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    poll(lambda: deeds.begin("put q 0 -", [job("a")]) is None, "the end of the connection")
    assert deeds.do("put q 0 -", [job("a")])[0].why == ""
    [placed] = answers_of(deeds.begin("put q 0 -", [job("b")]))
    assert placed.why == ""


def test_a_script_that_the_server_does_not_know_is_sent_in_full(deeds: Deeds, server):
    server.command("SCRIPT", "FLUSH")
    begun = deeds.begin("put q 0 -", [job("a")])
    assert begun is not None
    poll(begun.is_over, "the answer")
    assert begun.answers() is None
    assert [each.why for each in begun.finish()] == [""]
    assert ids(deeds) == ["first", "a"]


def test_a_queue_that_was_emptied_is_listed_anew(deeds: Deeds, server):
    server.command("FLUSHALL")
    begun = deeds.begin("put q 0 -", [job("a")])
    assert begun is not None
    poll(begun.is_over, "the answer")
    assert begun.answers() is None
    assert [each.why for each in begun.finish()] == [""]
    assert deeds.store.queues() == ["q"]


@contextmanager
def standing_still(server: Any) -> Iterator[None]:
    server.send(signal.SIGSTOP)
    try:
        yield
    finally:
        server.send(signal.SIGCONT)


def test_a_put_whose_answer_is_late_is_sent_once_more_and_acts_once(deeds: Deeds, server):
    with standing_still(server):
        begun = deeds.begin("put q 0 -", [job("a")])
        assert begun is not None
        assert not begun.is_over()
        assert "did not answer" in str(begun.finish()[0].__cause__)
    assert [each.why for each in deeds.do("put q 0 -", [job("b")])] == [""]
    assert ids(deeds) == ["first", "a", "b"]


def test_a_put_whose_connection_breaks_is_sent_once_more_and_acts_once(deeds: Deeds, server):
    with standing_still(server):
        begun = deeds.begin("put q 0 -", [job("a")])
        assert begun is not None
        deeds.store._calls._direct._connection._sock.shutdown(2)  # type: ignore[attr-defined]
    poll(begun.is_over, "the end of the connection")
    assert begun.answers() is None
    assert [each.why for each in begun.finish()] == [""]
    assert ids(deeds) == ["first", "a"]


def test_a_claim_whose_connection_breaks_is_not_sent_again(deeds: Deeds, server):
    with standing_still(server):
        begun = deeds.begin("claim q", [Wish(n=1, worker="w", lease=30.0)])
        assert begun is not None
        deeds.store._calls._direct._connection._sock.shutdown(2)  # type: ignore[attr-defined]
    poll(begun.is_over, "the end of the connection")
    with pytest.raises(StoreUnavailable):
        begun.finish()
    assert deeds.do("put q 0 -", [job("b")])[0].why == ""


def test_a_deed_that_fails_before_it_is_resumed_leaves_nothing_unread(deeds: Deeds, monkeypatch):
    begun = deeds.begin("put q 0 -", [job("a")])
    assert begun is not None

    def interrupted(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(deeds, "do", interrupted)
        with pytest.raises(KeyboardInterrupt):
            begun.finish()
    assert [each.why for each in deeds.do("put q 0 -", [job("b")])] == [""]
    assert ids(deeds) == ["first", "a", "b"]


def test_commands_go_over_the_connection_of_the_scripts(deeds: Deeds, server):
    answers_of(deeds.begin("put q 0 -", [job("a")]))
    deeds.store.now()
    deeds.store.pause("q")
    deeds.store.guarantees()
    with server.client() as client:
        # And that of the test.
        assert len(client.client_list(_type="normal")) == 2


def test_the_driver_gets_its_connection_back_as_it_was(deeds: Deeds):
    deeds.do("count q", [None])
    direct: Any = deeds.store._calls._direct  # type: ignore[attr-defined]
    sock = direct._socket
    assert sock.gettimeout() is None
    direct.give_back()
    assert sock.gettimeout() == 0.2


@pytest.mark.parametrize(
    ("seconds", "kept"),
    [(None, (0, 0)), (0.2, (0, 200_000)), (2.0, (2, 0)), (1e-9, (0, 1))],
    ids=["for ever", "less than a second", "whole", "next to nothing"],
)
def test_a_socket_waits_as_long_by_the_means_of_the_system(seconds: float | None, kept: tuple[int, int]):
    with socket.socket(socket.AF_UNIX) as sock:
        direct_module._let_block(sock, seconds)
        for name in (socket.SO_RCVTIMEO, socket.SO_SNDTIMEO):
            found = struct.unpack("ll", sock.getsockopt(socket.SOL_SOCKET, name, struct.calcsize("ll")))
            assert found[0] == kept[0]
            # Systems round to their own ticks.
            assert abs(found[1] - kept[1]) <= 10_000
