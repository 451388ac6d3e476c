"""What a check said, remembered."""

from __future__ import annotations

import threading
from collections.abc import Callable

import pytest

from entrepot.registry.auth.password_cache import PasswordCache


class Check:
    """Knows one password, and keeps what it was asked."""

    def __init__(self) -> None:
        self.asked: list[str] = []

    def __call__(self, _user: str, password: str) -> bool:
        """Tell whether it is the one."""
        self.asked.append(password)
        return password == "right"


class Now:
    """A time, or a generation, that a test sets."""

    now = 0

    def __call__(self) -> int:
        """Return it."""
        return self.now


@pytest.fixture
def check() -> Check:
    """The costly thing."""
    return Check()


@pytest.fixture
def clock() -> Now:
    """Seconds."""
    return Now()


@pytest.mark.parametrize(("password", "span"), [("right", 300), ("wrong", 10)])
def test_a_verdict_is_paid_once_in_its_span(
    check: Check, clock: Now, password: str, span: int
) -> None:
    """A good one for minutes, a bad one for seconds; use does not prolong it."""
    verdicts = PasswordCache(check, clock=clock)

    for now in (0, span // 2, span - 1):
        clock.now = now
        assert verdicts("ann", password) == (password == "right")
    assert len(check.asked) == 1

    clock.now = span
    verdicts("ann", password)
    assert len(check.asked) == 2


def test_a_new_generation_asks_again(check: Check, clock: Now) -> None:
    """A deleted user is out at once, and so is the memory of a mistake."""
    generation = Now()
    verdicts = PasswordCache(check, generation=generation, clock=clock)
    verdicts("ann", "right")
    verdicts("ann", "wrong")

    generation.now += 1
    verdicts("ann", "right")
    verdicts("ann", "wrong")

    assert check.asked == ["right", "wrong"] * 2


def test_user_and_password_are_not_run_together(check: Check) -> None:
    """A right password is the user's own."""

    def only_ann(user: str, password: str) -> bool:
        return check(user, password) and user == "ann"

    verdicts = PasswordCache(only_ann)

    assert verdicts("ann", "right")
    assert not verdicts("annr", "ight")
    assert not verdicts("carl", "right")


def test_guesses_push_no_user_out(check: Check) -> None:
    """Both memories are bounded, and the oldest goes first."""
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


def test_many_who_ask_the_same_at_once_pay_once() -> None:
    """One thread checks, the others wait for what it finds."""
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


def test_an_error_reaches_all_who_wait_and_is_forgotten(check: Check) -> None:
    """The next one asks again."""
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
    """Ask in *many* threads that set out together; the answer waits for theirs."""
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
