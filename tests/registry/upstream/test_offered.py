"""A client offers its credential before it accepts an upstream's 401, 403 or 404 as final."""

from __future__ import annotations

import base64
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

import pytest

from entrepot.datastore.refs import Tag
from entrepot.registry.errors import Absent, Denied, Unavailable
from entrepot.registry.upstream.credentials import Credential
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared, open_upstream
from tests.fake_repository import error
from tests.images import image
from tests.registry.upstream.clients import PlainSecret
from tests.wire import HONEST, Fault, HttpServer, Reply, Seen

_IMAGE = image([b"layer"])
_LOGIN = "Basic " + base64.b64encode(b"me:secret").decode()
_TAG = Tag("v1")


@dataclass
class Strict:
    """A registry that has one manifest and records its requests.

    `refuses` returns the response to a rejected request, or None for an accepted request.
    """

    refuses: Callable[[Seen], Reply | None]
    seen: list[Seen] = field(default_factory=list)

    def answer(self, seen: Seen) -> tuple[Reply, Fault]:
        """Record one request of the client, and respond to it."""
        self.seen.append(seen)
        refused = self.refuses(seen)
        if refused is not None:
            return refused, HONEST
        headers = {
            "Content-Type": _IMAGE.media_type,
            "Docker-Content-Digest": str(_IMAGE.digest),
        }
        return Reply(200, headers, _IMAGE.manifest), HONEST

    def count(self, path: str) -> int:
        """Return the number of requests for one path."""
        return sum(each.path == path for each in self.seen)


@contextmanager
def client_for(
    strict: Strict, secret: PlainSecret | Credential | None = None
) -> Iterator[Upstream]:
    """Run the registry, and yield a client of this registry with the pull secret *secret*."""
    server = HttpServer(strict.answer)
    server.start()
    try:
        if isinstance(secret, Credential):
            secret = PlainSecret({server.host: secret})
        source = UpstreamConfig(server.host, server.url, connect_timeout=20.0, read_timeout=20.0)
        yield open_upstream(source, Shared(secret=lambda: secret))
    finally:
        server.stop()


def hides(status: int, challenge: str = 'Basic realm="r"') -> Callable[[Seen], Reply | None]:
    """Return a `refuses` function for a registry that shows repositories only after a login.

    Such a registry sends a challenge only at /v2/.
    """

    def refuse(seen: Seen) -> Reply | None:
        if seen.headers.get("authorization") == _LOGIN:
            return None
        if seen.path == "/v2/":
            return error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge})
        return error(status, "NAME_UNKNOWN")

    return refuse


@pytest.mark.parametrize("status", [401, 403, 404])
def test_a_registry_that_hides_repositories_is_sent_the_password(status: int) -> None:
    """If a repository seems to be absent, the client requests `/v2/` and sends its password.

    Artifactory can be configured to hide repositories and to send a challenge only at `/v2/`.
    """
    strict = Strict(hides(status))
    with client_for(strict, Credential("me", "secret")) as upstream:
        for _ in range(2):
            assert upstream.manifest("app", _TAG).digest == _IMAGE.digest

    assert strict.count("/v2/") == 2


@pytest.mark.parametrize(("status", "fact"), [(403, Denied), (404, Absent)])
def test_without_a_password_a_rejection_is_accepted_at_once(
    status: int, fact: type[Exception]
) -> None:
    """Without a password for the registry, the client accepts a 403 or 404 as final."""
    strict = Strict(hides(status))
    with client_for(strict) as upstream, pytest.raises(fact):
        upstream.manifest("app", _TAG)

    assert strict.count("/v2/") == 0


def test_v2_without_a_challenge_is_requested_once_a_minute() -> None:
    """If `/v2/` sends no challenge, the client requests it once a minute, not after each 404."""
    strict = Strict(lambda seen: Reply(200) if seen.path == "/v2/" else error(404, "NAME_UNKNOWN"))
    with client_for(strict, Credential("me", "secret")) as upstream:
        for _ in range(3):
            with pytest.raises(Absent):
                upstream.manifest("app", _TAG)

    assert strict.count("/v2/") == 1


def test_a_rejected_password_is_not_sent_twice() -> None:
    """If `/v2/` rejects the password, the client does not send it to the repository."""

    def refuse(seen: Seen) -> Reply | None:
        if seen.path == "/v2/":
            return error(401, "UNAUTHORIZED", {"WWW-Authenticate": 'Basic realm="r"'})
        return error(404, "NAME_UNKNOWN")

    strict = Strict(refuse)
    with client_for(strict, Credential("me", "secret")) as upstream, pytest.raises(Denied):
        upstream.manifest("app", _TAG)

    assert len(strict.seen) == 3


