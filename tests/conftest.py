"""How many examples a property is tried with: few and always the same, or many and ever new."""

from __future__ import annotations

import gc

from hypothesis import settings

from tests.sizes import FULL

# A deadline for an example would measure how busy the machine is.
settings.register_profile("small", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=200, deadline=None)
settings.load_profile("full" if FULL else "small")


def pytest_configure() -> None:
    """Collect thousands of tests without a garbage collection in between."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Keep what was collected out of every later search for garbage."""
    gc.enable()
    gc.freeze()
