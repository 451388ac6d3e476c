"""If a registry permits anonymous pulls, dockerd gets a Bearer challenge and uses a token."""

from __future__ import annotations

import base64
import re

import pytest
from falcon import App, testing

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.repositories import Repositories
from entrepot.registry.api import errors, router
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.api.docker_login import DockerLoginResource
from entrepot.registry.api.scopes import BASE, SCHEME
from entrepot.registry.api.status import VersionResource
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from tests.registry.api.test_authorize import NoUpstreams

DAEMON = "docker/20.10.24 go/go1.19.8 os/linux arch/amd64 UpstreamClient(Docker-Client/28.2.2)"
RIGHT, WRONG = "ann:right", "ann:guess"
PULL, PUSH = "repository:team/app:pull", "repository:team/app:push,pull"


def _check(user: str, password: str) -> bool:
    return f"{user}:{password}" == RIGHT


HALF_OPEN = BasicAuthenticator(_check, realm="here", anonymous="pull")
CLOSED = BasicAuthenticator(_check, realm="here")


def _client(authenticator: Authenticator) -> testing.TestClient:
    authorization = Authorization(authenticator, NoUpstreams(), Repositories(MemoryStorage()))
    app = App()
    errors.install(app)
    app.add_route(router.BASE, VersionResource(authorization))
    app.add_route(router.DOCKER_LOGIN, DockerLoginResource(authorization))
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


def test_the_daemon_gets_a_bearer_challenge_if_anonymous_clients_may_pull() -> None:
    """If anonymous clients may pull, dockerd gets a Bearer challenge instead of a Basic challenge.

    After a Basic challenge, dockerd without a password would give up.
    """
    header = _challenge(HALF_OPEN, User_Agent=DAEMON, Host="cache.example.org:5000")

    assert header == 'Bearer realm="http://cache.example.org:5000/v2/token",service="entrepot"'


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        ("/reg", "https://cache.example.org/reg/v2/token"),
        ("https://registry.example/x", "https://registry.example/x/v2/token"),
    ],
    ids=["prefix", "host"],
)
def test_the_realm_begins_with_the_configured_host_and_prefix(base: str, realm: str) -> None:
    """The realm for dockerd begins with `http.host` and `http.prefix`.

    HAProxy passes both values to the worker in a header.
    """
    sent = {"User_Agent": DAEMON, "Host": "cache.example.org", SCHEME: "https", BASE: base}

    assert _challenge(HALF_OPEN, **sent) == f'Bearer realm="{realm}",service="entrepot"'


def test_the_docker_command_gets_the_same_challenge_as_the_daemon() -> None:
    """The command `docker manifest` gets the same challenge as dockerd.

    This command sends its requests to the registry itself, not through dockerd.
    """
    header = _challenge(HALF_OPEN, User_Agent="Docker-Client/28.2.2 (linux)", Host="cache.test")

    assert header
    assert header.startswith("Bearer ")


def test_the_realm_has_the_scheme_of_the_client_connection() -> None:
    """If the client connects to HAProxy with TLS, the realm for dockerd begins with `https:`."""
    header = _challenge(HALF_OPEN, **{"User_Agent": DAEMON, "Host": "cache.test", SCHEME: "https"})

    assert header
    assert 'realm="https://cache.test/v2/token"' in header


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
def test_all_other_clients_get_a_basic_challenge(
    authenticator: Authenticator, headers: dict[str, str]
) -> None:
    """Clients other than dockerd get a Basic challenge, as from docker distribution.

    dockerd also gets a Basic challenge if anonymous clients may not pull, if its password is wrong,
    or if its Host header is invalid.
    """
    assert _challenge(authenticator, **headers) == 'Basic realm="here"'


def test_an_open_registry_challenges_no_daemon() -> None:
    """If no passwords are configured, dockerd gets no challenge."""
    assert _challenge(OpenAuthenticator(), User_Agent=DAEMON) is None


@pytest.mark.parametrize("authenticator", [HALF_OPEN, CLOSED], ids=["half open", "closed"])
@pytest.mark.parametrize("scopes", [(), (PULL,), (PUSH,), (PULL, PUSH)])
def test_the_token_for_a_right_password_identifies_the_user(
    authenticator: Authenticator, scopes: tuple[str, ...]
) -> None:
    """A token for a correct password identifies the user, whatever scopes the client requested.

    The registry checks the rights of that user at each request.
    """
    token = _token(authenticator, RIGHT, *scopes)

    assert authenticator.identify(f"Bearer {token}").user == "ann"


@pytest.mark.parametrize(
    ("login", "scopes"),
    [(None, ()), (None, (PULL,)), (None, (PUSH,)), (WRONG, (PULL,)), (WRONG, (PULL, PULL))],
)
def test_anonymous_clients_get_an_anonymous_token(
    login: str | None, scopes: tuple[str, ...]
) -> None:
    """A client without a correct password gets a token that identifies no user.

    dockerd sends its Docker Hub password to every mirror, and must still be able to pull.
    """
    token = _token(HALF_OPEN, login, *scopes)

    identity = HALF_OPEN.identify(f"Bearer {token}")
    assert (identity.user, identity.has_wrong_credentials) == (None, False)
    assert identity.may("pull", None)


def test_a_login_with_a_wrong_password_is_rejected() -> None:
    """`docker login` requests a token without a scope; with a wrong password it gets 401."""
    assert _token(HALF_OPEN, WRONG) is None


@pytest.mark.parametrize(
    "scopes", [(PUSH,), (PULL, PUSH), ("",), ("repository:a:*",), ("pull,push",)]
)
def test_a_push_token_for_a_wrong_password_is_rejected_when_it_is_used(
    scopes: tuple[str, ...],
) -> None:
    """With a wrong password, a client gets a token for a push, but the push itself is rejected.

    dockerd would repeat a rejected token request many times; it does not repeat a rejected push
    request.
    """
    token = _token(HALF_OPEN, WRONG, *scopes)

    identity = HALF_OPEN.identify(f"Bearer {token}")
    assert (identity.user, identity.has_wrong_credentials) == (None, True)


@pytest.mark.parametrize("login", [None, WRONG])
def test_anonymous_clients_get_no_token_if_they_may_not_pull(login: str | None) -> None:
    """If anonymous clients may not pull, a token request without a correct password gets 401."""
    assert _token(CLOSED, login, PULL) is None


def test_the_token_has_only_characters_valid_in_a_header() -> None:
    """A token has only characters that are valid in the header in which dockerd sends it."""
    token = _token(HALF_OPEN, RIGHT)

    assert token
    assert re.fullmatch(r"[A-Za-z0-9+/]+=*", token)
