"""If a registry requires tokens, its challenge names the scope that a request needs.

A token with that scope is sufficient.
"""

from __future__ import annotations

from pathlib import Path

import pytest
from falcon import testing

from entrepot.datastore.refs import Digest
from entrepot.registry.api.scopes import SCHEME
from entrepot.registry.auth.silly import SillyAuthenticator
from entrepot.registry.auth.tokens import TokensOnly
from entrepot.registry.challenges import BearerChallenge, ChallengedRequest, SillyChallenge
from entrepot.registry.routing.resolve import asked_name
from tests.images import filler
from tests.registry.auth.test_tokens import CHALLENGE, TokenAuthentication
from tests.registry.push.pushing import Pushing, pushing
from tests.token_signer import SERVICE

CONTENT = filler(400, 1)
DIGEST = Digest.of(CONTENT)
UPLOAD = "00000000-0000-0000-0000-000000000000"
PULL, PUSH = "repository:team/app:pull", "repository:team/app:pull,push"
DELETE, CATALOG = "repository:team/app:delete", "registry:catalog:*"
FROM = "repository:team/base:pull"
BARE = f'Bearer realm="https://auth.test/token",service="{SERVICE}"'

REQUESTS = [
    ("GET", "/v2/", ""),
    ("GET", "/v2", ""),
    ("GET", "/v2/_catalog", CATALOG),
    ("GET", "/v2/_catalog?n=5", CATALOG),
    ("GET", "/v2/team/app/manifests/v1", PULL),
    ("HEAD", "/v2/team/app/manifests/v1", PULL),
    ("GET", f"/v2/team/app/blobs/{DIGEST}", PULL),
    ("HEAD", f"/v2/team/app/blobs/{DIGEST}", PULL),
    ("GET", "/v2/team/app/tags/list", PULL),
    ("GET", f"/v2/team/app/referrers/{DIGEST}", PULL),
    ("PUT", "/v2/team/app/manifests/v1", PUSH),
    ("DELETE", "/v2/team/app/manifests/v1", DELETE),
    ("DELETE", f"/v2/team/app/blobs/{DIGEST}", DELETE),
    ("POST", "/v2/team/app/blobs/uploads/", PUSH),
    ("GET", f"/v2/team/app/blobs/uploads/{UPLOAD}", PULL),
    ("PATCH", f"/v2/team/app/blobs/uploads/{UPLOAD}", PUSH),
    ("PUT", f"/v2/team/app/blobs/uploads/{UPLOAD}?digest={DIGEST}", PUSH),
    ("DELETE", f"/v2/team/app/blobs/uploads/{UPLOAD}", DELETE),
    ("POST", f"/v2/team/app/blobs/uploads/?mount={DIGEST}&from=team/base", f"{PUSH} {FROM}"),
    ("POST", f"/v2/team/app/blobs/uploads/?mount={DIGEST}&from=team/app", PUSH),
    ("POST", f"/v2/team/app/blobs/uploads/?mount={DIGEST}", PUSH),
    ("GET", "/v2/Team/App/manifests/v1", PULL),
    ("GET", "/v2/team/app/manifests/v1?ns=quay.io", "repository:quay.io/team/app:pull"),
    ("GET", "/v2/quay.io/team/app/manifests/v1", "repository:quay.io/team/app:pull"),
]


def _send(
    p: Pushing, method: str, target: str, token: str | None = None, **headers: str
) -> testing.Result:
    path, _, query = target.partition("?")
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    if token is not None:
        named["Authorization"] = f"Bearer {token}"
    return p.client.simulate_request(
        method, path, query_string=query, headers=named, body=b"{}" if method[0] == "P" else None
    )


@pytest.fixture
def authentication() -> TokenAuthentication:
    """Return an authenticator whose signing key is known to the test."""
    return TokenAuthentication()


@pytest.fixture
def p(tmp_path: Path, authentication: TokenAuthentication) -> Pushing:
    """Return a registry that accepts only tokens."""
    return pushing(tmp_path, authenticator=authentication.authenticator, upstreams=["quay.io"])


@pytest.mark.parametrize(("method", "target", "scope"), REQUESTS)
def test_a_challenge_names_the_scope_of_the_request(
    p: Pushing, authentication: TokenAuthentication, method: str, target: str, scope: str
) -> None:
    """A request without a sufficient token gets a challenge that names the needed scope.

    If the client sent a token that is invalid or lacks the scope, the challenge also has an error
    code.
    """
    expected = f'{BARE},scope="{scope}"' if scope else BARE

    for token, error in (
        (None, ""),
        ("nonsense", ',error="invalid_token"'),
        (authentication.token("repository:team/other:*"), ',error="insufficient_scope"'),
    ):
        refused = _send(p, method, target, token)
        if error.endswith('scope"') and not scope:
            assert refused.status_code == 200
            continue
        assert refused.status_code == 401
        assert refused.headers["www-authenticate"] == expected + error
        if method != "HEAD":
            assert refused.json["errors"][0]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize(("method", "target", "scope"), REQUESTS)
def test_a_token_with_the_scope_of_the_challenge_is_sufficient(
    p: Pushing, authentication: TokenAuthentication, method: str, target: str, scope: str
) -> None:
    """A token with all scopes of the challenge is accepted; a token that lacks one gets 401."""
    scopes = scope.split()
    assert _send(p, method, target, authentication.token(*scopes)).status_code != 401

    for left_out in scopes:
        narrower = [each for each in scopes if each != left_out]
        assert _send(p, method, target, authentication.token(*narrower)).status_code == 401
    for action in ("pull", "push"):
        if scope.endswith("pull,push"):
            token = authentication.token(f"repository:team/app:{action}")
            assert _send(p, method, target, token).status_code == 401


