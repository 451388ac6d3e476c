"""A line in which keys take turns."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import ExitStack

import pytest

from entrepot.registry.auth.fair_queue import FairQueue
from entrepot.registry.errors import Overloaded

PATIENCE = 20.0


def waiting(line: FairQueue, key: str, order: list[str]) -> threading.Thread:
    """Return a thread that waits for a turn and writes its key down."""
    before = _length(line)

    def wait() -> None:
        with line.turn(key, PATIENCE):
            order.append(key)

    thread = threading.Thread(target=wait)
    thread.start()
    _eventually(lambda: _length(line) > before)
    return thread


def test_a_key_with_many_waits_behind_one_with_few() -> None:
    """Each key has a turn before any has its second."""
    line, order = FairQueue(1, waiting=10, each=5), list[str]()
    with line.turn("flood", PATIENCE):
        threads = [waiting(line, "flood", order) for _ in range(4)]
        threads += [waiting(line, key, order) for key in ("ann", "bob")]
    for each in threads:
        each.join(PATIENCE)

    assert order == ["flood", "ann", "bob", "flood", "flood", "flood"]
    assert not line.is_busy


def test_one_key_does_not_take_all_places() -> None:
    """Who finds none is told at once, and another key still finds one."""
    line, order = FairQueue(1, waiting=3, each=2), list[str]()
    with ExitStack() as stack:
        stack.enter_context(line.turn("flood", PATIENCE))
        threads = [waiting(line, "flood", order) for _ in range(2)]
        with pytest.raises(Overloaded), line.turn("flood", PATIENCE):
            pass
        threads.append(waiting(line, "ann", order))
        with pytest.raises(Overloaded), line.turn("bob", PATIENCE):
            pass
    for each in threads:
        each.join(PATIENCE)

    assert sorted(order) == ["ann", "flood", "flood"]


def test_who_waits_too_long_gives_the_place_up() -> None:
    """And the line goes on as if nobody had waited."""
    line = FairQueue(1, waiting=1, each=1)
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
    raise AssertionError("not within 20 s")
