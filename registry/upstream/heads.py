"""Whether HEAD is of use at one upstream: some registries refuse it, whatever is asked for."""

from __future__ import annotations

from collections.abc import Callable

_FOR_S = 600.0
"""How long HEAD is left out, in s, before it is tried again."""


class Heads:
    """The kinds of content (`Ask.operation`) for which HEAD was useless of late; for any thread.

    There are as many entries as operations. *clock* gives s of a clock that never goes back.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._useless_until: dict[str, float] = {}

    def are_useful(self, operation: str) -> bool:
        """Return whether a HEAD may decide something."""
        return self._clock() >= self._useless_until.get(operation, float("-inf"))

    def note_useless(self, operation: str) -> None:
        """Note that a HEAD was refused where a GET with the same authorization was answered."""
        self._useless_until[operation] = self._clock() + _FOR_S
