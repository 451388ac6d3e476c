"""Sends HEAD again and again over kept connections, each as soon as the last is answered.

A program: `python -m bench.head_load TASK`, with the task in JSON; prints an outcome in JSON.
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
class _Asker:
    """One connection: `asked` is when the request went out, in s."""

    connection: socket.socket
    asked: float = 0.0
    answer: bytes = b""


@dataclass(slots=True)
class _Tally:
    """What came back: `spans` in s, one an answer."""

    spans: list[float] = field(default_factory=list)
    failures: int = 0


def p99(spans: list[float]) -> float:
    """Return what 99 of 100 stay within."""
    return sorted(spans)[int(len(spans) * 0.99)] if spans else 0.0


def request(path: str, headers: dict[str, str]) -> bytes:
    """Return a HEAD request as it goes over the wire."""
    lines = [f"HEAD {path} HTTP/1.1", "Host: 127.0.0.1"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    return ("\r\n".join(lines) + "\r\n\r\n").encode()


def main(task: dict[str, Any]) -> dict[str, float]:
    """Do the task, and return the outcome."""
    words = request(task["path"], task["headers"])
    tally, began = _Tally(), time.monotonic()
    with selectors.EpollSelector() as selector:
        for _ in range(task["connections"]):
            _open(selector, task["port"], words)
        _go_on(selector, words, tally, until=began + task["seconds"])
        for key in list(selector.get_map().values()):
            key.data.connection.close()
    return {
        "requests": len(tally.spans),
        "seconds": time.monotonic() - began,
        "p99": p99(tally.spans),
        "failures": tally.failures,
    }


def _open(selector: selectors.BaseSelector, port: int, words: bytes) -> None:
    asker = _Asker(socket.create_connection(("127.0.0.1", port)))
    asker.connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    selector.register(asker.connection, selectors.EVENT_READ, asker)
    _ask(asker, words)


def _ask(asker: _Asker, words: bytes) -> None:
    asker.answer, asker.asked = b"", time.perf_counter()
    asker.connection.sendall(words)


def _go_on(selector: selectors.BaseSelector, words: bytes, tally: _Tally, *, until: float) -> None:
    """Ask until the time is over; a server that has gone silent or away ends it too."""
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


def _is_open(asker: _Asker, tally: _Tally) -> bool:
    """Take in what has come; False when the connection is of no use any more."""
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
