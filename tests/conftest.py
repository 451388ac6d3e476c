"""pytest's setup: property tests try few fixed examples, or many new ones in `make soak`."""

from __future__ import annotations

import gc

from hypothesis import settings

from tests.sizes import FULL

# without deadlines, because an example takes longer on a busy machine
settings.register_profile("small", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=200, deadline=None)
settings.load_profile("full" if FULL else "small")


def pytest_configure() -> None:
    """Turn garbage collection off while pytest collects thousands of tests, which all stay."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, and exempt the collected tests from it."""
    gc.enable()
    gc.freeze()
