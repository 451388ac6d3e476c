"""Define the health checks: functions that return why a check fails, or an empty string.

The checks do the same as those of docker distribution (health/checks/checks.go). In addition, a
check that does not return in time counts as a failure.
"""

from __future__ import annotations

import socket
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from entrepot.config.health import FileCheck, HttpCheck, TcpCheck
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.drivers.table import open_storage
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.storage import Storage

_MOST_REDIRECTS = 10  # Go's HTTP client, which docker distribution uses, has the same limit.


@dataclass(frozen=True, slots=True)
class Check:
    """A `Check` is one configured check; the function `look` runs it once.

    The check runs every `interval` seconds. If a run takes longer than the sum of `interval` and
    `patience` (in seconds), the run counts as a failure.
    """

    name: str
    look: Callable[[], str]
    interval: float
    patience: float
    threshold: int


def configured(settings: Settings) -> Iterator[Check]:
    """Yield the checks of `health:`, with the names that docker distribution gives them."""
    health = settings.health
    driver = health.storagedriver
    if driver.enabled:
        storage = open_storage(settings.storage)
        name = f"storagedriver_{settings.storage.driver}"
        yield Check(name, lambda: storage_fault(storage), driver.interval, 0, driver.threshold)
    yield from map(_of_file, health.file)
    yield from map(_of_http, health.http)
    yield from map(_of_tcp, health.tcp)


def storage_fault(storage: Storage) -> str:
    """Return why the storage does not respond, or an empty text.

    A missing data directory is no fault, as in docker distribution.
    """
    try:
        storage.stat(layout.BLOBS)
    except DatastoreError as error:
        return str(error)
    return ""


def file_fault(path: Path) -> str:
    """Return a fault if the file exists, or if an error prevents this check."""
    try:
        path.stat()
    except FileNotFoundError:
        return ""
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "file exists"


def http_fault(check: HttpCheck) -> str:
    """Return a fault if the response to a HEAD request has another status than expected.

    The request follows redirects, and the server's certificate is verified.
    """
    import urllib3  # noqa: PLC0415 - 40 ms and 6 MB, only for these checks

    retry = urllib3.Retry(
        total=None, connect=0, read=0, redirect=_MOST_REDIRECTS, status=0, other=0
    )
    headers = urllib3.HTTPHeaderDict()
    for name, values in check.headers.items():
        for value in values:
            headers.add(name, value)
    with urllib3.PoolManager(retries=retry, timeout=urllib3.Timeout(check.timeout)) as pool:
        try:
            response = pool.request("HEAD", check.uri, headers=headers, preload_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            return f"{check.shown_uri}: error while checking: {_short(error)}"
        response.release_conn()
        if response.status == check.statuscode:
            return ""
    return f"{check.shown_uri}: downstream service returned unexpected status: {response.status}"


def tcp_fault(check: TcpCheck) -> str:
    """Return a fault if the address does not accept a connection."""
    host, _, port = check.addr.rpartition(":")
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=check.timeout).close()
    except (OSError, UnicodeError) as error:
        return f"{check.addr}: connection failed: {_short(error)}"
    return ""


def _of_file(check: FileCheck) -> Check:
    path = Path(check.file)
    return Check(check.file, lambda: file_fault(path), check.interval, 0, 0)


def _of_http(check: HttpCheck) -> Check:
    patience = check.timeout * (_MOST_REDIRECTS + 1)
    return Check(
        check.shown_uri, lambda: http_fault(check), check.interval, patience, check.threshold
    )


def _of_tcp(check: TcpCheck) -> Check:
    # If the host has several addresses, they are tried one after another, each until the time-out.
    patience = check.timeout * 4
    return Check(check.addr, lambda: tcp_fault(check), check.interval, patience, check.threshold)


def _short(error: Exception) -> str:
    """Return the innermost reason of an error, without addresses of Python objects."""
    reason = getattr(error, "reason", None) or error
    if isinstance(reason, OSError) and reason.strerror:
        return reason.strerror.lower()
    return type(reason).__name__ if " object at 0x" in str(reason) else str(reason)[:200]
