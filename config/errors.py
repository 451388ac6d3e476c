"""The exceptions of this package.

A `ConfigError` means that the configuration is invalid, and lists every `Problem`. An `Unreadable`
means that a single value is invalid. The caller, which knows the source of the value, turns an
`Unreadable` into a `Problem`.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """A `Problem` is one fault of the configuration.

    `str()` of a problem returns one line: source, message, remedy.

    `source` names the file and line, the variable or the flag, and the value unless it is a secret.
    """

    source: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        fact = f"{self.source}: {self.message}"
        line = f"{fact}; {self.remedy}" if self.remedy else fact
        return "".join(each if each.isprintable() else "?" for each in line)


class ConfigError(Exception):
    """The configuration is invalid.

    `str()` of this exception returns one line for each of `problems`.
    """

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(each) for each in self.problems))

    def __reduce__(self) -> tuple[type[ConfigError], tuple[tuple[Problem, ...]]]:
        """Return the constructor and its arguments, so that pickle can copy the error."""
        return type(self), (self.problems,)


class Unreadable(ValueError):  # noqa: N818 - the name states the fact
    """A value is invalid. `message` gives the reason, and `remedy` a valid alternative."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy
