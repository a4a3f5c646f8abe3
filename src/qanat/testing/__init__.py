"""What helps to test code that uses qanat: time that jumps, and checks of your own limits and orders.

    from qanat.testing import virtual_time

    def test_the_third_try_comes_after_three_seconds():
        with virtual_time() as time:
            time.run(fetch_with_retries)
            assert time.now() == 3.0

`check_limit`, `check_order` and `check_store` hold a limit, an order or a store of your own to what every
one promises; `qanat.testing.store_machine` tries random histories of a store.

With pytest the fixture `virtual_time` runs an async test on it; see `qanat.testing.pytest_plugin`.
"""

from __future__ import annotations

from qanat._app.replaying import Replayed, replay
from qanat.testing._deadlock import DeadlockError
from qanat.testing._store_bench import StoreBench
from qanat.testing.check_limit import Attempt, check_limit
from qanat.testing.check_order import check_order
from qanat.testing.check_store import STORE_PROMISES, check_store, memory_store
from qanat.testing.server import SimulatedServer
from qanat.testing.virtual_time import Backend, VirtualTime, virtual_time

__all__ = [
    "STORE_PROMISES",
    "Attempt",
    "Backend",
    "DeadlockError",
    "Replayed",
    "SimulatedServer",
    "StoreBench",
    "VirtualTime",
    "check_limit",
    "check_order",
    "check_store",
    "memory_store",
    "replay",
    "virtual_time",
]
