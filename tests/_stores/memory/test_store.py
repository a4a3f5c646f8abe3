"""The store in memory, beyond what every store promises."""

import os
import threading

import pytest

from qanat._core.store.values import NewJob, Placed, Settle, Stamp
from qanat._stores.memory import MemoryStore
from qanat._stores.memory.line import Line
from qanat._stores.memory.places import Places
from qanat._stores.memory.store import steady_clock
from qanat.errors import StoreForked
from qanat.testing import memory_store
from qanat.testing._store_bench import QUEUE, Hand


def test_it_promises_nothing_beyond_the_process():
    store = MemoryStore()
    assert store.guarantees() == "none"
    for wish in ({"replicas": 1}, {"durable": True}):
        with pytest.raises(ValueError, match=f"^{next(iter(wish))} must be "):
            store.put("q", [NewJob(id="a")], **wish)


def test_its_clock_is_utc_and_steady():
    clock = steady_clock()
    assert clock() <= clock()
    assert MemoryStore().now() > 1_600_000_000


@pytest.mark.real
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_is_refused():
    store = MemoryStore()
    read, write = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            store.count("q")
        except StoreForked:
            os.write(write, b"refused")
        os._exit(0)
    os.waitpid(pid, 0)
    os.close(write)
    assert os.read(read, 100) == b"refused"
    os.close(read)


def test_threads_share_it():
    store = MemoryStore()
    store.put("q", [NewJob(id=str(number)) for number in range(1000)])
    taken: list[str] = []

    def work():
        mine = store.connect()
        while jobs := mine.claim("q", 7, worker="w", lease=60.0).jobs:
            mine.settle("q", [Settle(id=job.id, token=job.token, kind="done") for job in jobs])
            taken.extend(job.id for job in jobs)

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(taken) == sorted(map(str, range(1000)))
    assert store.count("q").done == 1000
    assert store.check("q") == []


def places_of(bench) -> Places:
    assert isinstance(bench.store, MemoryStore)
    return bench.store._shared.queues[QUEUE].life.places


def broken_bench():
    """A store in which a family, a dead letter, a suspect, and scheduled and kept jobs stand."""
    bench = memory_store()
    hand = Hand(bench)
    hand.put("p", key="k", keep=100.0)
    hand.settle(hand.take()[0], children=(NewJob(id="a"), NewJob(id="b")))
    hand.settle(hand.take()[0], "dead")
    hand.put("late", delay=5.0)
    hand.put("kept", keep=50.0, priority=-1)
    hand.settle(hand.take()[0])
    hand.put("suspect", priority=-1)
    hand.take(lease=1.0)
    bench.advance(2.0)
    hand.store.rescue(QUEUE)
    return bench


@pytest.mark.parametrize(
    ("harm", "told"),
    [
        (lambda places: places.in_state["ready"].pop("b"), "job 'b' is ready, but the index says otherwise"),
        (lambda places: places.in_state["dead"].update(b=None), "job 'b' is not dead, but"),
        (lambda places: places.lanes[""].discard("b"), r"lane '' holds \[\], expected \['b'\]"),
        (lambda places: places.lanes.clear(), r"lane '' is missing, expected \['b'\]"),
        (lambda places: places.ring.clear(), r"the ring holds \[\], expected \[''\]"),
        (lambda places: places.suspects.discard("suspect"), "suspects holds"),
        (lambda places: places.scheduled.discard("late"), "scheduled holds"),
        (lambda places: places.expiring.discard("kept"), "expiring holds"),
        (
            lambda places: places.keys.update(k="late"),
            "key 'k' is held by job 'late', which has no claim to it",
        ),
        (lambda places: places.counts.update(ready=7), "7 jobs are counted as ready, and there are 2"),
    ],
)
def test_what_contradicts_itself_is_found_and_repaired(harm, told):
    bench = broken_bench()
    store = bench.store
    assert store.check(QUEUE) == []
    before = {job.id for state in ("ready", "dead") for job in store.find(QUEUE, state).jobs}
    harm(places_of(bench))
    with pytest.raises(AssertionError, match=told):
        assert store.check(QUEUE, repair=True) == []
    assert store.check(QUEUE) == []
    assert before <= {job.id for state in ("ready", "dead") for job in store.find(QUEUE, state).jobs}


def test_a_parent_that_waits_for_nobody_is_sent_on():
    bench = broken_bench()
    hand = Hand(bench)
    places = places_of(bench)
    places.take_out(places.records["b"])
    assert any("counts 1 open children, and has 0" in each for each in bench.store.check(QUEUE, repair=True))
    assert hand.job("p").state == "done"
    assert bench.store.check(QUEUE) == []


def test_answers_are_forgotten_after_a_day():
    bench = memory_store()
    store = bench.store
    stamp = Stamp("c", 1)
    store.put(QUEUE, [NewJob(id="a")], stamp=stamp)
    bench.advance(86_399.0)
    store.rescue(QUEUE)
    assert store.put(QUEUE, [NewJob(id="b")], stamp=stamp) == [Placed("a")]
    bench.advance(1.0)
    store.rescue(QUEUE)
    assert store.put(QUEUE, [NewJob(id="b")], stamp=stamp) == [Placed("b")]


def test_ids_held_for_dedupe_are_swept():
    bench = memory_store()
    hand = Hand(bench)
    hand.put("a", dedupe_for=5.0)
    hand.settle(hand.take()[0])
    bench.advance(6.0)
    bench.store.rescue(QUEUE)
    assert isinstance(bench.store, MemoryStore)
    assert len(bench.store._shared.queues[QUEUE].life.known) == 0


def test_a_line_is_swept_when_half_of_it_is_stale():
    line = Line()
    for number in range(1000):
        line.push(str(number), number)
        line.discard(str(number - 2))
    assert len(line) == 2
    assert len(line._heap) < 50
    assert line.first(5) == ["998", "999"]
    assert line.head() == (998, "998")


def test_an_extended_lease_leaves_no_litter():
    bench = memory_store()
    hand = Hand(bench)
    hand.put("a")
    [job] = hand.take()
    for _ in range(500):
        hand.extend(job)
    assert len(places_of(bench).leased._heap) < 50
