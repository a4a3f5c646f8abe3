"""Where the records of one queue stand: by state, in lanes with their ring, by time, by key.

A record is a value; whoever changes a job hands in the new record, and `settle_in` and `take_out`
keep every index and count in step. Nothing here decides anything.
"""

from __future__ import annotations

from collections import OrderedDict
from typing import TYPE_CHECKING

from qanat._core.store.rules import holds_key
from qanat._core.store.states import ENDED, STATES
from qanat._core.store.values import Conf
from qanat._stores.memory.line import Line

if TYPE_CHECKING:
    from qanat._core.store.states import State
    from qanat._core.store.values import StoredJob


class Places:
    """The records of a queue, and every index of them."""

    def __init__(self) -> None:
        self.conf = Conf()
        self.records: dict[str, StoredJob] = {}
        self.in_state: dict[State, dict[str, None]] = {state: {} for state in STATES}
        self.counts: dict[State, int] = dict.fromkeys(STATES, 0)
        self.children: dict[str, dict[str, None]] = {}
        self.keys: dict[str, str] = {}
        """Who holds a key."""
        self.lanes: dict[str, Line] = {}
        self.ring: OrderedDict[str, None] = OrderedDict()
        self.given = 0
        """How many jobs the lane at the head of the ring has given in this turn."""
        self.suspects = Line()
        self.scheduled = Line()
        self.leased = Line()
        self.expiring = Line()

    def add(self, new: StoredJob) -> None:
        """Let a job in that is new, and hold its key."""
        self.counts[new.state] += 1
        self._stand(new)
        if new.parent is not None:
            self.children.setdefault(new.parent, {})[new.id] = None
        if new.key is not None and holds_key(self.conf.unique, new.state, new.phase):
            self.keys[new.key] = new.id

    def move(self, new: StoredJob) -> None:
        """Let a job go to another state."""
        old = self.records[new.id]
        self._leave(old)
        self.counts[old.state] -= 1
        self.counts[new.state] += 1
        if old.parent is not None and new.parent is None:
            self._disown(old)
        self._stand(new)
        self._hold(old, new)

    def update(self, new: StoredJob) -> None:
        """Keep a changed record that stays where it stands."""
        self.records[new.id] = new

    def take_out(self, old: StoredJob) -> None:
        """Let a record go; what was counted stays counted, and the key stays held."""
        self._leave(old)
        del self.records[old.id]
        self._disown(old)

    def let_go(self, record: StoredJob) -> None:
        """Let a job's key go, if it is the one that holds it."""
        if record.key is not None and self.keys.get(record.key) == record.id:
            del self.keys[record.key]

    def rebuilt(self) -> Places:
        """Return places of the same records, with every index made anew."""
        new = Places()
        new.conf = self.conf
        for record in sorted(self.records.values(), key=lambda record: record.order):
            new.add(record)
        # Ended jobs whose records have gone stay counted, and so do the keys that they hold for ever.
        for state in ENDED:
            new.counts[state] = max(new.counts[state], self.counts[state])
        if self.conf.unique == "forever":
            new.keys.update(self.keys)
        return new

    def turn(self) -> None:
        """Let the lane at the head of the ring go to its tail."""
        self.ring.move_to_end(next(iter(self.ring)))
        self.given = 0

    def _hold(self, old: StoredJob, new: StoredJob) -> None:
        if new.key is None:
            return
        held = holds_key(self.conf.unique, old.state, old.phase)
        holds = holds_key(self.conf.unique, new.state, new.phase)
        if holds and not held:
            self.keys.setdefault(new.key, new.id)
        elif held and not holds:
            self.let_go(new)

    def _disown(self, child: StoredJob) -> None:
        if child.parent is None:
            return
        siblings = self.children[child.parent]
        del siblings[child.id]
        if not siblings:
            del self.children[child.parent]

    def _stand(self, new: StoredJob) -> None:
        id, state = new.id, new.state
        self.records[id] = new
        self.in_state[state][id] = None
        if state == "ready":
            place = (new.priority, new.order)
            if new.crashes:
                self.suspects.push(id, place)
                return
            lane = self.lanes.get(new.lane)
            if lane is None:
                lane = self.lanes[new.lane] = Line()
                self.ring[new.lane] = None
            lane.push(id, place)
        elif new.due_at is None:
            return
        elif state == "scheduled":
            self.scheduled.push(id, (new.due_at, new.order))
        elif state == "leased":
            self.leased.push(id, (new.due_at, new.token))
        elif state in ENDED:
            self.expiring.push(id, (new.due_at, new.order))

    def _leave(self, old: StoredJob) -> None:
        id, state = old.id, old.state
        del self.in_state[state][id]
        if state == "scheduled":
            self.scheduled.discard(id)
        elif state == "leased":
            self.leased.discard(id)
        elif state in ENDED:
            self.expiring.discard(id)
        elif state == "ready" and old.crashes:
            self.suspects.discard(id)
        elif state == "ready":
            lane = self.lanes[old.lane]
            lane.discard(id)
            if not lane:
                if next(iter(self.ring)) == old.lane:
                    self.given = 0
                del self.lanes[old.lane]
                del self.ring[old.lane]
