"""The calls of async-task-manager: `from qanat.compat.async_task_manager import TaskManager`."""

from qanat.compat.async_task_manager.manager import TaskManager
from qanat.compat.async_task_manager.task import Task

__all__ = ["Task", "TaskManager"]
