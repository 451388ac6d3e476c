"""The options of one command, told apart from the settings behind it."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from entrepot.config.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Options:
    """What a command was told: `values` by option, in order, and `rest`, which is not its own."""

    values: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def all(self, name: str) -> list[str]:
        """Return every value of an option that may be repeated."""
        return self.values.get(name, [])

    def one(self, name: str) -> str | None:
        """Return the value of an option, None when it was left out. Raises: ConfigError."""
        values = self.all(name)
        if len(values) > 1:
            raise ConfigError([Problem(name, "given twice", "give it once")])
        return values[0] if values else None


def part(argv: Sequence[str], valued: Collection[str], switches: Collection[str] = ()) -> Options:
    """Take `--name VALUE`, `--name=VALUE` and *switches* out of *argv*. Raises: ConfigError."""
    options, left = Options(), iter(argv)
    for word in left:
        name, equals, value = word.partition("=")
        if name in switches and not equals:
            options.values.setdefault(name, [])
        elif name in valued:
            value = value if equals else next(left, "")
            if not value:
                raise ConfigError([Problem(name, "a value is missing", f"try {name} VALUE")])
            options.values.setdefault(name, []).append(value)
        else:
            options.rest.append(word)
    return options
