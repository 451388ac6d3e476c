"""Report the requests of one process to the object storage, for the metrics of the appliance.

A process whose requests are not counted (a check, a migration) uses the report `silent`.
"""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Final, TypeVar

from obstore.exceptions import (
    AlreadyExistsError,
    BaseError,
    PermissionDeniedError,
    PreconditionError,
    UnauthenticatedError,
)

from entrepot.datastore.accesslog import STORAGE_EVENT

Report = Callable[..., None]
"""A `Report` takes the name of an event and its fields, and never raises an exception."""

STATUS: Final = re.compile(r"status code: (\d{3})")
"""obstore has the status of a response only in the text of its exceptions."""

_NO_ANSWER = "none"
_ABORTED = "aborted"
_STATUSES: Final = (
    (FileNotFoundError, "404"),
    (AlreadyExistsError, "412"),
    (PreconditionError, "412"),
    (PermissionDeniedError, "403"),
    (UnauthenticatedError, "401"),
)

T = TypeVar("T")


def silent(event: str, /, **fields: str | float) -> None:
    """Report nothing."""


class RequestReport:
    """A `RequestReport` reports each request of a process to *report*; `driver` labels them."""

    def __init__(self, driver: str, report: Report = silent) -> None:
        self._driver = driver
        self._report = report

    @contextmanager
    def request(self, action: str, sent: Callable[[], int] = int) -> Iterator[None]:
        """Measure one request until its answer begins.

        *action* is the name that docker distribution's metrics have for the request. *sent* returns
        the number of bytes that an accepted request has written.
        """
        if self._report is silent:
            yield
            return
        began, status = time.monotonic(), "2xx"
        try:
            yield
        except Exception as error:
            status = _status(error)
            raise
        finally:
            self._say(
                "request",
                action=action,
                status=status,
                seconds=round(time.monotonic() - began, 6),
                bytes=sent() if status == "2xx" else 0,
            )

    def received(self, count: int) -> None:
        """Report that *count* bytes of an object were read."""
        if count:
            self._say("read", bytes=count)

    def repeats(self) -> None:
        """Report that a request failed and is sent once more."""
        self._say("retry")

    def circuit(self, *, is_open: bool) -> None:
        """Report that the circuit of this process has opened or closed."""
        self._say("circuit", state="open" if is_open else "closed")

    def _say(self, what: str, **fields: str | float) -> None:
        self._report(STORAGE_EVENT, what=what, driver=self._driver, **fields)


def _status(error: Exception) -> str:
    """Return the status of the response that became an exception.

    The status is `none` without a response, and `aborted` if the appliance gave the request up.
    """
    if not isinstance(error, BaseError | OSError | ValueError):
        return _ABORTED
    found = next((text for kind, text in _STATUSES if isinstance(error, kind)), None)
    if found is not None:
        return found
    status = STATUS.search(str(error))
    return status[1] if status else _NO_ANSWER
