"""What is said when a command was called in a way that cannot be carried out."""

from __future__ import annotations


class UsageError(Exception):
    """Say what is wrong with the call, in one sentence; the exit status is 2."""
