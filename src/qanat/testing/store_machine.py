"""Random histories of a store, compared step by step with the simplest one that can be. Needs Hypothesis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from qanat.testing._store_machine import StoreMachine

if TYPE_CHECKING:
    from collections.abc import Callable

    from hypothesis.stateful import RuleBasedStateMachine

    from qanat.testing._store_bench import StoreBench

__all__ = ["store_machine"]


def store_machine(make: Callable[[], StoreBench]) -> type[RuleBasedStateMachine]:
    """Return a state machine that compares a store with a model, for Hypothesis to run.

    Args:
        make: Makes a new, empty store on a clock that moves by hand alone.

    Example:
        >>> from qanat.testing import memory_store
        >>> from qanat.testing.store_machine import store_machine
        >>> TestMemory = store_machine(memory_store).TestCase
    """
    return type("Machine", (StoreMachine,), {"makers": (make,)})
