"""What helps to test code that uses qanat: time that jumps instead of passing.

    from qanat.testing import virtual_time

    def test_the_third_try_comes_after_three_seconds():
        with virtual_time() as time:
            time.run(fetch_with_retries)
            assert time.now() == 3.0

With pytest the fixture `virtual_time` runs an async test on it; see `qanat.testing.pytest_plugin`.
"""

from __future__ import annotations

from qanat.testing._deadlock import DeadlockError
from qanat.testing.virtual_time import Backend, VirtualTime, virtual_time

__all__ = ["Backend", "DeadlockError", "VirtualTime", "virtual_time"]
