"""A worker and HAProxy exchange headers about verified credentials and permission to cache."""

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
    """An upstream table without upstreams, so that all repositories are hosted."""

    default = None

    def find(self, host: str) -> Registered | None:
        """Return None for every host."""
        del host
        return None


class CountingCheck:
    """A password check that accepts the password "right" for three users and counts its calls."""

    def __init__(self) -> None:
        self.times = 0

    def __call__(self, user: str, password: str) -> bool:
        """Return True if the password is correct, and count the call."""
        self.times += 1
        return (user, password) in {("ann", "right"), ("bob", "right"), ("grün", "right")}


class Client:
    """A client that sends requests to an application, with or without HAProxy in front."""

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
        """Send a request with Basic authentication; *credential* is `user:password` or None."""
        if credential is not None:
            headers["Authorization"] = f"Basic {base64.b64encode(credential.encode()).decode()}"
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self._client.simulate_get(path, headers=named)


@pytest.fixture
def check() -> CountingCheck:
    """Return the password check that counts its calls."""
    return CountingCheck()


@pytest.fixture
def client(check: CountingCheck) -> Client:
    """Return a client of an application that checks passwords and trusts HAProxy's headers."""
    return Client(BasicAuthenticator(check, realm="here"), EdgeHeaders(lambda: NOW))


def test_a_right_password_is_reported_with_rights_class_and_epoch(client: Client) -> None:
    """After a correct password the response has the client's rights class and the cache epoch.

    HAProxy can store only numbers of 32 bits, and a rights class is longer, so it is sent as four
    numbers.
    """
    answer = client.ask("ann:right")

    assert answer.headers["x-entrepot-generation"] == NOW
    numbers = [int(each) for each in answer.headers["x-entrepot-rights"].split(".")]
    assert len(numbers) == 4
    assert all(0 <= each < 2**32 for each in numbers)
    assert numbers[3] == 1


def test_users_with_equal_rights_have_the_same_rights_header(client: Client) -> None:
    """The responses to two users with equal rights have the same rights header.

    So HAProxy can serve one user a response that it cached for the other user.
    """
    ann, bob = client.ask("ann:right"), client.ask("bob:right")

    assert ann.headers["x-entrepot-rights"] == bob.headers["x-entrepot-rights"]


@pytest.mark.parametrize("credential", [None, "ann:wrong"], ids=["none", "a wrong one"])
def test_a_missing_or_wrong_password_is_not_reported_as_verified(
    client: Client, credential: str | None
) -> None:
    """A 401 has no rights header; otherwise HAProxy would remember the rejected credential."""
    answer = client.ask(credential)

    assert (answer.status_code, "x-entrepot-rights" in answer.headers) == (401, False)


def test_without_passwords_a_credential_is_anonymous() -> None:
    """If no passwords are configured, a worker ignores credentials and treats clients as anonymous.

    dockerd sends its Docker Hub password to each mirror, and pulls must succeed despite that
    password.
    """
    answer = Client(OpenAuthenticator(), EdgeHeaders(lambda: NOW)).ask("hub:secret")

    assert answer.headers["x-entrepot-rights"].endswith(".2")
    assert "x-entrepot-user" not in answer.headers


def test_a_credential_verified_by_haproxy_is_not_checked_again(
    client: Client, check: CountingCheck
) -> None:
    """If HAProxy reports that it has verified a credential, the worker does not check the password.

    The response has no rights header. Otherwise HAProxy would renew its entry for the credential at
    each request, and no worker would ever check the password again.
    """
    answer = client.ask("ann:right", X_Entrepot_Verified=NOW)

    assert (answer.status_code, check.times) == (200, 0)
    assert answer.headers["x-entrepot-user"] == "ann"
    assert "x-entrepot-rights" not in answer.headers


def test_a_credential_verified_in_another_epoch_is_checked(
    client: Client, check: CountingCheck
) -> None:
    """If HAProxy verified a credential in an older cache epoch, the worker checks the password.

    The epoch rises when passwords or access rules change, so the earlier verification may be
    invalid.
    """
    answer = client.ask("ann:wrong", X_Entrepot_Verified="0000000006")

    assert (answer.status_code, check.times) == (401, 1)


