"""Make urllib3's connection pools, with TLS and proxies; `dial` opens their connections."""

from __future__ import annotations

import errno
import socket
import ssl
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import urllib3
from urllib3 import exceptions
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.connectionpool import HTTPConnectionPool, HTTPSConnectionPool

from entrepot.registry.upstream.destinations import Destinations
from entrepot.registry.upstream.dial import dial
from entrepot.registry.upstream.response import BoundedResponse
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.urls import as_written
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.urls import RawOrigin

if TYPE_CHECKING:
    from urllib3._base_connection import BaseHTTPConnection

_KEPT = 64
_MOST_CONTEXTS = 32
_Trust = tuple[bool, Path | None, int, int]


def open_pools(
    config: UpstreamConfig,
    scheme: str,
    proxy: str | None,
    destinations: Destinations,
    contexts: TlsContexts,
) -> urllib3.PoolManager:
    """Return a pool manager for URLs of one scheme; no connection is opened yet.

    If no proxy is used, *destinations* checks each address before and after the address is dialled.
    Raises: OSError if the certificate authorities cannot be read.
    """
    secure = scheme == "https" or (proxy or "").startswith("https:")
    options: dict[str, Any] = {
        "num_pools": 32,
        "maxsize": _KEPT,
        "block": False,
        "ssl_context": contexts.find(config) if secure else None,
        "timeout": urllib3.Timeout(connect=config.connect_timeout, read=config.read_timeout),
    }
    manager = urllib3.PoolManager(**options) if proxy is None else _proxied(proxy, options)
    checked = None if proxy else destinations
    manager.pool_classes_by_scheme = {
        "http": partial(_PlainPool, destinations=checked),  # type: ignore[dict-item]
        "https": partial(_SecurePool, destinations=checked),  # type: ignore[dict-item]
    }
    return manager


