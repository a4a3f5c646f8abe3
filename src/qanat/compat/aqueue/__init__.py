"""The calls of aqueue: `import qanat.compat.aqueue as aqueue`."""

from qanat.compat.aqueue.processing import VisOptions, async_run_queue, run_queue
from qanat.compat.aqueue.queue import Item, Ordering, ProcessRetVal

__all__ = ("Item", "Ordering", "ProcessRetVal", "VisOptions", "async_run_queue", "run_queue")
