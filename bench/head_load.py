"""A load generator that sends HEAD requests over persistent connections.

Each connection sends its next request when the response to the previous one has arrived. `python -m
bench.head_load TASK` reads a task in JSON and prints the outcome in JSON.
"""

from __future__ import annotations

import json
import selectors
import socket
import sys
import time
from dataclasses import dataclass, field
from typing import Any

_LARGEST = 64 * 1024
_STUCK_S = 20.0


@dataclass(slots=True)
class _Requester:
    """One connection of the load generator; `asked` is the time of its latest request (s)."""

    connection: socket.socket
    asked: float = 0.0
    answer: bytes = b""


@dataclass(slots=True)
class _Tally:
    """The response times (s) and the number of failures of all connections."""

    spans: list[float] = field(default_factory=list)
    failures: int = 0


def p99(spans: list[float]) -> float:
    """Return the 99th percentile of response times, or 0 if there are none."""
    return sorted(spans)[int(len(spans) * 0.99)] if spans else 0.0


def request(path: str, headers: dict[str, str]) -> bytes:
    """Return the bytes of a HEAD request for *path*."""
    lines = [f"HEAD {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def main(task: dict[str, Any]) -> dict[str, float]:
    """Send HEAD requests for the duration that the task states, and return the outcome."""
    words = request(task["path"], task["headers"])
    tally, began = _Tally(), time.monotonic()
    with selectors.EpollSelector() as selector:
        for _ in range(task["connections"]):
            _open(selector, task["port"], words)
        _send_until_end(selector, words, tally, until=began + task["seconds"])
        for key in list(selector.get_map().values()):
            key.data.connection.close()
    return {
        "requests": len(tally.spans),
        "seconds": time.monotonic() - began,
        "p99": p99(tally.spans),
        "failures": tally.failures,
    }


def _open(selector: selectors.BaseSelector, port: int, words: bytes) -> None:
    asker = _Requester(socket.create_connection(("127.0.0.1", port)))
    asker.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(asker.connection, selectors.EVENT_READ, asker)
    _ask(asker, words)


def _ask(asker: _Requester, words: bytes) -> None:
    asker.answer, asker.asked = b"", time.perf_counter()
    asker.connection.sendall(words)


def _send_until_end(
    selector: selectors.BaseSelector, words: bytes, tally: _Tally, *, until: float
) -> None:
    """Send requests until the time *until*, or until the server stalls or disconnects."""
    while time.monotonic() < until and selector.get_map():
        ready = selector.select(_STUCK_S)
        if not ready:
            tally.failures += len(selector.get_map())
            return
        for key, _ in ready:
            if _is_open(key.data, tally):
                if not key.data.answer:
                    _ask(key.data, words)
                continue
            selector.unregister(key.fileobj)
            key.data.connection.close()


def _is_open(asker: _Requester, tally: _Tally) -> bool:
    """Read the available bytes; return False if the server has closed the connection."""
    piece = asker.connection.recv(_LARGEST)
    asker.answer += piece
    if not piece:
        tally.failures += 1
        return False
    if not asker.answer.endswith(b"\r\n\r\n"):
        return True
    tally.spans.append(time.perf_counter() - asker.asked)
    if not asker.answer.startswith(b"HTTP/1.1 200"):
        tally.failures += 1
    asker.answer = b""
    return True


if __name__ == "__main__":
    print(json.dumps(main(json.loads(sys.argv[1]))))
