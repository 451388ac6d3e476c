"""A worker parses large documents from upstreams one at a time, with pauses between them."""

from __future__ import annotations

import threading
from contextlib import suppress

import pytest

from entrepot.registry.upstream.one_large import LargeDocuments

LARGE = b"x" * 1_000_000


class Times:
    """A clock and a thread's CPU time, in seconds; the test sets both.

    A wait moves the clock forward.
    """

    def __init__(self) -> None:
        self.now = 100.0
        self.spent = 0.0
        self.waits: list[float] = []

    def wait(self, duration: float) -> None:
        """Record a wait of *duration* seconds and move the clock forward by *duration*."""
        self.waits.append(duration)
        self.now += duration

    def documents(self) -> LargeDocuments:
        """Return a `LargeDocuments` that uses this clock and this CPU time."""
        return LargeDocuments(lambda: self.now, lambda: self.spent, self.wait)

    def parse(self, seconds: float) -> None:
        """Add *seconds* to the CPU time and the clock, as the parsing of a document does."""
        self.spent += seconds
        self.now += seconds


def test_a_large_document_waits_for_another_and_a_small_one_does_not() -> None:
    """While a large document is parsed, other large documents wait, but small documents do not."""
    documents, entered = LargeDocuments(), threading.Event()

    def parse() -> None:
        with documents.turn("b.test", LARGE):
            entered.set()

    with documents.turn("a.test", LARGE):
        other = threading.Thread(target=parse, daemon=True)
        other.start()
        with documents.turn("a.test", b"small"):
            assert not entered.wait(0.1)
    other.join(10)
    assert entered.is_set()


def test_a_document_that_cannot_be_parsed_does_not_block_the_next_one() -> None:
    """If the parser of a document raises an error, the next document does not wait."""
    documents = LargeDocuments()
    with suppress(ValueError), documents.turn("a.test", LARGE):
        int("no number")
    done = threading.Event()

    def parse() -> None:
        with documents.turn("a.test", LARGE):
            done.set()

    threading.Thread(target=parse, daemon=True).start()
    assert done.wait(10)


def test_large_documents_take_at_most_a_third_of_the_time() -> None:
    """If large documents follow each other, a worker parses for at most a third of the time."""
    times = Times()
    documents = times.documents()
    for _ in range(10):
        with documents.turn("a.test", LARGE):
            times.parse(0.1)

    assert times.spent == pytest.approx(1.0)
    assert times.now - 100.0 == pytest.approx(1.0 + 9 * 0.2)


def test_a_large_document_after_a_pause_of_its_clients_does_not_wait() -> None:
    """A large document does not wait if no other large document was parsed shortly before."""
    times = Times()
    documents = times.documents()
    for _ in range(3):
        with documents.turn("a.test", LARGE):
            times.parse(0.1)
        with documents.turn("a.test", b"small"):
            times.parse(0.1)
        times.now += 0.2

    assert times.waits == []
