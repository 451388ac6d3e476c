"""`entrepot clients`: the configuration of every client, printed, or written below a folder."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import config
from appliance import options
from appliance.authority import private_root
from appliance.clients import NAMES
from appliance.clients.front import Client, Front, Login
from appliance.logins import login_for
from appliance.options import Options
from appliance.upstreams import upstream_names
from appliance.written import PUBLIC, SECRET, write
from config.address import registry_host
from config.errors import ConfigError, Problem, Unreadable
from config.schema import Settings

_VALUED = ("--host", "--client", "--out", "--ca", "--authfile")
_OTHER_NAMES = {"dockerd": "docker", "cri-o": "podman", "crio": "podman", "skopeo": "podman"}
_PORTS = {"http": 80, "https": 443}
_HOST = "--host"
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


def front_of(told: Options, settings: Settings) -> Front:
    """Put together what is known of the appliance. Raises: ConfigError."""
    host, port, tls = _place(told.one("--host"), settings)
    names = upstream_names(settings)
    globs = tuple(each for each in names if not _GLOB.isdisjoint(each))
    htpasswd, anonymous = settings.auth.htpasswd, settings.auth.anonymous
    front = Front(
        host,
        port,
        tls,
        ca=_authority(told.one("--ca"), settings) if tls else None,
        upstreams=tuple(each for each in names if each not in globs),
        globs=globs,
        default=next((each.host for each in config.upstreams(settings) if each.default), None),
        asks=htpasswd is not None and anonymous == "none",
    )
    return replace(front, login=_login(told.one("--authfile"), front.netloc))


def _place(given: str | None, settings: Settings) -> tuple[str, int, bool]:
    """Read HOST, HOST:PORT or a URL; what it leaves out is the appliance's own."""
    if given is None:
        raise ConfigError([Problem(_HOST, "missing", "name us as clients do: --host HOST")])
    scheme, _, rest = given.rpartition("://")
    if scheme and scheme not in _PORTS:
        remedy = "try https://registry.example"
        raise ConfigError([Problem(f"{_HOST}={given}", "not http or https", remedy)])
    tls = scheme == "https" if scheme else settings.http.tls.certificate is not None
    try:
        netloc = registry_host(rest.rstrip("/"))
    except Unreadable as error:
        raise ConfigError([Problem(f"{_HOST}={given}", error.message, error.remedy)]) from error
    host, colon, port = ("", "", "") if netloc.endswith("]") else netloc.rpartition(":")
    if colon:
        return host, int(port), tls
    return netloc, _PORTS[scheme] if scheme else settings.http.addr.port, tls


def _authority(path: str | None, settings: Settings) -> str | None:
    """Return the authority that was named, or the private one of our own certificate."""
    source = Path(path) if path else settings.http.tls.certificate
    if source is None:
        return None
    try:
        root = private_root(source.read_bytes())
    except (OSError, ValueError) as error:
        why = (getattr(error, "strerror", None) or "").lower() or "no certificate in PEM"
        remedy = "name the authority's certificate: --ca FILE"
        raise ConfigError([Problem(str(source), why, remedy)]) from error
    if root is None and path:
        message = "no authority: none in it has signed itself"
        raise ConfigError([Problem(path, message, "name the root's certificate")])
    return root


def _login(path: str | None, netloc: str) -> Login | None:
    if path is None:
        return None
    found = login_for(Path(path), netloc)
    if found is None:
        remedy = f"podman login --authfile {path} {netloc}"
        raise ConfigError([Problem(path, f"no login for {netloc} in it", remedy)])
    return Login(found.username, found.password)


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
