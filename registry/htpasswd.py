"""The password file: `user:bcrypt-hash` lines, as `htpasswd -B` writes them.

bcrypt only, as in docker distribution: the other kinds that the file can hold are broken ones.
"""

from __future__ import annotations

import re
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import bcrypt

from registry.errors import InvalidHtpasswd, Overloaded
from registry.watched import Snapshot, Watched

_BCRYPT = re.compile(r"\$2[abxy]\$(?:0[4-9]|[12][0-9]|3[01])\$[./A-Za-z0-9]{53}", re.ASCII)
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")
# As many bytes as bcrypt looks at; htpasswd(1) cuts there in silence, the library raises.
_LONGEST_PASSWORD = 72
_USUAL_COST = b"10"
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
    for number, line in enumerate(content.removeprefix(b"\xef\xbb\xbf").splitlines(), 1):
        if not line.strip() or line.lstrip().startswith(b"#"):
            continue
        try:
            user, hashed = _entry(line)
        except ValueError as problem:
            problems.append(f"line {number}: {problem}")
        else:
            hashes[user] = hashed
    if problems:
        raise InvalidHtpasswd(tuple(problems))
    return Passwords(hashes, _nobody(hashes.values()))


Users = Callable[[], Snapshot[Mapping[str, bytes]]]
"""Returns users and their hashes that somebody else looks after, as they are now."""


def no_users() -> Snapshot[Mapping[str, bytes]]:
    """Return nobody, always."""
    return Snapshot({}, 0)


class Htpasswd:
    """Tells whether a password is the one that the file at *path* has; the file is watched.

    Beside it there may be *users*: who is in both has the password that is there. *kept* is for
    Watched. At most *at_once* are checked at a time (bcrypt takes a core each, but not the
    interpreter's lock) and *waiting* wait for it: who finds no place, or waits longer than
    *patience* s, gets Overloaded, so that whoever tries a thousand passwords leaves threads for
    those that are known. Raises, at the start only: OSError, InvalidHtpasswd.
    """

    def __init__(
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
    ) -> None:
        self._file = path and Watched(
            path, parse, clock=clock, errors=(InvalidHtpasswd,), kept=kept
        )
        self._users = users
        self._merged = self._merge(self._sources())
        self._places = threading.BoundedSemaphore(at_once + waiting)
        self._turns = threading.BoundedSemaphore(at_once)
        self._patience = patience
        self._compare = compare

    @property
    def generation(self) -> int:
        """Return a number that rises with each change of the file or the other users."""
        return sum(each.generation for each in self._sources())

    def refresh(self) -> None:
        """Look at the file now; whoever gives us users looks after them himself."""
        if self._file:
            self._file.refresh()

    def __call__(self, user: str, password: str) -> bool:
        """Check one password. Raises: Overloaded."""
        hashed = self._passwords().of(user)
        with _taken(self._places, 0.0), _taken(self._turns, self._patience):
            return self._compare(password.encode()[:_LONGEST_PASSWORD], hashed)

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


@contextmanager
def _taken(places: threading.Semaphore, patience: float) -> Iterator[None]:
    if not places.acquire(timeout=patience):
        raise Overloaded("too many passwords are being checked; try again")
    try:
        yield
    finally:
        places.release()


_Sources = tuple[Snapshot[Passwords], Snapshot[Mapping[str, bytes]]]


@dataclass(frozen=True, slots=True)
class _Merged:
    """What was made of the sources when they had these generations."""

    generations: tuple[int, int]
    passwords: Passwords


def _entry(line: bytes) -> tuple[str, bytes]:
    """Split a line into user and hash. Raises: ValueError, with the problem and no hash."""
    try:
        user, colon, hashed = line.decode().strip().partition(":")
    except UnicodeDecodeError:
        raise ValueError("not UTF-8") from None  # the error would show the line
    if not colon or not user:
        raise ValueError("not `user:hash`")
    if _CONTROL.search(user):
        raise ValueError("a control character in the user's name")
    if not _BCRYPT.fullmatch(hashed):
        kind = next((each for mark, each in _KINDS.items() if hashed.startswith(mark)), "unknown")
        raise ValueError(f"{user!r} has no bcrypt hash (kind: {kind}); set it with `htpasswd -B`")
    return user, hashed.encode()


def _nobody(hashes: Iterable[bytes]) -> bytes:
    """Make a hash of the cost that most of *hashes* have; no password has one of zeros."""
    costs = Counter(hashed.split(b"$")[2] for hashed in hashes)
    cost = costs.most_common(1)[0][0] if costs else _USUAL_COST
    return b"$2b$" + cost + b"$" + b"." * 53
