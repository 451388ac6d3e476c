"""The registry caches the results of password checks."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from entrepot.registry.auth.password_cache import PasswordCache


class Check:
    """A password check that accepts the password "right" and records each password."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, _user: str, password: str) -> bool:
        """Return True if the password is correct, and record the password."""
        self.asked.append(password)
        return password == "right"


class Now:
    """A clock in seconds, or the generation of a password file; the test sets the number."""

    now = 0

    def __call__(self) -> int:
        """Return the number that the test has set."""
        return self.now


@pytest.fixture
def check() -> Check:
    """Return the password check that records its calls."""
    return Check()


@pytest.fixture
def clock() -> Now:
    """Return a clock that shows 0 s until the test sets another time."""
    return Now()


@pytest.mark.parametrize(("password", "span"), [("right", 300), ("wrong", 10)])
def test_a_result_is_cached_for_its_lifetime(
    check: Check, clock: Now, password: str, span: int
) -> None:
    """The result of a check is cached for 300 s if the password was correct, otherwise for 10 s."""
    verdicts = PasswordCache(check, clock=clock)

    for now in (0, span // 2, span - 1):
        clock.now = now
        assert verdicts("ann", password) == (password == "right")
    assert len(check.asked) == 1

    clock.now = span
    verdicts("ann", password)
    assert len(check.asked) == 2


def test_a_new_generation_checks_again(check: Check, clock: Now) -> None:
    """After the password file has changed, each password is checked again."""
    generation = Now()
    verdicts = PasswordCache(check, generation=generation, clock=clock)
    verdicts("ann", "right")
    verdicts("ann", "wrong")

    generation.now += 1
    verdicts("ann", "right")
    verdicts("ann", "wrong")

    assert check.asked == ["right", "wrong"] * 2


def test_user_and_password_are_separate_parts_of_the_key(check: Check) -> None:
    """A cached result is valid only for the user whose password was checked.

    For example, user `annr` with password `ight` does not get the result of `ann` with `right`.
    """

    def only_ann(user: str, password: str) -> bool:
        return check(user, password) and user == "ann"

    verdicts = PasswordCache(only_ann)

    assert verdicts("ann", "right")
    assert not verdicts("annr", "ight")
    assert not verdicts("carl", "right")


def test_guesses_do_not_evict_users(check: Check) -> None:
    """Results for wrong passwords do not displace the cached results for correct passwords.

    Correct and wrong passwords have separate bounded caches that drop their oldest entries first.
    """
    verdicts = PasswordCache(check, most=2)
    verdicts("ann", "right")
    for guess in range(10):
        verdicts("ann", str(guess))

    check.asked.clear()
    verdicts("ann", "right")
    verdicts("ann", "9")
    assert check.asked == []
    verdicts("ann", "7")
    assert check.asked == ["7"]


def test_concurrent_checks_of_one_credential_run_once() -> None:
    """If eight threads need the same password check, one thread performs it and the others wait."""
    entered, release = threading.Event(), threading.Event()
    asked: list[str] = []

    def slow(_user: str, password: str) -> bool:
        asked.append(password)
        entered.set()
        assert release.wait(10)
        return True

    verdicts = PasswordCache(slow)
    answers = _start(8, lambda: verdicts("ann", "right"))
    assert entered.wait(10)
    release.set()

    assert answers() == [True] * 8
    assert asked == ["right"]


def test_an_exception_reaches_all_waiting_threads_and_is_not_cached(check: Check) -> None:
    """If a password check raises an error, all threads that wait for it raise the same error.

    The error is not cached, so the next call checks the password again.
    """
    entered, release = threading.Event(), threading.Event()
    failing = True

    def broken(user: str, password: str) -> bool:
        entered.set()
        assert release.wait(10)
        if failing:
            raise TimeoutError
        return check(user, password)

    verdicts = PasswordCache(broken)

    def ask() -> bool | str:
        try:
            return verdicts("ann", "right")
        except TimeoutError:
            return "error"

    answers = _start(3, ask)
    assert entered.wait(10)
    release.set()

    assert answers() == ["error"] * 3
    failing = False
    assert ask() is True


def _start(many: int, ask: Callable[[], object]) -> Callable[[], list[object]]:
    """Call *ask* in *many* threads at once; return a function that waits for their results."""
    together = threading.Barrier(many + 1)
    answers: list[object] = []

    def run() -> None:
        together.wait(10)
        answers.append(ask())

    threads = [threading.Thread(target=run) for _ in range(many)]
    for each in threads:
        each.start()
    together.wait(10)

    def collected() -> list[object]:
        for each in threads:
            each.join(10)
        return answers

    return collected
