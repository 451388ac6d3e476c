"""The password file: `user:bcrypt-hash` lines, as `htpasswd -B` writes them.

bcrypt only, as in docker distribution: the other kinds that the file can hold are broken ones.
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

from entrepot.registry.auth.fair_queue import FairQueue
from entrepot.registry.errors import InvalidHtpasswd, Overloaded
from entrepot.runtime.htpasswd import Fault, PasswordLine, lines
from entrepot.runtime.reloading_file import ReloadingFile, Snapshot

# As many bytes as bcrypt looks at; htpasswd(1) cuts there in silence, the library raises.
_LONGEST_PASSWORD = 72
_USUAL_COST = b"10"
_PATIENCE_OF_GUESSES = 3
_KINDS = {"$apr1$": "MD5", "$1$": "MD5", "{SHA}": "SHA-1", "$5$": "SHA-256", "$6$": "SHA-512"}


@dataclass(frozen=True, slots=True)
class Passwords:
    """A file's `hashes` by user; `nobody` is as costly to check, and no password fits it."""

    hashes: Mapping[str, bytes]
    nobody: bytes

    def of(self, user: str) -> bytes:
        """Return what to check a password of *user* against, whether there is such a user or not.

        A stranger's check costs what a user's costs: time does not tell who exists.
        """
        return self.hashes.get(user, self.nobody)


def parse(content: bytes) -> Passwords:
    """Read a password file; of two lines for one user the last counts.

    Raises: InvalidHtpasswd, with every problem and no hash.
    """
    hashes: dict[str, bytes] = {}
    problems: list[str] = []
    for line in lines(content):
        if line.fault is None:
            hashes[line.user] = line.hashed.encode()
        else:
            problems.append(f"line {line.number}: {_told(line)}")
    if problems:
        raise InvalidHtpasswd(tuple(problems))
    return Passwords(hashes, _nobody(hashes.values()))


Users = Callable[[], Snapshot[Mapping[str, bytes]]]
"""Returns users and their hashes that somebody else looks after, as they are now."""


def no_users() -> Snapshot[Mapping[str, bytes]]:
    """Return nobody, always."""
    return Snapshot({}, 0)


@dataclass(frozen=True, slots=True)
class Asker:
    """Who brings a password: the `address`, and whether many wrong ones came from there for it."""

    address: str = ""
    is_guessing: bool = False


_ANYBODY = Asker()


class Htpasswd:
    """Tells whether a password is the one that the file at *path* has; the file is watched.

    Beside it there may be *users*: who is in both has the password that is there. *kept* is for
    Watched. At most *at_once* are checked at a time (bcrypt takes a core each, but not the
    interpreter's lock) and *waiting* wait for it, addresses in turn: who finds no place, or waits
    longer than *patience* s, gets Overloaded. Names that no user has, and passwords of whom many
    wrong ones were tried, wait in a line of their own, checked one at a time in a thread of the
    least priority, and wait three times as long: whoever guesses keeps no user waiting. *refused*
    gets told of each that found no place. Raises, at the start only: OSError, InvalidHtpasswd.
    """

    def __init__(  # noqa: PLR0913 - by name, each with a default
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
        self._known = FairQueue(at_once, waiting=waiting, each=max(waiting // 2, 1))
        self._guesses = FairQueue(1, waiting=4 * waiting, each=max(2 * waiting, 1))
        self._background = ThreadPoolExecutor(1, "guesses", initializer=_yield_to_others)
        self._patience = patience
        self._compare = compare
        self._refused = refused

    @property
    def generation(self) -> int:
        """Return a number that rises with each change of the file or the other users."""
        return sum(each.generation for each in self._sources())

    def refresh(self) -> None:
        """Look at the file now; whoever gives us users looks after them himself."""
        if self._file:
            self._file.refresh()

    def __call__(self, user: str, password: str, asker: Asker = _ANYBODY) -> bool:
        """Check one password. Raises: Overloaded."""
        passwords = self._passwords()
        offered = password.encode()[:_LONGEST_PASSWORD]
        try:
            if user not in passwords.hashes or asker.is_guessing:
                return self._guessed(user, offered, passwords.of(user), asker)
            return self._checked(offered, passwords.of(user), asker)
        except Overloaded:
            self._refused()
            raise

    def _checked(self, offered: bytes, hashed: bytes, asker: Asker) -> bool:
        with self._known.turn(asker.address, self._patience):
            is_right = self._compare(offered, hashed)
        if not is_right and self._guesses.is_busy:
            # as long as the same password takes under a name that no user has: time tells nobody
            # which names there are
            with self._guesses.turn(asker.address, _PATIENCE_OF_GUESSES * self._patience):
                return False
        return is_right

    def _guessed(self, user: str, offered: bytes, hashed: bytes, asker: Asker) -> bool:
        key = f"{asker.address} {user}" if asker.is_guessing else asker.address
        with self._guesses.turn(key, _PATIENCE_OF_GUESSES * self._patience):
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
        passwords = Passwords(hashes, _nobody(hashes.values()))
        return _Merged((file.generation, users.generation), passwords)


def _yield_to_others() -> None:
    """Give this thread the least priority, where the system has one for each thread."""
    with suppress(OSError):
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), 19)


_Sources = tuple[Snapshot[Passwords], Snapshot[Mapping[str, bytes]]]


@dataclass(frozen=True, slots=True)
class _Merged:
    """What was made of the sources when they had these generations."""

    generations: tuple[int, int]
    passwords: Passwords


def _told(line: PasswordLine) -> str:
    """Say what is wrong with a line, without a hash."""
    if line.fault is Fault.NOT_BCRYPT:
        marks = (each for mark, each in _KINDS.items() if line.hashed.startswith(mark))
        kind = next(marks, "unknown")
        return f"{line.user!r} has no bcrypt hash (kind: {kind}); set it with `htpasswd -B`"
    return line.fault.value if line.fault else ""


def _nobody(hashes: Iterable[bytes]) -> bytes:
    """Make a hash of the cost that most of *hashes* have; no password has one of zeros."""
    costs = Counter(hashed.split(b"$")[2] for hashed in hashes)
    cost = costs.most_common(1)[0][0] if costs else _USUAL_COST
    return b"$2b$" + cost + b"$" + b"." * 53
