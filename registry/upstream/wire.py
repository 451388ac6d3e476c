"""Send one HTTP request and return its response; only this module and `pools` use urllib3.

A request is repeated only if a reused connection turns out to be dead. This module does not follow
redirects. Every exception of urllib3, http.client and the system becomes `ConnectionBroken`.
"""

from __future__ import annotations

import logging
import math
import os
import re
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from contextvars import ContextVar
from dataclasses import dataclass, field
from http.client import HTTPException, IncompleteRead
from typing import TypeVar
from urllib.parse import urlsplit

import urllib3
from urllib3 import exceptions

from entrepot.registry.errors import Why
from entrepot.registry.upstream.coding import Undecodable, codings, decoded
from entrepot.registry.upstream.destinations import AddressRefused, Destinations
from entrepot.registry.upstream.headers import content_length
from entrepot.registry.upstream.pools import StaleConnection, TlsContexts, open_pools
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.urls import Sealed, sending, split_target
from entrepot.runtime.proxies import Proxies

log = logging.getLogger(__name__)

T = TypeVar("T")
_LONGEST_NAME = 253
_TUNNEL = re.compile(r"Tunnel connection failed: ([0-9]{3})")
_PIECE = 256 * 1024
_SMALL = 64 * 1024
_SAFE = frozenset({"GET", "HEAD"})
# If reading the rest of an unused body takes longer than this many seconds, the connection is
# closed.
_DRAIN_S = 1.0
_until: ContextVar[float] = ContextVar("until", default=math.inf)
_LEAST_S = 0.001  # A socket time-out of 0 would mean non-blocking.


@contextmanager
def deadline(until: float) -> Iterator[None]:
    """Let each request of this thread in this context end by *until* (seconds, monotonic clock).

    If an outer context has an earlier deadline, that deadline stays in force.
    """
    token = _until.set(min(until, _until.get()))
    try:
        yield
    finally:
        _until.reset(token)


def left() -> float:
    """Return the seconds until this thread's deadline, 0 or less after the deadline."""
    return _until.get() - time.monotonic()


def bounded(span: float) -> float:
    """Return a socket time-out: *span* seconds, or less if this thread's deadline is earlier."""
    return max(min(span, left()), _LEAST_S)


class ConnectionBroken(Exception):  # noqa: N818 - the name states the fact
    """The upstream's connection returned no response, or a response that is incomplete or too long.

    `unconnected` is True if no connection was established; `unreached` is True if the connect
    time-out expired. `foreign` is True if the host is not configured, but was named in a redirect
    or a challenge of the upstream. `is_temporary` is True if the same request may succeed a moment
    later. `is_final` is True if the configuration forbids the request, so that no retry can
    succeed.
    """

    def __init__(
        self, message: str, why: Why, *, unreached: bool = False, unconnected: bool = False
    ) -> None:
        super().__init__(message)
        self.why = why
        self.unreached = unreached
        self.unconnected = unconnected or unreached
        self.foreign = False
        self.is_temporary = True
        self.is_final = False


class TooLong(ConnectionBroken):
    """The upstream's response body is longer than the limit."""


