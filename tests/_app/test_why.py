"""Why jobs waited, in a sentence."""

from __future__ import annotations

from math import inf

import pytest

import qanat
from qanat._app.why import Held, duration_words, why_waited

HELD = Held({"rate": "100/s", "concurrency": "20"}, 20, {"example.com": {"spacing": 30.0}}, counts_full=True)


def test_each_cause_is_told_with_its_limit_and_lanes_apart():
    assert why_waited({"rate": 219.24, "spacing": 32.76}, HELD) == (
        "waited 4 m 12 s in all jobs together: 87% rate 100/s, 12% lane example.com, 1% spacing; "
        "concurrency was never full, so raising it changes nothing"
    )


@pytest.mark.parametrize(
    ("slots", "counts_full", "full", "ending"),
    [
        (20, True, 0.0, "; concurrency was never full, so raising it changes nothing"),
        (20, True, 0.5, "; concurrency was hardly ever full, so raising it changes little"),
        (20, True, 50.0, "100% concurrency 20"),
        (20, False, 0.0, "100% rate 100/s"),
        (inf, True, 0.0, "100% rate 100/s"),
    ],
)
def test_more_at_once_is_spoken_of_where_it_is_known(slots, counts_full, full, ending):
    held = Held({"rate": "100/s", "concurrency": "20"}, slots, {}, counts_full)
    waits = {"concurrency": full} if full == 50.0 else {"rate": 100.0, "concurrency": full}
    assert why_waited(waits, held).endswith(ending)


def test_what_is_not_worth_a_sentence_is_none():
    assert why_waited({}) == why_waited({"rate": 0.004}, HELD) == ""


def test_without_names_the_causes_are_told():
    assert (
        why_waited({"rate": 3.0, "retry": 1.0}) == "waited 4.00 s in all jobs together: 75% rate, 25% retry"
    )


def test_many_lanes_are_told_together():
    lanes = {f"host {number}": {"spacing": 10.0 - number} for number in range(4)} | {None: {"spacing": 1.0}}
    said = why_waited({"spacing": 35.0}, Held({}, lanes=lanes))
    assert said.endswith(": 46% other lanes, 29% lane host 0, 26% lane host 1")


def test_a_lane_never_takes_more_than_there_was():
    """A job that is still to end may have told of its lane already."""
    said = why_waited({"spacing": 10.0}, Held({}, lanes={"a": {"spacing": 30.0, "rate": 1.0}}))
    assert said.endswith(": 100% lane a")


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0.0, "0 s"), (0.0032, "3.2 ms"), (0.25, "0.25 s"), (59.99, "59.99 s"), (60.0, "1 m"),
        (252.0, "4 m 12 s"), (3600.0, "1 h"), (7500.0, "2 h 5 m"), (2999700.0, "34 d 17 h"),
    ],
)  # fmt: skip
def test_a_length_of_time_is_told_in_two_units(seconds, words):
    assert duration_words(seconds) == words


async def test_the_summary_of_a_run_names_its_limits_and_lanes(virtual_time):
    async def handler(_item):
        return None

    outcomes = await qanat.collect(
        handler, range(8), rate="4/m", lane=lambda item: f"lane {item % 2}",
        lane_limits=lambda lane: qanat.Spacing(60.0) if lane == "lane 1" else (),
    )  # fmt: skip
    why = outcomes.summary().why
    assert "lane lane 1" in why
    assert "rate 4/m" in why
    assert why.endswith("; concurrency was never full, so raising it changes nothing")
    assert why in str(outcomes.summary())


async def test_the_waits_of_too_many_lanes_are_added_up(virtual_time, monkeypatch):
    monkeypatch.setattr("qanat._core.dispatcher.ending.MOST_LANES", 1)

    async def handler(_item):
        return None

    outcomes = await qanat.collect(
        handler, range(6), lane=lambda item: item % 3, lane_limits=lambda _lane: qanat.Spacing(1.0)
    )
    assert outcomes._held is not None
    assert outcomes._held.lanes == {"0": {"spacing": 1.0}, None: {"spacing": 2.0}}


async def test_a_run_without_limits_does_not_speak_of_slots(virtual_time):
    async def handler(_item):
        raise OSError

    outcomes = await qanat.collect(handler, range(3), retry=qanat.Retry(1, backoff=qanat.constant(1.0)))
    assert outcomes.summary().why == "waited 3.00 s in all jobs together: 100% retry"
