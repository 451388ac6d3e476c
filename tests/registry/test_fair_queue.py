"""`FairQueue` serves its keys in rotation; a key is a client's address or an upstream."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from entrepot.registry.errors import Overloaded
from entrepot.registry.fair_queue import FairQueue

PATIENCE = 20.0


def start_waiting(line: FairQueue, key: str, order: list[str]) -> threading.Thread:
    """Start a thread that waits for its turn with *key* and then appends *key* to *order*.

    Return the thread as soon as the thread waits.
    """
    before = _length(line)

    def wait() -> None:
        with line.turn(key, PATIENCE):
            order.append(key)

    thread = threading.Thread(target=wait)
    thread.start()
    _eventually(lambda: _length(line) > before)
    return thread


def test_a_key_with_many_callers_does_not_delay_other_keys() -> None:
    """If one key has many waiting callers, the queue still serves other keys soon.

    The queue serves each key once before it serves any key a second time.
    """
    line, order = FairQueue(1, waiting=10, each=5, busy="busy"), list[str]()
    with line.turn("flood", PATIENCE):
        threads = [start_waiting(line, "flood", order) for _ in range(4)]
        threads += [start_waiting(line, key, order) for key in ("ann", "bob")]
    for each in threads:
        each.join(PATIENCE)

    assert order == ["flood", "ann", "bob", "flood", "flood", "flood"]
    assert not line.is_busy


def test_one_key_cannot_fill_the_queue() -> None:
    """If two callers of a key wait, a third fails at once; a caller of another key can wait."""
    line, order = FairQueue(1, waiting=3, each=2, busy="busy"), list[str]()
    with ExitStack() as stack:
        stack.enter_context(line.turn("flood", PATIENCE))
        threads = [start_waiting(line, "flood", order) for _ in range(2)]
        with pytest.raises(Overloaded), line.turn("flood", PATIENCE):
            pass
        threads.append(start_waiting(line, "ann", order))
        with pytest.raises(Overloaded), line.turn("bob", PATIENCE):
            pass
    for each in threads:
        each.join(PATIENCE)

    assert sorted(order) == ["ann", "flood", "flood"]


def test_a_caller_that_times_out_leaves_the_queue() -> None:
    """A caller that has waited too long fails, and its place becomes free for the next caller."""
    line = FairQueue(1, waiting=1, each=1, busy="busy")
    with line.turn("a", PATIENCE), pytest.raises(Overloaded), line.turn("b", 0.01):
        pass

    with line.turn("c", 0.01):
        assert line.is_busy
    assert not line.is_busy


def _length(line: FairQueue) -> int:
    return sum(map(len, line._queues.values()))


def _eventually(look: Callable[[], bool]) -> None:
    waiting = threading.Event()
    for _ in range(2000):
        if look():
            return
        waiting.wait(0.01)
    raise AssertionError("the condition is not true after 20 s")
