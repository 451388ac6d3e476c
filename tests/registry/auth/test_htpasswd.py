"""The password file and its checks."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

import bcrypt
import pytest

from entrepot.registry.auth import htpasswd
from entrepot.registry.auth.htpasswd import Htpasswd, LoginSource
from entrepot.registry.errors import InvalidHtpasswd, Overloaded
from entrepot.runtime.reloading_file import Snapshot

# as apache2-utils 2.4 wrote it: htpasswd -nbB bob secret
_BOB = b"bob:$2y$05$psj7qAJa6ZT1xt4G84MPyefrQ9Or0JzwhbV5Rr5I.0KTuGuQpG/3q"


def _line(user: str, password: bytes) -> bytes:
    return user.encode() + b":" + bcrypt.hashpw(password, bcrypt.gensalt(4))


class Clock:
    """A clock that a test moves."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Standing still until moved."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """A file that knows ann."""
    path = tmp_path / "htpasswd"
    path.write_bytes(_line("ann", b"right") + b"\n")
    return path


def test_what_htpasswd_writes_is_read(path: Path) -> None:
    """With its own `$2y$`, after comments, blank lines, a BOM and Windows' line ends."""
    path.write_bytes(b"\xef\xbb\xbf# ours\r\n\r\n" + _BOB + b"\r\n\n")
    check = Htpasswd(path)

    assert check("bob", "secret")
    assert not check("bob", "Secret")
    assert not check("# ours", "secret")


def test_the_last_of_two_lines_for_a_user_counts(path: Path) -> None:
    """As in docker distribution."""
    path.write_bytes(_line("ann", b"old") + b"\n" + _line("ann", b"new"))
    check = Htpasswd(path)

    assert check("ann", "new")
    assert not check("ann", "old")


def test_a_password_is_cut_where_htpasswd_cuts_it(path: Path) -> None:
    """Only 72 bytes count; on more the library raises, and the answer would be a 500."""
    path.write_bytes(_line("ann", b"p" * 72))

    assert Htpasswd(path)("ann", "p" * 90)
    assert not Htpasswd(path)("ann", "p" * 71)


def test_a_password_may_hold_any_character(path: Path) -> None:
    """It is UTF-8."""
    path.write_bytes(_line("Jürgen", "pässwört:€".encode()))

    assert Htpasswd(path)("Jürgen", "pässwört:€")


def test_every_problem_is_named_by_its_line_and_no_hash_is_shown() -> None:
    """All at once, with the remedy; a line without a colon may be a password."""
    lines = [
        _BOB,
        b"hunter2",
        b"md5:$apr1$hunter2$hunter2",
        b"sha:{SHA}hunter2",
        b"plain:hunter2",
        b":" + _BOB.partition(b":")[2],
        b"cost:$2y$99$" + b"h" * 53,
        b"bin\xff:hunter2",
        b"ta\tb:" + _BOB.partition(b":")[2],
    ]

    with pytest.raises(InvalidHtpasswd) as caught:
        htpasswd.parse(b"\n".join(lines))

    problems = caught.value.problems
    assert [problem.partition(":")[0] for problem in problems] == [
        f"line {n}" for n in range(2, 10)
    ]
    assert "'md5'" in problems[1]
    assert "MD5" in problems[1]
    assert "htpasswd -B" in problems[1]
    assert "hunter2" not in str(caught.value)


def test_a_stranger_costs_what_a_user_costs() -> None:
    """The hash that nobody has is of the cost that most users have, and no password fits it."""
    hashes = {b"$2y$05$" + b"a" * 53, b"$2b$12$" + b"b" * 53, b"$2y$12$" + b"c" * 53}
    lines = [b"u%d:%s" % (number, each) for number, each in enumerate(sorted(hashes))]

    nobody = htpasswd.parse(b"\n".join(lines)).of("stranger")

    assert nobody.startswith(b"$2b$12$")
    assert not bcrypt.checkpw(b"", b"$2b$04$" + nobody[7:])
    assert htpasswd.parse(b"").of("stranger").startswith(b"$2b$10$")


def test_a_changed_file_is_in_force_with_a_new_generation(path: Path, clock: Clock) -> None:
    """Who was deleted is out, who was added is in."""
    check = Htpasswd(path, clock=clock)
    assert check("ann", "right")
    before = check.generation

    path.write_bytes(_BOB)
    clock.now += 0.5

    assert not check("ann", "right")
    assert check("bob", "secret")
    assert check.generation > before


