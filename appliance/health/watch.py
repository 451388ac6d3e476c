"""Run each health check in a separate thread, and publish the results.

A system call on a network disk can hang for ever. Because each check has its own thread, a check
that hangs does not delay the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping, Sequence

from entrepot.appliance.health.check_state import CheckState
from entrepot.appliance.health.checks import Check

_log = logging.getLogger(__name__)

_RETRY_S = 1.0


class HealthWatch:
    """A `HealthWatch` runs *checks* until `stop`, and calls *publish* when the results change.

    *publish* gets the failing checks with their reasons, and returns whether it succeeded. If
    *publish* fails, it is called again. Each check runs for the first time one interval after the
    start, as in docker distribution.
    """

    def __init__(
        self, checks: Sequence[Check], publish: Callable[[Mapping[str, str]], bool]
    ) -> None:
        self._checks = checks
        self._publish = publish
        self._lock = threading.Lock()
        self._changed = threading.Event()
        self._states = [
            CheckState(each.threshold, each.interval + each.patience) for each in checks
        ]
        self._is_stopped = threading.Event()
        self._pause = min((each.interval for each in checks), default=_RETRY_S)
        self._threads: list[threading.Thread] = []

    def start(self) -> None:
        """Start the threads of the checks."""
        for check, state in zip(self._checks, self._states, strict=True):
            self._begin(f"check {check.name}", self._run, check, state)
        self._begin("health", self._report)

    def stop(self) -> None:
        """Stop the threads, and wait at most 1 s for them, because a thread can hang."""
        self._is_stopped.set()
        self._changed.set()
        deadline = time.monotonic() + _RETRY_S
        for each in self._threads:
            each.join(max(deadline - time.monotonic(), 0.0))

    def failing(self) -> dict[str, str]:
        """Return a map from the name of each failing check to the reason of the failure."""
        now = time.monotonic()
        with self._lock:
            reasons = [state.failing(now) for state in self._states]
        pairs = zip(self._checks, reasons, strict=True)
        return {check.name: reason for check, reason in pairs if reason}

    def _begin(self, name: str, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, name=name, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _run(self, check: Check, state: CheckState) -> None:
        while not self._is_stopped.wait(check.interval):
            with self._lock:
                state.begin(time.monotonic())
            try:
                reason = check.look()
            except Exception as error:  # noqa: BLE001 - if the thread ended, the check would pass
                _log.exception("health check broken", extra={"check": check.name})
                reason = f"{type(error).__name__}: {error}"
            with self._lock:
                state.end(reason)
            self._changed.set()

    def _report(self) -> None:
        published: dict[str, str] = {}
        is_published = True
        while not self._is_stopped.is_set():
            # The flag is cleared before the results are read. If a result changes in between, the
            # flag is set again, so that the loop reads the results once more.
            self._changed.clear()
            found = self.failing()
            if found != published or not is_published:
                _log_changes(published, found)
                published, is_published = found, self._publish(found)
            self._changed.wait(self._pause if is_published else min(self._pause, _RETRY_S))


def _log_changes(before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for name in now.keys() - before.keys():
        _log.warning("health check fails", extra={"check": name, "reason": now[name]})
    for name in before.keys() - now.keys():
        _log.info("health check passes again", extra={"check": name})
