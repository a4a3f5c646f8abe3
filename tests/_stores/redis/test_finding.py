"""What is found by bodies: past what was left behind, however much lies in between."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from qanat._core.store.values import Conf, NewJob

if TYPE_CHECKING:
    from qanat._stores.redis import RedisStore

pytestmark = pytest.mark.real

Q = "q"


def found(store: RedisStore, *bodies: bytes) -> list[list[str]]:
    """Return the ids on all pages of jobs that are ready."""
    pages: list[list[str]] = []
    after: str | None = None
    while True:
        page = store.find(Q, "ready", bodies=bodies, limit=3, after=after)
        pages.append([job.id for job in page.jobs])
        after = page.next
        if after is None:
            return pages


def test_a_page_looks_at_so_many_bodies_and_the_next_goes_on_there(store: RedisStore):
    store.conf(Q, Conf())
    for begin in range(0, 6_000, 1_000):
        store.put(Q, [NewJob(id=f"j{begin + each}", body=b"%d" % (each % 500)) for each in range(1_000)])
    pages = found(store, b"499", b"7")
    assert [id for page in pages for id in page] == [
        f"j{begin + each}" for begin in range(0, 6_000, 500) for each in (7, 499)
    ]
    assert [len(page) for page in pages] == [3] * 8 + [0]
    # Of none a page looks at 5,000.
    assert found(store, b"nobody") == [[], []]


def test_entries_that_were_left_behind_are_not_found(store: RedisStore):
    store.conf(Q, Conf())
    for order in ("a", "b", "c", "d"):
        store.put(Q, [NewJob(id=order, body=b"x")])
    store.delete(Q, ["a", "b"])
    store.put(Q, [NewJob(id="b", body=b"y"), NewJob(id="d2", lane="l", body=b"x", handler="h")])
    store.put(Q, [NewJob(id="late", delay=1.0, body=b"x")])
    assert found(store, b"x") == [["c", "d", "d2"], []]
    assert found(store, b"y", b"z") == [["b"]]
    (leased,) = store.claim(Q, 1, worker="w", lease=30.0).jobs
    assert (leased.id, found(store, b"x")) == ("c", [["d", "d2"]])


def test_large_bodies_are_looked_at_a_few_megabytes_at_a_time(store: RedisStore):
    store.conf(Q, Conf())
    for each in range(60):
        store.put(Q, [NewJob(id=f"j{each}", body=(b"%d" % (each % 20)).rjust(200_000, b"x"))])
    last = b"19".rjust(200_000, b"x")
    # 21 of them are more than four.
    assert found(store, last) == [["j19"], ["j39"], ["j59"]]
