"""Why a job does not run: a sentence for each thing that may hold it up."""

from __future__ import annotations

from typing import Any

import pytest

from qanat._core.store.explaining import Around, explained
from qanat._core.store.values import Conf, Counts, StoredJob

NOW = 1000.0
ERROR = "Traceback\n  ...\nOSError: no route\n"


def job(state: Any, **more: Any) -> StoredJob:
    return StoredJob(id="a", state=state, born_at=900.0, **more)


def around(**more: Any) -> Around:
    return Around(**{"now": NOW, "conf": Conf(), "counts": Counts(leased=2), **more})


@pytest.mark.parametrize(
    ("stored", "known", "sentences"),
    [
        (job("scheduled", due_at=1018.0), around(), ["put with a delay and falls due later, in 18 s"]),
        (job("scheduled", due_at=990.0), around(), ["fell due 10 s ago, and the next claim"]),
        (
            job("scheduled", due_at=1180.0, attempt=2, error=ERROR),
            around(counts=Counts(paused=True)),
            ["attempt 2 ended and it is tried again later, in 3 min: OSError: no route", "queue is paused"],
        ),
        (job("ready"), around(), ["the next one of its lane ''", "of its queue 2 jobs are leased"]),
        (job("ready", lane="x"), around(before=3), ["3 ready jobs of its lane 'x' come before", "leased"]),
        (job("ready"), around(before=7, all_seen=False), ["at least 7 ready jobs", "leased"]),
        (
            job("ready", handler="clean", attempt=1, phase=1, after="sum"),
            around(counts=Counts(paused=True)),
            [
                "paused",
                "next one",
                "leased 1 time before",
                "handler 'clean'",
                "callback 'sum'",
                "no worker runs",
            ],
        ),
        (job("ready", attempt=20), around(), ["beyond a bound", "leased 20 times before", "leased now"]),
        (job("ready", crashes=2), around(), ["lost its worker 2 times in a row", "leased now"]),
        (
            job(
                "leased", worker="w:1", started_at=958.0, attempt=3, due_at=1018.0, note="page 3", cancel=True
            ),
            around(),
            ["leased by 'w:1' for 42 s, attempt 3", "says: page 3", "expires in 18 s", "asked to cancel"],
        ),
        (job("leased", worker="w", due_at=880.0), around(), ["leased by 'w'", "expired 2 min ago"]),
        (
            job("waiting", open_children=3, failed_children=1, after="sum"),
            around(children=("c1", "c2")),
            ["3 children not yet ended: 'c1', 'c2', ...", "1 of its children", "callback 'sum'"],
        ),
        (job("leased", worker="w"), around(), ["leased by 'w', attempt 0"]),
        (job("waiting", open_children=1), around(), ["waits for 1 child"]),
        (
            job("dead", reason="attempts", attempt=20, error=ERROR, ended_at=700.0),
            around(),
            ["given up 5 min ago: it was leased 20 times", "last error: OSError: no route", "qanat retry"],
        ),
        (job("dead", reason="age"), around(conf=Conf(max_age=60.0)), ["allows, 60 s", "retry"]),
        (job("dead", reason="crashes", crashes=5), around(), ["lost its worker 5 times", "retry"]),
        (
            job("dead", reason="children", failed_children=2),
            around(),
            ["2 of its children are dead", "retry"],
        ),
        (job("dead"), around(), ["its worker gave no reason", "retry"]),
        (job("dead", reason="not wanted"), around(), ["not wanted", "retry"]),
        (job("done", ended_at=990.0), around(), ["it is done, 10 s ago"]),
        (job("cancelled", reason="no longer"), around(), ["cancelled, some time ago: no longer"]),
    ],
)
def test_a_job_is_explained(stored: StoredJob, known: Around, sentences: list[str]):
    found = explained(stored, known)
    assert len(found) == len(sentences), found
    for sentence, words in zip(found, sentences, strict=True):
        assert words in sentence
