"""Suspend the requests of one process to a storage that does not respond (a circuit breaker)."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Final

from entrepot.datastore.errors import StorageBroken

_NEVER: Final = float("-inf")


class NotSent(StorageBroken):
    """A request was not sent, because earlier requests to the storage got no response."""


class StorageCircuit:
    """A `StorageCircuit` is the circuit breaker of one process for its storage.

    Two failures within two seconds, without a success in between, open the circuit. While it is
    open, one request a second is sent as a probe, and all other requests fail immediately. A
    request that succeeds closes the circuit. `timer` returns monotonic time in seconds. The circuit
    calls `report` with True when it opens, and with False when it closes.
    """

    _TOGETHER_S = 2.0
    _PROBE_S = 1.0

    def __init__(self, timer: Callable[[], float] = time.monotonic) -> None:
        self.report: Callable[[bool], None] = lambda _: None
        self._timer = timer
        self._lock = threading.Lock()
        self._failed = _NEVER
        self._answered = _NEVER
        self._next_probe: float | None = None

    def has_answered(self, within_s: float) -> bool:
        """Return whether a request succeeded in the last *within_s* seconds.

        Return False if a later request has failed.
        """
        return self._timer() - self._answered <= within_s

    @property
    def is_open(self) -> bool:
        """Return whether the circuit is open: requests other than probes fail immediately."""
        return self._next_probe is not None

    def admit(self) -> None:
        """Permit one request. Raises: NotSent if the circuit is open and no probe is due."""
        if not self.is_open:  # PERF: no lock is needed while the storage responds.
            return
        with self._lock:
            now = self._timer()
            due = self._next_probe
            if due is None:
                return
            if now < due:
                raise NotSent("the storage does not respond")
            self._next_probe = now + self._PROBE_S

    def failed(self) -> None:
        """Record that a request failed for a reason that would make any request fail."""
        with self._lock:
            now, was_open = self._timer(), self.is_open
            if was_open or now - self._failed <= self._TOGETHER_S:
                self._next_probe = now + self._PROBE_S
            self._failed, self._answered = now, _NEVER
            has_opened = self.is_open and not was_open
        if has_opened:
            self.report(True)

    def now(self) -> float:
        """Return the current monotonic time in seconds."""
        return self._timer()

    def worked(self, began: float | None = None) -> None:
        """Record that the storage has responded to a request that was sent at *began*.

        The response proves only that the storage worked at some time after *began*: the process may
        have been suspended after the storage sent the response. Therefore *began* is recorded as
        the time of the response.
        """
        if began is not None and began >= self._failed:
            self._answered = began
        if self._failed != _NEVER:  # PERF: no lock is needed while the storage responds.
            with self._lock:
                was_open = self.is_open
                self._failed, self._next_probe = _NEVER, None
            if was_open:
                self.report(False)
