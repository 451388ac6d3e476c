"""A client authenticates at an upstream with tokens and passwords."""

from __future__ import annotations

import json
import threading
from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest, Tag
from entrepot.registry.errors import Denied, Unavailable, Why
from entrepot.registry.upstream.credentials import Credential
from entrepot.registry.upstream.tokens import TokenKey, Tokens, read_token
from entrepot.registry.upstream.upstreams import Shared
from entrepot.registry.upstream.wire import ConnectionBroken
from tests.gates import BasicGate, TokenService
from tests.registry.upstream.clients import PlainSecret, client_of, listening, secret_of
from tests.upstream import FakeUpstream
from tests.wire import Fault

V1 = Tag("v1")
DATE = {"Date": "Thu, 01 Jan 2026 00:01:00 GMT"}


def _upstream(gate: BasicGate | TokenService) -> FakeUpstream:
    upstream = FakeUpstream(gate=gate)
    for name in ("app", "other"):
        upstream.add_image(name, "v1", [b"layer"])
    return upstream


def _shared(upstream: FakeUpstream, username: str, password: str) -> Shared:
    secret = secret_of(upstream.host, username, password)
    return Shared(secret=lambda: secret)


def test_basic_credentials_are_sent_from_the_start_after_the_first_challenge() -> None:
    """After the first Basic challenge, the client sends its password with every request.

    A password can contain colons and letters of any script.
    """
    with _upstream(BasicGate({"me": "pä:ss"})) as upstream:
        client = client_of(upstream, _shared(upstream, "me", "pä:ss"))

        client.head("app", V1)
        client.head("other", V1)

        assert [each.path for each in upstream.requests if "authorization" in each.headers] == [
            "/v2/",
            "/v2/app/manifests/v1",
            "/v2/other/manifests/v1",
        ]


def test_a_wrong_password_is_denied_and_not_repeated() -> None:
    """If an upstream rejects a password, the request fails with Denied.

    The client does not send that password a second time for this request.
    """
    with _upstream(BasicGate({"me": "right"})) as upstream:
        client = client_of(upstream, _shared(upstream, "me", "wrong"))

        with pytest.raises(Denied):
            client.head("app", V1)
        # a HEAD and a GET without the password, and a request for `/v2/` with the password
        assert upstream.count() == 3
        assert len(upstream.find(pattern="/v2/$")) == 1
        with pytest.raises(Denied):
            client.head("app", V1)
        assert upstream.count() <= 5


def test_without_credentials_basic_is_denied() -> None:
    """If an upstream requires a password and none is configured, the request fails with Denied."""
    with _upstream(BasicGate({"me": "right"})) as upstream, pytest.raises(Denied):
        client_of(upstream).head("app", V1)


def test_a_password_file_is_read_again_when_it_changes(tmp_path: Path) -> None:
    """If the file with an upstream's password changes, the client uses the new password.

    A password in the settings has precedence over the pull secret.
    """
    path = tmp_path / "password"
    path.write_text("old\n")
    users = {"me": "old"}
    with _upstream(BasicGate(users)) as upstream:
        shared = _shared(upstream, "nobody", "wrong")
        client = client_of(upstream, shared, username="me", password_file=path)
        client.head("app", V1)
        users["me"] = "renewed"
        path.write_text("renewed\n")

        assert client.head("app", V1).size


def test_a_missing_password_file_makes_the_upstream_unavailable(tmp_path: Path) -> None:
    """If the password file is missing, a request fails with Unavailable, not with Denied.

    So the registry can serve stored content until the file exists again.
    """
    with _upstream(BasicGate({"me": "x"})) as upstream:
        client = client_of(upstream, username="me", password_file=tmp_path / "gone")

        with pytest.raises(Unavailable) as raised:
            client.head("app", V1)

    assert "password file" in str(raised.value)


@pytest.mark.parametrize("key", ["token", "access_token"])
def test_an_anonymous_token_is_used_for_public_repositories(key: str) -> None:
    """The client requests one anonymous token for each public repository, with scope and service.

    The requests for these tokens have no credentials.
    """
    with TokenService(key=key) as tokens, _upstream(tokens) as upstream:
        client = client_of(upstream)

        for _ in range(3):
            client.head("app", V1)
        client.head("other", V1)

        assert tokens.issued == ["repository:app:pull", "repository:other:pull"]
        assert tokens.requests[0].query["service"] == tokens.service
        assert all("authorization" not in each.headers for each in tokens.requests)
        assert [each.status for each in upstream.requests] == [401, 200, 200, 200, 200]


