"""Set pytest up: property tests try 25 fixed examples, and in `make soak` 200 new ones."""

from __future__ import annotations

import gc
import os
import shutil
from pathlib import Path

from hypothesis import settings

from tests.sizes import FULL

# Hypothesis has no deadline for an example here, because an example is slow on a busy machine.
settings.register_profile("small", max_examples=25, derandomize=True, deadline=None)
settings.register_profile("full", max_examples=200, deadline=None)
settings.load_profile("full" if FULL else "small")

_MEMORY = Path("/dev/shm")
_ROOM = 1024**3  # bytes; one test run needs a tenth of this


def _keep_folders_in_memory() -> None:
    """Let pytest create its temporary folders in memory, if there is room.

    On a disk, each `os.fsync` waits for the disk; these waits take half of the time of many tests.
    If there is no room in memory, `os.fsync` and `os.fdatasync` do nothing: a test within one
    process sees the same file content without them. Programs that a test starts still sync their
    files.
    """
    if _MEMORY.is_dir() and shutil.disk_usage(_MEMORY).free >= _ROOM:
        os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", str(_MEMORY))
    else:
        os.fsync = os.fdatasync = _return_at_once


def _return_at_once(fd: object) -> None:
    """Stand in for `os.fsync`."""
    del fd


if not FULL:
    _keep_folders_in_memory()


def pytest_configure() -> None:
    """Turn garbage collection off while pytest collects tests, because all tests stay in memory."""
    gc.disable()


def pytest_collection_finish() -> None:
    """Turn garbage collection on again, and exempt the collected tests from it."""
    gc.enable()
    gc.freeze()
