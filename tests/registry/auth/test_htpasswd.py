"""The registry parses the password file (htpasswd) and checks passwords against its hashes."""

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

# apache2-utils 2.4 wrote this line: htpasswd -nbB bob secret
_BOB = b"bob:$2y$05$psj7qAJa6ZT1xt4G84MPyefrQ9Or0JzwhbV5Rr5I.0KTuGuQpG/3q"


def _line(user: str, password: bytes) -> bytes:
    return user.encode() + b":" + bcrypt.hashpw(password, bcrypt.gensalt(4))


class Clock:
    """A clock that returns the time (in seconds) that the test has set."""

    now = 0.0

    def __call__(self) -> float:
        """Return the time (in seconds) that the test has set."""
        return self.now


@pytest.fixture
def clock() -> Clock:
    """Return a clock that shows 0 s until the test sets another time."""
    return Clock()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return a password file with the user ann."""
    path = tmp_path / "htpasswd"
    path.write_bytes(_line("ann", b"right") + b"\n")
    return path


def test_a_file_written_by_htpasswd_is_parsed(path: Path) -> None:
    """A password file can have `$2y$` hashes, comments, blank lines, a byte order mark and CRLF."""
    path.write_bytes(b"\xef\xbb\xbf# ours\r\n\r\n" + _BOB + b"\r\n\n")
    check = Htpasswd(path)

    assert check("bob", "secret")
    assert not check("bob", "Secret")
    assert not check("# ours", "secret")


def test_the_last_of_two_lines_for_a_user_counts(path: Path) -> None:
    """If a file has two lines for a user, the last line counts, as in docker distribution."""
    path.write_bytes(_line("ann", b"old") + b"\n" + _line("ann", b"new"))
    check = Htpasswd(path)

    assert check("ann", "new")
    assert not check("ann", "old")


def test_a_password_is_truncated_to_72_bytes_as_htpasswd_does(path: Path) -> None:
    """Only the first 72 bytes of a password are compared, as in the program htpasswd.

    For a longer password the bcrypt library raises an error, which would become a 500.
    """
    path.write_bytes(_line("ann", b"p" * 72))

    assert Htpasswd(path)("ann", "p" * 90)
    assert not Htpasswd(path)("ann", "p" * 71)


def test_a_password_may_contain_any_character(path: Path) -> None:
    """A password and a user name with letters outside ASCII are compared in UTF-8."""
    path.write_bytes(_line("Jürgen", "pässwört:€".encode()))

    assert Htpasswd(path)("Jürgen", "pässwört:€")


def test_all_problems_are_reported_with_line_numbers_and_without_hashes() -> None:
    """Each invalid line of a password file is reported with its number and a remedy.

    The report does not contain the hash.
    """
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


def test_checking_an_unknown_user_costs_as_much_as_a_known_user() -> None:
    """The check of an unknown user takes as long as the check of a known user.

    So the response time does not reveal user names. The unknown user is checked against a dummy
    hash with the bcrypt cost that most lines have. No password matches the dummy hash.
    """
    hashes = {b"$2y$05$" + b"a" * 53, b"$2b$12$" + b"b" * 53, b"$2y$12$" + b"c" * 53}
    lines = [b"u%d:%s" % (number, each) for number, each in enumerate(sorted(hashes))]

    nobody = htpasswd.parse(b"\n".join(lines)).of("stranger")

    assert nobody.startswith(b"$2b$12$")
    assert not bcrypt.checkpw(b"", b"$2b$04$" + nobody[7:])
    assert htpasswd.parse(b"").of("stranger").startswith(b"$2b$10$")


def test_a_changed_file_takes_effect_with_a_new_generation(path: Path, clock: Clock) -> None:
    """Checks use a changed password file, and a higher generation, at most 0.5 s after the change.

    A cached result of a password check is valid for one generation only. So a removed user cannot
    log in with a cached result.
    """
    check = Htpasswd(path, clock=clock)
    assert check("ann", "right")
    before = check.generation

    path.write_bytes(_BOB)
    clock.now += 0.5

    assert not check("ann", "right")
    assert check("bob", "secret")
    assert check.generation > before


def test_an_invalid_change_keeps_the_previous_users(
    path: Path, clock: Clock, caplog: pytest.LogCaptureFixture
) -> None:
    """If the password file becomes invalid, its previous users can still log in.

    One warning with the number of the invalid line is logged.
    """
    check = Htpasswd(path, clock=clock)
    path.write_bytes(path.read_bytes() + b"carl:hunter2\n")

    for _ in range(3):
        clock.now += 0.5
        assert check("ann", "right")

    (warning,) = [each for each in caplog.records if each.levelno == logging.WARNING]
    assert "line 2" in str(vars(warning)["problem"])


class BlockingCompare:
    """A password comparison that blocks until the test releases it and that counts its callers."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.changed = threading.Condition()
        self.inside = 0
        self.most = 0

    def __call__(self, _password: bytes, _hashed: bytes) -> bool:
        """Wait until the test releases the comparison, then return True."""
        with self.changed:
            self.inside += 1
            self.most = max(self.most, self.inside)
            self.changed.notify_all()
        assert self.release.wait(10)
        with self.changed:
            self.inside -= 1
        return True

    def wait_for(self, inside: int) -> None:
        """Wait until exactly *inside* threads are blocked in the comparison."""
        with self.changed:
            assert self.changed.wait_for(lambda: self.inside == inside, 10)


