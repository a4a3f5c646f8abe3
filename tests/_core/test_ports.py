"""What the core asks for is what there is."""

from __future__ import annotations

import random

from qanat._core import ports  # noqa: TC001 - imported for what it is
from qanat._engine.clock import RealClock


def test_a_seeded_generator_is_a_source_of_randomness():
    source: ports.Random = random.Random(1)
    assert 0.0 <= source.random() < 1.0


def test_the_real_clock_is_a_clock():
    clock: ports.Clock = RealClock()
    assert clock.now() <= clock.now()
