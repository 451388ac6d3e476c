"""The appliance's own token endpoint (`auth.htpasswd.token`) issues tokens for scopes."""

from __future__ import annotations

import base64
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import bcrypt
import jwt
import pytest
import yaml
from cryptography.hazmat.primitives import serialization
from falcon.testing import Result

from entrepot import config
from entrepot.datastore.refs import Digest
from entrepot.edge.cache_epoch import CacheEpoch, begin
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.api import router
from entrepot.registry.api.scopes import BASE
from entrepot.registry.auth.own_tokens import LIFETIME_S, key_file, parse_key
from entrepot.registry.client_auth import client_auth
from entrepot.registry.server.limit_reports import LimitReports
from entrepot.runtime.token_keys import UnusableKeys
from tests.images import filler
from tests.registry.push.pushing import Pushing, pushing
from tests.token_signer import signer

RIGHT, WRONG = "ann:right", "ann:guess"
BEARER = 'Bearer realm="http://cache.test:5000/v2/token",service="entrepot"'
BASIC = 'Basic realm="here"'
PULL, PUSH = "repository:team/app:pull", "repository:team/app:pull,push"
CATALOG = "registry:catalog:*"


def _hash(password: str) -> str:
    return bcrypt.hashpw(password.encode(), bcrypt.gensalt(4)).decode()


@dataclass
class Endpoint:
    """A registry with its own token endpoint, and the files that the registry reads."""

    p: Pushing
    state: Path
    passwords: Path
    invalidation: Invalidation

    def ask(self, login: str | None = None, *scopes: str, **params: str) -> Result:
        """Request a token for the *scopes* by GET, with or without a login (`user:password`)."""
        query = urlencode([*params.items(), *(("scope", each) for each in scopes)])
        headers = {} if login is None else {"Authorization": _basic(login)}
        return self._send("GET", f"{router.DOCKER_LOGIN}?{query}", headers)

    def post(self, body: bytes) -> Result:
        """Request a token by POST, as containerd does."""
        headers = {"Content-Type": "application/x-www-form-urlencoded"}
        return self._send("POST", router.DOCKER_LOGIN, headers, body)

    def use(self, token: str, method: str, path: str, body: bytes | None = None) -> Result:
        """Send a request to the registry with *token* as credential."""
        return self._send(method, path, {"Authorization": f"Bearer {token}"}, body)

    def status(self, token: str, path: str = "/v2/") -> int:
        """Return the status of a GET with a token."""
        return self.use(token, "GET", path).status_code

    def challenge(self, path: str, login: str | None = None) -> str:
        """Send a GET without a token, and return the challenge in the 401."""
        headers = {} if login is None else {"Authorization": _basic(login)}
        refused = self._send("GET", path, headers)
        assert refused.status_code == 401
        return refused.headers["www-authenticate"]

    def _send(
        self, method: str, url: str, headers: dict[str, str], body: bytes | None = None
    ) -> Result:
        path, _, query = url.partition("?")
        named = {"Host": "cache.test:5000", **headers}
        return self.p.client.simulate_request(
            method, path, query_string=query, headers=named, body=body
        )


def _basic(login: str) -> str:
    return f"Basic {base64.b64encode(login.encode()).decode()}"


def _scopes(answer: Result) -> list[dict[str, Any]]:
    """Return the access entries in the token that a response contains."""
    assert answer.status_code == 200, answer.text
    claims = jwt.decode(answer.json["token"], options={"verify_signature": False})
    found: list[dict[str, Any]] = claims["access"]
    return found


