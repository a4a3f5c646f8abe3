"""`run`: a function over items from synchronous code."""

from __future__ import annotations

import asyncio
import io
import threading
from typing import Any

import anyio
import pytest
from rich.console import Console

import qanat
from qanat import TooManyFailuresError, errors

pytestmark = pytest.mark.real
backends = pytest.mark.parametrize("backend", ["asyncio", "uvloop", "trio"])


async def double(item: int) -> int:
    await anyio.sleep(0.001)
    return item * 2


async def failing(item: int) -> None:
    raise KeyError(item)


def plain(item: int) -> int:
    return item * 2


@backends
@pytest.mark.parametrize("handler", [double, plain])
def test_the_outcomes_come_back_in_the_order_of_the_input(backend: Any, handler: Any):
    outcomes = qanat.run(handler, range(5), backend=backend, concurrency=2)
    assert isinstance(outcomes, qanat.Outcomes)
    assert outcomes.values() == [0, 2, 4, 6, 8]


@backends
def test_the_loop_is_the_one_that_was_asked_for(backend: Any):
    async def handler(item: int) -> str:
        module = type(asyncio.get_running_loop()).__module__ if backend != "trio" else ""
        return "uvloop" if "uvloop" in module else "trio" if backend == "trio" else "asyncio"

    assert qanat.run(handler, [1], backend=backend).values() == [backend]


def test_failed_jobs_are_outcomes():
    outcomes = qanat.run(failing, range(2))
    assert [type(outcome.error) for outcome in outcomes] == [KeyError] * 2


@backends
def test_what_stops_a_run_is_raised_with_what_was_done(backend: Any):
    with pytest.raises(TooManyFailuresError) as caught:
        qanat.run(failing, range(9), backend=backend, max_failures=2, concurrency=1)
    assert len(errors.outcomes_of(caught.value)) == 3


def test_rules_may_be_given_as_a_value():
    assert qanat.run(double, [1], rules=qanat.Rules(concurrency=1)).values() == [2]


@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_inside_of_an_event_loop_it_names_what_to_write(backend: Any):
    async def main() -> None:
        with pytest.raises(RuntimeError, match=r"await qanat.collect\(\.\.\.\)"):
            qanat.run(double, [1])

    anyio.run(main, backend=backend)


@pytest.mark.parametrize(("wrong", "kind"), [("curio", ValueError), (None, TypeError), ("", ValueError)])
def test_an_unknown_backend_is_refused(wrong: Any, kind: type[Exception]):
    with pytest.raises(kind, match="^backend must be"):
        qanat.run(double, [1], backend=wrong)


def test_a_backend_that_is_not_installed_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, "uvloop", None)
    with pytest.raises(ValueError, match=r"pip install 'qanat\[uvloop\]'"):
        qanat.run(double, [1], backend="uvloop")


def test_it_may_be_called_in_another_thread():
    outcomes: list[Any] = []
    thread = threading.Thread(target=lambda: outcomes.append(qanat.run(double, range(3))))
    thread.start()
    thread.join()
    assert outcomes[0].values() == [0, 2, 4]


def in_qanat(item: int) -> int:
    return qanat.run(double, [item]).values()[0]


def in_asyncio(item: int) -> int:
    return asyncio.run(double(item))


def in_anyio(item: int) -> int:
    return anyio.run(double, item)


def in_trio(item: int) -> int:
    return anyio.run(double, item, backend="trio")


@backends
@pytest.mark.parametrize("inner", [in_qanat, in_asyncio, in_anyio, in_trio])
def test_a_handler_in_a_thread_may_run_a_loop_of_its_own(backend: Any, inner: Any):
    assert qanat.run(inner, range(3), backend=backend, concurrency=2).values() == [0, 2, 4]


@pytest.mark.parametrize("graceful", [None, 1, "no"])
def test_graceful_is_yes_or_no(graceful: Any) -> None:
    with pytest.raises(TypeError, match="graceful must be True or False, got"):
        qanat.run(str, [1], graceful=graceful)


def test_progress_takes_a_rich_console_and_nothing_like_it() -> None:
    console = Console(file=io.StringIO(), force_terminal=True, width=60, height=20)
    qanat.run(str, [1, 2], progress=console)
    assert "2 of 2 done" in console.file.getvalue()  # type: ignore[attr-defined]  # it is a StringIO
    with pytest.raises(
        TypeError, match=r"progress must be True, False, None or a rich.console.Console, got 'yes'"
    ):
        qanat.run(str, [1], progress="yes")  # type: ignore[call-overload]
