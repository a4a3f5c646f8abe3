from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from qanat._core.retry import retry_after_of, retry_after_seconds

WALL = 784111777.0  # Sun, 06 Nov 1994 08:49:37 GMT, the example of RFC 9110

ASKED: dict[str, tuple[Any, float]] = {
    "int": (120, 120.0),
    "float": (1.5, 1.5),
    "digits": ("120", 120.0),
    "decimals": (" 1.5 ", 1.5),
    "bytes": (b"120", 120.0),
    "date": ("Sun, 06 Nov 1994 08:50:07 GMT", 30.0),
    "date by RFC 850": ("Sunday, 06-Nov-94 08:50:07 GMT", 30.0),
    "date by asctime": ("Sun Nov  6 08:50:07 1994", 30.0),
    "date with a zone": ("Sun, 06 Nov 1994 09:50:07 +0100", 30.0),
    "past date": ("Sun, 06 Nov 1994 08:49:07 GMT", 0.0),
    "now": ("0", 0.0),
}


@pytest.mark.parametrize(("value", "asked"), ASKED.values(), ids=ASKED)
def test_retry_after_is_read(value: Any, asked: float):
    assert retry_after_seconds(value, WALL) == asked


NO_DATE = "Sun, 99 Nov 1994 08:49:37 GMT"
NONSENSE: list[Any] = [
    "",
    "soon",
    "-5",
    "1e3",
    "Sun, 99 Nov 1994 08:49:37 GMT",
    "nan",
    "9" * 310,
    None,
    True,
    [],
    -1,
]


@pytest.mark.parametrize("value", [*NONSENSE, float("nan"), float("inf")], ids=repr)
def test_other_values_are_refused(value: Any):
    with pytest.raises(ValueError, match=r"^retry_after must be "):
        retry_after_seconds(value, WALL)


@settings(max_examples=60, deadline=None)
@given(st.text("0189.:-+, SunovGMT", max_size=40) | st.binary())
def test_any_text_is_seconds_or_refused(value: str | bytes):
    try:
        assert retry_after_seconds(value, WALL) >= 0.0
    except ValueError:
        pass


def failed(**attributes: Any) -> Exception:
    error = Exception()
    vars(error).update(attributes)
    return error


def response(headers: Any) -> Any:
    return SimpleNamespace(headers=headers)


FOUND: dict[str, tuple[Exception, float | None]] = {
    "nothing": (Exception(), None),
    "attribute": (failed(retry_after=3), 3.0),
    "attribute as text": (failed(retry_after="Sun, 06 Nov 1994 08:50:07 GMT"), 30.0),
    "response": (failed(response=response({"Retry-After": "3"})), 3.0),
    "small letters": (failed(response=response({"etag": 1, "retry-after": "3"})), 3.0),
    "own headers": (failed(headers={"RETRY-AFTER": "3"}), 3.0),
    "pairs": (failed(headers=[("Retry-After", "3")]), 3.0),
    "no such header": (failed(response=response({}), headers={"etag": "3"}), None),
    "attribute first": (failed(retry_after=1, headers={"Retry-After": "3"}), 1.0),
    "nonsense passed over": (failed(retry_after="soon", headers={"Retry-After": "3"}), 3.0),
    "method": (failed(retry_after=lambda: 3), None),
    "response of another kind": (failed(response={"headers": {"Retry-After": "3"}}), None),
    "headers of another kind": (failed(headers=3), None),
    "names of another kind": (failed(headers={1: "3"}), None),
}


@pytest.mark.parametrize(("error", "asked"), FOUND.values(), ids=FOUND)
def test_retry_after_is_found_where_http_clients_put_it(error: Exception, asked: float | None):
    assert retry_after_of(error, WALL) == asked


class OddError(Exception):
    """Whose every attribute raises."""

    def __getattr__(self, name: str) -> Any:
        raise RuntimeError(name)


def test_odd_errors_are_passed_over():
    assert retry_after_of(OddError(), WALL) is None