@pytest.fixture
def make(tmp_path: Path) -> Callable[..., Endpoint]:
    """Return a function that creates a registry with the given `auth.anonymous` and `access`."""

    def start(anonymous: str = "none", access: object = None) -> Endpoint:
        run, state = tmp_path / "run", tmp_path / "root" / "entrepot"
        run.mkdir(exist_ok=True)
        state.mkdir(parents=True, exist_ok=True)
        begin(run)
        passwords = tmp_path / "htpasswd"
        if not passwords.exists():
            passwords.write_text(f"ann:{_hash('right')}\nbob:{_hash('builder')}\n")
        document = {
            "auth": {
                "htpasswd": {"path": str(passwords), "realm": "here", "token": True},
                "anonymous": anonymous,
            },
            **({} if access is None else {"access": access}),
        }
        file = tmp_path / "config.yml"
        file.write_text(yaml.safe_dump(document))
        environment = {"REGISTRYDIR": str(tmp_path / "root")}
        settings = config.load([str(file)], environment).settings
        invalidation = Invalidation(CacheEpoch(run))
        auth = client_auth(
            settings.changed(run=run),
            invalidation,
            LimitReports(lambda *_, **__: None),
        )
        p = pushing(
            tmp_path / "root",
            authenticator=auth.authenticator,
            upstreams=["quay.io"],
            token_endpoint=auth.token_endpoint,
        )
        return Endpoint(p, state, passwords, invalidation)

    return start


def test_every_challenge_leads_to_the_endpoint(make: Callable[..., Endpoint]) -> None:
    """Each 401 names the token endpoint and the needed scope, even after a wrong password."""
    here = make()

    assert here.challenge("/v2/") == here.challenge("/v2/", WRONG) == BEARER
    assert here.challenge("/v2/team/app/tags/list") == f'{BEARER},scope="{PULL}"'
    assert here.challenge("/v2/_catalog") == f'{BEARER},scope="{CATALOG}"'


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        ("/registry", "http://cache.test:5000/registry/v2/token"),
        ("https://other.test", "https://other.test/v2/token"),
        ("https://other.test/registry", "https://other.test/registry/v2/token"),
    ],
)
def test_the_realm_begins_as_the_other_urls(
    make: Callable[..., Endpoint], base: str, realm: str
) -> None:
    """If HAProxy sends a base URL or path in a header, the realm of a challenge contains it."""
    headers = {"Host": "cache.test:5000", BASE: base}

    refused = make().p.client.simulate_get("/v2/", headers=headers)

    assert refused.headers["www-authenticate"] == f'Bearer realm="{realm}",service="entrepot"'


def test_a_user_logs_in_and_pushes_with_tokens(make: Callable[..., Endpoint]) -> None:
    """A user logs in with one token and pushes with a second token that has the push's scope.

    The token from the login gives access to `/v2/` only.
    """
    here, content = make(), filler(300, 1)
    login = here.ask(RIGHT, account="ann", client_id="docker", offline_token="true")
    assert login.json["expires_in"] == LIFETIME_S
    assert login.headers["cache-control"] == "no-store"
    assert "refresh_token" not in login.json
    assert here.status(login.json["token"]) == 200
    assert here.status(login.json["token"], "/v2/team/app/tags/list") == 401

    token = here.ask(RIGHT, PUSH, service="entrepot").json["access_token"]
    digest = Digest.of(content)
    path = f"/v2/team/app/blobs/uploads/?digest={digest}"
    assert here.use(token, "POST", path, content).status_code == 201
    assert here.status(token, f"/v2/team/app/blobs/{digest}") == 200
    assert here.status(token, f"/v2/team/other/blobs/{digest}") == 401


@pytest.mark.parametrize("login", [None, ":", WRONG, "nobody:x"])
def test_without_anonymous_pulls_only_users_get_a_token(
    make: Callable[..., Endpoint], login: str | None
) -> None:
    """With `anonymous: none` only a client with a correct password gets a token; others get 401."""
    here = make()

    for scopes in ((), (PULL,)):
        refused = here.ask(login, *scopes)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, BASIC)


def test_anonymous_clients_and_users_get_tokens_of_one_configuration(
    make: Callable[..., Endpoint],
) -> None:
    """With `anonymous: pull` a client without a password gets a token that permits only pulls.

    A client with a wrong password that requests a scope also gets a token that permits only pulls.
    """
    here = make("pull")
    assert here.challenge("/v2/") == BEARER
    for login in (None, ":", WRONG):
        assert _scopes(here.ask(login, PUSH)) == [
            {"type": "repository", "name": "team/app", "actions": ["pull"]}
        ]
    assert here.ask(None).status_code == 200
    assert here.ask(WRONG).status_code == 401

    anonymous = here.ask(None, PUSH).json["token"]
    assert here.status(anonymous) == 200
    assert here.status(anonymous, "/v2/team/app/tags/list") == 404
    refused = here.use(anonymous, "POST", "/v2/team/app/blobs/uploads/")
    expected = f'{BEARER},scope="{PUSH}",error="insufficient_scope"'
    assert (refused.status_code, refused.headers["www-authenticate"]) == (401, expected)
    assert (
        here.use(
            here.ask(RIGHT, PUSH).json["token"], "POST", "/v2/team/app/blobs/uploads/"
        ).status_code
        == 202
    )


