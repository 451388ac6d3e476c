"""Define raw values: configured values that are not yet validated, with their sources."""

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

    `origin` is shown beside the setting by `entrepot check`, and `name` starts a message about the
    value. For a flag or variable, `origin` and `name` are both its name. For a file, `origin` is
    the file and line, and `name` is the file, line and key. If `chooses` is true, the value is a
    single name that selects the driver or scheme of its section, as in `auth: htpasswd`.
    """

    key: Key
    value: object
    origin: str
    name: str
    chooses: bool = False

    def problem(self, message: str, remedy: str = "", *, is_secret: bool = False) -> Problem:
        """Return a problem whose message shows the value, masked if *is_secret* is true."""
        shown = "***" if is_secret else _on_one_line(self.value)
        return Problem(f"{self.name}={shown}", message, remedy)

    def objection(self, message: str, remedy: str = "") -> Problem:
        """Return a problem whose message names the key but does not show the value."""
        return Problem(self.name, message, remedy)


@dataclass(slots=True)
class SourceValues:
    """A `SourceValues` holds the raw values, problems and warnings of one source.

    A source is, for example, the YAML file or the environment.
    """

    given: list[RawValue] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    warnings: list[Problem] = field(default_factory=list)


def _on_one_line(value: object) -> str:
    shown = "[...]" if isinstance(value, list) else "{...}" if isinstance(value, dict) else value
    line = _PASSWORD_IN_URL.sub("//***@", str(shown))
    return line if len(line) <= _LONGEST_SHOWN else f"{line[:_LONGEST_SHOWN]}..."