def test_tokens_are_requested_with_the_credential_of_the_longest_path() -> None:
    """The client requests a token with the credential for the longest matching path.

    The client uses a token only together with the credential for which the token was issued.
    """
    with TokenService({"a": "1", "b": "2"}) as tokens, _upstream(tokens) as upstream:
        secret = PlainSecret(
            {upstream.host: Credential("a", "1"), f"{upstream.host}/other": Credential("b", "2")}
        )
        client = client_of(upstream, Shared(secret=lambda: secret))

        client.head("app", V1)
        client.head("other", V1)

        sent = [each.headers["authorization"] for each in tokens.requests]
        assert len(set(sent)) == 2


def test_an_identity_token_is_exchanged_for_a_bearer_token() -> None:
    """The client exchanges an identity token for a Bearer token by POST (distribution's OAuth2)."""
    service = TokenService({}, key="access_token", identity_tokens={"refresh": "me"})
    with service as tokens, _upstream(tokens) as upstream:
        secret = PlainSecret({upstream.host: Credential("", "", "refresh")})

        assert client_of(upstream, Shared(secret=lambda: secret)).head("app", V1).size
        assert [each.method for each in tokens.requests] == ["POST"]
        assert "authorization" not in tokens.requests[0].headers


def test_a_head_that_is_rejected_with_any_token_costs_one_token() -> None:
    """If a HEAD is rejected even with a token, the client does not fetch another token.

    For this and later requests the client sends a GET in place of a HEAD.
    """
    with TokenService() as tokens, _upstream(tokens) as upstream:
        upstream.misbehave(
            method="HEAD",
            status=401,
            headers={"WWW-Authenticate": f'Bearer realm="{tokens.realm}"'},
        )
        client = client_of(upstream)

        for _ in range(4):
            assert client.head("app", V1).manifest

        assert len(tokens.issued) == 1
        assert [each.method for each in upstream.requests] == ["HEAD", "HEAD", *["GET"] * 4]


@pytest.mark.parametrize("status", [408, 502, 503, 504])
def test_head_is_not_skipped_after_a_transient_failure(status: int) -> None:
    """After a temporary failure of a HEAD, the client sends a HEAD again for the next request."""
    with FakeUpstream() as upstream:
        upstream.add_image("app", "v1", [b"layer"])
        upstream.misbehave(method="HEAD", status=status)
        client = client_of(upstream)

        for _ in range(3):
            assert client.head("app", V1).manifest

        assert [each.method for each in upstream.requests] == ["HEAD", "GET"] * 3


def test_a_token_that_expires_early_is_replaced_once() -> None:
    """If a token expires early, the client fetches one new token and repeats the request."""
    with TokenService() as tokens, _upstream(tokens) as upstream:
        client = client_of(upstream)
        client.head("app", V1)
        tokens.revoke()

        with client.blob("app", Digest.of(b"layer")) as blob:
            content = b"".join(blob.chunks())

        assert content == b"layer"
        assert len(tokens.requests) == 2
        assert [each.status for each in upstream.requests] == [401, 200, 401, 200]


def test_credentials_that_the_token_endpoint_rejects_are_denied() -> None:
    """If the token endpoint rejects the password, the request fails with Denied."""
    with TokenService({"me": "right"}) as tokens, _upstream(tokens) as upstream:
        events, _ = listening()
        secret = secret_of(upstream.host, "me", "wrong")
        client = client_of(upstream, Shared(secret=lambda: secret, report=events))

        with pytest.raises(Denied):
            client.head("app", V1)

    assert events.outcomes() == [("head", "denied")]


@pytest.mark.parametrize(
    ("status", "why"),
    [(429, Why.LIMITED), (500, Why.NONSENSE), (404, Why.NONSENSE), (400, Why.NONSENSE)],
)
def test_a_failed_token_endpoint_makes_the_upstream_unavailable(status: int, why: Why) -> None:
    """If the token endpoint fails, the request fails with Unavailable, not Absent.

    The image may exist, although the client cannot request it without a token.
    """
    with TokenService() as tokens, _upstream(tokens) as upstream:
        tokens.fault = Fault(status=status)

        with pytest.raises(Unavailable) as raised:
            client_of(upstream).head("app", V1)

    assert raised.value.why is why


