"""What all tests share: how many cases Hypothesis generates, and that none fails for being slow."""

from hypothesis import settings

settings.register_profile("quick", deadline=None)
settings.register_profile("long", deadline=None, max_examples=5_000)
settings.load_profile("quick")
