"""Test the headers between a worker and HAProxy: verified credentials and cache permission."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest
from falcon import App, Request, Response, testing

from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.repositories import Repositories
from entrepot.edge.cache_fill import CacheFill, HeadRequest
from entrepot.registry.api import errors
from entrepot.registry.api.authorize import CACHEABILITY, Authorization, EdgeHeaders
from entrepot.registry.api.docker_login import DockerLoginResource
from entrepot.registry.api.status import VersionResource
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.identity import Authenticator, Identity, OpenAuthenticator
from entrepot.registry.upstream.upstreams import Registered
from tests.registry.pulling import pulling
from tests.upstream import FakeUpstream

NOW = "0000000007"


class NoUpstreams:
    """A `NoUpstreams` is a table without upstreams."""

    default = None

    def find(self, host: str) -> Registered | None:
        """Return no upstream."""
        del host
        return None


class CountingCheck:
    """A `CountingCheck` accepts one password, and counts its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, user: str, password: str) -> bool:
        """Return whether the password is right, and count the call."""
        self.times += 1
        return (user, password) in {("ann", "right"), ("bob", "right"), ("grün", "right")}


class Client:
    """Sends requests to an application, with or without HAProxy in front."""

    def __init__(self, authenticator: Authenticator, edge: EdgeHeaders) -> None:
        authorization = Authorization(
            authenticator, NoUpstreams(), Repositories(MemoryStorage()), edge=edge
        )
        app = App()
        errors.install(app)
        app.add_route("/v2/", VersionResource(authorization))
        app.add_route("/v2/token", DockerLoginResource(authorization))
        self._client = testing.TestClient(app)

    def ask(self, credential: str | None, path: str = "/v2/", **headers: str) -> testing.Result:
        """Send a request with a credential `user:password`."""
        if credential is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(credential.encode()).decode()}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.simulate_get(path, headers=named)


@pytest.fixture
def check() -> CountingCheck:
    """Return a counting check."""
    return CountingCheck()


@pytest.fixture
def client(check: CountingCheck) -> Client:
    """Return a client of an application with passwords behind HAProxy."""
    return Client(BasicAuthenticator(check, realm="here"), EdgeHeaders(lambda: NOW))


def test_a_right_password_is_reported_with_rights_class_and_epoch(client: Client) -> None:
    """HAProxy stores the rights class as numbers of at most 32 bits."""
    answer = client.ask("ann:right")

    assert answer.headers["x-entrepot-generation"] == NOW
    numbers = [int(each) for each in answer.headers["x-entrepot-rights"].split(".")]
    assert len(numbers) == 4
    assert all(0 <= each < 2**32 for each in numbers)
    assert numbers[3] == 1


def test_users_with_equal_rights_have_the_same_rights_header(client: Client) -> None:
    """Users with equal rights get the same rights header, so they share HAProxy's responses."""
    ann, bob = client.ask("ann:right"), client.ask("bob:right")

    assert ann.headers["x-entrepot-rights"] == bob.headers["x-entrepot-rights"]


@pytest.mark.parametrize("credential", [None, "ann:wrong"], ids=["none", "a wrong one"])
def test_a_missing_or_wrong_password_is_not_reported_as_verified(
    client: Client, credential: str | None
) -> None:
    """A worker does not report a wrong password as verified: HAProxy must not remember it."""
    answer = client.ask(credential)

    assert (answer.status_code, "x-entrepot-rights" in answer.headers) == (401, False)


def test_without_passwords_a_credential_is_anonymous() -> None:
    """HAProxy remembers the Docker Hub password that dockerd sends to a mirror, as anonymous."""
    answer = Client(OpenAuthenticator(), EdgeHeaders(lambda: NOW)).ask("hub:secret")

    assert answer.headers["x-entrepot-rights"].endswith(".2")
    assert "x-entrepot-user" not in answer.headers


def test_a_credential_verified_by_haproxy_is_not_checked_again(
    client: Client, check: CountingCheck
) -> None:
    """A worker does not check a credential again that HAProxy has verified.

    The worker does not report a verified credential again: HAProxy would remember it without an
    end.
    """
    answer = client.ask("ann:right", X_Entrepot_Verified=NOW)

    assert (answer.status_code, check.times) == (200, 0)
    assert answer.headers["x-entrepot-user"] == "ann"
    assert "x-entrepot-rights" not in answer.headers


def test_a_credential_verified_in_another_epoch_is_checked(
    client: Client, check: CountingCheck
) -> None:
    """A worker checks a credential that HAProxy verified in an older cache epoch.

    In that case HAProxy does not know yet that passwords or rules changed.
    """
    answer = client.ask("ann:wrong", X_Entrepot_Verified="0000000006")

    assert (answer.status_code, check.times) == (401, 1)


def test_without_haproxy_no_header_replaces_a_password(check: CountingCheck) -> None:
    """Without HAProxy no header of a request replaces a password.

    Without HAProxy the response has no headers that only HAProxy would remove.
    """
    client = Client(BasicAuthenticator(check, realm="here"), EdgeHeaders())

    assert client.ask("ann:wrong", X_Entrepot_Verified=NOW).status_code == 401
    assert client.ask(None, X_Entrepot_Verified=NOW).status_code == 401
    given = client.ask("ann:right").headers
    assert not {name for name in given if "rights" in name or "-generation" in name}