def test_an_untrusted_realm_gets_no_request(tmp_path: Path) -> None:
    """A client with a password sends no request to an untrusted token endpoint.

    The error names the setting with which the operator can permit this endpoint.
    """
    with TokenService() as tokens, _upstream(tokens) as upstream:
        tokens.realm = tokens.url.replace("127.0.0.1", "localhost")
        shared = Shared(secret=lambda: secret_of(upstream.host, "me", "x"), breakers=tmp_path)

        with pytest.raises(Unavailable) as raised:
            client_of(upstream, shared).head("app", V1)
        refused = len(tokens.requests)
        client_of(upstream, realm=tokens.realm).head("app", V1)

        assert (raised.value.why, refused) == (Why.NONSENSE, 0)
        assert f"upstreams.{upstream.host}.realm" in str(raised.value)
        assert len(tokens.requests) == 1


def _key(scope: str = "a") -> TokenKey:
    return TokenKey(None, "http://realm", "", scope)


def test_a_token_is_kept_until_shortly_before_it_expires() -> None:
    """The client uses a token with a lifetime of 300 s until 10 s before it expires."""
    now = 0.0
    fetched: list[str] = []

    def fetch(key: TokenKey) -> tuple[str, float]:
        fetched.append(key.scope)
        return f"token{len(fetched)}", 300.0

    tokens = Tokens(fetch, clock=lambda: now)

    first = tokens.get(_key())
    now = 289.0
    kept = tokens.get(_key())
    now = 290.0
    renewed = tokens.get(_key())

    assert (first, kept, renewed) == ("token1", "token1", "token2")


def test_concurrent_threads_fetch_one_token() -> None:
    """If eight threads need the same token, one thread fetches it and the others wait."""
    fetched = []
    together = threading.Barrier(8)

    def fetch(key: TokenKey) -> tuple[str, float]:
        fetched.append(key)
        return "token", 300.0

    tokens = Tokens(fetch)

    def get_one() -> None:
        together.wait()
        tokens.get(_key())

    threads = [threading.Thread(target=get_one) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert fetched == [_key()]


def test_a_failed_fetch_caches_no_token() -> None:
    """If a token cannot be fetched, the next call tries to fetch it again."""
    failures = [ConnectionBroken("no", Why.REFUSED)]

    def fetch(_key: TokenKey) -> tuple[str, float]:
        if failures:
            raise failures.pop()
        return "token", 300.0

    tokens = Tokens(fetch)

    with pytest.raises(ConnectionBroken):
        tokens.get(_key())
    assert tokens.get(_key()) == "token"


@pytest.mark.parametrize(
    ("document", "life"),
    [
        ({"token": "t"}, 60),
        ({"token": "t", "expires_in": 300}, 300),
        ({"token": "t", "expires_in": 5}, 60),
        ({"token": "t", "expires_in": 300, "issued_at": "2026-01-01T00:00:00Z"}, 240),
        ({"token": "t", "expires_in": 300, "issued_at": "2026-01-01T00:02:00Z"}, 300),
        ({"token": "t", "expires_in": 300, "issued_at": "yesterday"}, 300),
    ],
    ids=["not sent", "sent", "too short", "issued before", "issued later", "unreadable"],
)
def test_the_lifetime_of_a_token_excludes_its_age(document: dict[str, object], life: float) -> None:
    """The age of a token, by the clock of its endpoint, is subtracted from its lifetime."""
    assert read_token(json.dumps(document).encode(), DATE) == ("t", life)


@pytest.mark.parametrize(
    "body",
    [
        b"<html>",
        b"[]",
        b"{}",
        b'{"token": 5}',
        b'{"token": "a\\nb"}',
        b'{"token":"t","expires_in":"x"}',
    ],
)
def test_an_invalid_token_response_is_rejected(body: bytes) -> None:
    """An invalid response from a token endpoint, such as a token with a line break, is rejected."""
    with pytest.raises(ConnectionBroken):
        read_token(body, {})
