"""Read the arguments of `serve` or `check`: a configuration file, and one flag for each key."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from entrepot.config import keys
from entrepot.config.errors import Problem
from entrepot.config.keys import Key, Setting
from entrepot.config.raw_value import SourceValues
from entrepot.config.sources.yaml_file import read_value


@dataclass(slots=True)
class CommandLine:
    """A `CommandLine` holds the values of the flags and the configuration files.

    `files` contains a pair for each named file: the argument, which messages show, and the path.
    """

    reading: SourceValues = field(default_factory=SourceValues)
    files: list[tuple[str, str]] = field(default_factory=list)


def read(argv: Sequence[str]) -> CommandLine:
    """Read `FILE`, `--config FILE`, `--a.b.c=value`, `--a.b.c value` and `--switch`."""
    line, left = CommandLine(), iter(argv)
    for each in left:
        if each.startswith("-"):
            _read_flag(each, left, line)
        else:
            line.files.append((each, each))
    for _, twice in line.files[1:]:
        problem = Problem(twice, "a second configuration file", "name one")
        line.reading.problems.append(problem)
    return line


def _read_flag(flag: str, left: Iterator[str], line: CommandLine) -> None:
    name, equals, value = flag.partition("=")
    key = _key(name)
    if name != "--config" and (not name.startswith("--") or not _is_known(key)):
        line.reading.problems.append(_unknown(name, key))
        if not equals:
            # The word after an unknown flag is probably its value, not a configuration file.
            next(left, "")
        return
    found = keys.find(key)
    if not equals:
        is_switch = isinstance(found, Setting) and found.is_switch
        value = "true" if is_switch else next(left, "")
    if not equals and not value:
        line.reading.problems.append(Problem(name, "a value is missing", f"try {name}=VALUE"))
    elif name == "--config":
        line.files.append((f"{name}={value}", value))
    else:
        read = read_value(value, key, name)
        line.reading.given += read.given
        line.reading.problems += read.problems


def _key(name: str) -> Key:
    dotted = name.removeprefix("--")
    if not dotted.startswith("upstreams."):
        return tuple(dotted.split("."))
    host, _, last = dotted.removeprefix("upstreams.").rpartition(".")
    key = ("upstreams", host, last)
    return key if keys.find(key) is not None else ("upstreams", dotted.removeprefix("upstreams."))


def _is_known(key: Key) -> bool:
    return keys.find(key) is not None or keys.is_section(key)


def _unknown(name: str, key: Key) -> Problem:
    near = keys.nearest(key) if name.startswith("--") else ""
    return Problem(name, "no such flag", f"did you mean --{near}?" if near else "take it out")
