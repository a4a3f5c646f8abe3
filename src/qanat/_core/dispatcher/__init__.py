"""The Dispatcher: which job is next, when it may start, whether it runs again. Pure arithmetic."""

from qanat._core.dispatcher.dispatcher import Dispatcher

__all__ = ["Dispatcher"]
