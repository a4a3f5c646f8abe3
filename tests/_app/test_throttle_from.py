"""`throttle_from`: a response in, a `Throttled` out."""

from __future__ import annotations

import io
from email.message import Message
from email.utils import formatdate
from math import nan
from types import SimpleNamespace
from typing import TYPE_CHECKING, Any
from urllib.error import HTTPError

import pytest

import qanat
from qanat import Throttled, throttle_from

if TYPE_CHECKING:
    from qanat.testing import VirtualTime


def response(headers: Any, **more: Any) -> Any:
    return SimpleNamespace(headers=headers, **more)


def urllib_error(retry_after: str) -> HTTPError:
    headers = Message()
    headers["Retry-After"] = retry_after
    return HTTPError("http://example.org", 429, "Too Many Requests", headers, io.BytesIO())


SEVEN: dict[str, Any] = {
    "mapping": response({"Retry-After": "7"}, status_code=429),
    "small letters": response({"retry-after": "7"}, status=429),
    "pairs of bytes": response([(b"Retry-After", b"7")]),
    "numbers": response({"Retry-After": 7}),
    "error with a response": SimpleNamespace(response=response({"Retry-After": "7"}, status_code=503)),
    "twice": response([("Retry-After", "7"), ("retry-after", "9")]),
    "odd pairs": response([None, ("a",), "ab", ("Retry-After", "7")]),
}


@pytest.mark.parametrize("given", SEVEN.values(), ids=SEVEN)
def test_headers_are_found_where_http_clients_put_them(given: Any):
    signal = throttle_from(given, limit="api")
    assert isinstance(signal, Throttled)
    assert (signal.retry_after, signal.limit) == (7.0, "api")


def test_an_error_of_urllib_will_do():
    error = urllib_error("7")
    with error:
        signal = throttle_from(error)
    assert signal.retry_after == 7.0
    assert signal.__notes__ == ["the response had status 429"]


def test_the_status_is_noted_from_wherever_it_is():
    assert throttle_from(SEVEN["mapping"]).__notes__ == ["the response had status 429"]
    assert throttle_from(SEVEN["error with a response"]).__notes__ == ["the response had status 503"]
    assert not hasattr(throttle_from(SEVEN["numbers"]), "__notes__")


@pytest.mark.parametrize(
    "value", ["", "soon", "-5", "nan", "inf", "1e400", "9" * 400, b"\xff", None, [], -1, nan], ids=repr
)
def test_hostile_headers_mean_unknown(value: Any):
    assert throttle_from(response({"Retry-After": value, "X-RateLimit-Reset": value})).retry_after is None


def test_longest_is_the_longest_wait_that_is_believed():
    asked = response({"Retry-After": "3600"})
    assert throttle_from(asked).retry_after == 3600.0
    assert throttle_from(asked, longest="30m").retry_after is None
    assert throttle_from(asked, longest=3600).retry_after == 3600.0
    with pytest.raises(ValueError, match=r"^longest must be greater than 0, got 0$"):
        throttle_from(asked, longest=0)


@pytest.mark.parametrize("given", [None, 429, response(None), response(3), "429"], ids=repr)
def test_something_without_headers_is_refused(given: Any):
    with pytest.raises(TypeError, match=r"^response must have headers, as those of httpx, "):
        throttle_from(given)


@pytest.mark.virtual_time("asyncio", "trio")
async def test_a_run_waits_for_as_long_as_it_was_asked(virtual_time: VirtualTime):
    """Dates are read by the clock of the run, on the loop and in threads."""
    began: list[float] = []

    def handler(item: int) -> None:
        began.append(virtual_time.now())
        if virtual_time.now() < 40.0:
            date = formatdate(virtual_time.wall() + 45.0, usegmt=True)
            raise throttle_from(response({"Retry-After": date}))

    await qanat.collect(handler, [0], executor="loop")
    assert began == [0.0, 45.0]
    began.clear()
    await qanat.collect(handler, [0], executor="thread")
    assert began == [45.0]
