"""Report each request of one process to the object storage, for the metrics of the appliance.

The metrics do not count the requests of a check or a migration, because these programs use the
report `silent`.
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
"""This pattern finds the status of a response in the text of obstore's exceptions.

The exceptions have no attribute for the status.
"""

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
    """A `RequestReport` calls *report* for each request of a process.

    *driver* is the value of the label `driver` in the metrics.
    """

    def __init__(self, driver: str, report: Report = silent) -> None:
        self._driver = driver
        self._report = report

    @contextmanager
    def request(self, action: str, sent: Callable[[], int] = int) -> Iterator[None]:
        """Measure the time of one request until its response begins, and report the request.

        *action* is the name of the request in docker distribution's metrics. *sent* returns the
        number of bytes that the request has written.
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
    """Return the status of the response for which obstore raised *error*.

    Return `none` if there was no response, and `aborted` if the appliance itself ended the request.
    """
    if not isinstance(error, BaseError | OSError | ValueError):
        return _ABORTED
    found = next((text for kind, text in _STATUSES if isinstance(error, kind)), None)
    if found is not None:
        return found
    status = STATUS.search(str(error))
    return status[1] if status else _NO_ANSWER
