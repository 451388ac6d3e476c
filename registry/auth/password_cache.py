"""Cache the results of password checks.

Clients send their password with every request, and each bcrypt check takes 3 to 90 ms of CPU time.
With the cache, one thread checks each credential once. Other threads with the same credential wait
for the result.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future

from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.clock import elapsed


def _unchanging() -> int:
    return 0


class PasswordCache:
    """A `PasswordCache` caches results of *check* until the value of *generation* changes.

    The password cache keeps a correct credential for *good_for* seconds and a wrong credential for
    *bad_for* seconds, and at most *most* entries of each kind. Correct and wrong credentials are
    kept separately, so wrong guesses do not evict the entries of users. An entry of the password
    cache is a keyed digest, which is useless outside of its process. If *check* raises an
    exception, all waiting threads raise that exception, and the cache stores nothing.
    """

    def __init__(
        self,
        check: Callable[..., bool],
        *,
        generation: Callable[[], int] = _unchanging,
        clock: Callable[[], float] = elapsed,
        good_for: float = 300.0,
        bad_for: float = 10.0,
        most: int = 4096,
    ) -> None:
        self._check = check
        self._generation = generation
        self._clock = clock
        self._lifetimes = {True: good_for, False: bad_for}
        self._entries: dict[bool, BoundedDict[bytes, float]] = {
            True: BoundedDict(most),
            False: BoundedDict(most),
        }
        self._running: dict[bytes, Future[bool]] = {}
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)

    def __call__(self, user: str, password: str, *how: object) -> bool:
        """Return whether the password is correct; *check* also receives the arguments *how*.

        Raises: every exception that *check* raises.
        """
        credential = f"{self._generation()}\0{user}\0{password}".encode()
        key = hmac.digest(self._secret, credential, "sha256")
        result = self._cached(key)
        return self._checked(key, user, password, *how) if result is None else result

    def _cached(self, key: bytes) -> bool | None:
        # PERF: this look-up takes no lock, because dict.get is atomic.
        now = self._clock()
        return next(
            (each for each, entries in self._entries.items() if entries.get(key, now) > now), None
        )

    def _checked(self, key: bytes, user: str, password: str, *how: object) -> bool:
        with self._lock:
            result = self._cached(key)
            if result is not None:
                return result
            running = self._running.get(key)
            future = self._running.setdefault(key, Future())
        if running is not None:
            return running.result()
        try:
            future.set_result(self._check(user, password, *how))
        except BaseException as error:  # noqa: BLE001 - `result` raises it in all threads
            future.set_exception(error)
        self._settle(key, future)
        return future.result()

    def _settle(self, key: bytes, future: Future[bool]) -> None:
        with self._lock:
            del self._running[key]
            if future.exception() is not None:
                return
            entries = self._entries[future.result()]
            entries.keep(key, self._clock() + self._lifetimes[future.result()])
