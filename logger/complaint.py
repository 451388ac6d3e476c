"""Says once that something does not work, and once that it works again."""

from __future__ import annotations

import logging


class Complaint:
    """About one thing that may fail for long: a warning at the first failure, not at each."""

    def __init__(self, log: logging.Logger, failing: str, again: str) -> None:
        self._log = log
        self._failing = failing
        self._again = again
        self.is_open = False

    def failed(self, error: Exception) -> None:
        """Note a failure."""
        if not self.is_open:
            self._log.warning(self._failing, extra={"error": error})
        self.is_open = True

    def worked(self) -> None:
        """Note a success."""
        if self.is_open:
            self._log.info(self._again)
        self.is_open = False
