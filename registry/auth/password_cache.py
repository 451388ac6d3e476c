"""What a costly check said of a credential, remembered for a while.

Clients send their password with every request and bcrypt takes 3 to 90 ms of a core: it is paid
once, by one thread, whoever else brings the same credential meanwhile.
"""

from __future__ import annotations

import hmac
import secrets
import threading
from collections.abc import Callable
from concurrent.futures import Future

from entrepot.runtime.clock import elapsed


def _unchanging() -> int:
    return 0


class PasswordCache:
    """Answers like *check*, which is asked again after a while or when *generation* has changed.

    A good credential is remembered for *good_for* s, a wrong one for *bad_for* s, at most *most*
    of each, apart from each other: guessing pushes no user out. What is kept is a keyed digest,
    of no use outside of this process. An error of *check* reaches all who wait, and is forgotten.
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
        self._spans = {True: good_for, False: bad_for}
        self._kept: dict[bool, dict[bytes, float]] = {True: {}, False: {}}
        self._most = most
        self._running: dict[bytes, Future[bool]] = {}
        self._lock = threading.Lock()
        self._secret = secrets.token_bytes(32)

    def __call__(self, user: str, password: str, *how: object) -> bool:
        """Tell whether the password is right; *check* is given *how* too.

        Raises: what *check* raises.
        """
        credential = f"{self._generation()}\0{user}\0{password}".encode()
        key = hmac.digest(self._secret, credential, "sha256")
        verdict = self._remembered(key)
        return self._asked(key, user, password, *how) if verdict is None else verdict

    def _remembered(self, key: bytes) -> bool | None:
        # PERF: without the lock; a dict's get is whole
        now = self._clock()
        return next((each for each, kept in self._kept.items() if kept.get(key, now) > now), None)

    def _asked(self, key: bytes, user: str, password: str, *how: object) -> bool:
        with self._lock:
            verdict = self._remembered(key)
            if verdict is not None:
                return verdict
            others = self._running.get(key)
            mine = self._running.setdefault(key, Future())
        if others is not None:
            return others.result()
        try:
            mine.set_result(self._check(user, password, *how))
        except BaseException as error:  # noqa: BLE001 - `result` raises it, here and there
            mine.set_exception(error)
        self._settle(key, mine)
        return mine.result()

    def _settle(self, key: bytes, asked: Future[bool]) -> None:
        with self._lock:
            del self._running[key]
            if asked.exception() is not None:
                return
            kept = self._kept[asked.result()]
            kept.pop(key, None)
            while len(kept) >= self._most:
                del kept[next(iter(kept))]
            kept[key] = self._clock() + self._spans[asked.result()]