class TokenRegistry:
    """A registry with a token endpoint; it accepts only the token in `valid`."""

    def __init__(self, scope: str = "", realm: str = "") -> None:
        self.valid = "t1"
        self.challenges_again = True
        self.scope = scope
        self.realm = realm
        self.strict = Strict(self.refuse)

    def refuse(self, seen: Seen) -> Reply | None:
        """Issue a token, accept a request with the valid token, and challenge other requests."""
        if seen.path == "/token":
            good = self.valid if self.scope in ("", seen.query.get("scope")) else "bad"
            return Reply(
                200, {"Content-Type": "application/json"}, b'{"token":"%s"}' % good.encode()
            )
        sent = seen.headers.get("authorization")
        if sent == f"Bearer {self.valid}":
            return None
        realm = self.realm or f"http://{seen.headers['host']}/token"
        challenge = f'Bearer realm="{realm}",service="s"'
        challenge += f',scope="{self.scope}"' if self.scope else ""
        again = sent is None or self.challenges_again
        return error(401, "UNAUTHORIZED", {"WWW-Authenticate": challenge} if again else {})


def test_a_401_without_a_challenge_fetches_another_token() -> None:
    """If a token gets a 401 without a challenge, the client fetches another token.

    Docker Hub responds in this way to an old token.
    """
    registry = TokenRegistry()
    registry.challenges_again = False
    with client_for(registry.strict) as upstream:
        upstream.manifest("app", _TAG)
        registry.valid = "t2"

        assert upstream.manifest("app", _TAG).digest == _IMAGE.digest

    assert registry.strict.count("/token") == 2


def test_the_scope_of_the_challenge_is_requested() -> None:
    """The client requests the scope in the challenge, even if it names another repository.

    A reverse proxy in front of the upstream can rename repositories. The client remembers the scope
    and its token, and uses the token for the next request.
    """
    registry = TokenRegistry(scope="repository:group/mirror/app:pull")
    with client_for(registry.strict) as upstream:
        upstream.manifest("app", _TAG)
        before = len(registry.strict.seen)
        upstream.manifest("app", _TAG)

    assert len(registry.strict.seen) == before + 1


@pytest.mark.parametrize("scope", ["x" * 5000, "repository:\u00e4:pull"])
def test_an_invalid_scope_is_not_used(scope: str) -> None:
    """If the scope in a challenge is invalid, the client requests the scope of the repository."""
    registry = TokenRegistry(scope=scope)
    with client_for(registry.strict) as upstream, pytest.raises((Denied, Unavailable)):
        upstream.manifest("app", _TAG)

    scopes = [each.query["scope"] for each in registry.strict.seen if each.path == "/token"]
    assert set(scopes) <= {"repository:app:pull"}


def test_an_anonymous_token_may_come_from_another_host() -> None:
    """Without a password, the client requests a token even if the realm is on another host.

    GitLab, Gitea and Harbor can have their token endpoint on another host.
    """
    endpoint = TokenRegistry()
    server = HttpServer(endpoint.strict.answer)
    server.start()
    try:
        port = server.host.partition(":")[2]
        registry = TokenRegistry(realm=f"http://sister.localhost:{port}/token")
        with client_for(registry.strict) as upstream:
            assert upstream.manifest("app", _TAG).digest == _IMAGE.digest
    finally:
        server.stop()

    assert all("authorization" not in each.headers for each in endpoint.strict.seen)


def test_a_password_is_not_sent_to_a_token_endpoint_on_another_host() -> None:
    """The client does not send a password to a token endpoint on another host.

    The operator can permit such an endpoint with the setting `realm`.
    """
    endpoint = TokenRegistry()
    server = HttpServer(endpoint.strict.answer)
    server.start()
    try:
        port = server.host.partition(":")[2]
        registry = TokenRegistry(realm=f"http://sister.localhost:{port}/token")
        with (
            client_for(registry.strict, Credential("me", "secret")) as upstream,
            pytest.raises(Unavailable, match="realm"),
        ):
            upstream.manifest("app", _TAG)
    finally:
        server.stop()

    assert endpoint.strict.seen == []


def test_a_registry_token_is_sent_unchanged() -> None:
    """The client sends the `registrytoken` of a pull secret unchanged.

    With a `registrytoken` the client requests no token.
    """
    registry = TokenRegistry()
    secret = Credential("", "", registry_token="t1")
    with client_for(registry.strict, secret) as upstream:
        assert upstream.manifest("app", _TAG).digest == _IMAGE.digest

    assert registry.strict.count("/token") == 0
