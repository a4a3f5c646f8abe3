"""What a process is called in a store, so that people find it."""

from __future__ import annotations

import os
import socket


def worker_name() -> str:
    """Return this machine's name and this process's number."""
    return f"{socket.gethostname()[:200]}:{os.getpid()}"
