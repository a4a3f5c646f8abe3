"""Hold a store of your own to what every store promises."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, cast

from qanat.testing._plans import BrokenPromiseError
from qanat.testing._store_bench import StoreBench
from qanat.testing._store_deciding import decisions
from qanat.testing._store_due import DUE
from qanat.testing._store_families import FAMILIES
from qanat.testing._store_promises import PROMISES

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping

STORE_PROMISES: Final[Mapping[str, Callable[[StoreBench], None]]] = {
    **{each.__name__.replace("_", " "): each for each in (*PROMISES, *FAMILIES, *DUE)},
    **decisions(),
}
"""What every store promises, by name: functions that take a new, empty store and raise AssertionError."""


def check_store(make: Callable[[], StoreBench], *, only: Iterable[str] = ()) -> None:
    """Try each promise of a store on a new, empty one.

    The promises are those of the ports: what each deed takes and gives, what happens when it is
    repeated, in which order jobs come, what is told of leases that are lost, and the whole table of
    decisions. No event loop, threads or sleeping are needed: the store's clock is moved by hand.

    It does not try random histories; `store_machine` does. Nor does it try crashes of the store
    itself or two processes at once.

    Args:
        make: Makes a new, empty store on a clock that moves by hand alone.
        only: Names of `STORE_PROMISES`; none means all of them.

    Raises:
        AssertionError: Which promise was broken, and how.
        TypeError: If `make` makes something else.
        ValueError: If `only` names what is no promise.

    Example:
        >>> from qanat.testing import check_store, memory_store
        >>> check_store(memory_store, only=["lanes take turns", "a lease is given once"])
    """
    names = tuple(only)
    for name in names:
        if name not in STORE_PROMISES:
            raise ValueError(f"only must name promises of STORE_PROMISES, got {name!r}")
    for name in names or STORE_PROMISES:
        bench = make()
        if not isinstance(cast("object", bench), StoreBench):
            raise TypeError(f"make() must give a StoreBench, got {bench!r}")
        try:
            STORE_PROMISES[name](bench)
        except Exception as error:
            raise BrokenPromiseError(f"{name}: {type(error).__name__}: {error}") from error
        finally:
            bench.store.close()
            bench.close()


def memory_store() -> StoreBench:
    """Return a bench with a new store in memory: the one that others are compared with."""
    from qanat._stores.memory import MemoryStore

    now = [1_000_000.0]

    def advance(seconds: float) -> None:
        now[0] += seconds

    store = MemoryStore(lambda: now[0])
    return StoreBench(store=store, advance=advance, connect=store.connect)
