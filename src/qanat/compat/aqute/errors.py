"""The errors of aqute."""


class AquteError(Exception):
    """Say that an engine or a task is not in the state that a call needs."""


class AquteTaskTimeoutError(AquteError):
    """Say that one attempt ran longer than `task_timeout_seconds`."""


class AquteTooManyTasksFailedError(AquteError):
    """Say that as many tasks failed as `total_failed_tasks_limit` says."""
