"""How the configuration says no.

ConfigError                 what the operator said cannot be done; carries every `Problem`
Unreadable (ValueError)     one value cannot be read; becomes a Problem once its source is known
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing to put right; `str()` gives its one line: source, message, remedy.

    `source` is what the operator wrote and where, with no secret in it.
    """

    source: str
    message: str
    remedy: str = ""

    def __str__(self) -> str:
        told = f"{self.source}: {self.message}"
        line = f"{told}; {self.remedy}" if self.remedy else told
        return "".join(each if each.isprintable() else "?" for each in line)


class ConfigError(Exception):
    """What the operator said cannot be done, for each of `problems`; `str()` is a line each."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(problems)
        super().__init__("\n".join(str(each) for each in self.problems))


class Unreadable(ValueError):  # noqa: N818 - the class says the fact, as all here do
    """A value cannot be read: `message` says why, `remedy` what to write instead."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(f"{message}; {remedy}")
        self.message = message
        self.remedy = remedy