def test_a_token_opens_no_repository_of_that_name_elsewhere(
    p: Pushing, authentication: TokenAuthentication
) -> None:
    """A token for a hosted repository gives no access to an upstream repository of the same name.

    With `ns` in the query, the client chooses the upstream, so the scope includes the upstream's
    host.
    """
    hosted = authentication.token("repository:team/app:pull")
    theirs = authentication.token("repository:quay.io/team/app:pull")

    assert _send(p, "GET", "/v2/team/app/tags/list?ns=quay.io", hosted).status_code == 401
    assert _send(p, "GET", "/v2/quay.io/team/app/tags/list", hosted).status_code == 401
    assert _send(p, "GET", "/v2/team/app/tags/list", theirs).status_code == 401
    for target in (
        "/v2/team/app/tags/list?ns=quay.io",
        "/v2/quay.io/team/app/tags/list?ns=QUAY.IO",
    ):
        assert _send(p, "GET", target, theirs).status_code != 401


@pytest.mark.parametrize(
    ("name", "ns", "expected"),
    [
        ("alpine", None, "alpine"),
        ("alpine", "docker.io", "docker.io/library/alpine"),
        ("library/alpine", "docker.io", "docker.io/library/alpine"),
        ("docker.io/library/alpine", "docker.io", "docker.io/library/alpine"),
        ("app", "localhost:5000", "localhost_5000/app"),
        ("Localhost:5000/App", None, "localhost_5000/app"),
    ],
)
def test_the_name_in_a_scope(name: str, ns: str | None, expected: str) -> None:
    """The name in a scope is in lower case and includes the host from `ns`, if there is one."""
    assert asked_name(name, ns) == expected


def test_a_blob_is_mounted_only_from_a_repository_of_the_token(
    p: Pushing, authentication: TokenAuthentication
) -> None:
    """A blob is mounted only from a repository from which the client's token permits pulls.

    Without `from`, the registry searches only the repositories from which the token permits pulls.
    """
    both = authentication.token("repository:team/base:pull,push", PUSH)
    started = f"/v2/team/base/blobs/uploads/?digest={DIGEST}"
    headers = {"Authorization": f"Bearer {both}"}
    done = p.client.simulate_post(started, headers=headers, body=CONTENT)
    assert done.status_code == 201
    anywhere = f"/v2/team/app/blobs/uploads/?mount={DIGEST}"
    mount = f"{anywhere}&from=team/base"

    assert _send(p, "POST", anywhere, authentication.token(PUSH)).status_code == 202
    assert _send(p, "POST", mount, authentication.token(PUSH)).status_code == 401
    assert _send(p, "POST", anywhere, both).status_code == 201
    assert _send(p, "POST", mount, both).status_code == 201


def test_the_catalog_scope_lists_all_repositories(
    p: Pushing, authentication: TokenAuthentication
) -> None:
    """A client with a token for the catalog can list all repositories.

    The token does not have to permit access to the repositories themselves.
    """
    token = authentication.token(PUSH)
    path = f"/v2/team/app/blobs/uploads/?digest={DIGEST}"
    headers = {"Authorization": f"Bearer {token}"}
    assert p.client.simulate_post(path, headers=headers, body=CONTENT).status_code == 201

    listed = _send(p, "GET", "/v2/_catalog", authentication.token(CATALOG))

    assert listed.json == {"repositories": ["team/app"]}


@pytest.mark.parametrize(
    ("host", "scheme", "realm"),
    [
        ("cache.test:5000", None, "https://cache.test:5000/auth/token"),
        ("cache.test", "http", "http://cache.test/auth/token"),
        ("[::1]:5000", "https", "https://[::1]:5000/auth/token"),
        ('cache.test",service="x', None, "https://fixed.test/token"),
        ("cache test", None, "https://fixed.test/token"),
    ],
)
def test_autoredirect_leads_to_the_host_that_the_client_used(
    tmp_path: Path, host: str, scheme: str | None, realm: str
) -> None:
    """With `autoredirect` the realm has the host that the client used.

    Its scheme is https if the client's scheme is unknown. If the Host header is invalid, the
    configured realm is used.
    """
    challenge = BearerChallenge("https://fixed.test/token", SERVICE, redirect="/auth/token")
    p = pushing(tmp_path, authenticator=TokensOnly(challenge))

    refused = _send(p, "GET", "/v2/", Host=host, **({SCHEME: scheme} if scheme else {}))

    assert refused.headers["www-authenticate"] == f'Bearer realm="{realm}",service="{SERVICE}"'


def test_silly_accepts_any_credential(tmp_path: Path) -> None:
    """With `auth.silly`, any Authorization header is accepted, and a request without it gets 401.

    The challenge has one scope for each action, as in docker distribution.
    """
    silly = SillyAuthenticator(SillyChallenge("https://auth.test/token", SERVICE))
    p = pushing(tmp_path, authenticator=silly)

    refused = _send(p, "PUT", "/v2/team/app/manifests/v1")
    scope = "repository:team/app:pull repository:team/app:push"
    assert refused.headers["www-authenticate"] == f'{BARE},scope="{scope}"'
    assert _send(p, "GET", "/v2/").headers["www-authenticate"] == BARE
    headers = {"Authorization": "anything"}
    assert p.client.simulate_get("/v2/", headers=headers).status_code == 200


def test_a_header_is_quoted() -> None:
    """Text from clients or settings is escaped in a challenge, so it cannot end a quoted string."""
    challenge = BearerChallenge('a"b', "c\\d\né")

    assert challenge.header(ChallengedRequest()) == 'Bearer realm="a\\"b",service="c\\\\d??"'
    assert CHALLENGE.header(ChallengedRequest()) == BARE
