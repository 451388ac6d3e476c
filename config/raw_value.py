"""Define configured values with their sources, before validation."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from entrepot.config.errors import Problem
from entrepot.config.keys import Key

_LONGEST_SHOWN = 60
_PASSWORD_IN_URL = re.compile(r"//[^/@\s]*@")


@dataclass(frozen=True, slots=True)
class RawValue:
    """A `RawValue` is one configured value of `key`.

    The `value` is the text as written, or lists and maps parsed from YAML.

    `origin` is shown beside the setting, and `name` starts a message about the value. For a flag or
    variable, `origin` and `name` are the flag or variable. For a file, `origin` is file and line,
    and `name` is file, line and key. `chooses` means that the value selects the only driver or
    scheme of its section (`auth: htpasswd`).
    """

    key: Key
    value: object
    origin: str
    name: str
    chooses: bool = False

    def problem(self, message: str, remedy: str = "", *, is_secret: bool = False) -> Problem:
        """Return a problem of the value, which is shown if it is no secret."""
        shown = "***" if is_secret else _on_one_line(self.value)
        return Problem(f"{self.name}={shown}", message, remedy)

    def objection(self, message: str, remedy: str = "") -> Problem:
        """Return a problem of the key.

        The problem does not show the value, which may be a secret.
        """
        return Problem(self.name, message, remedy)


@dataclass(slots=True)
class SourceValues:
    """A `SourceValues` has values, problems and warnings of file, environment or flags."""

    given: list[RawValue] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def _on_one_line(value: object) -> str:
    shown = "[...]" if isinstance(value, list) else "{...}" if isinstance(value, dict) else value
    line = _PASSWORD_IN_URL.sub("//***@", str(shown))
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
