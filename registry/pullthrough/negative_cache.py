"""What an upstream does not have is remembered for a few seconds."""

from __future__ import annotations

import threading
from collections.abc import Callable

from entrepot.registry.errors import Absent
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.runtime.clock import elapsed

_MOST = 10_000


class NegativeCache:
    """The 404s of one worker, by repository and reference."""

    def __init__(self, clock: Callable[[], float] = elapsed) -> None:
        self._clock = clock
        self._until: dict[tuple[str, str], float] = {}
        self._lock = threading.Lock()

    def check(self, resolved: ResolvedRepository, reference: object) -> None:
        """Raises: Absent while the last 404 is still remembered."""
        until = self._until.get((resolved.repository.name, str(reference)))
        if until is not None and self._clock() < until:
            raise Absent(resolved.host, f"has no {resolved.remote} {reference}, it said just now")

    def remember(self, resolved: ResolvedRepository, reference: object) -> None:
        """Keep a 404 for as long as the upstream's operator said, from the first one on."""
        ttl = resolved.upstream.source.negative_ttl if resolved.upstream else 0
        key = (resolved.repository.name, str(reference))
        with self._lock:
            if len(self._until) >= _MOST:
                self._until.clear()
            if self._until.get(key, 0.0) <= self._clock():
                self._until[key] = self._clock() + ttl
