"""Call a function for many items in a few threads, without reading all items at once."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 4
"""For each thread, this many items are read ahead."""


def in_threads(
    items: Iterable[T], act: Callable[[T], R], *, threads: int, abort: Callable[[], None]
) -> Iterator[R]:
    """Yield the results of *act* in the order of *items*, which this thread reads.

    If a call of *act* raises an exception, the function calls *abort*, which must make the running
    calls of *act* end soon. The function waits for these, drops the other items, and raises the
    exception.
    """
    pending: deque[Future[R]] = deque()
    pool = ThreadPoolExecutor(threads, thread_name_prefix="migrate")
    try:
        for item in items:
            pending.append(pool.submit(act, item))
            if len(pending) >= threads * _AHEAD:
                yield pending.popleft().result()
        while pending:
            yield pending.popleft().result()
    except BaseException:
        abort()
        raise
    finally:
        pool.shutdown(cancel_futures=True)
