"""The exceptions of this package.

ConfigError                 the configuration is invalid; carries every `Problem`
Unreadable (ValueError)     one value is invalid; becomes a Problem once its source is known
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """A `Problem` is one fault of the configuration.

    `str()` of a problem returns one line: source, message, remedy.

    `source` is the file and line, variable or flag, with its value if the value is no secret.
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
        """Return how pickle makes an equal error, for another process."""
        return type(self), (self.problems,)


class Unreadable(ValueError):  # noqa: N818 - the name states the fact, as all here do
    """A value is invalid. `message` gives the reason, `remedy` a valid alternative."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy
