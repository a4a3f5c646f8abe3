"""The calls of aio-py-rq: `from qanat.compat.aiopyrq import Queue`.

Where it takes a redis-py pool or client, a URL of ours or an open `Store` will do as well, so the same
code runs over a file, over memory, and over Redis.
"""

from qanat.compat.aiopyrq.pools import Pool
from qanat.compat.aiopyrq.queues import Queue
from qanat.compat.aiopyrq.unique_queues import UniqueQueue

__all__ = ["Pool", "Queue", "UniqueQueue"]