@dataclass(frozen=True, slots=True)
class Request:
    """A `Request` is one request; `credential` is sent only to the credential's own origin.

    `within` (in seconds) replaces a longer read time-out.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict, repr=False)
    body: bytes | None = field(default=None, repr=False)
    credential: Sealed | None = field(default=None, repr=False)
    within: float | None = None


class Response:
    """A `Response` is an open response, which the caller closes.

    `foreign` is True if the response came from an origin other than the upstream's own.
    """

    def __init__(self, response: urllib3.BaseHTTPResponse, request: Request, wire: Wire) -> None:
        self.method = request.method
        self.status = response.status
        self.headers: Mapping[str, str] = response.headers
        self.url = request.url
        self.foreign = False
        self.codings = codings(response.headers)
        self._response = response
        self._wire = wire
        self._ended = False
        self._until: float | None = None
        self._before_use: Callable[[], None] | None = None

    def before_use(self, act: Callable[[], None]) -> None:
        """Call *act* once: before the first byte of the body is read, or at the close.

        PERF: the work of *act* is delayed, so that the thread can first use the response's headers.
        """
        self._before_use = act

    def _use(self) -> None:
        act, self._before_use = self._before_use, None
        if act is not None:
            act()

    def pieces(
        self,
        *,
        as_sent: bool = False,
        seen: Callable[[bytes], None] = lambda _: None,
        size: int | None = None,
    ) -> Iterator[bytes]:
        """Yield the body as it is received, at most 256 KiB at once; decode it unless *as_sent*.

        *seen* receives the bytes before they are decoded. *size* is the expected decoded length in
        bytes, None if unknown. If decoding fails, *seen* still receives the rest of the body, up to
        *size* bytes (64 KiB if *size* is None). Raises: ConnectionBroken.
        """
        self._use()
        if as_sent or not self.codings:
            yield from self._sent_pieces()
            return
        sent = self._sent_pieces()
        try:
            yield from decoded(_tapped(sent, seen), self.codings, size)
        except Undecodable as error:
            _read_on(sent, seen, size)
            broken = ConnectionBroken(str(error), Why.NONSENSE)
            broken.is_temporary = False
            raise broken from error

    def _sent_pieces(self) -> Iterator[bytes]:
        while piece := self._wire.guarded(self._piece):
            yield piece
        self._ended = True

    def read(self, limit: int, within: float | None = None) -> bytes:
        """Return the whole body of the response, decoded.

        Raises: TooLong if the body has more than *limit* bytes; ConnectionBroken if the body is cut
        off, or takes longer than *within* seconds (None: the read time-out). Without a time limit
        for a whole body, an upstream that sends one byte per read time-out would block a thread for
        ever.
        """
        body = bytearray()
        span = min(self._wire.read_timeout if within is None else within, left())
        until = self._until = time.monotonic() + span
        for piece in self.pieces():
            body += piece
            if len(body) > limit:
                raise TooLong(f"the response is longer than {limit} bytes", Why.NONSENSE)
            if time.monotonic() > until:
                raise ConnectionBroken(f"the response did not end within {span:g} s", Why.TIMEOUT)
        return bytes(body)

    def limit_read_time(self, seconds: float) -> None:
        """Limit each read of the body to *seconds*; a slower read raises ConnectionBroken.

        The attribute `why` of that error is TIMEOUT. The next request on the same connection uses
        the upstream's read time-out again.
        """
        connection = getattr(self._response.connection, "sock", None)
        if isinstance(connection, socket.socket):  # TLS sockets are of a subclass.
            connection.settimeout(seconds)

    def close(self) -> None:
        """Return the connection to its pool; close it if much of the body has not been read."""
        self._use()
        if not self._ended and self._is_small():
            with suppress(ConnectionBroken):
                self.read(_SMALL, _DRAIN_S)
        if not self._ended:
            self._response.close()
        self._response.release_conn()

    def _piece(self) -> bytes:
        if self._until is not None:
            self.limit_read_time(max(self._until - time.monotonic(), _LEAST_S))
        return self._response.read1(_PIECE, decode_content=False)

    def _is_small(self) -> bool:
        if self.method == "HEAD":
            return True
        length = content_length(self.headers)
        return self.status >= 300 and length is not None and length <= _SMALL  # noqa: PLR2004


def _read_on(sent: Iterator[bytes], seen: Callable[[bytes], None], size: int | None) -> None:
    """Pass to *seen* the rest of a body that cannot be decoded.

    The encoded body may be the blob itself, sent with a wrong Content-Encoding. To detect this
    case, *seen* computes the digest of all bytes as they were sent.
    """
    left = _SMALL if size is None else size
    for piece in sent:
        seen(piece)
        left -= len(piece)
        if left < 0:
            return


def _tapped(pieces: Iterator[bytes], seen: Callable[[bytes], None]) -> Iterator[bytes]:
    for piece in pieces:
        seen(piece)
        yield piece


class Wire:
    """A `Wire` manages the connections to one upstream and to the targets of its redirects.

    The connections are opened on demand. A forked child process opens its own connections.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        proxies: Proxies | None = None,
        contexts: TlsContexts | None = None,
    ) -> None:
        self._config = config
        self.read_timeout = config.read_timeout
        self._proxies = proxies or Proxies()
        self._contexts = contexts or TlsContexts()
        self._destinations = Destinations(config)
        self._lock = threading.Lock()
        self._pid = 0
        self._managers: dict[tuple[str, str | None], urllib3.PoolManager] = {}

    def send(self, request: Request) -> Response:
        """Send a request and wait for the headers of its response. Raises: ConnectionBroken."""
        response = self.guarded(lambda: self._sent(request))
        return Response(response, request, self)

    def guarded(self, call: Callable[[], T]) -> T:
        """Return the result of *call*. Raises: ConnectionBroken for every connection error."""
        try:
            return call()
        except AddressRefused as error:
            raise self._refused(error) from error
        except (exceptions.HTTPError, HTTPException, OSError, ValueError) as error:
            raise _as_broken(error, self._config) from error

    def _refused(self, error: AddressRefused) -> ConnectionBroken:
        """Log the rejected address, and return an error without the address for the client.

        The error of a rejected address is final, because a retry would be refused as well.
        """
        host = self._config.host
        names = {"upstream": host, "host": error.host[:_LONGEST_NAME], "address": error.address}
        log.warning("a redirect to an address that is not public was rejected", extra=names)
        message = f"{error}; permit it with upstreams.{host}.redirects"
        refused = ConnectionBroken(message, Why.NONSENSE)
        refused.is_final = True
        return refused

    def _sent(self, request: Request) -> urllib3.BaseHTTPResponse:
        manager = self._manager(request.url)
        try:
            return _urlopen(manager, request, self._config)
        except exceptions.ProtocolError as error:
            stale = error.__cause__ or error.args[-1]
            if not isinstance(stale, StaleConnection) or (
                stale.is_lost and request.method not in _SAFE
            ):
                raise
        manager.clear()  # Other idle connections to the host may be dead as well.
        return _urlopen(manager, request, self._config)

    def _manager(self, url: str) -> urllib3.PoolManager:
        scheme, proxy = urlsplit(url).scheme, self._proxies.choose(url)
        if proxy is not None:
            self._destinations.check_by_name(url)
        with self._lock:
            if self._pid != os.getpid():
                self._pid, self._managers = os.getpid(), {}
            if (scheme, proxy) not in self._managers:
                pools = open_pools(self._config, scheme, proxy, self._destinations, self._contexts)
                self._managers[scheme, proxy] = pools
            return self._managers[scheme, proxy]


