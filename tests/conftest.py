"""Property tests try few and always the same examples, or in `make soak` many new ones."""

from __future__ import annotations

import gc

from hypothesis import settings

from tests.sizes import FULL

# a deadline for an example would measure how busy the machine is
settings.register_profile("small", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=200, deadline=None)
settings.load_profile("full" if FULL else "small")


def pytest_configure() -> None:
    """Collect thousands of tests without a garbage collection in between."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Exclude the collected tests from every later garbage collection."""
    gc.enable()
    gc.freeze()
