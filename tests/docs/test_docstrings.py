"""Every example in a docstring does what it shows."""

import doctest
import importlib
import pkgutil

import pytest

import qanat

MODULES = ["qanat", *(module.name for module in pkgutil.walk_packages(qanat.__path__, "qanat."))]


@pytest.mark.parametrize("name", [name for name in MODULES if not name.endswith("__main__")])
def test_docstrings_of_module_do_what_they_show(name: str) -> None:
    module = importlib.import_module(name)
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    report: list[str] = []
    for test in doctest.DocTestFinder().find(module, name):
        runner.run(test, out=report.append)
    assert runner.failures == 0, "".join(report)
