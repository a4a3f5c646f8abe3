"""Which stores a test is run over, and which of them in the long run only."""

from __future__ import annotations

import pytest

FILE_FIRST = pytest.mark.parametrize(
    "url", ["sqlite", pytest.param("redis", marks=pytest.mark.long)], indirect=True
)
"""For what is no matter of the store, or nearly: one in every run, the other in the long one."""
SERVER_FIRST = pytest.mark.parametrize(
    "url", ["redis", pytest.param("sqlite", marks=pytest.mark.long)], indirect=True
)