def test_an_authenticator_without_identify_verified_is_always_called() -> None:
    """An authenticator without `identify_verified` is called for every request.

    The authenticator of an embedding program decides alone, whatever a proxy sends.
    """

    class Own:
        def identify(self, authorization: str | None) -> Identity:
            del authorization
            return Identity(None, challenge="Basic")

    assert (
        Client(Own(), EdgeHeaders(lambda: NOW)).ask("x:y", X_Entrepot_Verified=NOW).status_code
        == 401
    )


def test_a_user_name_is_sent_to_the_log_in_utf8(client: Client) -> None:
    """A worker sends a user's name to the log in UTF-8, as HAProxy decodes it."""
    given = client.ask("grün:right").headers["x-entrepot-user"]

    assert given.encode("latin-1").decode() == "grün"


def test_the_epoch_is_read_once_before_the_request_is_handled(check: CountingCheck) -> None:
    """The epoch is read once before the request is handled, so later changes are newer."""
    dates = iter(["1", "2"])
    client = Client(BasicAuthenticator(check, realm="here"), EdgeHeaders(lambda: next(dates)))

    assert client.ask("ann:right").headers["x-entrepot-generation"] == "1"


@pytest.mark.parametrize("scope", ["repository:app:pull", "repository:app:pull,push"])
def test_a_wrong_password_is_counted_even_if_the_response_is_a_success(
    check: CountingCheck, scope: str
) -> None:
    """A wrong password is counted even if the token response is 200.

    The token reveals whether the password was right, so HAProxy counts a wrong one like a 401.
    """
    half_open = BasicAuthenticator(check, realm="here", anonymous="pull")
    client, path = Client(half_open, EdgeHeaders(lambda: NOW)), f"/v2/token?scope={scope}"
    wrong, right, nobody = (client.ask(each, path) for each in ("ann:wrong", "ann:right", None))

    assert [each.status_code for each in (wrong, right, nobody)] == [200] * 3
    assert "x-entrepot-mistaken" in wrong.headers
    assert not {"x-entrepot-mistaken"} & {*right.headers, *nobody.headers}
    alone = Client(half_open, EdgeHeaders()).ask("ann:wrong", path)
    assert "x-entrepot-mistaken" not in alone.headers


@pytest.mark.parametrize("credential", [None, "ann:wrong"], ids=["none", "a wrong one"])
def test_a_client_without_rights_cannot_find_out_which_upstreams_are_configured(
    tmp_path: Path, check: CountingCheck, credential: str | None
) -> None:
    """Without a right password, names of known, unknown and impossible upstreams look alike.

    The upstreams of an appliance may name internal registries, which strangers must not learn.
    """
    headers = {}
    if credential is not None:
        headers["Authorization"] = f"Basic {base64.b64encode(credential.encode()).decode()}"
    with FakeUpstream() as upstream:
        upstream.add_image("library/app", "v1", [b"layer"])
        here = pulling(upstream, tmp_path, authenticator=BasicAuthenticator(check, realm="here"))
        names = [f"{here.prefix}/library/app", "unknown.test/library/app", "team/app", "UPPER/app"]
        got = [here.ask("GET", f"/v2/{name}/manifests/v1", **headers) for name in names]

    assert got[0].status_code == 401
    assert "oci-namespace" not in got[0].headers
    assert len({(each.status_code, each.text, str(dict(each.headers))) for each in got}) == 1


class RecordedFills(CacheFill):
    """A `RecordedFills` takes every HEAD as a repeated one, and records the cache fills."""

    def __init__(self) -> None:
        self.fills: list[HeadRequest] = []

    def is_repeated(self, request: HeadRequest) -> bool:
        """Return True."""
        del request
        return True

    def fill(self, request: HeadRequest) -> None:
        """Keep the request."""
        self.fills.append(request)


def _head(edge: EdgeHeaders, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(testing.create_environ("/v2/a/manifests/v1", method="HEAD", headers=named))
    request.env["RAW_URI"] = "/v2/a/manifests/v1"
    edge.permit_caching(request, Response(), lambda: 60.0)


def test_the_cache_is_filled_only_for_credentials_that_haproxy_has_verified() -> None:
    """HAProxy caches nothing for a credential that it has not verified.

    A cache fill for an unverified credential would send a second request to the worker, and fill
    nothing.
    """
    fills = RecordedFills()
    edge = EdgeHeaders(lambda: NOW, fills)

    _head(edge, Authorization="Basic YTpi")
    assert fills.fills == []
    _head(edge, Authorization="Basic YTpi", X_Entrepot_Verified=NOW)
    _head(edge)
    assert [credential for _, credential in fills.fills] == ["Basic YTpi", None]


@pytest.mark.parametrize("has_cache", [True, False], ids=["with a cache", "without a cache"])
def test_a_permission_to_cache_is_computed_only_for_a_cache(*, has_cache: bool) -> None:
    """With `http.edgecache: off` no worker checks the parts of a manifest for nothing."""
    computed: list[float] = []
    response = Response()

    def cacheable_s() -> float:
        computed.append(60.0)
        return 60.0

    request = Request(testing.create_environ("/v2/a/manifests/v1"))
    EdgeHeaders(lambda: NOW, has_cache=has_cache).permit_caching(request, response, cacheable_s)

    assert bool(computed) is has_cache
    assert response.get_header(CACHEABILITY) == ("60" if has_cache else None)
