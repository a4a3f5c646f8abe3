"""The pictures of the documentation."""

from __future__ import annotations

from xml.etree import ElementTree as ET

import pytest

from benchmarks.plots import FOLDER, pictures, tick_for


@pytest.mark.slow
def test_each_picture_is_what_is_drawn_now():
    """Draw them anew with `make plots`."""
    drawn = pictures()
    assert {path.stem: path.read_text() for path in FOLDER.glob("*.svg")} == drawn
    for picture in drawn.values():
        # It is our own.
        assert ET.fromstring(picture).tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314


@pytest.mark.parametrize(("most", "tick"), [(0, 1), (6, 1), (7, 2), (30, 5), (31, 10), (400, 100)])
def test_a_plot_has_about_five_lines(most, tick):
    assert tick_for(most) == tick
