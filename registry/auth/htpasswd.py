"""Read the password file, which has lines `user:bcrypt-hash`, as `htpasswd -B` writes them.

The registry accepts only bcrypt, as docker distribution does, because the other hashes of htpasswd
are so fast that an attacker with the file can guess passwords.
"""

from __future__ import annotations

import os
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from entrepot.registry.errors import InvalidHtpasswd, Overloaded
from entrepot.registry.fair_queue import FairQueue
from entrepot.runtime.htpasswd import Fault, PasswordLine, lines
from entrepot.runtime.reloading_file import ReloadingFile, Snapshot

# bcrypt uses only this many bytes of a password. htpasswd(1) silently truncates a longer password,
# but the Python library raises an error, so this module truncates it.
_LONGEST_PASSWORD = 72
_DEFAULT_COST = b"10"
_GUESS_PATIENCE_FACTOR = 3
_BUSY = "too many passwords are being checked; retry later"
_HASH_KINDS = {"$apr1$": "MD5", "$1$": "MD5", "{SHA}": "SHA-1", "$5$": "SHA-256", "$6$": "SHA-512"}


@dataclass(frozen=True, slots=True)
class Passwords:
    """A `Passwords` maps the users of a password file to their `hashes`.

    A check against `dummy_hash` costs as much as against a user's hash, and no password matches
    `dummy_hash`.
    """

    hashes: Mapping[str, bytes]
    dummy_hash: bytes

    def of(self, user: str) -> bytes:
        """Return the hash for a check of the password of *user*, even if there is no such user.

        The check for an unknown user takes as long as for a known user, so the time does not reveal
        which users exist.
        """
        return self.hashes.get(user, self.dummy_hash)


def parse(content: bytes) -> Passwords:
    """Parse a password file; if a user has several lines, the last one is used.

    Raises: InvalidHtpasswd, whose message lists all problems of the file and contains no hash.
    """
    hashes: dict[str, bytes] = {}
    problems: list[str] = []
    for line in lines(content):
        if line.fault is None:
            hashes[line.user] = line.hashed.encode()
        else:
            problems.append(f"line {line.number}: {_problem(line)}")
    if problems:
        raise InvalidHtpasswd(tuple(problems))
    return Passwords(hashes, _dummy_hash(hashes.values()))


Users = Callable[[], Snapshot[Mapping[str, bytes]]]
"""A `Users` returns users that are not from the password file, with their password hashes."""


def no_users() -> Snapshot[Mapping[str, bytes]]:
    """Return an empty set of users and hashes."""
    return Snapshot({}, 0)


@dataclass(frozen=True, slots=True)
class LoginSource:
    """A `LoginSource` holds the `address` (for IPv6, the /64 network) from which a login comes.

    `is_guessing` is True if that address sent many wrong passwords for the same user (in the forms
    of token requests: for any users).
    """

    address: str = ""
    is_guessing: bool = False


_UNKNOWN_SOURCE = LoginSource()


