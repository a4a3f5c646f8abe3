"""Whether the indexes and counts of a queue say the same as its records."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanat._core.store.rules import holds_key
from qanat._core.store.states import ENDED, LIVE, STATES

if TYPE_CHECKING:
    from collections.abc import Iterator

    from qanat._stores.memory.places import Places
    from qanat._stores.memory.queue import Queue


def problems(queue: Queue) -> list[str]:
    """Return what contradicts itself, in words."""
    places = queue.life.places
    return [*_states(places), *_lines(places), *_keys(places), *_children(places), *_counts(queue)]


def _states(places: Places) -> Iterator[str]:
    for state in STATES:
        told = set(places.in_state[state])
        true = {id for id, record in places.records.items() if record.state == state}
        for id in sorted(told ^ true):
            yield f"job {id!r} is {'not ' if id in told else ''}{state}, but the index says otherwise"


def _lines(places: Places) -> Iterator[str]:
    expected: dict[str, set[str]] = {}
    for id, record in places.records.items():
        timed = record.due_at is not None
        if record.state == "ready":
            expected.setdefault("suspects" if record.crashes else f"lane {record.lane!r}", set()).add(id)
        elif record.state in ENDED and timed:
            expected.setdefault("expiring", set()).add(id)
        elif record.state in {"scheduled", "leased"}:
            expected.setdefault(record.state, set()).add(id)
    lines = {
        "suspects": places.suspects,
        "scheduled": places.scheduled,
        "leased": places.leased,
        "expiring": places.expiring,
        **{f"lane {name!r}": line for name, line in places.lanes.items()},
    }
    for name, line in lines.items():
        if set(line.keys) != expected.get(name, set()):
            yield f"{name} holds {sorted(line.keys)}, expected {sorted(expected.get(name, ()))}"
    for name in sorted(expected.keys() - lines.keys()):
        yield f"{name} is missing, expected {sorted(expected[name])}"
    if set(places.ring) != set(places.lanes):
        yield f"the ring holds {sorted(places.ring)}, expected {sorted(places.lanes)}"


def _keys(places: Places) -> Iterator[str]:
    unique = places.conf.unique
    for key, id in places.keys.items():
        record = places.records.get(id)
        if unique == "forever":
            continue
        if record is None or record.key != key or not holds_key(unique, record.state, record.phase):
            yield f"key {key!r} is held by job {id!r}, which has no claim to it"
    for id, record in places.records.items():
        # Under "pending" one may go on without, and "forever" may have been forgotten.
        if unique != "active" or record.key is None or record.state not in LIVE:
            continue
        if places.keys.get(record.key) != id:
            yield f"key {record.key!r} of job {id!r} is held by {places.keys.get(record.key)!r}"


def _children(places: Places) -> Iterator[str]:
    open_children: dict[tuple[str, int], int] = {}
    for record in places.records.values():
        if record.parent is not None and record.state in LIVE:
            family = (record.parent, record.parent_family)
            open_children[family] = open_children.get(family, 0) + 1
    for id, record in places.records.items():
        true = open_children.get((id, record.family), 0)
        if record.open_children != true:
            yield f"job {id!r} counts {record.open_children} open children, and has {true}"
        if record.state == "waiting" and not record.open_children:
            yield f"job {id!r} waits, and has no open children"


def _counts(queue: Queue) -> Iterator[str]:
    places = queue.life.places
    for state in STATES:
        told, true = places.counts[state], len(places.in_state[state])
        # Records of ended jobs go, and stay counted.
        if told < true or (told > true and state in LIVE):
            yield f"{told} jobs are counted as {state}, and there are {true}"
    if queue.life.put_total != queue.removed + sum(places.counts.values()):
        yield (
            f"{queue.life.put_total} jobs were put, but {queue.removed} removed ones and those in the "
            f"seven states make {queue.removed + sum(places.counts.values())}"
        )