def test_at_most_at_once_passwords_are_checked_concurrently(path: Path) -> None:
    """At most `at_once` passwords are checked at the same time; other checks wait.

    So a flood of passwords occupies at most `at_once` cores.
    """
    turnstile = BlockingCompare()
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
def _check_running(check: Htpasswd, turnstile: BlockingCompare) -> Iterator[None]:
    """Run a password check in a thread; the check blocks until the end of the `with` block."""
    first = threading.Thread(target=check, args=("ann", "right"))
    first.start()
    turnstile.wait_for(1)
    try:
        yield
    finally:
        turnstile.release.set()
        first.join(10)


def test_a_check_that_waits_longer_than_its_patience_is_overloaded(path: Path) -> None:
    """A password check fails if it waits longer than `patience` for its turn.

    The worker's thread is then free for other requests.
    """
    turnstile = BlockingCompare()
    check = Htpasswd(path, at_once=1, patience=0.0, compare=turnstile)

    with _check_running(check, turnstile), pytest.raises(Overloaded):
        check("ann", "right")
    assert check("ann", "right")


def test_a_check_that_finds_no_place_is_overloaded_at_once(path: Path) -> None:
    """If the queue of password checks is full, the next check fails at once.

    The worker's thread is then free for other requests.
    """
    turnstile = BlockingCompare()
    check = Htpasswd(path, at_once=1, waiting=0, compare=turnstile)

    with _check_running(check, turnstile), pytest.raises(Overloaded):
        check("ann", "right")


@pytest.mark.parametrize(
    "source", [LoginSource("192.0.2.1"), LoginSource("192.0.2.1", is_guessing=True)]
)
def test_password_guessing_does_not_delay_users(path: Path, source: LoginSource) -> None:
    """Probable guesses of passwords have a separate queue.

    Probable guesses are checks of unknown users, and all checks from addresses that sent many wrong
    passwords. Guesses fill only that queue, so the check of a known user from any other address
    does not wait.
    """
    turnstile = BlockingCompare()
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


def test_a_right_password_is_accepted_after_many_wrong_ones(path: Path) -> None:
    """A correct password is accepted even from an address that has sent many wrong passwords."""
    guessing = LoginSource("192.0.2.1", is_guessing=True)
    check = Htpasswd(path)

    assert not check("ann", "wrong", guessing)
    assert not check("stranger", "right", guessing)
    assert check("ann", "right", guessing)


def test_a_rejected_check_is_reported(path: Path) -> None:
    """If a password check fails because the queue is full, a metric counts the failure."""
    turnstile, refused = BlockingCompare(), list[bool]()
    check = Htpasswd(
        path, at_once=1, waiting=0, compare=turnstile, refused=lambda: refused.append(True)
    )

    with _check_running(check, turnstile), pytest.raises(Overloaded):
        check("ann", "right")
    assert refused == [True]


def _guess(check: Htpasswd, user: str, source: LoginSource) -> None:
    with suppress(Overloaded):
        check(user, "wrong", source)


def _users(*lines: bytes, generation: int = 1) -> Snapshot[Mapping[str, bytes]]:
    return Snapshot(htpasswd.parse(b"\n".join(lines)).hashes, generation)


def test_additional_users_are_merged_with_those_of_the_file(path: Path) -> None:
    """Users from the settings are added to those of the password file.

    If both define a user of the same name, the password from the settings is valid.
    """
    users = _users(_BOB, _line("ann", b"inline"))
    check = Htpasswd(path, users=lambda: users)

    assert check("bob", "secret")
    assert check("ann", "inline")
    assert not check("ann", "right")


def test_the_password_file_is_optional() -> None:
    """If the settings have users, no password file is needed."""
    check = Htpasswd(None, users=lambda: _users(_BOB))

    assert check("bob", "secret")
    assert not check("ann", "right")


def test_a_removed_additional_user_cannot_log_in(path: Path) -> None:
    """If a user is removed from the settings, the generation rises and the user cannot log in."""
    now = [_users(_BOB)]
    check = Htpasswd(path, users=lambda: now[0])
    assert check("bob", "secret")
    before = check.generation

    now[0] = _users(generation=2)

    assert check.generation > before
    assert not check("bob", "secret")
    assert check("ann", "right")
