"""The lookout: what is watched is looked at without a request, and before one of a new number."""

from __future__ import annotations

import threading

from entrepot.edge.invalidation import Invalidation


class File:
    """Something watched: it changes unseen until somebody looks."""

    def __init__(self) -> None:
        self.generation = 1
        self.unseen = 0
        self.looks = 0

    def refresh(self) -> None:
        """Look."""
        self.looks += 1
        self.generation += self.unseen
        self.unseen = 0


class Number:
    """The generation, and what became of it."""

    def __init__(self) -> None:
        self.value = 1
        self.settled = 0

    def now(self) -> str:
        """Return it."""
        return str(self.value)

    def increment(self) -> None:
        """Raise it."""
        self.value += 1

    def retry(self) -> None:
        """Count."""
        self.settled += 1


def _lookout(*files: File) -> tuple[Invalidation, Number]:
    number = Number()
    lookout = Invalidation(number)
    for file in files:
        lookout.watch(file)
    lookout.epoch()
    return lookout, number


def test_a_change_raises_the_number_once() -> None:
    """And each look does what is left to do."""
    quiet, changed = File(), File()
    lookout, number = _lookout(quiet, changed)
    before = number.settled

    changed.generation += 1
    lookout.poll()
    lookout.poll()
    assert (number.value, number.settled - before) == (2, 2)


def test_what_others_have_seen_is_seen_before_the_next_answer() -> None:
    """A worker that had not looked yet would else allow by the old view under the new number."""
    file = File()
    lookout, number = _lookout(file)
    file.unseen = 1
    assert (lookout.epoch(), file.generation) == ("1", 1)

    number.increment()
    assert (lookout.epoch(), file.generation) == ("2", 2)


def test_an_answer_has_the_number_that_it_began_with() -> None:
    """What the look itself has found is newer: that answer is not remembered, the next one is."""
    file = File()
    lookout, number = _lookout(file)
    file.unseen = 1
    number.increment()

    dates = [lookout.epoch(), lookout.epoch()]
    assert dates == ["2", "3"]


def test_a_change_is_told_before_the_first_answer_that_knows_it() -> None:
    """Else one worker would refuse what the others, and memory, still allow."""
    file = File()
    lookout, number = _lookout(file)
    file.generation += 1

    assert (lookout.epoch(), number.value) == ("1", 2)


def test_while_nothing_rises_nobody_looks() -> None:
    """A hit costs no look at a file."""
    file = File()
    lookout, _ = _lookout(file)
    before = file.looks

    for _ in range(100):
        lookout.epoch()
    assert file.looks == before


def test_no_answer_of_a_new_number_overtakes_the_look() -> None:
    """Many requests at once: each of them has seen what there is to see."""
    file = File()
    lookout, number = _lookout(file)
    seen: list[tuple[str, int]] = []
    file.unseen = 1
    number.increment()

    def ask() -> None:
        date = lookout.epoch()
        seen.append((date, file.generation))

    threads = [threading.Thread(target=ask) for _ in range(16)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    assert {generation for _, generation in seen} == {2}
