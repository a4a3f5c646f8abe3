"""A server that queues, for simulations and for handlers on virtual time."""

from __future__ import annotations

import math
import random
from collections import Counter
from typing import TYPE_CHECKING, Any

import anyio

from qanat._core.arguments import at_least, positive, whole
from qanat.errors import Throttled

if TYPE_CHECKING:
    from collections.abc import Callable

    from qanat._core.ports import Random


class SimulatedServer:
    """Act like a server whose latency is flat up to a knee, and grows in proportion from there on.

    With `running` calls under way a new one takes `latency * max(1, running / knee)` seconds, times a
    noise. So up to the knee more calls at once bring more throughput; beyond it they bring none, and
    only wait for each other. The best number at once is the knee: the throughput is as high as it
    gets, and the latency as low.

    It is used in two ways. In a simulation `seconds` says how long a call takes and `failure` why it
    fails. On virtual time `handle` is a handler, which counts its own calls.

    `knee`, `latency`, `noise` and `limit` may be set at any time: that is how a knee moves.

    Args:
        knee: How many calls at once it can serve before they queue; greater than 0.
        latency: Seconds of a call that does not queue.
        noise: The standard deviation of the logarithm of the noise, which is a factor around 1: 0.1 is
            about 10 %.
        limit: More calls at once than that are refused, in a tenth of `latency`; None refuses none.
        error: Makes what a refused call raises; `Throttled`, unless given.
        seed: What the noise of `handle` begins with; `seconds` is handed its randomness.

    Attributes:
        running: How many calls of `handle` are under way.
        most: The most calls that were ever under way.
        refused: How many calls were refused.

    Raises:
        TypeError: If an argument is of the wrong kind.
        ValueError: If one is out of range.

    Examples:
        >>> import random
        >>> from qanat.testing import SimulatedServer
        >>> server = SimulatedServer(40, latency=0.5)
        >>> server.seconds("item", random, 40), server.seconds("item", random, 80)
        (0.5, 1.0)
    """

    def __init__(
        self,
        knee: float,
        *,
        latency: float = 1.0,
        noise: float = 0.0,
        limit: int | None = None,
        error: Callable[[], Exception] = Throttled,
        seed: int = 0,
    ) -> None:
        self.knee: float = positive("knee", knee)
        self.latency: float = positive("latency", latency)
        self.noise: float = at_least("noise", noise, 0.0)
        self.limit: int | None = None if limit is None else whole("limit", limit, 1)
        self.running: int = 0
        self.most: int = 0
        self.refused: int = 0
        self._error = error
        self._rng = random.Random(seed)
        # Calls to be refused at their end, by the identity of what was handed in.
        self._doomed: Counter[int] = Counter()

    def seconds(self, item: Any, rng: Random, running: int) -> float:
        """Return how long a call takes that starts now.

        Args:
            item: What it is called with, or its job.
            rng: Where the noise is drawn from.
            running: How many calls are under way, this one among them.
        """
        self.most = max(self.most, running)
        if self.limit is not None and running > self.limit:
            self.refused += 1
            self._doomed[id(item)] += 1
            return self.latency / 10.0
        factor = math.exp(self.noise * _normal(rng)) if self.noise else 1.0
        return self.latency * max(1.0, running / self.knee) * factor

    def failure(self, item: Any, _rng: Random) -> Exception | None:
        """Return why a call fails that ends now; None if it does not.

        Args:
            item: What was handed to `seconds` when it started.
        """
        key = id(item)
        if not self._doomed[key]:
            del self._doomed[key]
            return None
        self._doomed[key] -= 1
        return self._error()

    async def handle(self, item: Any) -> Any:
        """Take a call, as a handler does, and return the item.

        Raises:
            Exception: What `error` makes, if there are more calls than `limit`.
        """
        self.running += 1
        try:
            await anyio.sleep(self.seconds(item, self._rng, self.running))
        finally:
            self.running -= 1
        error = self.failure(item, self._rng)
        if error is not None:
            raise error
        return item


def _normal(rng: Random) -> float:
    """Draw from the standard normal distribution (Box and Muller 1958)."""
    return math.sqrt(-2.0 * math.log(1.0 - rng.random())) * math.cos(math.tau * rng.random())
