"""Print the configuration files of clients, or write them to a folder (`entrepot clients`)."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

from entrepot import config
from entrepot.appliance import options, public_url
from entrepot.appliance.atomic_write import PUBLIC, SECRET, refuse_untrusted, write
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
    """Print or write the configuration that the clients of the appliance need.

    Raises: ConfigError.
    """
    given = options.parse(argv, _VALUED)
    names = _names(given)
    endpoint = endpoint_of(given, config.load(given.rest, environ).settings)
    configured = {name: NAMES[name](endpoint) for name in names}
    out = given.one("--out")
    if out is None:
        sys.stdout.write("\n".join(_printed(configured)))
    else:
        refuse_untrusted(Path(out), environ)
        _write(configured, Path(out))
    return 0


def endpoint_of(given: Options, settings: Settings) -> Endpoint:
    """Return an `Endpoint` for the appliance, from options and settings. Raises: ConfigError."""
    host_option = given.one("--host")
    if host_option is None:
        remedy = "give the name that clients use: --host HOST"
        raise ConfigError([Problem("--host", "missing", remedy)])
    host, port, tls = public_url.address(host_option, settings)
    names = upstream_names(settings)
    globs = tuple(each for each in names if not _GLOB.isdisjoint(each))
    endpoint = Endpoint(
        host,
        port,
        tls,
        ca=public_url.private_authority(given.one("--ca"), settings) if tls else None,
        upstreams=tuple(each for each in names if each not in globs),
        globs=globs,
        default=upstreams_now(settings).default,
        needs_login=_needs_login(settings),
    )
    authfile = given.one("--authfile")
    return replace(endpoint, login=login_in(authfile, endpoint.netloc)) if authfile else endpoint


def _needs_login(settings: Settings) -> bool:
    """Return whether the settings show that no client may pull without a login."""
    auth = settings.auth
    return auth.token is not None or (auth.htpasswd is not None and auth.anonymous == "none")


def _names(given: Options) -> list[str]:
    names = [_OTHER_NAMES.get(each, each) for each in given.all("--client")]
    for each in names:
        if each not in NAMES:
            remedy = f"try {', '.join(NAMES)}"
            raise ConfigError([Problem(f"--client={each}", "no such client", remedy)])
    return names or list(NAMES)


def _printed(configured: Mapping[str, Client]) -> Iterator[str]:
    for name, client in configured.items():
        yield f"######## {name} ({client.title})\n"
        for file in client.files:
            yield f"==== {file.path}{' (mode 600)' if file.secret else ''}\n{file.text}"
        yield "==== instructions\n" + _lines(client.steps)


def _write(configured: Mapping[str, Client], folder: Path) -> None:
    for name, client in configured.items():
        for file in client.files:
            path = folder / name / file.path.lstrip("/")
            write(path, file.text.encode(), SECRET if file.secret else PUBLIC)
        write(folder / name / "HOW.txt", _lines(client.steps).encode())
        sys.stdout.write(f"{folder / name}: {client.title}; see HOW.txt in it\n")


def _lines(steps: Sequence[str]) -> str:
    return "".join(f"{each}\n" for each in steps)
