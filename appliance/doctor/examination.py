"""The order in which things are looked at: what is in the way of the rest comes first."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from entrepot.appliance.doctor import trust
from entrepot.appliance.doctor.finding import CannotContinue, Finding, Health, fails, works
from entrepot.appliance.doctor.http_client import ApplianceClient, ServerAddress
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.pull import pull
from entrepot.appliance.doctor.routes import routes
from entrepot.appliance.logins import Login

_OK = 200
_VERSION = "docker-distribution-api-version"


@dataclass(frozen=True, slots=True)
class Target:
    """The appliance to look at: `name` is what its certificate must be for, `authority` a PEM."""

    host: str
    port: int
    name: str
    tls: bool
    authority: str | None
    login: Login | None
    image: ImageName | None
    default: str | None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """All that was found out about one appliance."""

    url: str
    image: str
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Whether nothing fails."""
        return all(each.verdict is not Health.FAILS for each in self.findings)


def examine(patient: Target, now: float) -> Diagnosis:
    """Look at everything, as far as one can come."""
    trusting = trust.context(patient.authority) if patient.tls else None
    place = ServerAddress(patient.host, patient.port, patient.name, trusting, patient.login)
    found = list(_findings(patient, place, dt.datetime.fromtimestamp(now, dt.UTC)))
    return Diagnosis(place.url, str(patient.image or ""), tuple(found))


def _findings(patient: Target, place: ServerAddress, now: dt.datetime) -> Iterator[Finding]:
    """Take one step after the other, up to the first that is in the way of the next."""
    knocker = ApplianceClient(place)
    steps: dict[str, Callable[[], Finding]] = {
        "registry": lambda: _registry(knocker.anonymous()),
        "login": lambda: _login(knocker),
    }
    if place.tls:
        trusting, address = place.tls, (place.host, place.port)
        look = {"certificate": lambda: trust.look(address, place.name, trusting, now)}
        steps = {**look, **steps}
    for what, step in steps.items():
        try:
            yield step()
        except CannotContinue as ill:
            yield fails(what, ill.why, ill.remedy)
            return
    yield from _pulls(patient, knocker)


def _pulls(patient: Target, knocker: ApplianceClient) -> Iterator[Finding]:
    image = patient.image
    if image is None:
        why = "none is here, and none of its upstreams has one that is known"
        yield fails("image", why, "name one: --image quay.io/podman/hello:latest")
        return
    for route in routes(image, patient.default):
        yield pull(knocker, route, image)


def _registry(nobody: ApplianceClient) -> Finding:
    """Ask `/v2/` (OCI distribution-spec 1.1, end-1). Raises: Ill."""
    answer = nobody.ask("GET", "/v2/")
    if _VERSION not in answer.headers:
        raise CannotContinue(
            f"what answers there ({answer.status}) is no registry", "say --host as it is"
        )
    return works("registry", f"answers with {answer.status}")


def _login(knocker: ApplianceClient) -> Finding:
    """Ask who we are taken for. Raises: Ill when we may not come in."""
    login, answer = knocker.place.login, knocker.ask("GET", "/v2/")
    if answer.status != _OK and login is None:
        # `/v2/` asks for a password also where strangers may pull
        if knocker.ask("GET", "/v2/_catalog?n=1").status != _OK:
            raise CannotContinue("a password is needed", "--authfile FILE, or --user USER:PASSWORD")
        return works("login", "none is needed to pull")
    if answer.status != _OK and login is not None:
        raise CannotContinue(f"{login.username} is refused: {answer.told}", "try podman login")
    return works("login", f"{login.username} is let in" if login else "none is needed")
