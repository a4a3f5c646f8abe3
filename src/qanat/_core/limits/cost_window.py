"""The cost in any stretch of time, counted exactly, with what was overdrawn repaid.

A log of what was taken when, like a `SlidingWindow`'s, but with an amount for each entry. What must
stay true:

- **The law.** The amounts logged in any window of `per` seconds add up to at most `most`. An estimate
  is logged when its job starts. What the true cost is above it is logged when it becomes known; what
  it is below it is taken off the job's own entry.
- **Overdrafts are repaid.** What does not fit when it becomes known is a debt. Whatever leaves the
  window makes room, which pays the debt first: that part is logged at that moment, as if it had been
  taken then. So over any length of time no more is used than the rate allows, however wrong the
  estimates are.
- **Sums are exact.** Amounts are rounded to a grid so fine that nobody sees it, 2**-50 of the limit,
  and sums of multiples of a power of two are exact in floats. So nothing drifts in years, and whole
  numbers are counted as they are.
- **Memory is bounded.** Starts at one time share an entry. Beyond `CELLS` entries so do those within
  `per / CELLS` seconds, and count from the last of them: never too much, and at most that much later.
"""

from __future__ import annotations

from collections import deque
from math import frexp, inf, isinf, nextafter
from typing import Final

from qanat._core.limits.border import border

CELLS: Final = 4096
"""How many entries a window has before starts that lie close together share one."""

SLACK: Final = 2.0**-40
"""The share of the limit by which sums of fractions may miss it: ten costs of 0.1 fit into 1."""

LEAVES_AT: Final = 0
AMOUNT: Final = 1

Entry = list[float]
"""When it leaves the window, and how much it is; a list, as it changes and is made for every start."""


class Share:
    """What one job has in a window, once its true cost became known.

    Attributes:
        parts: The entries with the amounts in them that are the job's.
        owed: How much of it was overdrawn.
    """

    __slots__ = ("owed", "parts")

    def __init__(self, entry: Entry | None, amount: float) -> None:
        self.parts: list[tuple[Entry, float]] = [] if entry is None else [(entry, amount)]
        self.owed = 0.0

    def add(self, entry: Entry, amount: float, now: float) -> None:
        """Note that more of it is logged; entries that have left are forgotten."""
        parts = self.parts
        if parts and parts[-1][0] is entry:
            amount += parts.pop()[1]
        elif len(parts) > 8:
            parts[:] = [part for part in parts if part[0][LEAVES_AT] > now]
        parts.append((entry, amount))


