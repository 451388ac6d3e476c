"""Log the first failure of an operation, and its first success after that."""

from __future__ import annotations

import logging


class LogOnce:
    """A `LogOnce` holds the state of an operation that can fail repeatedly, and logs each change.

    It logs the message *failing* at the first failure, and the message *again* at the next success.
    """

    def __init__(self, log: logging.Logger, failing: str, again: str) -> None:
        self._log = log
        self._failing = failing
        self._again = again
        self.is_open = False

    def failed(self, error: Exception) -> None:
        """Record a failure; log the first failure as a warning."""
        if not self.is_open:
            self._log.warning(self._failing, extra={"error": error})
        self.is_open = True

    def worked(self) -> None:
        """Record a success; log the first success after a failure."""
        if self.is_open:
            self._log.info(self._again)
        self.is_open = False
