"""Check an appliance and print the result of each check (`entrepot doctor`)."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from entrepot import config
from entrepot.appliance import authority, options, public_url, rundir
from entrepot.appliance.clients.endpoint import Endpoint
from entrepot.appliance.doctor import images
from entrepot.appliance.doctor.examination import Diagnosis, Target, examine
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.logins import Login, login_from, login_of, secret_in
from entrepot.appliance.options import Options
from entrepot.appliance.privileges import users
from entrepot.appliance.upstreams import upstream_names, upstreams_now
from entrepot.config.address import SocketPath
from entrepot.config.errors import ConfigError, Problem, Unreadable
from entrepot.config.schema import Settings
from entrepot.datastore.drivers.table import open_storage
from entrepot.runtime.run_names import BREAKERS, SETTINGS

_VALUED = ("--host", "--image", "--authfile", "--user", "--ca")
_UNHEALTHY = 1
_EVERYWHERE = ("", "::", "0.0.0.0")  # noqa: S104 - compared, not bound


def doctor(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Check an appliance and print the findings. Return 0, or 1 if a check fails.

    Raises: ConfigError.
    """
    given = options.parse(argv, _VALUED, ("--json",))
    settings, files = config.load(given.rest, environ).settings, _read_files(given)
    # The service user owns the run directory. That user could put a symlink into it, and root would
    # read the file to which the symlink points. So the checks run as the service user.
    users.step_down(environ)
    report = examine(_target(given, files, _running(settings)), time.time())
    if "--json" in given:
        text = json.dumps({"well": report.is_well, **asdict(report)}, indent=1)
    else:
        text = "\n".join(_screen(report))
    sys.stdout.write(f"{text}\n")
    return 0 if report.is_well else _UNHEALTHY


@dataclass(frozen=True, slots=True)
class _Files:
    """The content of files that must be read before this process gives up root's rights."""

    authority: str | None
    secret: bytes | None


def _read_files(given: Options) -> _Files:
    """Read the files that the command line names. Raises: ConfigError."""
    authority_path, secret_path = given.one("--ca"), given.one("--authfile")
    return _Files(
        public_url.authority_in(authority_path) if authority_path else None,
        secret_in(secret_path) if secret_path and given.one("--user") is None else None,
    )


def _running(settings: Settings) -> Settings:
    """Return the settings of the appliance that runs on the data directory; else *settings*."""
    run = rundir.find(settings.storage.statedir)
    if run is None:
        return settings
    return config.resolved({"ENTREPOT_SETTINGS": str(run / SETTINGS)})


def _target(given: Options, files: _Files, settings: Settings) -> Target:
    named = given.one("--host")
    host, port, tls = public_url.address(named or _own_host(settings), settings)
    endpoint = Endpoint(host, port, tls)
    return Target(
        host=host.strip("[]"),
        port=port,
        name=host.strip("[]") if named else _certified(settings) or host.strip("[]"),
        tls=tls,
        authority=(files.authority or public_url.own_authority(settings)) if tls else None,
        login=_login(given, files, endpoint.netloc),
        image=_image(given, settings),
        default=upstreams_now(settings).default,
        breakers=None if named else _breakers(settings),
        prefix=settings.http.prefix.rstrip("/"),
        token=None if named else settings.auth.token,
    )


def _breakers(settings: Settings) -> Path | None:
    """Return the folder with the states of circuit breakers; None if no appliance runs."""
    return settings.run / BREAKERS if settings.run != Path() else None


def _own_host(settings: Settings) -> str:
    """Return the address that the appliance listens on. Raises: ConfigError for a socket."""
    if isinstance(settings.http.addr, SocketPath):
        message = "http.addr is a socket, which clients reach through a proxy"
        raise ConfigError(
            [Problem("--host", message, "give the address of the proxy: --host HOST[:PORT]")]
        )
    host = settings.http.addr.host
    if host in _EVERYWHERE:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _certified(settings: Settings) -> str | None:
    """Return the first name in the appliance's certificate.

    Without `--host`, the doctor connects to an address on which the appliance listens, such as
    localhost. The certificate usually is not for this address.
    """
    path = settings.http.tls.certificate
    try:
        return authority.hosts_of(path.read_bytes())[0] if path else None
    except (OSError, ValueError):
        return None


def _login(given: Options, files: _Files, netloc: str) -> Login | None:
    pair, path = given.one("--user"), given.one("--authfile")
    if pair is not None:
        return login_of(pair)
    if files.secret is None or path is None:
        return None
    return login_from(files.secret, path, netloc)


def _image(given: Options, settings: Settings) -> ImageName | None:
    text = given.one("--image")
    if text is None:
        stored = images.smallest(open_storage(settings.storage))
        return stored or images.well_known(upstream_names(settings))
    try:
        return images.parse(text)
    except Unreadable as error:
        raise ConfigError([Problem(f"--image={text}", error.message, error.remedy)]) from error


def _screen(report: Diagnosis) -> Iterator[str]:
    yield f"{report.url}, by pulling {report.image or 'no image'}"
    width = max(len(each.what) for each in report.findings)
    for each in report.findings:
        yield f"  {each.verdict:<9}  {each.what:<{width}}  {each.why}"
        if each.remedy:
            yield f"  {'':<9}  {'':<{width}}  {each.remedy}"
