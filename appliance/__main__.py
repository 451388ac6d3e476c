"""Run the command `entrepot`.

PERF: a container engine runs `entrepot healthy` every few seconds for the life of the container,
and the import of `entrepot.config` alone takes 0.15 s of CPU and 25 MB. So this module imports only
what `healthy` needs, and each other command imports its own modules when it runs.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from typing import NamedTuple, NoReturn

from entrepot.appliance.registry_command import translated

_BAD_INPUT = 2
# The exit code of docker distribution for a configuration that it can't read.
_BAD_INPUT_OF_REGISTRY = 1
_Run = Callable[[Sequence[str], Mapping[str, str]], int]


class _Command(NamedTuple):
    """A command of `entrepot`: its usage and description for the help text, and its function."""

    usage: str
    description: str
    run: _Run


def _serve(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    from entrepot.appliance.serve import serve  # noqa: PLC0415 - see the module's docstring

    serve(argv, environ)


def _check(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.check import main as check  # noqa: PLC0415

    return check(argv, environ)


def _status(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.status import status  # noqa: PLC0415

    return status(argv, environ)


def _clean(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.clean import clean  # noqa: PLC0415

    return clean(argv, environ)


def _collect(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.clean import collect  # noqa: PLC0415

    return collect(argv, environ)


def _verify(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.clean import verify  # noqa: PLC0415

    return verify(argv, environ)


def _migrate(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.migrate.command import migrate  # noqa: PLC0415

    return migrate(argv, environ)


def _healthy(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.healthy import healthy  # noqa: PLC0415

    return healthy(argv, environ)


def _clients(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.clients.command import clients  # noqa: PLC0415

    return clients(argv, environ)


def _doctor(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.doctor.command import doctor  # noqa: PLC0415

    return doctor(argv, environ)


def _certs(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.certs import certs  # noqa: PLC0415

    return certs(argv, environ)


def _version(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.runtime.version import version  # noqa: PLC0415

    del argv, environ
    print(f"entrepot {version()}")  # noqa: T201 - the command's output
    return 0


def _help(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    del environ
    names = [name for name in argv if name in COMMANDS]
    print(_usage_of(names[0]) if names else _usage())  # noqa: T201 - the command's output
    return 0


COMMANDS = {
    "serve": _Command("serve [FILE] [--KEY=VALUE ...]", "run the appliance until Ctrl-C", _serve),
    "check": _Command(
        "check [--json] [FILE] [--KEY=VALUE ...]",
        "show every setting, its source and all problems",
        _check,
    ),
    "status": _Command("status [--json] [FILE]", "show the running appliance's state", _status),
    "clean": _Command("clean --once|--dry-run [FILE]", "evict now, or show what to evict", _clean),
    "gc": _Command(
        "gc [--dry-run] [--delete-untagged] [--quiet] [FILE]",
        "delete pushed content that no tag or manifest references, or list it",
        _collect,
    ),
    "verify": _Command(
        "verify [--json] [FILE]",
        "re-read all stored content, and report damaged files",
        _verify,
    ),
    "migrate": _Command(
        "migrate [--json] FROM TO",
        "copy all content to another storage; FROM and TO are configuration files or data folders",
        _migrate,
    ),
    "healthy": _Command(
        "healthy [--ready]",
        "exit with 0 if the appliance answers requests and, with --ready, no health check fails",
        _healthy,
    ),
    "clients": _Command(
        "clients --host HOST [--client NAME] [--out DIR] [FILE]",
        "print the configuration that each client needs to pull through the appliance",
        _clients,
    ),
    "doctor": _Command(
        "doctor [--host URL] [--image REF] [FILE]",
        "pull an image as each kind of client does, and report what fails and why",
        _doctor,
    ),
    "certs": _Command(
        "certs --host NAME [--out DIR] [--days N]",
        "create or renew a TLS certificate, signed by a private CA",
        _certs,
    ),
    "version": _Command("version", "print the version", _version),
    "help": _Command("help [COMMAND]", "print this text, or the flags of a command", _help),
}
_ALIASES = {
    "--version": "version",
    "-V": "version",
    "-v": "version",  # `-v` is docker distribution's short form.
    "--help": "help",
    "-h": "help",
    "garbage-collect": "gc",  # docker distribution has the command under this name.
}


_WITH_SETTINGS = frozenset({"serve", "check"})


def main(argv: Sequence[str] | None = None) -> int:
    """Run the command that *argv* names, and return its exit code.

    For bad input, print one line on stderr for each problem, and return 2. For the command name
    `garbage-collect`, return 1 instead, as docker distribution does.
    """
    words = translated(sys.argv[1:] if argv is None else argv)
    if not words:
        print(_usage(), file=sys.stderr)  # noqa: T201 - an error message
        return _BAD_INPUT
    name = _ALIASES.get(words[0], words[0])
    if name not in COMMANDS:
        print(_unknown(name), file=sys.stderr)  # noqa: T201
        return _BAD_INPUT
    if _wants_help(words[1:]):
        return _help([name], {})
    run = COMMANDS[name].run
    # `entrepot healthy` must not load `entrepot.config`, so it runs before the next import.
    if run is _healthy:
        return run(words[1:], os.environ)
    from entrepot.config.errors import ConfigError  # noqa: PLC0415

    try:
        return run(words[1:], os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return _BAD_INPUT_OF_REGISTRY if words[0] == "garbage-collect" else _BAD_INPUT


def _wants_help(words: Sequence[str]) -> bool:
    return bool({"--help", "-h"} & set(words))


def _usage() -> str:
    width = max(len(each.usage) for each in COMMANDS.values())
    lines = [f"  entrepot {each.usage:<{width}}  {each.description}" for each in COMMANDS.values()]
    return "\n".join(["A container-registry cache.", "", *lines])


def _usage_of(name: str) -> str:
    command = COMMANDS[name]
    text = f"usage: entrepot {command.usage}\n\n{command.description}"
    if name not in _WITH_SETTINGS:
        return text
    from entrepot import config  # noqa: PLC0415

    return (
        f"{text}\n\nEvery setting can be a flag, a variable or a key in FILE:\n\n{config.usage()}"
    )


def _unknown(name: str) -> str:
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"try one of {', '.join(COMMANDS)}"
    return f"entrepot {name}: no such command; {remedy}"


if __name__ == "__main__":
    sys.exit(main())