def test_a_token_has_only_what_the_rules_permit(make: Callable[..., Endpoint]) -> None:
    """A client that requests many scopes gets a token with only those that the rules permit."""
    here = make(
        "pull",
        [
            {"user": "ann", "repository": ["team/**", "quay.io/**"], "allow": ["pull", "push"]},
            {"user": "anonymous", "repository": "free", "allow": "pull"},
        ],
    )
    asked = (
        "repository:team/app:pull,push,delete",
        "repository:free:* repository(plugin):team/plugin:pull",
        "repository:other:pull",
        "repository:quay.io/x:*",
        "repository:Team/App:pull",
        "registry:catalog:*",
        "registry:other:*",
        "nonsense",
        "repository::pull",
        "repository:..:pull",
    )

    assert _scopes(here.ask(RIGHT, *asked)) == [
        {"type": "repository", "name": "team/app", "actions": ["pull", "push"]},
        {"type": "repository", "name": "free", "actions": ["pull"]},
        {"type": "repository", "name": "team/plugin", "actions": ["pull"]},
        {"type": "repository", "name": "quay.io/x", "actions": ["pull", "push"]},
        {"type": "repository", "name": "Team/App", "actions": ["pull"]},
        {"type": "registry", "name": "catalog", "actions": ["*"]},
    ]
    assert _scopes(here.ask("bob:builder", *asked)) == _scopes(here.ask(None, *asked))
    assert [each["name"] for each in _scopes(here.ask(None, *asked))] == ["free", "catalog"]


def test_containerds_form_gets_a_token(make: Callable[..., Endpoint]) -> None:
    """A POST from containerd with a user and password (OAuth 2.0) gets a token.

    A wrong password gets 401.
    """
    here = make("pull")
    form = {"grant_type": "password", "service": "entrepot", "client_id": "c", "scope": PUSH}

    def post(username: str, password: str) -> Result:
        fields = form | {"username": username, "password": password}
        return here.post(urlencode(fields).encode())

    answer = post("ann", "right")

    assert answer.json["scope"] == PUSH
    assert here.status(answer.json["access_token"]) == 200
    for username, password in (("ann", "guess"), ("nobody", "x"), ("a:nn", "right"), ("", "")):
        refused = post(username, password)
        assert (refused.status_code, refused.headers["www-authenticate"]) == (401, BASIC)


@pytest.mark.parametrize(
    ("body", "error"),
    [
        (b"grant_type=refresh_token&refresh_token=x", "unsupported_grant_type"),
        (b"scope=x", "unsupported_grant_type"),
        (b"grant_type=password&username=ann", "invalid_request"),
        (b"", None),
        (b"\xff", None),
        (b"a=1&" * 60 + b"a=1", None),
        (b"a=" + b"x" * 20_000, None),
        (b"grant_type=password&username=ann&password=right&scope=" + b"a%20" * 200, None),
    ],
    ids=lambda each: repr(each)[:32],
)
def test_a_malformed_form_is_400(
    make: Callable[..., Endpoint], body: bytes, error: str | None
) -> None:
    """A malformed POST to the token endpoint gets 400.

    The response body is an error of OAuth 2.0 or the JSON body of the OCI spec.
    """
    answer = make().post(body)

    assert answer.status_code == 400
    assert answer.json["error"] == error if error else answer.json["errors"]


def test_too_many_scopes_are_refused(make: Callable[..., Endpoint]) -> None:
    """A token request with a thousand scopes gets 400.

    The scopes can be in one parameter or in a thousand parameters.
    """
    here = make()

    for scopes in (["repository:a:pull"] * 1000, [" ".join(["repository:a:pull"] * 1000)]):
        assert here.ask(RIGHT, *scopes).status_code == 400


