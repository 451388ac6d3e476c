"""What a worker and HAProxy tell each other: who is believed, and what may be remembered."""

from __future__ import annotations

import base64

import pytest
from falcon import App, testing

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.repositories import Repositories
from entrepot.registry.api import errors
from entrepot.registry.api.authorize import Authorization, EdgeHeaders
from entrepot.registry.api.docker_login import DockerLoginResource
from entrepot.registry.api.status import VersionResource
from entrepot.registry.auth.identity import (
    Authenticator,
    BasicAuthenticator,
    Identity,
    OpenAuthenticator,
)
from entrepot.registry.upstream.upstreams import Registered

NOW = "0000000007"


class Nowhere:
    """No upstreams."""

    default = None

    def find(self, host: str) -> Registered | None:
        """Find none."""
        del host
        return None


class Checked:
    """A check that knows one password, and counts how often it is asked."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, user: str, password: str) -> bool:
        """Check one."""
        self.times += 1
        return (user, password) in {("ann", "right"), ("bob", "right"), ("grün", "right")}


class Client:
    """Asks `/v2/` of an application with a front before it, or none."""

    def __init__(self, authenticator: Authenticator, edge: EdgeHeaders) -> None:
        door = Authorization(authenticator, Nowhere(), Repositories(MemoryStorage()), edge=edge)
        app = App()
        errors.install(app)
        app.add_route("/v2/", VersionResource(door))
        app.add_route("/v2/token", DockerLoginResource(door))
        self._client = testing.TestClient(app)

    def ask(self, credential: str | None, path: str = "/v2/", **headers: str) -> testing.Result:
        """Ask with user:password."""
        if credential is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(credential.encode()).decode()}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.simulate_get(path, headers=named)


@pytest.fixture
def check() -> Checked:
    """The costly check."""
    return Checked()


@pytest.fixture
def client(check: Checked) -> Client:
    """An application behind HAProxy, that wants a password."""
    return Client(BasicAuthenticator(check, realm="here"), EdgeHeaders(lambda: NOW))


def test_a_right_password_is_told_with_its_rights_and_generation(client: Client) -> None:
    """HAProxy remembers four numbers of 32 bits and less."""
    answer = client.ask("ann:right")

    assert answer.headers["x-entrepot-generation"] == NOW
    numbers = [int(each) for each in answer.headers["x-entrepot-rights"].split(".")]
    assert len(numbers) == 4
    assert all(0 <= each < 2**32 for each in numbers)
    assert numbers[3] == 1


def test_who_may_do_the_same_has_the_same_rights(client: Client) -> None:
    """They share what is remembered."""
    ann, bob = client.ask("ann:right"), client.ask("bob:right")

    assert ann.headers["x-entrepot-rights"] == bob.headers["x-entrepot-rights"]


@pytest.mark.parametrize("credential", [None, "ann:wrong"], ids=["none", "a wrong one"])
def test_what_is_not_right_is_not_remembered(client: Client, credential: str | None) -> None:
    """It has no rights to be told."""
    answer = client.ask(credential)

    assert (answer.status_code, "x-entrepot-rights" in answer.headers) == (401, False)


def test_where_nobody_needs_a_password_one_is_nobodys() -> None:
    """Dockerd sends a mirror what it has for the Hub: that is remembered, but no user."""
    answer = Client(OpenAuthenticator(), EdgeHeaders(lambda: NOW)).ask("hub:secret")

    assert answer.headers["x-entrepot-rights"].endswith(".2")
    assert "x-entrepot-user" not in answer.headers


def test_what_haproxy_remembers_is_not_checked_again(client: Client, check: Checked) -> None:
    """Nor told to it again, or it would be remembered for ever."""
    answer = client.ask("ann:right", X_Entrepot_Verified=NOW)

    assert (answer.status_code, check.times) == (200, 0)
    assert answer.headers["x-entrepot-user"] == "ann"
    assert "x-entrepot-rights" not in answer.headers


def test_what_haproxy_remembers_of_another_generation_is_checked(
    client: Client, check: Checked
) -> None:
    """It has not heard yet that something changed."""
    answer = client.ask("ann:wrong", X_Entrepot_Verified="0000000006")

    assert (answer.status_code, check.times) == (401, 1)


def test_without_haproxy_before_it_no_header_makes_a_user(check: Checked) -> None:
    """And nothing is told that only HAProxy would take away."""
    client = Client(BasicAuthenticator(check, realm="here"), EdgeHeaders())

    assert client.ask("ann:wrong", X_Entrepot_Verified=NOW).status_code == 401
    assert client.ask(None, X_Entrepot_Verified=NOW).status_code == 401
    told = client.ask("ann:right").headers
    assert not {name for name in told if "rights" in name or "generation" in name}


def test_an_authenticator_that_recalls_nobody_is_asked_each_time() -> None:
    """A program's own decides by itself, whatever a proxy says."""

    class Own:
        def identify(self, authorization: str | None) -> Identity:
            del authorization
            return Identity(None, challenge="Basic")

    assert (
        Client(Own(), EdgeHeaders(lambda: NOW)).ask("x:y", X_Entrepot_Verified=NOW).status_code
        == 401
    )


def test_a_name_reaches_the_log_as_it_is(client: Client) -> None:
    """In UTF-8, as HAProxy reads it from the credential when it remembers that."""
    told = client.ask("grün:right").headers["x-entrepot-user"]

    assert told.encode("latin-1").decode() == "grün"


def test_an_answer_is_dated_once_at_its_beginning(check: Checked) -> None:
    """What changes while we look is newer than what we say."""
    dates = iter(["1", "2"])
    client = Client(BasicAuthenticator(check, realm="here"), EdgeHeaders(lambda: next(dates)))

    assert client.ask("ann:right").headers["x-entrepot-generation"] == "1"


@pytest.mark.parametrize("scope", ["repository:app:pull", "repository:app:pull,push"])
def test_a_wrong_password_is_counted_although_a_stranger_is_served(
    check: Checked, scope: str
) -> None:
    """The token tells whether it was right: HAProxy counts it as it counts a 401."""
    half_open = BasicAuthenticator(check, realm="here", anonymous="pull")
    client, path = Client(half_open, EdgeHeaders(lambda: NOW)), f"/v2/token?scope={scope}"
    wrong, right, nobody = (client.ask(each, path) for each in ("ann:wrong", "ann:right", None))

    assert [each.status_code for each in (wrong, right, nobody)] == [200] * 3
    assert "x-entrepot-mistaken" in wrong.headers
    assert not {"x-entrepot-mistaken"} & {*right.headers, *nobody.headers}
    alone = Client(half_open, EdgeHeaders()).ask("ann:wrong", path)
    assert "x-entrepot-mistaken" not in alone.headers
