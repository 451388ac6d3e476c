"""Parse the options of one command; the package `config` parses the flags of settings."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field

from entrepot.config.errors import ConfigError, Problem


@dataclass(frozen=True, slots=True)
class Options:
    """The arguments of one command: the values of each option, and all other words (`rest`)."""

    values: dict[str, list[str]] = field(default_factory=dict)
    rest: list[str] = field(default_factory=list)

    def __contains__(self, name: str) -> bool:
        return name in self.values

    def all(self, name: str) -> list[str]:
        """Return every value of the option *name*, which may be repeated."""
        return self.values.get(name, [])

    def one(self, name: str) -> str | None:
        """Return the value of the option *name*, or None if it is absent.

        Raises: ConfigError if the option is repeated.
        """
        values = self.all(name)
        if len(values) > 1:
            raise ConfigError([Problem(name, "given twice", "give it once")])
        return values[0] if values else None


def parse(argv: Sequence[str], valued: Collection[str], switches: Collection[str] = ()) -> Options:
    """Split *argv* into options and other words.

    An option is one of *switches*, or it has a name in *valued* and a value: `--name VALUE` or
    `--name=VALUE`. Raises: ConfigError if a value is missing.
    """
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
