"""Stores that count their deeds, lose answers and are not there, for tests of what stands on them."""

from __future__ import annotations

from threading import Event
from typing import TYPE_CHECKING, Any

from qanat._app.durable import connecting
from qanat._stores.memory import MemoryStore
from qanat.errors import StoreUnavailable

if TYPE_CHECKING:
    import pytest


class Faults:
    """What is wrong with a store, and what it was asked for.

    Attributes:
        deeds: The names of the deeds that were carried out, and how much each was asked for.
        wished: How many jobs each claim asked for.
        refuse: Deeds that are refused so many times more, with nothing done.
        open: Cleared, it makes every deed wait until it is set.
        lose: Deeds that are done, and whose answer is lost, so many times more.
    """

    def __init__(self) -> None:
        self.deeds: list[tuple[str, int]] = []
        self.wished: list[int] = []
        self.refuse: dict[str, int] = {}
        self.lose: dict[str, int] = {}
        self.open = Event()
        self.open.set()
        self.error: Exception = StoreUnavailable("the line is down")

    def sizes(self, deed: str) -> list[int]:
        return [size for name, size in self.deeds if name == deed]


class FaultyStore(MemoryStore):
    faults: Faults

    def connect(self) -> FaultyStore:
        other = super().connect()
        assert isinstance(other, FaultyStore)
        other.faults = self.faults
        return other

    def __getattribute__(self, name: str) -> Any:
        found = super().__getattribute__(name)
        if name not in {"put", "claim", "settle", "extend", "rescue", "conf", "count"}:
            return found
        faults = self.faults

        def deed(*args: Any, **options: Any) -> Any:
            assert faults.open.wait(20)
            faults.deeds.append((name, len(args[1]) if len(args) > 1 and isinstance(args[1], list) else 0))
            if name == "claim":
                faults.wished.append(args[1])
            if faults.refuse.get(name):
                faults.refuse[name] -= 1
                raise faults.error
            answer = found(*args, **options)
            if faults.lose.get(name):
                faults.lose[name] -= 1
                raise faults.error
            return answer

        return deed


def put_in_place(monkeypatch: pytest.MonkeyPatch) -> Faults:
    """Let `memory://` open such a store."""
    faults = Faults()
    plain = connecting.STORES["memory"]

    def memory(url: Any) -> Any:
        shared = plain(url).connect()._shared  # type: ignore[attr-defined]
        store = FaultyStore()
        store.faults = faults
        store._shared = shared
        return connecting.Reach(store.connect)

    monkeypatch.setitem(connecting.STORES, "memory", memory)
    return faults