class CostWindow:
    """Let at most `most` be taken in any window of `per` seconds; not a `Limit`, but what one counts with.

    Attributes:
        most: How much may be taken in a window.
        per: How long a window is, in seconds.
        room: `most`, and the slack for rounding.
        load: What is in the window, and what is owed.
    """

    __slots__ = ("_cell", "_debt", "_entries", "_grid", "load", "most", "per", "room")

    def __init__(self, most: float, per: float) -> None:
        self._entries: deque[Entry] = deque()
        self._debt = 0.0
        self.load = 0.0
        self._set(most, per)

    def _set(self, most: float, per: float) -> None:
        self.most = most
        self.per = per
        self.room = most + most * SLACK
        self._cell = per / CELLS
        # Adding and taking away a number whose last digit is the grid rounds to it.
        self._grid = 1.5 * 2.0 ** (frexp(most)[1] + 2)

    # --- asking ------------------------------------------------------------------------------

    def free_at(self, amount: float, now: float) -> float:
        """Return when so much fits, which is at most `room`; `now` if it does already."""
        need = self.load + amount - self.room
        if need <= 0.0:
            return now
        freed = 0.0
        for leaves_at, part in self._entries:
            freed += part
            if freed >= need:
                return leaves_at
        return self._free_after_debt(amount)

    def _free_after_debt(self, amount: float) -> float:
        """Return when so much fits if the debt is more than a whole window can pay."""
        twin = CostWindow(self.most, self.per)
        twin._entries.extend([*entry] for entry in self._entries)
        twin.load, twin._debt = self.load, self._debt
        while True:
            at = twin._entries[-1][LEAVES_AT]
            # All but the last two windows that it fills, which are looked at one by one.
            rounds = (twin._debt - (twin.load - twin._debt)) // twin.most - 1.0
            if rounds > 0.0:
                at += rounds * twin.per
            if isinf(at):
                return inf
            twin._roll(at)
            need = twin.load + amount - twin.room
            freed = 0.0
            for leaves_at, part in twin._entries:
                freed += part
                if freed >= need:
                    return leaves_at

    def empty_at(self) -> float:
        """Return when nothing is left in it; minus infinity if nothing is."""
        if not self._entries:
            return -inf
        last = self._entries[-1][LEAVES_AT]
        return last if not self._debt else last + (self._debt // self.most + 2.0) * self.per

    # --- changing ----------------------------------------------------------------------------

    def take(self, amount: float, now: float, begins_at: float) -> Entry | None:
        """Log an amount that fits; return the entry that it is in, None for nothing.

        Args:
            amount: How much.
            now: The time.
            begins_at: From when it counts: `now`, or the latest time at which it may be used.
        """
        entries = self._entries
        if self._debt:
            self._roll(now)
        else:
            # As in `_roll`, but without a call: this happens for every start.
            while entries and entries[0][LEAVES_AT] <= now:
                entry = entries.popleft()
                self.load -= entry[AMOUNT]
                entry[AMOUNT] = 0.0
        amount = (amount + self._grid) - self._grid
        if not amount:
            return None
        self.load += amount
        leaves_at = begins_at + self.per
        if leaves_at - begins_at < self.per:
            leaves_at = nextafter(leaves_at, inf)
        if entries and (entries[-1][LEAVES_AT] >= leaves_at or len(entries) >= CELLS):
            return self._log(amount, begins_at)
        entry = [leaves_at, amount]
        entries.append(entry)
        return entry

    def share(self, entry: Entry | None, amount: float) -> Share:
        """Return what a job has that took an amount and got this entry."""
        return Share(entry, (amount + self._grid) - self._grid)

    def charge(self, share: Share, delta: float, now: float) -> bool:
        """Correct what a job was counted with; True if that made room."""
        self._roll(now)
        delta = (delta + self._grid) - self._grid
        if delta < 0.0:
            return self._give_back(share, -delta, now)
        self.load += delta
        self._debt += delta
        fits = min(delta, self._pay(now, share))
        share.owed += delta - fits
        return False

    def _give_back(self, share: Share, amount: float, now: float) -> bool:
        """Take an amount off a job's share: what it owes first, then what was logged last."""
        before = self.load
        off = min(amount, share.owed, self._debt)
        share.owed -= off
        self._debt -= off
        self.load -= off
        amount -= off
        while amount > 0.0 and share.parts:
            entry, part = share.parts.pop()
            # What has left the window has no amount any more.
            off = min(amount, part, entry[AMOUNT])
            entry[AMOUNT] -= off
            self.load -= off
            amount -= off
            if part > off and entry[AMOUNT] > 0.0:
                share.parts.append((entry, part - off))
        self._pay(now, None)
        return self.load < before

    def _log(self, amount: float, now: float) -> Entry:
        """Enter an amount; `now` is not before that of any other entry."""
        entries = self._entries
        leaves_at = border(now, self.per)
        if entries:
            last = entries[-1]
            if last[LEAVES_AT] >= leaves_at or (
                len(entries) >= CELLS and last[LEAVES_AT] // self._cell == leaves_at // self._cell
            ):
                if leaves_at > last[LEAVES_AT]:
                    last[LEAVES_AT] = leaves_at
                last[AMOUNT] += amount
                return last
        entry = [leaves_at, amount]
        entries.append(entry)
        return entry

    def _pay(self, now: float, share: Share | None) -> float:
        """Log as much of the debt as there is room for, and return it."""
        paid = min(self._debt, self.most - (self.load - self._debt))
        if paid <= 0.0:
            return 0.0
        self._debt -= paid
        entry = self._log(paid, now)
        if share is not None:
            share.add(entry, paid, now)
        return paid

    def _roll(self, now: float) -> None:
        """Let go of what has left the window by now, and pay the debt with the room, each at its time."""
        entries = self._entries
        if self._debt:
            self._skip(now)
        while entries and entries[0][LEAVES_AT] <= now:
            entry = entries.popleft()
            self.load -= entry[AMOUNT]
            # Whoever has a share in it has nothing left to give back.
            entry[AMOUNT] = 0.0
            if self._debt:
                self._pay(entry[LEAVES_AT], None)
        if self._debt:
            # There may be room that no entry left: the limit was raised.
            self._pay(now, None)

    def _skip(self, now: float) -> None:
        """Pay a debt of many windows in one step: in a full window each of them is like the one before."""
        entries = self._entries
        total = self.load - self._debt
        if not entries or total != self.most or entries[-1][LEAVES_AT] > now:
            return
        rounds = min(self._debt // total, (now - entries[-1][LEAVES_AT]) // self.per + 1.0)
        if rounds < 1.0:
            return
        for place, entry in enumerate(entries):
            entries[place] = [border(entry[LEAVES_AT], rounds * self.per), entry[AMOUNT]]
            entry[AMOUNT] = 0.0
        self._debt -= rounds * total
        self.load -= rounds * total

    def resize(self, most: float, per: float) -> None:
        """Let another amount be taken in another window; what is in it counts, as far as it is known."""
        before = self.per
        self._set(most, per)
        grid = self._grid
        for entry in self._entries:
            entry[AMOUNT] = (entry[AMOUNT] + grid) - grid
            if per != before:
                # One float further than the start may have been, as the sum was rounded.
                entry[LEAVES_AT] = border(nextafter(entry[LEAVES_AT] - before, inf), per)
        self._debt = (self._debt + grid) - grid
        self.load = sum(entry[AMOUNT] for entry in self._entries) + self._debt
