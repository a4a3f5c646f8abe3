"""The fixture runs async tests on virtual time, on the loops that were asked for."""

from __future__ import annotations

import pytest

pytest_plugins = ["pytester"]

TEST = """
    import anyio, pytest

    {mark}
    async def test_it(virtual_time, request):
        await anyio.sleep(3600)
        assert virtual_time.now() == 3600.0
        assert request.node.name == f"test_it[{{virtual_time.backend}}]"
"""


def names(pytester: pytest.Pytester, *options: str) -> list[str]:
    """Run the tests and return the names of those that passed."""
    result = pytester.runpytest_inprocess("-v", "-p", "no:cacheprovider", *options)
    assert result.ret == 0
    return [line.split("::")[1].split()[0] for line in result.outlines if " PASSED" in line]


def test_an_async_test_runs_on_asyncio_by_default(pytester: pytest.Pytester):
    pytester.makepyfile(TEST.format(mark=""))
    assert names(pytester) == ["test_it[asyncio]"]


def test_the_mark_chooses_the_loops(pytester: pytest.Pytester):
    pytester.makepyfile(TEST.format(mark='@pytest.mark.virtual_time("asyncio", "trio")'))
    assert names(pytester) == ["test_it[asyncio]", "test_it[trio]"]


def test_the_ini_option_chooses_the_loops(pytester: pytest.Pytester):
    pytester.makepyfile(TEST.format(mark=""))
    pytester.makeini("[pytest]\nvirtual_time_backends = trio asyncio")
    assert names(pytester) == ["test_it[trio]", "test_it[asyncio]"]


@pytest.mark.parametrize("how", ["ini", "mark"])
def test_beside_the_plugin_of_anyio_it_runs_once_for_each_loop(pytester: pytest.Pytester, how: str):
    mark = '@pytest.mark.virtual_time("asyncio", "trio")'
    pytester.makepyfile(TEST.format(mark=f"{mark}\n    @pytest.mark.anyio" if how == "mark" else mark))
    options = ["-o", "anyio_mode=auto"] if how == "ini" else []
    assert names(pytester, *options) == ["test_it[asyncio]", "test_it[trio]"]


def test_other_parameters_and_fixtures_reach_the_test(pytester: pytest.Pytester):
    pytester.makeconftest("import pytest\n\n@pytest.fixture\ndef word(): return 'x'")
    pytester.makepyfile(
        """
        import anyio, pytest

        class TestThings:
            @pytest.mark.parametrize("seconds", [1, 2])
            async def test_it(self, seconds, virtual_time, word):
                await anyio.sleep(seconds)
                assert (virtual_time.now(), word) == (float(seconds), "x")
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(passed=2)


def test_usefixtures_is_enough(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import anyio, pytest

        @pytest.mark.usefixtures("virtual_time")
        async def test_it():
            await anyio.sleep(3600)
        """
    )
    assert names(pytester) == ["test_it[asyncio]"]


def test_a_plain_test_gets_the_timeline(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import anyio

        def test_it(virtual_time):
            virtual_time.run(anyio.sleep, 5)
            assert virtual_time.now() == 5.0
        """
    )
    assert names(pytester, "-o", "anyio_mode=auto") == ["test_it[asyncio]"]


def test_tests_without_the_fixture_are_left_alone(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import pytest
        from qanat._engine.clock import RealClock, clock_in_use

        def test_plain():
            assert isinstance(clock_in_use(), RealClock)

        @pytest.mark.parametrize("anyio_backend", ["asyncio"])
        async def test_async(anyio_backend):
            assert isinstance(clock_in_use(), RealClock)
        """
    )
    assert names(pytester, "-o", "anyio_mode=auto") == ["test_plain", "test_async[asyncio]"]


def test_a_failure_is_the_failure_of_the_test(pytester: pytest.Pytester):
    pytester.makepyfile(
        """
        import anyio

        async def test_it(virtual_time):
            await anyio.sleep(1)
            assert virtual_time.now() == 2.0
        """
    )
    result = pytester.runpytest_inprocess("-p", "no:cacheprovider")
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["E * assert 1.0 == 2.0"])