def _urlopen(
    manager: urllib3.PoolManager, request: Request, config: UpstreamConfig
) -> urllib3.BaseHTTPResponse:
    """Send a request with the exact bytes of its target, which urllib3's parser would change."""
    origin, target = split_target(request.url)
    credential = request.credential.headers_for(request.url) if request.credential else {}
    read = min(request.within or math.inf, config.read_timeout)
    timeout = urllib3.Timeout(connect=bounded(config.connect_timeout), read=bounded(read))
    with sending(target):
        return manager.urlopen(
            request.method,
            f"{origin}/",
            headers={**request.headers, **credential},
            body=request.body,
            redirect=False,
            retries=False,
            preload_content=False,
            decode_content=False,
            timeout=timeout,
        )


def _as_broken(error: Exception, config: UpstreamConfig) -> ConnectionBroken:
    """Return the ConnectionBroken for an exception; if the proxy failed, state that."""
    if not isinstance(error, exceptions.ProxyError):
        return _connection_error(error, config)
    inner = _connection_error(error.original_error, config)
    reached = {"unreached": inner.unreached, "unconnected": inner.unconnected}
    return ConnectionBroken(f"proxy: {inner}", inner.why, **reached)


def _connection_error(error: Exception, config: UpstreamConfig) -> ConnectionBroken:
    """Return the ConnectionBroken for an exception.

    The message of the error contains no URL, because the query of a URL may be a secret.
    """
    if isinstance(error, exceptions.NameResolutionError):
        return ConnectionBroken("the host name does not resolve", Why.REFUSED, unconnected=True)
    if isinstance(error, exceptions.NewConnectionError):
        cause = error.__cause__ or "refused"
        return ConnectionBroken(f"no connection: {cause}", Why.REFUSED, unconnected=True)
    if isinstance(error, exceptions.ConnectTimeoutError):
        span = config.connect_timeout
        return ConnectionBroken(f"no connection within {span:g} s", Why.TIMEOUT, unreached=True)
    if isinstance(error, exceptions.ReadTimeoutError | TimeoutError):
        return ConnectionBroken("there was no response in time", Why.TIMEOUT)
    return _protocol_error(error)


def _protocol_error(error: Exception) -> ConnectionBroken:
    """Return the error for a failed connection, or for a response that is not valid HTTP."""
    if isinstance(error, exceptions.SSLError | ssl.SSLError):
        return ConnectionBroken(f"TLS: {_tls_problem(error)}", Why.REFUSED, unconnected=True)
    cause = error.args[-1] if isinstance(error, exceptions.ProtocolError) else error
    if isinstance(cause, exceptions.IncompleteRead | IncompleteRead | ConnectionError):
        return ConnectionBroken("the connection was closed too early", Why.REFUSED)
    if isinstance(cause, OSError):
        return ConnectionBroken(cause.strerror or _tunnel_problem(cause), Why.REFUSED)
    return ConnectionBroken(f"the response is not valid HTTP: {type(cause).__name__}", Why.NONSENSE)


def _tls_problem(error: Exception) -> str:
    """Return OpenSSL's reason for a failed TLS handshake.

    The reason may contain the requested host, but never contains text of the peer.
    """
    inner = error.args[0] if error.args and isinstance(error.args[0], ssl.SSLError) else error
    reason = getattr(inner, "verify_message", None) or getattr(inner, "reason", None)
    return str(reason or "handshake failed")


def _tunnel_problem(error: OSError) -> str:
    """Return the status with which a proxy rejected a tunnel, without the proxy's text."""
    found = _TUNNEL.search(str(error)[:_LONGEST_NAME])
    return f"no tunnel: status {found[1]}" if found else "the connection failed"
