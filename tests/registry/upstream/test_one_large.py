"""Large documents of upstreams are parsed one at a time."""

from __future__ import annotations

import threading
from contextlib import suppress

from entrepot.registry.upstream.one_large import one_large

LARGE = b"x" * 1_000_000


def test_a_large_document_waits_for_another_and_a_small_one_does_not() -> None:
    """Ten large documents at once would each delay all other requests of the worker."""
    entered = threading.Event()

    def parse() -> None:
        with one_large(LARGE):
            entered.set()

    with one_large(LARGE):
        other = threading.Thread(target=parse, daemon=True)
        other.start()
        with one_large(b"small"):
            assert not entered.wait(0.1)
    other.join(10)
    assert entered.is_set()


def test_a_document_that_cannot_be_parsed_does_not_block_the_next_one() -> None:
    """The lock is released when the block raises."""
    with suppress(ValueError), one_large(LARGE):
        int("no number")
    done = threading.Event()

    def parse() -> None:
        with one_large(LARGE):
            done.set()

    threading.Thread(target=parse, daemon=True).start()
    assert done.wait(10)
