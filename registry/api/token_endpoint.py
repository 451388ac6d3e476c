"""Issue tokens at `/v2/token` to users with passwords, and to anonymous clients that may pull.

A client requests `/v2/token` after a response with a Bearer challenge. With a Bearer challenge,
users of podman and docker can log in, and anonymous clients can pull. After a Basic challenge, a
docker client that has no password would fail. Without a challenge, neither podman nor docker would
send a password. A token request has one of docker distribution's two forms: GET with Basic
credentials ("Token Authentication Specification"), and POST with `grant_type=password` (OAuth 2.0,
RFC 6749, 4.3), which containerd sends.
"""

from __future__ import annotations

import datetime as dt
import http
from collections.abc import Mapping
from typing import Final
from urllib.parse import parse_qs

import falcon

from entrepot.registry.api.authorize import Authorization
from entrepot.registry.auth.identity import Identity
from entrepot.registry.auth.own_tokens import TokenIssuer
from entrepot.registry.auth.token_grant import REPOSITORY
from entrepot.registry.challenges import basic_challenge
from entrepot.registry.errors import MalformedRequest, Unauthenticated

MOST_SCOPES: Final = 100
"""A token request may have at most this many scopes, because a token for many more repositories
would be too long for a header."""

_LARGEST_FORM: Final = 16_384  # A token request's form has at most this many bytes.
_FORM: Final = "application/x-www-form-urlencoded"
_CATALOG: Final = ("registry", "catalog")


class TokenResource:
    """`/v2/token` issues tokens; for a wrong password it sends a Basic challenge with *realm*."""

    def __init__(self, authorization: Authorization, issuer: TokenIssuer, realm: str) -> None:
        self._authorization = authorization
        self._issuer = issuer
        self._challenge = basic_challenge(realm)

    def on_get(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send a token for Basic credentials, or for an anonymous client.

        Raises: Unauthenticated if a login has a wrong password. The token request of a login has no
        scope. For a token request with a scope and a wrong password, send the token of an anonymous
        client, provided that anonymous clients may pull. The docker daemon needs this: it sends its
        Docker Hub password to a mirror, and would repeat a rejected request for a minute.
        """
        identity = self._authorization.identify(req, resp)
        scopes = _scopes(req.get_param_as_list("scope") or [])
        is_login = not scopes
        if (
            # A client must not exchange a token for a token with more rights.
            identity.token is not None
            or (identity.user is None and not identity.rights)
            or (identity.has_wrong_credentials and is_login)
        ):
            raise Unauthenticated(self._challenge)
        self._send(resp, identity, scopes)

    def on_post(self, req: falcon.Request, resp: falcon.Response) -> None:
        """Send a token for the user and password of the form. Raises: Unauthenticated."""
        form = _form(req)
        if form.get("grant_type") != "password":
            return _refuse(resp, "unsupported_grant_type", "only grant_type=password is supported")
        if req.get_header("Authorization") or "username" not in form or "password" not in form:
            return _refuse(resp, "invalid_request", "send username and password in the form only")
        scopes = _scopes([form.get("scope", "")])
        identity = self._authorization.identify_login(req, resp, form["username"], form["password"])
        if identity.user is None:
            raise Unauthenticated(self._challenge)
        return self._send(resp, identity, scopes)

    def _send(self, resp: falcon.Response, identity: Identity, scopes: list[_Scope]) -> None:
        access: dict[tuple[str, str], frozenset[str]] = {}
        for kind, name, actions in scopes:
            granted = self._granted(identity, (kind, name), actions)
            if granted:
                access[kind, name] = access.get((kind, name), frozenset()) | granted
        issued = self._issuer.issue(identity.user, access)
        resp.set_header("Cache-Control", "no-store")
        resp.media = {
            "token": issued.token,
            "access_token": issued.token,
            "token_type": "Bearer",
            "expires_in": issued.expires_in,
            "issued_at": dt.datetime.fromtimestamp(issued.issued_at, dt.UTC).strftime(
                "%Y-%m-%dT%H:%M:%SZ"
            ),
            "scope": " ".join(
                f"{kind}:{name}:{','.join(sorted(actions))}"
                for (kind, name), actions in access.items()
            ),
        }

    def _granted(
        self, identity: Identity, resource: tuple[str, str], actions: frozenset[str]
    ) -> frozenset[str]:
        """Return the *actions* on a resource that the access rules permit to the client."""
        if resource == _CATALOG:
            return actions if identity.rights else frozenset()
        kind, name = resource
        if kind != REPOSITORY:
            return frozenset()
        permitted = self._authorization.permitted_actions(identity, name)
        return permitted if "*" in actions else permitted & actions


_Scope = tuple[str, str, frozenset[str]]


def _scopes(texts: list[str]) -> list[_Scope]:
    """Parse the scopes of a token request, which are separated by spaces.

    Raises: MalformedRequest if there are too many scopes. A class after the type of a resource, as
    in `repository(plugin)`, is ignored. A malformed scope is ignored, so the token does not grant
    it.
    """
    words = [word for text in texts for word in text.split(" ", MOST_SCOPES + 1) if word]
    if len(words) > MOST_SCOPES:
        raise MalformedRequest(f"more than {MOST_SCOPES} scopes; request fewer at a time")
    return [scope for word in words if (scope := _scope(word)) is not None]


def _scope(word: str) -> _Scope | None:
    kind, colon, rest = word.partition(":")
    name, second, actions = rest.rpartition(":")
    if not colon or not second or not name:
        return None
    return kind.partition("(")[0], name, frozenset(actions.split(",")) - {""}


def _form(req: falcon.Request) -> Mapping[str, str]:
    """Return the fields of the form of a token request.

    Raises: MalformedRequest.
    """
    length = req.content_length
    if (req.content_type or "").partition(";")[0].strip().lower() != _FORM or length is None:
        raise MalformedRequest(f"send a form ({_FORM}) with its Content-Length")
    if length > _LARGEST_FORM:
        raise MalformedRequest(f"the form is longer than {_LARGEST_FORM} bytes")
    try:
        text = req.bounded_stream.read(length).decode()
        fields = parse_qs(text, keep_blank_values=True, strict_parsing=True, max_num_fields=50)
    except ValueError:
        raise MalformedRequest("the form cannot be parsed") from None
    return {name: " ".join(values) for name, values in fields.items()}


def _refuse(resp: falcon.Response, error: str, description: str) -> None:
    """Send the client an error of OAuth 2.0 (RFC 6749, 5.2)."""
    resp.status = http.HTTPStatus.BAD_REQUEST
    resp.set_header("Cache-Control", "no-store")
    resp.media = {"error": error, "error_description": description}
