"""`entrepot doctor`: what works, what fell back, and why."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass

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
from entrepot.config.errors import ConfigError, Problem, Unreadable
from entrepot.config.schema import Settings

_VALUED = ("--host", "--image", "--authfile", "--user", "--ca")
_ILL = 1
_EVERYWHERE = ("", "::", "0.0.0.0")  # noqa: S104 - it is compared, not bound


def doctor(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Look at an appliance and print what is found: 0, or 1 when something fails.

    Raises: ConfigError.
    """
    told = options.part(argv, _VALUED, ("--json",))
    settings, given = config.load(told.rest, environ).settings, _given(told)
    users.step_down(environ)  # the run directory is the user's, and could lead root astray
    report = examine(_patient(told, given, _running(settings)), time.time())
    if "--json" in told:
        text = json.dumps({"well": report.is_well, **asdict(report)}, indent=1)
    else:
        text = "\n".join(_screen(report))
    sys.stdout.write(f"{text}\n")
    return 0 if report.is_well else _ILL


@dataclass(frozen=True, slots=True)
class _Given:
    """The content of the files that the command line names: root's, maybe."""

    authority: str | None
    secret: bytes | None


def _given(told: Options) -> _Given:
    """Read them. Raises: ConfigError."""
    authority_path, secret_path = told.one("--ca"), told.one("--authfile")
    return _Given(
        public_url.authority_in(authority_path) if authority_path else None,
        secret_in(secret_path) if secret_path and told.one("--user") is None else None,
    )


def _running(settings: Settings) -> Settings:
    """Return the settings of the appliance that runs on the data directory, if one does."""
    run = rundir.found(settings.storage.statedir)
    if run is None:
        return settings
    return config.resolved({"ENTREPOT_SETTINGS": str(run / "settings.json")})


def _patient(told: Options, given: _Given, settings: Settings) -> Target:
    named = told.one("--host")
    host, port, tls = public_url.address(named or _own_host(settings), settings)
    front = Endpoint(host, port, tls)
    return Target(
        host=host.strip("[]"),
        port=port,
        name=host.strip("[]") if named else _certified(settings) or host.strip("[]"),
        tls=tls,
        authority=(given.authority or public_url.own_authority(settings)) if tls else None,
        login=_login(told, given, front.netloc),
        image=_image(told, settings),
        default=upstreams_now(settings).default,
    )


def _own_host(settings: Settings) -> str:
    host = settings.http.addr.host
    if host in _EVERYWHERE:
        return "localhost"
    return f"[{host}]" if ":" in host else host


def _certified(settings: Settings) -> str | None:
    """Return the name in our own certificate: who asks us from here knows no other."""
    path = settings.http.tls.certificate
    try:
        return authority.hosts_of(path.read_bytes())[0] if path else None
    except (OSError, ValueError):
        return None


def _login(told: Options, given: _Given, netloc: str) -> Login | None:
    pair, path = told.one("--user"), told.one("--authfile")
    if pair is not None:
        return login_of(pair)
    if given.secret is None or path is None:
        return None
    return login_from(given.secret, path, netloc)


def _image(told: Options, settings: Settings) -> ImageName | None:
    text = told.one("--image")
    if text is None:
        held = images.smallest(settings.storage.rootdirectory)
        return held or images.well_known(upstream_names(settings))
    try:
        return images.parse(text)
    except Unreadable as error:
        raise ConfigError([Problem(f"--image={text}", error.message, error.remedy)]) from error


def _screen(report: Diagnosis) -> Iterator[str]:
    yield f"{report.url}, by pulling {report.image or 'nothing'}"
    width = max(len(each.what) for each in report.findings)
    for each in report.findings:
        yield f"  {each.verdict:<9}  {each.what:<{width}}  {each.why}"
        if each.remedy:
            yield f"  {'':<9}  {'':<{width}}  {each.remedy}"
