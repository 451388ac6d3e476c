"""Tests of `ReusedThreads`, whose threads wait some time for another function before they end."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable

from entrepot.runtime.polling import poll
from entrepot.runtime.reused_threads import ReusedThreads

_WITHIN_S = 20.0


def _eventually(holds: Callable[[], bool]) -> bool:
    return bool(poll(lambda: holds() or None, _WITHIN_S, 0.005))


def _ran_in(threads: ReusedThreads, name: str = "work") -> tuple[threading.Thread, str]:
    """Run a function that returns at once.

    Return the thread of the function, and the name of the thread during the call.
    """
    found: list[tuple[threading.Thread, str]] = []
    ended = threading.Event()

    def work() -> None:
        thread = threading.current_thread()
        found.append((thread, thread.name))
        ended.set()

    threads.start(work, name)
    assert ended.wait(_WITHIN_S)
    return found[0]


def test_a_thread_without_work_runs_the_next_function() -> None:
    """A thread whose function has returned runs the next function, under that function's name."""
    threads = ReusedThreads(idle_s=_WITHIN_S)
    seen: set[threading.Thread] = set()

    def is_reused() -> bool:
        thread, name = _ran_in(threads, f"work {len(seen)}")
        was_seen = thread in seen
        assert name == f"work {len(seen)}"
        seen.add(thread)
        return was_seen

    assert _eventually(is_reused)


def test_no_function_waits_for_another() -> None:
    """If a function blocks, the next function runs in another thread without a wait."""
    threads, may_end = ReusedThreads(), threading.Event()
    threads.start(may_end.wait, "blocked")  # type: ignore[arg-type]  # the result is not used
    _ran_in(threads)
    may_end.set()


def test_a_thread_without_work_ends() -> None:
    """If a thread receives no function within the waiting time, it ends."""
    thread, _ = _ran_in(ReusedThreads(idle_s=0.01))

    assert _eventually(lambda: not thread.is_alive())


def test_few_threads_wait() -> None:
    """If several threads become idle, at most `most_idle` threads wait; the others end."""
    threads = ReusedThreads(idle_s=3 * _WITHIN_S, most_idle=1)
    found: list[threading.Thread] = []
    all_run = threading.Barrier(4)

    def work() -> None:
        found.append(threading.current_thread())
        all_run.wait(_WITHIN_S)

    for _ in range(3):
        threads.start(work, "work")
    all_run.wait(_WITHIN_S)

    assert _eventually(lambda: sum(each.is_alive() for each in found) == 1)


def test_a_waiting_thread_keeps_nothing_of_its_last_function() -> None:
    """A waiting thread has no reference to the last function that it ran.

    So the objects that the function used are freed.
    """

    class Body:
        """An object that a function uses, such as the connection of a download."""

    body, threads = Body(), ReusedThreads(idle_s=_WITHIN_S)
    ended, is_gone = threading.Event(), weakref.ref(body)

    def work(used: Body = body) -> None:
        assert used is not None
        ended.set()

    threads.start(work, "work")
    del body, work
    assert ended.wait(_WITHIN_S)

    assert _eventually(lambda: is_gone() is None)
