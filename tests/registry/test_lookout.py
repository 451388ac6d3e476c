"""The lookout: what is watched is looked at without a request."""

from __future__ import annotations

from registry.lookout import Lookout


def test_a_change_is_told_once() -> None:
    """The first look is the beginning, and no change."""
    told: list[str] = []
    numbers = [1, 7]
    lookout = Lookout(lambda: told.append("changed"), lambda: told.append("looked"))
    lookout.watch(lambda: numbers[0])
    lookout.watch(lambda: numbers[1])
    lookout.look()

    numbers[1] += 1
    lookout.look()
    lookout.look()
    assert told == ["looked", "changed", "looked", "looked"]


def test_it_is_told_after_the_view_has_changed() -> None:
    """What was decided by the old view then has an older number than what is told."""
    seen: list[int] = []
    number = [1]
    lookout = Lookout(lambda: seen.append(number[0]))
    lookout.watch(lambda: number[0])
    lookout.look()

    number[0] = 2
    lookout.look()
    assert seen == [2]
