"""Connect to a host; one time-out covers the DNS query and all attempts to connect.

Attempts to connect start a quarter of a second apart and alternate between IPv6 and IPv4, a simple
form of RFC 8305. So broken IPv6 delays a connection by a quarter of a second, and a host that drops
packets delays it by one time-out.
"""

from __future__ import annotations

import errno
import os
import queue
import selectors
import socket
import threading
import time
from collections import deque
from collections.abc import Callable
from itertools import chain, zip_longest

_STAGGER = 0.25
_UNACKNOWLEDGED_MS = 5000
_Address = tuple[socket.AddressFamily, tuple[str, int] | tuple[str, int, int, int]]


def dial(
    host: str,
    port: int,
    timeout: float,
    allow: Callable[[list[str]], list[str]] = lambda addresses: addresses,
) -> socket.socket:
    """Return a connected socket; its time-out is the remaining part of *timeout* (seconds).

    *allow* gets the addresses of the host, and returns those that may be dialled, or raises an
    error. Raises: socket.gaierror, TimeoutError, OSError with the errno of the last failed attempt.
    """
    deadline = time.monotonic() + timeout
    found = _resolve(host, port, timeout)
    allowed = set(allow([each[1][0] for each in found]))
    winner = _race([each for each in found if each[1][0] in allowed], deadline)
    winner.settimeout(max(deadline - time.monotonic(), 0.001))
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    # TCP keep-alive detects an idle connection that a router has dropped, before the connection is
    # used again.
    winner.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 30)
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPINTVL, 10)
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 3)
    # TCP_USER_TIMEOUT ends a connection that a router drops while it is in use, because the sent
    # data is no longer acknowledged.
    winner.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, _UNACKNOWLEDGED_MS)
    return winner


def _resolve(host: str, port: int, timeout: float) -> list[_Address]:
    """Return the addresses of a host, within *timeout* seconds.

    The resolver runs in a separate thread, because a call of the resolver cannot be cancelled.
    After the time-out, the thread continues, but its result is ignored. A name that ends in
    `.localhost` is resolved to the loopback addresses without DNS (RFC 6761, 6.3).
    """
    if host.lower().rstrip(".").endswith(".localhost"):
        loopback: list[_Address] = [(socket.AF_INET, ("127.0.0.1", port))]
        return [*loopback, (socket.AF_INET6, ("::1", port, 0, 0))]
    results: queue.SimpleQueue[list[_Address] | OSError] = queue.SimpleQueue()

    def look_up(flags: int = 0) -> None:
        try:
            found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=flags)
            results.put([(each[0], each[4]) for each in found])  # type: ignore[misc]  # IP only
        except OSError as error:
            results.put(error)
        except UnicodeError as error:
            results.put(socket.gaierror(socket.EAI_NONAME, str(error)))

    look_up(socket.AI_NUMERICHOST)
    outcome = results.get()
    if isinstance(outcome, OSError):
        threading.Thread(target=look_up, name="resolve", daemon=True).start()
        try:
            outcome = results.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError("the resolver did not respond in time") from None
    if isinstance(outcome, OSError):
        raise outcome
    return _interleaved(outcome)


def _interleaved(addresses: list[_Address]) -> list[_Address]:
    """Alternate the address families, starting with the family of the resolver's first address."""
    first = [each for each in addresses if each[0] == addresses[0][0]]
    other = [each for each in addresses if each[0] != addresses[0][0]]
    pairs = chain.from_iterable(zip_longest(first, other))
    return [each for each in pairs if each is not None]


def _race(addresses: list[_Address], deadline: float) -> socket.socket:
    """Return the first socket that connects before *deadline* (monotonic); close the others."""
    waiting = deque(addresses)
    refusal = OSError(errno.EHOSTUNREACH, os.strerror(errno.EHOSTUNREACH))
    with selectors.DefaultSelector() as trying:
        try:
            while waiting or trying.get_map():
                if waiting:
                    refusal = _start(waiting.popleft(), trying) or refusal
                left = deadline - time.monotonic()
                if left <= 0:
                    raise TimeoutError("no connection in time")
                if not trying.get_map():
                    continue
                for key, _ in trying.select(min(left, _STAGGER) if waiting else left):
                    connection = trying.unregister(key.fileobj).data
                    problem = connection.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
                    if problem == 0:
                        return connection  # type: ignore[no-any-return]  # selectors' data is Any
                    connection.close()
                    refusal = OSError(problem, os.strerror(problem))
        finally:
            for key in list(trying.get_map().values()):
                key.data.close()
    raise refusal


def _start(address: _Address, trying: selectors.BaseSelector) -> OSError | None:
    """Start to connect to an address; return the error if the attempt fails at once."""
    family, target = address
    try:
        connection = socket.socket(family, socket.SOCK_STREAM)
    except OSError as error:
        return error
    connection.setblocking(False)
    problem = connection.connect_ex(target)
    if problem not in (0, errno.EINPROGRESS):
        connection.close()
        return OSError(problem, os.strerror(problem))
    trying.register(connection, selectors.EVENT_WRITE, connection)
    return None
