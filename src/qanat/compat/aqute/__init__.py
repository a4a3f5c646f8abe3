"""The calls of aqute: `from qanat.compat.aqute import Aqute`.

The names of version 0.9 and those that 0.10 and 0.11 have for the same are all there.
"""

from qanat.compat.aqute.engine import Aqute
from qanat.compat.aqute.errors import AquteError, AquteTaskTimeoutError, AquteTooManyTasksFailedError
from qanat.compat.aqute.task import AquteCounters, AquteTask

__all__ = [
    "Aqute",
    "AquteCounters",
    "AquteError",
    "AquteTask",
    "AquteTaskTimeoutError",
    "AquteTooManyTasksFailedError",
]