def test_without_haproxy_no_header_replaces_a_password(check: CountingCheck) -> None:
    """Without HAProxy, a worker ignores the request header that marks a credential as verified.

    The worker also omits its internal response headers, because there is no HAProxy to remove them.
    """
    client = Client(BasicAuthenticator(check, realm="here"), EdgeHeaders())

    assert client.ask("ann:wrong", X_Entrepot_Verified=NOW).status_code == 401
    assert client.ask(None, X_Entrepot_Verified=NOW).status_code == 401
    given = client.ask("ann:right").headers
    assert not {name for name in given if "rights" in name or "-generation" in name}


def test_an_authenticator_without_identify_verified_is_always_called() -> None:
    """An authenticator without the method `identify_verified` is called for every request.

    A program that embeds the registry can supply such an authenticator, and no proxy header may
    bypass it.
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
    """A worker sends a user's name to HAProxy in UTF-8, which is the encoding of the access log."""
    given = client.ask("grün:right").headers["x-entrepot-user"]

    assert given.encode("latin-1").decode() == "grün"


def test_the_epoch_is_read_once_before_the_request_is_handled(check: CountingCheck) -> None:
    """A worker reads the cache epoch once for each request, before it handles the request.

    If content changes during the request, the response may have the old content. Then the response
    also has the old epoch, but HAProxy looks up entries only under the new epoch.
    """
    dates = iter(["1", "2"])
    client = Client(BasicAuthenticator(check, realm="here"), EdgeHeaders(lambda: next(dates)))

    assert client.ask("ann:right").headers["x-entrepot-generation"] == "1"


@pytest.mark.parametrize("scope", ["repository:app:pull", "repository:app:pull,push"])
def test_a_wrong_password_is_counted_even_if_the_response_is_a_success(
    check: CountingCheck, scope: str
) -> None:
    """A header reports a wrong password to HAProxy, even in a 200 response with a token.

    From the anonymous token a client can conclude that the password was wrong, so HAProxy must
    count the response like a 401.
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
    """Without a correct password, a client gets the same 401 for every repository name.

    The response does not depend on whether the name begins with a configured upstream, or whether
    the name is valid. Otherwise strangers could find out which upstreams, such as internal
    registries, are configured.
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
    """A `CacheFill` that treats each HEAD as repeated; it records fills but performs none."""

    def __init__(self) -> None:
        self.fills: list[HeadRequest] = []

    def is_repeated(self, request: HeadRequest) -> bool:
        """Return True, whatever the request is."""
        del request
        return True

    def fill(self, request: HeadRequest) -> None:
        """Record the request that would fill HAProxy's cache."""
        self.fills.append(request)


def _head(edge: EdgeHeaders, **headers: str) -> None:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    request = Request(testing.create_environ("/v2/a/manifests/v1", method="HEAD", headers=named))
    request.env["RAW_URI"] = "/v2/a/manifests/v1"
    edge.permit_caching(request, Response(), lambda: 60.0)


def test_the_cache_is_filled_only_for_credentials_that_haproxy_has_verified() -> None:
    """A HEAD fills HAProxy's cache only without a credential or with one that HAProxy verified.

    A fill sends HAProxy a GET with the same credential. If HAProxy had not verified the credential,
    it would not cache the response.
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
    """With `http.edgecache: off` a worker does not compute how long HAProxy may cache a response.

    For a manifest, this computation would check each of the manifest's parts.
    """
    computed: list[float] = []
    response = Response()

    def cacheable_s() -> float:
        computed.append(60.0)
        return 60.0

    request = Request(testing.create_environ("/v2/a/manifests/v1"))
    EdgeHeaders(lambda: NOW, has_cache=has_cache).permit_caching(request, response, cacheable_s)

    assert bool(computed) is has_cache
    assert response.get_header(CACHEABILITY) == ("60" if has_cache else None)
