"""Sizes of a test run: small by default, full in `make soak`."""

from __future__ import annotations

import os

FULL = os.environ.get("ENTREPOT_TEST_SIZE") == "full"


def scaled(small: int, full: int) -> int:
    """Return *full* in a run of `make soak`, else *small*."""
    return full if FULL else small
