"""The `entrepot` command.

PERF: `entrepot healthy` runs every few seconds for the life of a container. Nothing is imported
here that it does not need: all of the configuration takes 0.15 s of CPU and 25 MB.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

_BAD_INPUT = 2
_Act = Callable[[Sequence[str], Mapping[str, str]], int]


@dataclass(frozen=True, slots=True)
class _Command:
    """What follows `entrepot`: how it is written, what it does, and who does it."""

    usage: str
    meaning: str
    act: _Act


def _serve(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    from entrepot.appliance.serve import serve  # noqa: PLC0415 - each command loads what it needs

    return serve(argv, environ)


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
    import importlib.metadata  # noqa: PLC0415

    del argv, environ
    print(f"entrepot {importlib.metadata.version('entrepot')}")  # noqa: T201 - it was asked for
    return 0


def _help(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    del argv, environ
    print(_usage())  # noqa: T201 - it was asked for
    return 0


COMMANDS = {
    "serve": _Command("serve [FILE] [--KEY=VALUE ...]", "run the appliance until Ctrl-C", _serve),
    "check": _Command(
        "check [FILE] [--KEY=VALUE ...]", "say what is set, and what is wrong", _check
    ),
    "status": _Command("status [--json] [FILE]", "one screen about the running appliance", _status),
    "clean": _Command("clean --once|--dry-run [FILE]", "evict now, or say what would go", _clean),
    "gc": _Command(
        "gc [--dry-run] [--delete-untagged] [FILE]",
        "take away what was pushed and nothing names, or say what would go",
        _collect,
    ),
    "verify": _Command(
        "verify [--json] [FILE]",
        "read all that is stored, and report what is damaged",
        _verify,
    ),
    "healthy": _Command("healthy", "exit code 0 while the appliance serves", _healthy),
    "clients": _Command(
        "clients --host HOST [--client NAME] [--out DIR] [FILE]",
        "what each client needs to pull through us",
        _clients,
    ),
    "doctor": _Command(
        "doctor [--host URL] [--image REF] [FILE]",
        "pull by every route: what works, what does not, and why",
        _doctor,
    ),
    "certs": _Command(
        "certs --host NAME [--out DIR] [--days N]",
        "make or renew a certificate, with an authority of your own",
        _certs,
    ),
    "version": _Command("version", "this version", _version),
    "help": _Command("help", "this text", _help),
}
_SPELLINGS = {
    "--version": "version",
    "-V": "version",
    "--help": "help",
    "-h": "help",
    "garbage-collect": "gc",  # as docker distribution's registry calls it
}


def main(argv: Sequence[str] | None = None) -> int:
    """Do what the command line says; 2 for bad input, one line a problem."""
    words = list(sys.argv[1:] if argv is None else argv)
    if not words:
        print(_usage(), file=sys.stderr)  # noqa: T201 - stderr is where this belongs
        return _BAD_INPUT
    name = _SPELLINGS.get(words[0], words[0])
    if name not in COMMANDS:
        print(_unknown(name), file=sys.stderr)  # noqa: T201
        return _BAD_INPUT
    if _wants_help(words[1:]):
        return _help((), {})
    act = COMMANDS[name].act
    if act is _healthy:  # it reads no configuration
        return act(words[1:], os.environ)
    from entrepot.config.errors import ConfigError  # noqa: PLC0415

    try:
        return act(words[1:], os.environ)
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201
        return _BAD_INPUT


def _wants_help(words: Sequence[str]) -> bool:
    return bool({"--help", "-h"} & set(words))


def _usage() -> str:
    width = max(len(each.usage) for each in COMMANDS.values())
    lines = [f"  entrepot {each.usage:<{width}}  {each.meaning}" for each in COMMANDS.values()]
    return "\n".join(["A container-registry cache.", "", *lines])


def _unknown(name: str) -> str:
    import difflib  # noqa: PLC0415

    near = difflib.get_close_matches(name, COMMANDS, n=1)
    remedy = f"did you mean {near[0]}?" if near else f"try one of {', '.join(COMMANDS)}"
    return f"entrepot {name}: no such command; {remedy}"


if __name__ == "__main__":
    sys.exit(main())
