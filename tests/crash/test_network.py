"""Workers and producers behind a network that loses answers, cuts connections and stands still."""

from __future__ import annotations

import random
import time
from pathlib import Path

import pytest

import qanat
from qanat.errors import PutUnknown, StoreUnavailable
from tests._stores.redis.proxy import Proxy
from tests.crash.crew import Crew, until

pytestmark = [pytest.mark.real, pytest.mark.slow, pytest.mark.timeout(180)]

IMPATIENT = "?timeout=1&connect_timeout=1&wait=0.5"


@pytest.fixture
def crew(server, tmp_path):
    crew = Crew(tmp_path, server.url)
    yield crew
    crew.end()


@pytest.fixture
def proxy(server):
    proxy = Proxy(server.socket)
    yield proxy
    proxy.close()


@pytest.fixture
def url(proxy):
    return proxy.url + IMPATIENT


def sockets(process):
    """Return how many sockets a process has open."""
    found = 0
    for each in Path(f"/proc/{process.pid}/fd").iterdir():
        try:
            found += str(each.readlink()).startswith("socket:")
        except FileNotFoundError:
            pass  # closed meanwhile
    return found


def test_put_whose_answers_are_lost_is_unknown_and_its_id_makes_no_second(crew, proxy, url):
    with qanat.open(url) as store:
        queue = store.queue(crew.queue, keep=3600.0)
        queue.put("first")
        proxy.drop_answers = 1000  # that of the put, and of each time that it is sent again
        with pytest.raises(PutUnknown) as caught:
            queue.put("second")
        proxy.drop_answers = 0
        assert isinstance(caught.value.__cause__, StoreUnavailable)
        assert not queue.put("second", id=caught.value.id).is_new
        assert queue.counts().put == 2


@pytest.mark.long
@pytest.mark.parametrize("way", ["cut_after", "cut_request_after"])
def test_connection_cut_at_any_byte_makes_one_job_of_each_put(crew, proxy, url, way):
    """Neither half a request is obeyed nor half an answer believed; what is asked again is done once."""
    bytes_through = range(1000)  # more than either has
    with qanat.open(url) as store:
        queue = store.queue(crew.queue, keep=3600.0)
        queue.put("the first, as others follow by a script that is known")
        for number in bytes_through:
            setattr(proxy, way, number)
            queue.put({"number": number}, id=f"{number}")
            found = queue.get(f"{number}")
            assert found is not None
            assert (found.item, found.state) == ({"number": number}, "ready")
        setattr(proxy, way, None)
        assert queue.counts().put == queue.counts().ready == 1 + len(bytes_through)
    with crew.store() as there:
        assert there.check(crew.queue) == []


def test_job_whose_end_was_stored_and_not_answered_does_not_run_again(crew, proxy, url):
    crew.put([{"do": "nap", "with": 0.5}])
    worker = crew.worker(url=url)
    crew.wait_for("start")
    time.sleep(0.2)  # the claim has been answered, and an idle worker asks once a second
    proxy.drop_answers = 4
    crew.wait_done()
    until(lambda: crew.count("settle-ok") + crew.count("settle-repeated"), "the end to be answered")
    assert worker.stop() == 0
    history = crew.check()
    assert history.repeats == 0


@pytest.mark.long
def test_claim_whose_answer_is_lost_is_made_up_for_when_its_leases_expire(crew, proxy, url):
    worker = crew.ready(crew.worker(url=url))
    proxy.drop_answers = 1
    crew.naps(4)
    crew.wait_done()
    assert worker.stop() == 0
    assert crew.check(outages=True).repeats == 0


def storm(crew, proxy, url, troubles):
    """Make trouble of any kind again and again, and return the most sockets that a worker had open."""
    chance = random.Random(troubles)
    producing = crew.producer("p", 60 * troubles, 0.05, batch=5, url=url)
    workers = [crew.ready(crew.worker(url=url)) for _ in range(2)]
    most = 0
    for _ in range(troubles):
        trouble = chance.choice(["drop", "cut", "part", "still"])
        if trouble == "drop":
            proxy.drop_answers = chance.randint(1, 4)
        elif trouble == "cut":
            proxy.cut()
        elif trouble == "part":
            proxy.cut_after = chance.randint(0, 40)
        else:
            proxy.flows.clear()
            time.sleep(chance.uniform(0.5, 3.0))
            most = max(most, *map(sockets, workers))
            proxy.flows.set()
        time.sleep(chance.uniform(0.1, 0.5))
        most = max(most, *map(sockets, workers))
    proxy.drop_answers, proxy.cut_after = 0, None
    assert producing.wait() == 0
    crew.wait_done(90.0)
    assert [worker.stop() for worker in workers] == [0, 0]
    assert not any("Traceback" in worker.said for worker in workers)
    return most


@pytest.mark.long
def test_nothing_is_lost_behind_a_network_that_fails(crew, proxy, url):
    most = storm(crew, proxy, url, 40)
    history = crew.check(outages=True)
    assert {last.state for last in history.last.values()} == {"done"}
    # One connection for deeds, for claims and for the pulse, those of the event loop, and two being made anew.
    assert most <= 8


@pytest.mark.long
def test_workers_go_on_by_themselves_when_a_network_that_stood_still_flows_again(crew, proxy, url):
    crew.naps(4, 0.2)
    worker = crew.worker("--burst", url=url)
    worker.wait()
    idle = crew.ready(crew.worker(url=url))
    proxy.flows.clear()
    until(lambda: "tried again" in idle.said, "the worker to notice")
    proxy.flows.set()
    crew.naps(40, 0.05)
    began = time.monotonic()
    crew.wait_done()
    assert time.monotonic() - began < 15.0
    assert idle.stop() == 0
    crew.check(outages=True)
