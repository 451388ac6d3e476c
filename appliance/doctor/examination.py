"""Run the checks of `entrepot doctor` in order: first those on which others depend."""

from __future__ import annotations

import datetime as dt
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from entrepot.appliance.doctor import token_checks, trust
from entrepot.appliance.doctor.bearer import BearerTokens
from entrepot.appliance.doctor.finding import CannotContinue, Finding, Health, fails, works
from entrepot.appliance.doctor.http_client import (
    ApplianceClient,
    ClientResponse,
    ServerAddress,
)
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.pull import pull
from entrepot.appliance.doctor.routes import routes
from entrepot.appliance.logins import Login
from entrepot.config.schema import TokenSettings

_OK = 200
_VERSION = "docker-distribution-api-version"


@dataclass(frozen=True, slots=True)
class Target:
    """A `Target` is the appliance to check.

    The appliance's certificate must be for `name`. `authority` is the PEM text of the CA that
    clients must trust. `image` is the image to pull, and `default` the upstream of image names
    without a host. `prefix` precedes the path of every request.

    `breakers` is the folder with the states of circuit breakers, and `token` has the settings of
    `auth.token`. Both are None if the configuration of the checked appliance is unknown.
    """

    host: str
    port: int
    name: str
    tls: bool
    authority: str | None
    login: Login | None
    image: ImageName | None
    default: str | None
    breakers: Path | None = None
    prefix: str = ""
    token: TokenSettings | None = None


@dataclass(frozen=True, slots=True)
class Diagnosis:
    """A `Diagnosis` has the findings about one appliance."""

    url: str
    image: str
    findings: tuple[Finding, ...]

    @property
    def is_well(self) -> bool:
        """Return whether no check failed."""
        return all(each.verdict is not Health.FAILS for each in self.findings)


def examine(target: Target, now: float) -> Diagnosis:
    """Run all checks, and stop after the failure of a check on which all later checks depend.

    *now* is in seconds since the UTC epoch.
    """
    trusting = trust.context(target.authority) if target.tls else None
    server = ServerAddress(
        target.host, target.port, target.name, trusting, target.login, target.prefix
    )
    found = list(_findings(target, server, dt.datetime.fromtimestamp(now, dt.UTC)))
    return Diagnosis(server.url, str(target.image or ""), tuple(found))


def _findings(target: Target, server: ServerAddress, now: dt.datetime) -> Iterator[Finding]:
    """Run the checks one after another, and yield the result of each."""
    tokens = BearerTokens(server.login, server.tls)
    client = ApplianceClient(server, tokens)
    opening = cache(lambda: client.anonymous().request("GET", "/v2/"))
    steps: dict[str, Callable[[], Finding | None]] = {
        "registry": lambda: _registry(opening()),
        "token keys": lambda: token_checks.keys(target.token) if target.token else None,
        "token": lambda: token_checks.token(opening(), tokens, target.token),
        "login": lambda: _login(client),
    }
    if server.tls:
        trusting, address = server.tls, (server.host, server.port)
        first: dict[str, Callable[[], Finding | None]] = {
            "certificate": lambda: trust.check(address, server.name, trusting, now)
        }
        steps = {**first, **steps}
    for what, step in steps.items():
        try:
            found = step()
            if found is not None:
                yield found
        except CannotContinue as error:
            yield fails(what, error.why, error.remedy)
            return
    yield from _pulls(target, client)


def _pulls(target: Target, client: ApplianceClient) -> Iterator[Finding]:
    image = target.image
    if image is None:
        why = "no image is stored, and no well-known image is on one of the upstreams"
        yield fails("image", why, "give an image: --image quay.io/podman/hello:latest")
        return
    for route in routes(image, target.default):
        yield pull(client, route, image, target.breakers)


def _registry(response: ClientResponse) -> Finding:
    """Check *response* to `GET /v2/` (OCI distribution-spec 1.1, end-1). Raises: CannotContinue."""
    if _VERSION not in response.headers:
        raise CannotContinue(
            f"the response ({response.status}) is not from a registry",
            "give the appliance's address: --host HOST",
        )
    return works("registry", f"answers with {response.status}")


def _login(client: ApplianceClient) -> Finding:
    """Check that the appliance accepts the login, or permits pulls without one.

    Raises: CannotContinue if the appliance permits no pull.
    """
    login, response = client.server.login, client.request("GET", "/v2/")
    if response.status != _OK and login is None:
        # `/v2/` requires a password even if anonymous clients may pull.
        if client.request("GET", "/v2/_catalog?n=1").status != _OK:
            remedy = "give --authfile FILE, or --user USER:PASSWORD"
            raise CannotContinue("a password is needed", remedy)
        return works("login", "no password is needed to pull")
    if response.status != _OK and login is not None:
        raise CannotContinue(f"{login.username} is refused: {response.problem}", "try podman login")
    return works("login", f"{login.username} is accepted" if login else "none is needed")
