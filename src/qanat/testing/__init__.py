"""What helps to test code that uses qanat: time that jumps, and checks of your own limits and orders.

    from qanat.testing import virtual_time

    def test_the_third_try_comes_after_three_seconds():
        with virtual_time() as time:
            time.run(fetch_with_retries)
            assert time.now() == 3.0

`check_limit` and `check_order` hold a limit or an order of your own to what every one promises.

With pytest the fixture `virtual_time` runs an async test on it; see `qanat.testing.pytest_plugin`.
"""

from __future__ import annotations

from qanat._app.replaying import Replayed, replay
from qanat.testing._deadlock import DeadlockError
from qanat.testing.check_limit import Attempt, check_limit
from qanat.testing.check_order import check_order
from qanat.testing.server import SimulatedServer
from qanat.testing.virtual_time import Backend, VirtualTime, virtual_time

__all__ = [
    "Attempt",
    "Backend",
    "DeadlockError",
    "Replayed",
    "SimulatedServer",
    "VirtualTime",
    "check_limit",
    "check_order",
    "replay",
    "virtual_time",
]