def test_a_token_is_not_exchanged_for_a_wider_one(make: Callable[..., Endpoint]) -> None:
    """A client that sends a token instead of a password to the token endpoint gets 401.

    Otherwise a client could exchange a token for a token with more scopes.
    """
    here = make("pull")
    token = here.ask(RIGHT, PULL).json["token"]

    refused = here.use(token, "GET", f"{router.DOCKER_LOGIN}?scope={PUSH}")
    assert refused.status_code == 401


def test_a_password_is_still_accepted_without_a_token(make: Callable[..., Endpoint]) -> None:
    """A script can send a user's password to the registry directly, without a token.

    A password that is sent as a Bearer token gets 401.
    """
    here = make()

    answer = here.p.send("GET", "/v2/", Authorization=_basic(RIGHT))
    assert answer.status_code == 200
    as_token = base64.b64encode(RIGHT.encode()).decode()
    assert here.use(as_token, "GET", "/v2/").status_code == 401


def test_a_changed_password_or_a_removed_user_ends_its_tokens(
    make: Callable[..., Endpoint],
) -> None:
    """If a user's password changes or the user is removed, that user's tokens become invalid.

    This includes tokens that a worker remembers as verified.
    """
    here = make("pull")
    ann, bob, unnamed = (
        here.ask(login, PULL).json["token"] for login in (RIGHT, "bob:builder", None)
    )
    assert [here.status(each) for each in (ann, bob, unnamed)] == [200, 200, 200]
    old = here.passwords.read_text()

    for content in (old.replace(old.split("\n")[0], f"ann:{_hash('new')}"), old.split("\n")[1]):
        _rewrite(here.passwords, content, here.invalidation)
        assert [here.status(each) for each in (ann, bob, unnamed)] == [401, 200, 200]
    assert here.challenge("/v2/", RIGHT) == BEARER


def _rewrite(path: Path, content: str, invalidation: Invalidation) -> None:
    path.write_text(content)
    os.utime(path, (1_000_000_000, 1_000_000_000 + len(content)))
    for each in invalidation._watched:
        each.refresh()


def test_the_key_is_kept_and_a_new_one_ends_all_tokens(make: Callable[..., Endpoint]) -> None:
    """The signing key survives a restart.

    The key is stored in a file that only the file's owner can read. An operator makes all tokens
    invalid by replacing the file, or by deleting it before a restart.
    """
    here = make()
    path = here.state / "token-key.pem"
    assert path.stat().st_mode & 0o777 == 0o600
    token = here.ask(RIGHT, PULL).json["token"]
    assert make().status(token) == 200

    other = key_file(here.state / "other.pem", here.state / "none")
    _rewrite(path, other.read_text(), here.invalidation)
    assert here.status(token) == 401
    assert here.status(here.ask(RIGHT).json["token"]) == 200
    path.unlink()
    assert make().status(token) == 401


@pytest.mark.parametrize("content", ["", "nonsense", "other key"])
def test_an_unusable_key_stays_and_a_temporary_one_is_in_force(
    make: Callable[..., Endpoint], content: str, caplog: pytest.LogCaptureFixture
) -> None:
    """If the file of the signing key is unusable, the registry signs tokens with a temporary key.

    The registry leaves the file unchanged and logs the problem.
    """
    if content == "other key":
        content = (
            signer("ES384")
            .key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.NoEncryption(),
            )
            .decode()
        )
    make()
    path = make().state / "token-key.pem"
    path.write_text(content)
    with pytest.raises(UnusableKeys):
        parse_key(path.read_bytes())

    here = make()

    assert here.status(here.ask(RIGHT).json["token"]) == 200
    assert path.read_text() == content
    assert "a temporary one is in force" in caplog.text


def test_the_key_is_temporary_where_the_state_directory_cannot_be_written(tmp_path: Path) -> None:
    """If the state directory is not writable, the signing key is stored in a temporary file."""
    found = key_file(tmp_path / "missing" / "key.pem", tmp_path / "temporary.pem")

    assert found == tmp_path / "temporary.pem"
    assert parse_key(found.read_bytes()).name
