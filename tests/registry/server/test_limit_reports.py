"""A worker that reaches a limit reports it with at most one event per time interval."""

from __future__ import annotations

import queue

from entrepot.registry.server.limit_reports import LimitReports


def test_repeated_hits_of_a_limit_are_one_event() -> None:
    """If a limit rejects 1,000 requests in a short time, one event reports all of them.

    So a flood of requests does not fill the log.
    """
    events: queue.Queue[dict[str, object]] = queue.Queue()
    limited = LimitReports(lambda name, **fields: events.put({"name": name, **fields}), pause=0.2)
    for _ in range(1000):
        limited("readers")
    limited("uploads")

    found = [events.get(timeout=20) for _ in range(2)]
    assert found == [
        {"name": "limit", "limit": "readers", "count": 1000},
        {"name": "limit", "limit": "uploads", "count": 1},
    ]