class Htpasswd:
    """An `Htpasswd` checks passwords against the file at *path* and reloads a changed file.

    *users* returns additional users; if a user is also in the file, only the password in *users* is
    valid. *kept* is the path at which `ReloadingFile` stores the last valid content of the file.

    At most *at_once* passwords are checked at a time: bcrypt occupies a core, but releases the
    interpreter lock. Up to *waiting* checks wait in a queue, in which the client addresses take
    turns. If the queue is full, or if a check waits longer than *patience* seconds, the check calls
    *refused* and raises Overloaded.

    Checks for unknown user names, and after many wrong passwords for one user from one address,
    wait in a separate queue, for up to three times *patience*. One thread with the lowest priority
    performs the checks in that queue. So a flood of guessed passwords does not delay users. Raises,
    in the constructor only: OSError, InvalidHtpasswd.
    """

    def __init__(  # noqa: PLR0913 - passed by name, all with a default
        self,
        path: Path | None,
        *,
        users: Users = no_users,
        kept: Path | None = None,
        at_once: int = 2,
        waiting: int = 64,
        patience: float = 10.0,
        clock: Callable[[], float] = time.time,
        compare: Callable[[bytes, bytes], bool] = bcrypt.checkpw,
        refused: Callable[[], None] = lambda: None,
    ) -> None:
        self._file = path and ReloadingFile(
            path, parse, clock=clock, errors=(InvalidHtpasswd,), last_good=kept
        )
        self._users = users
        self._merged = self._merge(self._sources())
        self._known = FairQueue(at_once, waiting=waiting, each=max(waiting // 2, 1), busy=_BUSY)
        self._guesses = FairQueue(1, waiting=4 * waiting, each=max(2 * waiting, 1), busy=_BUSY)
        self._background = ThreadPoolExecutor(1, "guesses", initializer=_yield_to_others)
        self._patience = patience
        self._compare = compare
        self._refused = refused

    @property
    def generation(self) -> int:
        """Return a number that rises with each change of the password file or of *users*."""
        return sum(each.generation for each in self._sources())

    def refresh(self) -> None:
        """Reload the password file if it has changed; the source of *users* reloads itself."""
        if self._file:
            self._file.refresh()

    def __call__(self, user: str, password: str, source: LoginSource = _UNKNOWN_SOURCE) -> bool:
        """Check one password of a user. Raises: Overloaded."""
        passwords = self._passwords()
        offered = password.encode()[:_LONGEST_PASSWORD]
        try:
            if user not in passwords.hashes or source.is_guessing:
                return self._guessed(user, offered, passwords.of(user), source)
            return self._checked(offered, passwords.of(user), source)
        except Overloaded:
            self._refused()
            raise

    def hash_of(self, user: str) -> bytes | None:
        """Return the hash of a user's password, or None if the user does not exist."""
        return self._passwords().hashes.get(user)

    def _checked(self, offered: bytes, hashed: bytes, source: LoginSource) -> bool:
        with self._known.turn(source.address, self._patience):
            is_right = self._compare(offered, hashed)
        if not is_right and self._guesses.is_busy:
            # A wrong password of a known user waits in the queue of unknown users too. A quicker
            # response for a known user would reveal that the user exists.
            with self._guesses.turn(source.address, _GUESS_PATIENCE_FACTOR * self._patience):
                return False
        return is_right

    def _guessed(self, user: str, offered: bytes, hashed: bytes, source: LoginSource) -> bool:
        key = f"{source.address} {user}" if source.is_guessing else source.address
        with self._guesses.turn(key, _GUESS_PATIENCE_FACTOR * self._patience):
            return self._background.submit(self._compare, offered, hashed).result()

    def _passwords(self) -> Passwords:
        sources, merged = self._sources(), self._merged
        if tuple(each.generation for each in sources) != merged.generations:
            merged = self._merged = self._merge(sources)
        return merged.passwords

    def _sources(self) -> _Sources:
        file = self._file.snapshot if self._file else Snapshot(Passwords({}, b""), 0)
        return file, self._users()

    def _merge(self, sources: _Sources) -> _Merged:
        file, users = sources
        hashes = {**file.value.hashes, **users.value}
        passwords = Passwords(hashes, _dummy_hash(hashes.values()))
        return _Merged((file.generation, users.generation), passwords)


def _yield_to_others() -> None:
    """Give this thread the lowest priority if the operating system supports thread priorities."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


_Sources = tuple[Snapshot[Passwords], Snapshot[Mapping[str, bytes]]]


@dataclass(frozen=True, slots=True)
class _Merged:
    """A `_Merged` holds merged passwords; `generations` are those of the two merged sources."""

    generations: tuple[int, int]
    passwords: Passwords


def _problem(line: PasswordLine) -> str:
    """Describe the problem of a line of the password file without showing its hash."""
    if line.fault is Fault.NOT_BCRYPT:
        marks = (each for mark, each in _HASH_KINDS.items() if line.hashed.startswith(mark))
        kind = next(marks, "unknown")
        return f"{line.user!r} has no bcrypt hash (kind: {kind}); set it with `htpasswd -B`"
    return line.fault.value if line.fault else ""


def _dummy_hash(hashes: Iterable[bytes]) -> bytes:
    """Return a hash that no password matches, with the most frequent cost of *hashes*.

    The salt and the digest of the dummy hash are written as 53 dots; a dot means zero in bcrypt's
    base64.
    """
    costs = Counter(hashed.split(b"$")[2] for hashed in hashes)
    cost = costs.most_common(1)[0][0] if costs else _DEFAULT_COST
    return b"$2b$" + cost + b"$" + b"." * 53
