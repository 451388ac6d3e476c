"""Set pytest up: property tests try 25 fixed examples, and in `make soak` 200 new ones."""

from __future__ import annotations

import gc

from hypothesis import settings

from tests.sizes import FULL

# Hypothesis's deadline for one example is off, because an example takes longer on a busy machine.
settings.register_profile("small", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=200, deadline=None)
settings.load_profile("full" if FULL else "small")


def pytest_configure() -> None:
    """Turn garbage collection off while pytest collects tests, because nothing is freed then."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, and exempt the collected tests from it."""
    gc.enable()
    gc.freeze()
