"""The size of this run: small by default, full in `make soak`."""

from __future__ import annotations

import os

FULL = os.environ.get("ENTREPOT_TEST_SIZE") == "full"


def scaled(small: int, full: int) -> int:
    """Return the number for this run: *full* when `make soak` asks for it."""
    return full if FULL else small
