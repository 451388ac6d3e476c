"""Renew the claim of this appliance on its bucket in a thread of the cleaner."""

from __future__ import annotations

import logging
import threading

from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.owned import RENEW_S, StorageClaim, StorageCopies

log = logging.getLogger(__name__)

_RETRY_S = 2.0


class BucketOwner:
    """A `BucketOwner` is a thread that renews *claim* every 15 s until *stop* is set.

    After a failure it tries again every 2 s. While this appliance owns the bucket, the thread also
    starts repairs: values that the bucket has lost are written again from the local copies in
    *copies*.
    """

    def __init__(
        self, claim: StorageClaim, stop: threading.Event, copies: StorageCopies | None = None
    ) -> None:
        self._claim = claim
        self._copies = copies
        self._stop = stop
        self._is_failing = False

    def start(self) -> None:
        """Start the thread."""
        threading.Thread(target=self._run, name="bucket owner", daemon=True).start()

    def turn(self) -> float:
        """Renew the claim, or try to become the owner; return the time until the next call (s)."""
        try:
            was_held = self._claim.is_held
            is_held = self._claim.renew()
        except DatastoreError as error:
            if not self._is_failing:
                log.warning("the claim on the bucket was not renewed", extra={"error": error})
            self._is_failing = True
            return _RETRY_S
        if is_held and (self._is_failing or was_held is False):
            log.info("this appliance owns the bucket")
        self._is_failing = False
        if is_held and self._copies is not None:
            self._copies.begin_repair()
        return RENEW_S

    def _run(self) -> None:
        wait = 0.0
        while not self._stop.wait(wait):
            wait = self.turn()
