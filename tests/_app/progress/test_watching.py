"""A run that is watched, with the real engine."""

from __future__ import annotations

import io
import json
import time
from typing import Any

import anyio
import pytest

from qanat._app.hosting import add_task, hosted, make_engine
from qanat._app.progress.machine import MachineView
from qanat._app.progress.view import Progress
from qanat._app.rules import Rules
from qanat._engine.intake import Callbacks, Intake, nothing_unread

pytestmark = pytest.mark.real


async def watched(progress: Progress, handler, items, **rules) -> None:
    """Run a handler over items, watched."""
    given = Rules(**rules)
    engine = make_engine(given, on_failure=progress.failed, name="test")
    task = add_task(engine, handler, given)
    intake = Intake(
        items, engine, task, callbacks=Callbacks(), buffer=1000, chooses=False, unread=nothing_unread
    )  # fmt: skip
    async with progress.shown(engine), hosted(engine):
        engine.read(intake)
        await engine.wait_over()


def machine(interval: float = 0.02, **options) -> tuple[Progress, io.StringIO]:
    stream = io.StringIO()
    progress = Progress("t", stream=stream, machine=True, **options)
    assert isinstance(progress._view, MachineView)
    progress._view.interval = interval  # quicker than people can read
    return progress, stream


def events(stream: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in stream.getvalue().splitlines()]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_figures_go_up_to_the_end(backend: str) -> None:
    async def nap(item: int) -> None:
        await anyio.sleep(0.02)
        if item % 10 == 3:
            raise ValueError(item)

    progress, stream = machine(total=40)
    anyio.run(lambda: watched(progress, nap, range(40), concurrency=2), backend=backend)
    *shown, summary = events(stream)
    done = [event["done"] for event in shown]
    assert done == sorted(done)
    assert len(shown) > 3
    assert shown[-1]["waiting"] + shown[-1]["running"] + shown[-1]["done"] + shown[-1]["failed"] == 40
    assert (summary["done"], summary["failed"], summary["total"]) == (36, 4, 40)
    assert summary["errors"][0]["type"] == "ValueError"


def test_figures_are_no_older_than_a_moment_when_they_are_shown() -> None:
    """However seldom that is."""

    async def nap(item: int) -> None:
        await anyio.sleep(0.05)

    progress, stream = machine(interval=0.5)
    anyio.run(lambda: watched(progress, nap, range(14), concurrency=1))
    first, *_ = events(stream)
    assert first["seconds"] > 0.3
    assert first["done"] > 3


def test_a_blocked_loop_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat._app.progress.view.BLOCKED", 0.1)

    async def block(item: int) -> None:
        time.sleep(0.5)  # noqa: ASYNC251 - the mistake that is told

    progress, stream = machine()
    anyio.run(watched, progress, block, [1])
    assert any("event loop has been blocked" in (event.get("note") or "") for event in events(stream))


def test_what_the_body_raises_comes_out_as_it_is() -> None:
    async def fail() -> None:
        progress, _ = machine()
        engine = make_engine(Rules(), name="test")
        async with progress.shown(engine):
            raise KeyError("body")

    with pytest.raises(KeyError, match="body"):
        anyio.run(fail)


def test_nothing_is_shown_unless_asked() -> None:
    async def same(item: int) -> int:
        return item

    stream = io.StringIO()
    progress = Progress(stream=stream)
    anyio.run(watched, progress, same, range(3))
    assert stream.getvalue() == ""
    assert progress.last is not None
    assert progress.last.done == 3


def test_a_view_that_is_stuck_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("qanat._app.progress.view.PATIENCE", 0.1)

    class Stuck(io.StringIO):
        def write(self, text: str) -> int:
            time.sleep(1.0)
            return len(text)

    async def nap(item: int) -> None:
        await anyio.sleep(0.2)

    progress = Progress(stream=Stuck(), machine=True)
    progress._view.interval = 0.05  # type: ignore[union-attr]
    begun = time.monotonic()
    anyio.run(watched, progress, nap, [1])
    assert time.monotonic() - begun < 0.9
