"""The pytest fixture `virtual_time`: an async test that takes it runs on virtual time.

    async def test_backoff_doubles(virtual_time):
        await anyio.sleep(3600)
        assert virtual_time.now() == 3600.0

    @pytest.mark.virtual_time("asyncio", "trio")      # once on each; also as a module's pytestmark
    async def test_on_both(virtual_time): ...

    def test_in_two_parts(virtual_time):              # a plain test runs what it likes
        virtual_time.run(first_part)
        virtual_time.run(second_part)

Without the mark a test runs on the loops of the ini option `virtual_time_backends`, by default on
asyncio. Other fixtures must be plain ones: an async fixture would live on another loop. With
Hypothesis, open `qanat.testing.virtual_time()` in the body, so that each example begins at 0.0.
"""

from __future__ import annotations

from functools import partial, wraps
from inspect import iscoroutinefunction
from typing import TYPE_CHECKING, Any

import pytest

# What needs the library is imported when the fixture is used: this module is loaded in every
# pytest run of an environment that has qanat in it.
if TYPE_CHECKING:
    from collections.abc import Generator

    from qanat.testing import VirtualTime

_NAME = "virtual_time"
_INI = "virtual_time_backends"
_ANYIO = "anyio_backend"


def pytest_addoption(parser: pytest.Parser) -> None:
    """Declare the ini option."""
    parser.addini(_INI, "event loops on which tests with virtual_time run", "args", ["asyncio"])


def pytest_configure(config: pytest.Config) -> None:
    """Declare the mark."""
    config.addinivalue_line(
        "markers", f"{_NAME}(*backends): run a test with the fixture {_NAME} on each of these event loops"
    )


@pytest.hookimpl(tryfirst=True)
def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Make a test of its own for each event loop that was asked for."""
    if _NAME in metafunc.fixturenames:
        mark = metafunc.definition.get_closest_marker(_NAME)
        backends = mark.args if mark else metafunc.config.getini(_INI)
        # AnyIO's plugin may have put its own choice of loops on the test: then that one is
        # narrowed and followed, or each test would run once for every pair of choices.
        name = _ANYIO if _ANYIO in metafunc.fixturenames else _NAME
        metafunc.definition.add_marker(pytest.mark.parametrize(name, backends, indirect=True))


@pytest.fixture
def virtual_time(request: pytest.FixtureRequest) -> Generator[VirtualTime]:
    """Give a virtual timeline that begins at 0.0; an async test runs on it."""
    from qanat.testing import virtual_time

    anyio_runs_it = _ANYIO in request.fixturenames
    backend = request.getfixturevalue(_ANYIO) if anyio_runs_it else request.param
    with virtual_time(backend) as time:
        yield time


@pytest.hookimpl(wrapper=True, tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> Generator[None, Any, Any]:
    """Turn an async test that has the fixture into a plain one, before anyone else sees it."""
    test: Any = pyfuncitem.obj
    if _NAME not in pyfuncitem.fixturenames or not iscoroutinefunction(test):
        return (yield)
    time: Any = pyfuncitem.funcargs[_NAME]

    @wraps(test)
    def run_on_virtual_time(**fixtures: Any) -> None:
        time.run(partial(test, **fixtures))

    # wraps() would show the async function through
    del run_on_virtual_time.__wrapped__
    pyfuncitem.obj = run_on_virtual_time
    try:
        return (yield)
    finally:
        pyfuncitem.obj = test