def test_a_broken_change_leaves_the_users_in(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """One warning that names the line."""
    check = Htpasswd(path, clock=clock)
    path.write_bytes(path.read_bytes() + b"carl:hunter2\n")

    for _ in range(3):
        clock.now += 0.5
        assert check("ann", "right")

    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "line 2" in str(vars(warning)["problem"])


class Turnstile:
    """A comparison that lasts until it is released, and counts who is in it."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.changed = threading.Condition()
        self.inside = 0
        self.most = 0

    def __call__(self, _password: bytes, _hashed: bytes) -> bool:
        """Compare."""
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
        assert self.release.wait(10)
        with self.changed:
            self.inside -= 1
        return True

    def wait_for(self, inside: int) -> None:
        """Wait until so many are in."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside == inside, 10)


def test_only_so_many_are_checked_at_once(path: Path) -> None:
    """A flood of passwords takes two cores and not all; the others wait their turn."""
    turnstile = Turnstile()
    check = Htpasswd(path, at_once=2, compare=turnstile)
    checks = [threading.Thread(target=check, args=("ann", f"{n}")) for n in range(6)]
    for each in checks:
        each.start()

    turnstile.wait_for(2)
    turnstile.release.set()
    for each in checks:
        each.join(10)

    assert turnstile.most == 2


@contextmanager
def _busy(check: Htpasswd, turnstile: Turnstile) -> Iterator[None]:
    """Have a password checked by somebody else until the end of the block."""
    first = threading.Thread(target=check, args=("ann", "right"))
    first.start()
    turnstile.wait_for(1)
    try:
        yield
    finally:
        turnstile.release.set()
        first.join(10)


def test_who_waits_too_long_is_told_to_come_back(path: Path) -> None:
    """A worker's threads are not all lost to a queue of passwords; the next one has its turn."""
    turnstile = Turnstile()
    check = Htpasswd(path, at_once=1, patience=0.0, compare=turnstile)

    with _busy(check, turnstile), pytest.raises(Overloaded):
        check("ann", "right")
    assert check("ann", "right")


def test_a_flood_of_passwords_leaves_threads_for_others(path: Path) -> None:
    """Who finds no place to wait is told so at once."""
    turnstile = Turnstile()
    check = Htpasswd(path, at_once=1, waiting=0, compare=turnstile)

    with _busy(check, turnstile), pytest.raises(Overloaded):
        check("ann", "right")


@pytest.mark.parametrize(
    "source", [LoginSource("192.0.2.1"), LoginSource("192.0.2.1", is_guessing=True)]
)
def test_whoever_guesses_keeps_no_user_waiting(path: Path, source: LoginSource) -> None:
    """Names that no user has, and passwords after many wrong ones, have a line of their own.

    They fill it, from the user's own address too, and the right password is checked at once.
    """
    turnstile = Turnstile()
    check = Htpasswd(path, compare=turnstile)
    name = "ann" if source.is_guessing else "stranger"
    guesses = [
        threading.Thread(target=_guess, args=(check, f"{name}{n % 2 or ''}", source))
        for n in range(200)
    ]
    for each in guesses:
        each.start()
    turnstile.wait_for(1)
    user = threading.Thread(target=check, args=("ann", "right", LoginSource("192.0.2.1")))
    user.start()

    turnstile.wait_for(2)
    turnstile.release.set()
    for each in (*guesses, user):
        each.join(20)
    assert turnstile.most == 2


def test_a_right_password_is_right_after_many_wrong_ones(path: Path) -> None:
    """It waits in line, and is checked as any other."""
    guessing = LoginSource("192.0.2.1", is_guessing=True)
    check = Htpasswd(path)

    assert not check("ann", "wrong", guessing)
    assert not check("stranger", "right", guessing)
    assert check("ann", "right", guessing)


def test_who_finds_no_place_is_counted(path: Path) -> None:
    """For the metric of the limit."""
    turnstile, refused = Turnstile(), list[bool]()
    check = Htpasswd(
        path, at_once=1, waiting=0, compare=turnstile, refused=lambda: refused.append(True)
    )

    with _busy(check, turnstile), pytest.raises(Overloaded):
        check("ann", "right")
    assert refused == [True]


def _guess(check: Htpasswd, user: str, source: LoginSource) -> None:
    with suppress(Overloaded):
        check(user, "wrong", source)


def _users(*lines: bytes, generation: int = 1) -> Snapshot[Mapping[str, bytes]]:
    return Snapshot(htpasswd.parse(b"\n".join(lines)).hashes, generation)


def test_users_from_elsewhere_stand_beside_those_of_the_file(path: Path) -> None:
    """Who is in both has the password that is elsewhere, and only that."""
    users = _users(_BOB, _line("ann", b"inline"))
    check = Htpasswd(path, users=lambda: users)

    assert check("bob", "secret")
    assert check("ann", "inline")
    assert not check("ann", "right")


def test_there_need_be_no_file() -> None:
    """Users from elsewhere are enough."""
    check = Htpasswd(None, users=lambda: _users(_BOB))

    assert check("bob", "secret")
    assert not check("ann", "right")


def test_who_is_taken_out_elsewhere_is_out(path: Path) -> None:
    """With a new generation, so that nothing is remembered of him; the file's users stay."""
    now = [_users(_BOB)]
    check = Htpasswd(path, users=lambda: now[0])
    assert check("bob", "secret")
    before = check.generation

    now[0] = _users(generation=2)

    assert check.generation > before
    assert not check("bob", "secret")
    assert check("ann", "right")
