"""Lets a worker parse one large document of its upstreams at a time.

A document of megabytes keeps the interpreter busy for up to 0.1 s. If several threads parsed such
documents at once, every other request of the worker would wait for each of them in turn.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

_LARGE = 128 * 1024
"""Bytes. Manifests are smaller, with few exceptions; they never wait."""

_lock = threading.Lock()


@contextmanager
def one_large(body: bytes) -> Iterator[None]:
    """Wait until no other thread is in this block with a large body; a small one never waits.

    The block must not wait for anything itself: it computes for less than 1 s.
    """
    if len(body) < _LARGE:
        yield
        return
    with _lock:
        yield
