"""Asks whether an upstream as a whole answers, when what was asked of it failed.

A client chooses what is asked: some registries answer 500 to a layer's digest as a manifest, and a
repository may redirect to a host that is gone. Three such requests must not keep all clients from
that upstream. So before its breaker opens, `/v2/` is asked, which no client has a part in.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping

from entrepot.registry.upstream.wire import ConnectionBroken, Request, Wire
from entrepot.runtime.clock import elapsed

_WITHIN_S = 3.0
_HOLDS_S = 1.0
_SERVER_ERROR = 500


class Liveness:
    """One upstream's, at *url*; an answer holds for a second, and one thread at a time asks."""

    def __init__(
        self,
        wire: Wire,
        url: str,
        headers: Mapping[str, str],
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._wire = wire
        self._request = Request("GET", url, headers, within=_WITHIN_S)
        self._clock = clock
        self._lock = threading.Lock()
        self._until = 0.0

    def confirmed(self) -> bool:
        """Return whether it answers at all: 401 and 404 are answers, 5xx is none."""
        with self._lock:
            if self._clock() < self._until:
                return True
            if not self._answers():
                return False
            self._until = self._clock() + _HOLDS_S
            return True

    def _answers(self) -> bool:
        try:
            answer = self._wire.send(self._request)
        except ConnectionBroken:
            return False
        answer.close()
        return answer.status < _SERVER_ERROR
