"""The picture of the live view."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.picture import FILE, drawn


@pytest.mark.slow
def test_the_picture_is_what_is_drawn_now_and_light():
    """Draw it anew with `make plots`."""
    picture = drawn()
    assert FILE.read_text() == picture
    assert len(picture) < 60_000
    assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 - it is our own
    assert "http" not in picture.replace("http://www.w3.org/2000/svg", "").replace("https://example.com", "")
