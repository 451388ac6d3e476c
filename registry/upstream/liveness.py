"""Check whether an upstream as a whole responds, after a request to the upstream failed.

Clients choose the repository and the reference of a request, so a request may fail although the
upstream works. For example, some registries respond 500 to a GET of a manifest by the digest of a
layer, and a repository may redirect to a dead host. Three failed requests of one client must not
block the upstream for all clients. So if a connection was established, the worker requests `/v2/`,
which does not depend on any client, before the breaker opens.
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
    """A `Liveness` checks one upstream with a GET of *url*.

    A positive result of the check is valid for a second. Only one thread sends the check's request
    at a time.
    """

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
        """Return whether the upstream responds with any status below 500, such as 401 or 404."""
        with self._lock:
            if self._clock() < self._until:
                return True
            if not self._answers():
                return False
            self._until = self._clock() + _HOLDS_S
            return True

    def _answers(self) -> bool:
        try:
            response = self._wire.send(self._request)
        except ConnectionBroken:
            return False
        response.close()
        return response.status < _SERVER_ERROR
