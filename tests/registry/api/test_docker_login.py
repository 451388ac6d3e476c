"""The docker daemon where strangers may pull: its own challenge, and the token that it asks for."""

from __future__ import annotations

import base64
import re

import pytest
from falcon import App, testing

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.repositories import Repositories
from entrepot.registry.api import errors, router
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.api.docker_login import SCHEME, DockerLoginResource
from entrepot.registry.api.status import VersionResource
from entrepot.registry.auth.identity import Authenticator, BasicAuthenticator, OpenAuthenticator
from tests.registry.api.test_authorize import Nowhere

DAEMON = "docker/20.10.24 go/go1.19.8 os/linux arch/amd64 UpstreamClient(Docker-Client/28.2.2)"
RIGHT, WRONG = "ann:right", "ann:guess"
PULL, PUSH = "repository:team/app:pull", "repository:team/app:push,pull"


def _check(user: str, password: str) -> bool:
    return f"{user}:{password}" == RIGHT


HALF_OPEN = BasicAuthenticator(_check, realm="here", anonymous="pull")
CLOSED = BasicAuthenticator(_check, realm="here")


def _client(authenticator: Authenticator) -> testing.TestClient:
    door = Authorization(authenticator, Nowhere(), Repositories(MemoryStorage()))
    app = App()
    errors.install(app)
    app.add_route(router.BASE, VersionResource(door))
    app.add_route(router.DOCKER_LOGIN, DockerLoginResource(door))
    return testing.TestClient(app)


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _challenge(authenticator: Authenticator, **headers: str) -> str | None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    answer = _client(authenticator).simulate_get("/v2/", headers=named)
    return answer.headers.get("www-authenticate") if answer.status_code == 401 else None


def _token(authenticator: Authenticator, login: str | None, *scopes: str) -> str | None:
    headers = {"Authorization": _basic(login)} if login else {}
    answer = _client(authenticator).simulate_get(
        router.DOCKER_LOGIN, headers=headers, params={"scope": list(scopes)}, params_csv=False
    )
    if answer.status_code == 401:
        assert answer.headers["www-authenticate"] == 'Basic realm="here"'
        return None
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.json["token"])


def test_the_daemon_is_challenged_for_a_token_where_strangers_may_pull() -> None:
    """After a Basic challenge it would send no request without a password."""
    told = _challenge(HALF_OPEN, User_Agent=DAEMON, Host="cache.example.org:5000")

    assert told == 'Bearer realm="http://cache.example.org:5000/v2/token",service="entrepot"'


def test_the_command_line_client_is_challenged_as_the_daemon() -> None:
    """`docker manifest` asks registries itself."""
    told = _challenge(HALF_OPEN, User_Agent="Docker-Client/28.2.2 (linux)", Host="cache.test")

    assert told
    assert told.startswith("Bearer ")


def test_the_realm_is_reached_as_the_client_came() -> None:
    """By TLS where HAProxy says so: a password must not go over plain HTTP."""
    told = _challenge(HALF_OPEN, **{"User_Agent": DAEMON, "Host": "cache.test", SCHEME: "https"})

    assert told
    assert 'realm="https://cache.test/v2/token"' in told


@pytest.mark.parametrize(
    ("authenticator", "headers"),
    [
        (CLOSED, {"User_Agent": DAEMON}),
        (HALF_OPEN, {"User_Agent": "containers/5.24.1 (github.com/containers/image)"}),
        (HALF_OPEN, {"User_Agent": "not-docker/1"}),
        (HALF_OPEN, {"User_Agent": DAEMON, "Authorization": _basic(WRONG)}),
        (HALF_OPEN, {"User_Agent": DAEMON, "Host": 'a"b'}),
    ],
    ids=["closed", "podman", "another program", "a wrong password", "a host that ends the quotes"],
)
def test_all_others_are_challenged_for_a_password(
    authenticator: Authenticator, headers: dict[str, str]
) -> None:
    """The Basic challenge, as docker distribution's htpasswd."""
    assert _challenge(authenticator, **headers) == 'Basic realm="here"'


def test_an_open_registry_challenges_no_daemon() -> None:
    """There are no passwords."""
    assert _challenge(OpenAuthenticator(), User_Agent=DAEMON) is None


@pytest.mark.parametrize("authenticator", [HALF_OPEN, CLOSED], ids=["half open", "closed"])
@pytest.mark.parametrize("scopes", [(), (PULL,), (PUSH,), (PULL, PUSH)])
def test_the_token_for_a_right_password_is_that_user_s(
    authenticator: Authenticator, scopes: tuple[str, ...]
) -> None:
    """Whatever it is asked for: what the user may do is looked at with each request."""
    token = _token(authenticator, RIGHT, *scopes)

    assert authenticator.identify(f"Bearer {token}").user == "ann"


@pytest.mark.parametrize(
    ("login", "scopes"),
    [(None, ()), (None, (PULL,)), (None, (PUSH,)), (WRONG, (PULL,)), (WRONG, (PULL, PULL))],
)
def test_strangers_get_a_token_of_nobody(login: str | None, scopes: tuple[str, ...]) -> None:
    """Also one with a password for Docker Hub that pulls: the daemon sends it to every mirror."""
    token = _token(HALF_OPEN, login, *scopes)

    identity = HALF_OPEN.identify(f"Bearer {token}")
    assert (identity.user, identity.has_wrong_credentials) == (None, False)
    assert identity.may("pull", None)


def test_a_login_with_a_wrong_password_is_refused() -> None:
    """`docker login` asks without a scope."""
    assert _token(HALF_OPEN, WRONG) is None


@pytest.mark.parametrize(
    "scopes", [(PUSH,), (PULL, PUSH), ("",), ("repository:a:*",), ("pull,push",)]
)
def test_the_token_for_a_wrong_password_and_a_push_is_refused_when_it_is_used(
    scopes: tuple[str, ...],
) -> None:
    """A token that is refused is asked for again and again by the daemon, a request is not."""
    token = _token(HALF_OPEN, WRONG, *scopes)

    identity = HALF_OPEN.identify(f"Bearer {token}")
    assert (identity.user, identity.has_wrong_credentials) == (None, True)


@pytest.mark.parametrize("login", [None, WRONG])
def test_strangers_get_no_token_where_they_may_not_pull(login: str | None) -> None:
    """The endpoint opens nothing."""
    assert _token(CLOSED, login, PULL) is None


def test_the_token_is_a_header_s_letters() -> None:
    """It can be sent back as it is."""
    token = _token(HALF_OPEN, RIGHT)

    assert token
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", token)
