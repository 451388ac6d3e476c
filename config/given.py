"""What an operator said: one value, and where he said it."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from config.errors import Problem
from config.keys import Key

_LONGEST_SHOWN = 60
_PASSWORD_IN_URL = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class Given:
    """One value for *key*: text as it was written, or the lists and maps that YAML made of it.

    `origin` is told beside the setting, `name` starts a line about it: the same but for a file,
    where a line number is the origin and the key follows it. `chooses`: it names the one driver
    or scheme of its section (`auth: htpasswd`), and the others are off.
    """

    key: Key
    value: object
    origin: str
    name: str
    chooses: bool = False

    def problem(self, message: str, remedy: str = "", *, is_secret: bool = False) -> Problem:
        """Say what is wrong with the value, and show it unless it is a secret."""
        shown = "***" if is_secret else _on_one_line(self.value)
        return Problem(f"{self.name}={shown}", message, remedy)

    def objection(self, message: str, remedy: str = "") -> Problem:
        """Say what is wrong with the key; its value is not shown, for it may be a secret."""
        return Problem(self.name, message, remedy)


@dataclass(slots=True)
class Reading:
    """What one source holds: the file, the environment or the flags."""

    given: list[Given] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def _on_one_line(value: object) -> str:
    shown = "[...]" if isinstance(value, list) else "{...}" if isinstance(value, dict) else value
    line = _PASSWORD_IN_URL.sub("//***@", str(shown))
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
