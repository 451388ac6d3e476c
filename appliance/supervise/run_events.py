"""Wake `serve` after a request for the state, and after a deletion in the run directory."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.runtime.file_events import CHANGED, DELETED, FileEvents
from entrepot.runtime.run_names import STATE_REQUEST


class RunEvents:
    """A `RunEvents` watches the run directory *run*, and makes `signals.wait` return on a change.

    `are_watched` is False if the kernel refuses a watch; then the caller must poll.
    """

    def __init__(self, run: Path, signals: StopSignals) -> None:
        self.are_watched = False
        self._events: FileEvents | None = None
        with suppress(OSError):
            self._events = FileEvents()
            self._events.watch(run / STATE_REQUEST, CHANGED)
            self._events.watch(run, DELETED)
            signals.end_wait_with(self._events.fd)
            self.are_watched = True

    def clear(self) -> None:
        """Forget the earlier events, so that only a later event ends the next wait."""
        if self._events is not None:
            self._events.clear()

    def close(self) -> None:
        """Close the descriptor. Call this method after the last wait."""
        if self._events is not None:
            self._events.close()
