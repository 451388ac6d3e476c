"""`entrepot clients`: the configuration of every client, printed, or written below a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from entrepot import config
from entrepot.appliance import options, public_url
from entrepot.appliance.atomic_write import PUBLIC, SECRET, write
from entrepot.appliance.clients import NAMES
from entrepot.appliance.clients.endpoint import Client, Endpoint
from entrepot.appliance.logins import login_in
from entrepot.appliance.options import Options
from entrepot.appliance.upstreams import upstream_names, upstreams_now
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings

_VALUED = ("--host", "--client", "--out", "--ca", "--authfile")
_OTHER_NAMES = {"dockerd": "docker", "cri-o": "podman", "crio": "podman", "skopeo": "podman"}
_GLOB = frozenset("*?[")


def clients(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Print or write what the clients of the appliance of these settings need.

    Raises: ConfigError.
    """
    told = options.part(argv, _VALUED)
    names = _names(told)
    front = front_of(told, config.load(told.rest, environ).settings)
    made = {name: NAMES[name](front) for name in names}
    out = told.one("--out")
    if out is None:
        sys.stdout.write("\n".join(_printed(made)))
    else:
        _write(made, Path(out))
    return 0


def front_of(told: Options, settings: Settings) -> Endpoint:
    """Put together what is known of the appliance. Raises: ConfigError."""
    given = told.one("--host")
    if given is None:
        raise ConfigError([Problem("--host", "missing", "name us as clients do: --host HOST")])
    host, port, tls = public_url.address(given, settings)
    names = upstream_names(settings)
    globs = tuple(each for each in names if not _GLOB.isdisjoint(each))
    htpasswd, anonymous = settings.auth.htpasswd, settings.auth.anonymous
    front = Endpoint(
        host,
        port,
        tls,
        ca=public_url.private_authority(told.one("--ca"), settings) if tls else None,
        upstreams=tuple(each for each in names if each not in globs),
        globs=globs,
        default=upstreams_now(settings).default,
        asks=htpasswd is not None and anonymous == "none",
    )
    authfile = told.one("--authfile")
    return replace(front, login=login_in(authfile, front.netloc)) if authfile else front


def _names(told: Options) -> list[str]:
    asked = [_OTHER_NAMES.get(each, each) for each in told.all("--client")]
    for each in asked:
        if each not in NAMES:
            remedy = f"try {', '.join(NAMES)}"
            raise ConfigError([Problem(f"--client={each}", "no such client", remedy)])
    return asked or list(NAMES)


def _printed(made: Mapping[str, Client]) -> Iterator[str]:
    for name, client in made.items():
        yield f"######## {name} ({client.title})\n"
        for file in client.files:
            yield f"==== {file.path}{' (mode 600)' if file.secret else ''}\n{file.text}"
        yield "==== how\n" + _lines(client.steps)


def _write(made: Mapping[str, Client], folder: Path) -> None:
    for name, client in made.items():
        for file in client.files:
            path = folder / name / file.path.lstrip("/")
            write(path, file.text.encode(), SECRET if file.secret else PUBLIC)
        write(folder / name / "HOW.txt", _lines(client.steps).encode())
        sys.stdout.write(f"{folder / name}: {client.title}; see HOW.txt in it\n")


def _lines(steps: Sequence[str]) -> str:
    return "".join(f"{each}\n" for each in steps)
