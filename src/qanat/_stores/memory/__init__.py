"""The reference store: everything in this process, gone with it."""

from __future__ import annotations

from qanat._stores.memory.store import MemoryStore

__all__ = ["MemoryStore"]