class TlsContexts:
    """A `TlsContexts` shares TLS contexts among upstreams with the same trust settings.

    Any thread may call a `TlsContexts`.

    PERF: loading the system's certificate authorities takes 20 ms and a third of a MiB.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._known: BoundedDict[_Trust, ssl.SSLContext] = BoundedDict(_MOST_CONTEXTS)

    def find(self, config: UpstreamConfig) -> ssl.SSLContext:
        """Return the TLS context for an upstream; reread the file of authorities after a change.

        Raises: OSError.
        """
        trust = _trust(config)
        with self._lock:
            found = self._known.get(trust) or _tls(config)
            # Mark the context as used, because the least recently used context is dropped first.
            self._known.keep(trust, found)
            return found


def _trust(config: UpstreamConfig) -> _Trust:
    """Return every setting that a TLS context depends on. Raises: OSError."""
    if config.ca is None:
        return config.insecure, None, 0, 0
    found = config.ca.stat()
    return config.insecure, config.ca, found.st_mtime_ns, found.st_ino


def _proxied(proxy: str, options: Mapping[str, Any]) -> urllib3.ProxyManager:
    target = urlsplit(proxy)
    headers = None
    if target.username is not None:
        pair = f"{unquote(target.username)}:{unquote(target.password or '')}"
        headers = urllib3.make_headers(proxy_basic_auth=pair)
    return urllib3.ProxyManager(proxy, proxy_headers=headers, **options)


def _tls(config: UpstreamConfig) -> ssl.SSLContext:
    """Return a TLS context that trusts the system's and the operator's authorities.

    If the setting `insecure` is set, the TLS context accepts any certificate.
    """
    context = ssl.create_default_context()
    # Python 3.13 rejects authorities without keyUsage, which other clients accept. Python 3.13 also
    # trusts an intermediate authority without its root. Both flags are set explicitly, so that all
    # versions of Python accept the same certificates.
    context.verify_flags &= ~ssl.VERIFY_X509_STRICT
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    if config.ca is not None:
        context.load_verify_locations(config.ca)
    if config.insecure:
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return context


class StaleConnection(ConnectionResetError):  # noqa: N818 - the name states the fact
    """A `StaleConnection` is a reused connection that failed before it returned a byte.

    `is_lost` is True if the network drops the packets of the connection, so that the upstream may
    have received the request.
    """

    def __init__(self, message: str, *, is_lost: bool = False) -> None:
        super().__init__(message)
        self.is_lost = is_lost


class _Plain(HTTPConnection):
    """A `_Plain` is an HTTP connection that `dial` opens within one time-out.

    `answered` is True if a response has arrived over this connection.
    """

    response_class = BoundedResponse
    answered = False

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - as in urllib3
        destinations: Destinations | None = None,
        **more: Any,  # noqa: ANN401 - as in urllib3
    ) -> None:
        super().__init__(*args, **more)
        self.destinations = destinations

    def _new_conn(self) -> socket.socket:
        self.answered = False
        return _connect(self, self._dns_host, self.destinations, "http")

    def putrequest(self, method: str, url: str, *args: Any, **more: Any) -> None:  # noqa: ANN401
        """Send the request target byte for byte as in the URL."""
        super().putrequest(method, as_written(url), *args, **more)

    def _encode_request(self, request: str) -> bytes:
        return request.encode("latin-1")

    def getresponse(  # type: ignore[override]  # as in urllib3
        self,
    ) -> urllib3.HTTPResponse:
        """Wait for the status line and the headers."""
        with _detecting_stale(kept=self.answered):
            response = super().getresponse()
        self.answered = True
        return response


class _Secure(HTTPSConnection):
    """A `_Secure` connection uses TLS.

    A time-out of the TLS handshake raises the exception of a connect time-out.
    """

    response_class = BoundedResponse
    answered = False

    def __init__(
        self,
        *args: Any,  # noqa: ANN401 - as in urllib3
        destinations: Destinations | None = None,
        **more: Any,  # noqa: ANN401 - as in urllib3
    ) -> None:
        super().__init__(*args, **more)
        self.destinations = destinations

    def connect(self) -> None:
        """Connect to the host, and perform the TLS handshake."""
        try:
            super().connect()
        except TimeoutError as error:
            raise exceptions.ConnectTimeoutError(self, "no TLS handshake in time") from error

    def _new_conn(self) -> socket.socket:
        self.answered = False
        return _connect(self, self._dns_host, self.destinations, "https")

    def putrequest(self, method: str, url: str, *args: Any, **more: Any) -> None:  # noqa: ANN401
        """Send the request target byte for byte as in the URL."""
        super().putrequest(method, as_written(url), *args, **more)

    def _encode_request(self, request: str) -> bytes:
        return request.encode("latin-1")

    def getresponse(  # type: ignore[override]  # as in urllib3
        self,
    ) -> urllib3.HTTPResponse:
        """Wait for the status line and the headers."""
        with _detecting_stale(kept=self.answered):
            response = super().getresponse()
        self.answered = True
        return response


class _PlainPool(HTTPConnectionPool):
    ConnectionCls = _Plain


class _SecurePool(HTTPSConnectionPool):
    """A `_SecurePool`, unlike urllib3's pool, does not warn on each `insecure` request."""

    ConnectionCls = _Secure

    def _validate_conn(self, conn: BaseHTTPConnection) -> None:
        if conn.is_closed:
            conn.connect()


def _connect(
    connection: HTTPConnection, host: str, destinations: Destinations | None, scheme: str
) -> socket.socket:
    """Return a connected socket; raise errors as urllib3's own exceptions.

    Raises: exceptions.HTTPError, AddressRefused.
    """
    timeout = connection.timeout if isinstance(connection.timeout, int | float) else 30.0
    try:
        if destinations is None:
            return dial(host, connection.port, timeout)
        return _dial_checked(host, connection.port, timeout, destinations, scheme)
    except socket.gaierror as error:
        raise exceptions.NameResolutionError(host, connection, error) from error
    except TimeoutError as error:
        raise exceptions.ConnectTimeoutError(connection, str(error)) from error
    except OSError as error:
        raise exceptions.NewConnectionError(connection, str(error)) from error


def _dial_checked(
    host: str, port: int, timeout: float, destinations: Destinations, scheme: str
) -> socket.socket:
    origin = RawOrigin(scheme, host.strip("[]").lower(), port)
    dialled = dial(host, port, timeout, lambda found: destinations.permitted(origin, found))
    try:
        destinations.check_dialled(origin, dialled.getpeername()[0])
    except BaseException:
        dialled.close()
        raise
    return dialled


@contextmanager
def _detecting_stale(*, kept: bool) -> Iterator[None]:
    try:
        yield
    except (ConnectionError, ssl.SSLEOFError, TimeoutError) as error:
        is_lost = isinstance(error, TimeoutError)
        # ETIMEDOUT comes from the operating system: the request was never acknowledged. A
        # TimeoutError without an errno is this client's read time-out.
        if not kept or (is_lost and error.errno != errno.ETIMEDOUT):
            raise
        raise StaleConnection(str(error), is_lost=is_lost) from error
