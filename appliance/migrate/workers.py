"""Call a function for many items in a few threads, without loading all items into memory."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Final, TypeVar

T = TypeVar("T")
R = TypeVar("R")

_AHEAD: Final = 4
"""The number of items that are read in advance, for each thread."""


def in_threads(
    items: Iterable[T], act: Callable[[T], R], *, threads: int, abort: Callable[[], None]
) -> Iterator[R]:
    """Call *act* for each of *items* in several threads, and yield the results in order.

    The calling thread reads *items*. If a call of *act* raises an exception, this function calls
    *abort*, which must make the running calls of *act* end soon. Then it waits for these calls,
    drops the items that are not started, and raises the exception.
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
