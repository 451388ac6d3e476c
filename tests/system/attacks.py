"""Attacks on an appliance; each attack uses up one resource of the appliance.

During an attack an honest client sends requests. The response times and failures of these requests
show the effect of the attack.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path

from tests.system.appliance import Appliance
from tests.system.http_client import HttpClient, basic


@dataclass(slots=True)
class Honest:
    """A client that requests *paths* one by one, and records failures and response times (s).

    In a path, `{number}` is replaced by the number of the request.
    """

    http: HttpClient
    paths: tuple[str, ...]
    numbers: Iterator[int] = field(default_factory=itertools.count)
    failures: list[str] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def request(self, times: int) -> None:
        """Request each path *times* times."""
        for path in self.paths * times:
            begun = time.monotonic()
            try:
                response = self.http.get(path.format(number=next(self.numbers)))
            except (OSError, HTTPException) as error:
                self.failures.append(f"{path}: {error!r}")
            else:
                if response.status != 200:
                    self.failures.append(f"{path}: {response.status} {response.body[:100]!r}")
            self.seconds.append(time.monotonic() - begun)

    def p99(self) -> float:
        """Return the 99th percentile of the response times (s)."""
        return sorted(self.seconds)[int(len(self.seconds) * 0.99)]


def connections(appliance: Appliance, many: int, stack: ExitStack) -> list[socket.socket]:
    """Open *many* connections with a small receive buffer; *stack* closes them."""
    opened = []
    for _ in range(many):
        each = stack.enter_context(socket.socket())
        each.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16_384)
        # The size of HAProxy's send buffer grows with the size of a segment. With loopback's
        # segments of 64 KiB, the buffers of all connections would exhaust the kernel's TCP memory.
        each.setsockopt(socket.IPPROTO_TCP, socket.TCP_MAXSEG, 1_460)
        each.settimeout(20)
        each.connect(("127.0.0.1", appliance.http.port))
        opened.append(each)
    return opened


@contextmanager
def slow_readers(appliance: Appliance, path: str, many: int, login: str = "") -> Iterator[None]:
    """Request a blob on many connections, and read nothing until the end of the `with` block.

    Each request has a different query, so that no worker can repeat an earlier response.
    """
    with ExitStack() as stack:
        for number, each in enumerate(connections(appliance, many, stack)):
            each.sendall(_head("GET", f"{path}?{number}", login).encode())
        yield


@contextmanager
def readers(appliance: Appliance, path: str, many: int, login: str = "") -> Iterator[None]:
    """Request a blob on many connections, and read all bytes as they arrive.

    Tests compare the effect of these connections with the effect of `slow_readers`.
    """
    with ExitStack() as stack:
        opened = connections(appliance, many, stack)
        for each in opened:
            each.sendall(_head("GET", path, login).encode())
        ended = threading.Event()
        thread = threading.Thread(target=_read_all, args=(opened, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _read_all(opened: list[socket.socket], ended: threading.Event) -> None:
    """Read the bytes that arrive on each connection until the event *ended* is set."""
    with selectors.DefaultSelector() as ready:
        for each in opened:
            each.setblocking(False)
            ready.register(each, selectors.EVENT_READ)
        while not ended.is_set():
            for key, _ in ready.select(0.1):
                connection = key.fileobj
                assert isinstance(connection, socket.socket)
                with suppress(BlockingIOError):
                    if not connection.recv(65_536):
                        ready.unregister(connection)


@contextmanager
def slow_bodies(
    appliance: Appliance, method: str, paths: list[str], many: int, login: str = ""
) -> Iterator[None]:
    """Begin large request bodies, and send one byte of each every 0.2 s."""
    with ExitStack() as stack:
        ended = threading.Event()
        opened = connections(appliance, many, stack)
        for number, each in enumerate(opened):
            head = _head(method, paths[number % len(paths)], login, "Content-Length: 1000000000")
            with suppress(OSError):
                each.sendall(head.encode() + bytes(40_000))
        thread = threading.Thread(target=_trickle, args=(opened, ended), daemon=True)
        thread.start()
        try:
            yield
        finally:
            ended.set()
            thread.join()


def _trickle(opened: list[socket.socket], ended: threading.Event) -> None:
    """Send a byte on each connection every 0.2 s until the event *ended* is set."""
    while not ended.wait(0.2):
        for each in opened:
            with suppress(OSError):
                each.send(b"x")


@contextmanager
def flood(
    appliance: Appliance, requests: Callable[[int], bytes], threads: int
) -> Iterator[list[int]]:
    """Send the requests `requests(0)`, `requests(1)`, ... from *threads* threads.

    Yields the list of the statuses of the responses, which grows during the flood.
    """
    ended, answers = threading.Event(), list[int]()
    numbers = itertools.count()

    def send() -> None:
        while not ended.is_set():
            with suppress(OSError, IndexError, ValueError):
                raw = appliance.http.raw(requests(next(numbers)))
                # A response that was cut off has no status, and is not counted.
                answers.append(int(raw.split(b" ", 2)[1]))

    senders = [threading.Thread(target=send, daemon=True) for _ in range(threads)]
    for each in senders:
        each.start()
    try:
        yield answers
    finally:
        ended.set()
        for each in senders:
            each.join()


@contextmanager
def pipelined(appliance: Appliance, request: bytes, threads: int) -> Iterator[list[int]]:
    """Send *request* repeatedly without waiting for the responses.

    Yields the list of the sizes (bytes) of the received pieces; the list grows during the attack.
    """
    ended, answers = threading.Event(), list[int]()

    def send() -> None:
        while not ended.is_set():
            with suppress(OSError), closing(connections(appliance, 1, stack)[0]) as each:
                each.sendall(request * 50)
                while not ended.is_set() and (piece := each.recv(65_536)):
                    answers.append(len(piece))
                    each.sendall(request * (len(piece) // 256))

    with ExitStack() as stack:
        senders = [threading.Thread(target=send, daemon=True) for _ in range(threads)]
        for sender in senders:
            sender.start()
        try:
            yield answers
        finally:
            ended.set()
            for sender in senders:
                sender.join()


def guess(user: Callable[[int], str]) -> Callable[[int], bytes]:
    """Return a function that builds request n, with a wrong password for the user `user(n)`."""
    return lambda number: (
        f"GET /v2/ HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        f"Authorization: {basic(f'{user(number)}:wrong{number}')}\r\n\r\n"
    ).encode()


def requests_for(method: str, path: Callable[[int], str]) -> Callable[[int], bytes]:
    """Return a function that builds request n, for the path `path(n)` and without a body."""
    return lambda number: (
        f"{method} {path(number)} HTTP/1.1\r\nHost: localhost\r\n"
        "Connection: close\r\nContent-Length: 0\r\n\r\n"
    ).encode()


def resident(appliance: Appliance) -> dict[str, int]:
    """Return the resident memory (bytes) of each process of the appliance, by name and id."""
    found = {}
    for each in appliance.processes():
        with suppress(OSError):
            text = Path(f"/proc/{each.pid}/status").read_text()
            kilobytes = [line.split()[1] for line in text.splitlines() if "VmRSS" in line]
            found[f"{each.argv[:60]} {each.pid}"] = int((kilobytes or ["0"])[0]) * 1024
    return found


def _head(method: str, path: str, login: str, *headers: str) -> str:
    lines = [f"{method} {path} HTTP/1.1", "Host: localhost", *headers]
    if login:
        lines.append(f"Authorization: {basic(login)}")
    return "\r\n".join([*lines, "", ""])
