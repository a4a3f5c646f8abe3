"""Outcomes on their way into a journal: gathered while the last ones are committed, and sent together."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from qanat._core.kept import PLAIN, Rows

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.job import Job
    from qanat._core.kept import Entry, Key, Other
    from qanat._core.outcome import Outcome
    from qanat._engine.courier import Call, Desk
    from qanat._engine.engine import Engine

MOST_UNKEPT: Final = 4096
"""Outcomes that wait for their commit, beyond which nothing more starts."""
MOST_BYTES: Final = 32 * 2**20
"""Of their values, likewise."""
AT_ONCE: Final = 2048
"""Outcomes that are recorded in one go."""


class Endings:
    """Jobs that have ended, with what is to be told and recorded of each.

    Attributes:
        leaders: The entries of their keys; of a plain job itself.
        outcomes: How they ended.
        keys: Their keys.
        contents: What is recorded as their values.
        others: By their places those that are no plain jobs that are done: the state that is recorded, what
            they spawned and which row they replace.
    """

    __slots__ = ("contents", "keys", "leaders", "others", "outcomes")

    def __init__(self) -> None:
        """Begin with none."""
        self.leaders: list[Entry | Job[Any]] = []
        self.outcomes: list[Outcome[Any, Any]] = []
        self.keys: list[Key] = []
        self.contents: list[bytes] = []
        self.others: dict[int, Other] = {}

    def split(self, number: int) -> Endings:
        """Take so many out, the first ones."""
        first = Endings()
        first.others = {place: other for place, other in self.others.items() if place < number}
        self.others = {place - number: other for place, other in self.others.items() if place >= number}
        first.leaders, self.leaders = self.leaders[:number], self.leaders[number:]
        first.outcomes, self.outcomes = self.outcomes[:number], self.outcomes[number:]
        first.keys, self.keys = self.keys[:number], self.keys[number:]
        first.contents, self.contents = self.contents[:number], self.contents[number:]
        return first

    def rows(self) -> Rows:
        """Return what is to be recorded."""
        others = self.others
        return Rows(
            self.keys,
            self.contents,
            [outcome.attempts for outcome in self.outcomes],
            [outcome.ran for outcome in self.outcomes],
            [others.get(place, PLAIN) for place in range(len(self.keys))] if others else None,
        )


class Commits:
    """Send outcomes to the journal, and hand them over when they are committed.

    Args:
        engine: Starts nothing while too much waits.
        hand_over: Called with what was committed, or never will be.
        broke: Called with the reason if the journal cannot be used any more.
        moved: Called when outcomes were handed over after their commit.

    Attributes:
        number: How many outcomes were added and not handed over.
        under_way: Whether a commit is.
        broken: Whether nothing can be recorded any more: then all is handed over at once.
        desk: Carries to the journal.
    """

    def __init__(
        self, engine: Engine, *, hand_over: Callable[[Endings], object],
        broke: Callable[[BaseException], object], moved: Callable[[], object],
    ) -> None:  # fmt: skip
        """Begin with none."""
        self._engine = engine
        self._hand_over = hand_over
        self._broke = broke
        self._moved = moved
        self._waiting = Endings()
        self._bytes = 0
        self.number = 0
        self.under_way = False
        self.broken = False
        self.desk: Desk

    def add(self, entry: Entry, outcome: Outcome[Any, Any], content: bytes, other: Other) -> None:
        """Take an outcome, and what is recorded of it."""
        waiting = self._waiting
        waiting.others[len(waiting.keys)] = other
        self.add_plain(entry, entry.key, outcome, content)

    def add_plain(
        self, leader: Entry | Job[Any], key: Key, outcome: Outcome[Any, Any], content: bytes
    ) -> None:
        """Take the outcome of a plain job that is done."""
        waiting = self._waiting
        waiting.leaders.append(leader)
        waiting.keys.append(key)
        waiting.outcomes.append(outcome)
        waiting.contents.append(content)
        self.number += 1
        self._bytes += len(content)
        if self.broken:
            self.give_up()
        elif not self.under_way:
            self._send()
        if self.number >= MOST_UNKEPT or self._bytes >= MOST_BYTES:
            self._engine.hold(True, by="journal")

    def _send(self) -> None:
        """Send what waits to be committed."""
        endings, size = self._waiting, self._bytes
        contents = endings.contents
        if len(contents) > AT_ONCE or size > MOST_BYTES:
            number = size = 0
            while number < min(AT_ONCE, len(contents)) and size < MOST_BYTES:
                size += len(contents[number])
                number += 1
            endings = endings.split(number)
        else:
            self._waiting = Endings()
        self.under_way = True
        self.desk.send("keep", [endings.rows()], lambda call: self._kept(call, endings, size))

    def _kept(self, call: Call, endings: Endings, size: int) -> None:
        """Hear that a batch was committed, or why it was not."""
        self.under_way = False
        if call.error is not None:
            self.broken = True
            self._broke(call.error)
        self._bytes -= size
        if self._waiting.keys and not self.broken:
            self._send()  # before the outcomes are handed over, as the courier would be idle meanwhile
        self._leave(endings)
        if self.broken:
            self.give_up()
        self._moved()

    def give_up(self) -> None:
        """Hand over what waits, which cannot be recorded any more."""
        self.broken = True
        endings, self._waiting = self._waiting, Endings()
        self._bytes -= sum(map(len, endings.contents))
        self._leave(endings)

    def _leave(self, endings: Endings) -> None:
        self.number -= len(endings.keys)
        self._hand_over(endings)
        if self.number <= MOST_UNKEPT // 2 and self._bytes <= MOST_BYTES // 2:
            self._engine.hold(False, by="journal")
