"""Respond to the challenges of one upstream with a password, a token or an anonymous token."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from entrepot.registry.errors import Denied, Unavailable, Why
from entrepot.registry.upstream.challenge import Challenge, may_ask, may_trust, parse_challenges
from entrepot.registry.upstream.credentials import Credential, Credentials
from entrepot.registry.upstream.protocol import EventLog, discard_event
from entrepot.registry.upstream.tokens import TokenKey, TokenRefused, Tokens, basic, fetch_token
from entrepot.registry.upstream.trials import CredentialTrials
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.urls import sealed
from entrepot.registry.upstream.wire import ConnectionBroken, Request, Wire
from entrepot.runtime.bounded_dict import BoundedDict
from entrepot.runtime.clock import elapsed

log = logging.getLogger(__name__)

_MOST_SCOPES = 1024
"""Token scopes other than `repository:NAME:pull` are remembered for this many repositories."""
_LONGEST_SCOPE = 2048
_CHALLENGE, _BROKEN = 401, 500
_TEMPORARY = (408, 425, 429)
_REJECTED = "the upstream rejects the configured credentials"


class Authorizer:
    """An `Authorizer` creates the Authorization header for requests to one upstream.

    The authorizer remembers the last challenge, so that later requests carry the Authorization
    without a new challenge.

    A password for Basic authentication is checked before its first use: it is sent to *base*, the
    URL of `/v2/`. If the token endpoint responds with 401, the password is checked with a request
    for a token without a scope. A 401 in response to the check means that the password is wrong.

    A wrong password is not sent again for `AGAIN_S` seconds (registry/upstream/trials.py), unless
    the configured password changes. Many wrong passwords in a short time could lock the account at
    the upstream.
    """

    def __init__(
        self,
        config: UpstreamConfig,
        credentials: Credentials,
        wire: Wire,
        *,
        base: str | None = None,
        headers: Mapping[str, str] | None = None,
        report: EventLog = discard_event,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._config = config
        self._credentials = credentials
        self._wire = wire
        self._headers = headers or {}
        self._report = report
        self._base = base
        self._trials = CredentialTrials(clock)
        self._proving = threading.Lock()
        self._tokens = Tokens(self._fetch, clock)
        self._last: Challenge | None = None
        self._scopes: BoundedDict[str, str] = BoundedDict(_MOST_SCOPES)

    def known(self, name: str) -> str | None:
        """Return the Authorization that the last challenge requires for the repository *name*.

        Return None if there was no challenge yet. Raises: the errors of `answer`.
        """
        challenge = self._last
        if challenge is None:
            return None
        return self._authorization(challenge, name, refused=None)

    def has_credential(self, name: str) -> bool:
        """Return whether a credential is configured for the repository *name*.

        Raises: Unavailable if the credential cannot be read.
        """
        return self._credentials.find(name) is not None

    def answer(self, header: str, name: str, refused: str | None) -> str:
        """Return the Authorization for the challenge in the WWW-Authenticate *header*.

        *refused* is the Authorization of the rejected request. Some registries send no challenge
        with the 401 for an expired token, so if *header* is empty, the last challenge is used.
        Raises: Denied if there is no Authorization other than *refused*; Unavailable for an
        untrusted realm; ConnectionBroken and TokenRefused from the token endpoint.
        """
        offered = {each.scheme: each for each in parse_challenges(header)}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None and refused is not None:
            challenge = self._last
        if challenge is None:
            raise Denied(
                self._config.host, "the upstream asks for an unsupported authentication scheme"
            )
        authorization = self._authorization(challenge, name, refused)
        if authorization is None or authorization == refused:
            self.doubt(name)
            raise Denied(self._config.host, self._denial(name))
        self._last = replace(challenge, scope="")
        return authorization

    def _authorization(self, challenge: Challenge, name: str, refused: str | None) -> str | None:
        credential = self._credentials.find(name)
        if credential is not None and self._trials.is_refused(credential):
            raise self._rejected()
        if challenge.scheme == "basic":
            if credential is None or not credential.username:
                return None
            self._prove(credential)
            return basic(credential)
        if credential is not None and credential.registry_token is not None:
            return f"Bearer {credential.registry_token}"
        self._check(challenge.realm, credential)
        key = TokenKey(credential, challenge.realm, challenge.service, self._scope(challenge, name))
        stale = (refused or "").removeprefix("Bearer ") or None
        return f"Bearer {self._tokens.get(key, stale)}"

    def doubt(self, name: str) -> None:
        """Record that the credential for repository *name* must be checked before its next use."""
        credential = self._credentials.find(name)
        if credential is not None:
            self._trials.doubt(credential)

    def _prove(self, credential: Credential) -> None:
        """Check a password at `/v2/`, unless the upstream has accepted it. Raises: Denied.

        Even with a correct password, some registries respond 401 to requests for some repositories,
        or to every HEAD. But at `/v2/`, every registry accepts a correct password (OCI
        distribution-spec, end-1).
        """
        if self._base is None or self._trials.may_be_sent(credential):
            return
        with self._proving:
            if self._trials.is_refused(credential):
                raise self._rejected()
            if self._trials.may_be_sent(credential):
                return
            sent = Request(
                "GET", self._base, self._headers, credential=sealed(self._base, basic(credential))
            )
            try:
                response = self._wire.send(sent)
            except ConnectionBroken:
                self._trials.skip(credential)
                return
            response.close()
            if response.status in _TEMPORARY or response.status >= _BROKEN:
                self._trials.skip(credential)
                return
            offered = parse_challenges(response.headers.get("WWW-Authenticate", ""))
            if response.status != _CHALLENGE or all(each.scheme != "basic" for each in offered):
                self._trials.accept(credential)
                return
            self._trials.refuse(credential)
        raise self._rejected()

    def _rejected(self) -> Denied:
        return Denied(self._config.host, _REJECTED)

    def _scope(self, challenge: Challenge, name: str) -> str:
        """Return the scope of the challenge (distribution token specification) or the usual scope.

        The scope in the challenge differs from the usual scope if a reverse proxy rewrites
        repository names. An unusual scope is remembered for the repository *name* only.
        """
        usual = f"repository:{name}:pull"
        named = challenge.scope
        if (
            not named
            or len(named) > _LONGEST_SCOPE
            or not (named.isascii() and named.isprintable())
        ):
            return self._scopes.get(name, usual)
        if named == usual:
            self._scopes.pop(name, None)
            return usual
        self._scopes.keep(name, named)
        return named

    def _check(self, realm: str, credential: Credential | None) -> None:
        """Reject a token endpoint to which the credential must not be sent. Raises: Unavailable.

        A request without a credential sends no secret, so its token endpoint may be on any host.
        """
        if may_trust(realm, self._config.url, self._config.realm):
            return
        if credential is None and may_ask(realm, self._config.url):
            return
        host = self._config.host
        log.warning(
            "the token realm of the upstream is on another host",
            extra={"upstream": host, "realm": realm[:200]},
        )
        message = (
            f"the upstream's token realm is on another host; trust it with upstreams.{host}.realm"
        )
        raise Unavailable(host, message, Why.NONSENSE)

    def _fetch(self, key: TokenKey) -> tuple[str, float]:
        """Fetch a token from the token endpoint, and write an event on success.

        On failure, the request that needs the token writes an event.
        """
        began = time.monotonic()
        try:
            fetched = fetch_token(self._wire, key, self._headers, insecure=self._config.insecure)
        except ConnectionBroken as error:
            # The challenge may name a token endpoint that does not belong to the upstream. A
            # failure of that endpoint is marked `foreign`.
            if not may_trust(key.realm, self._config.url, self._config.realm):
                error.foreign = True
            raise
        except TokenRefused as error:
            if error.response.status == _CHALLENGE:
                self._examine(key)
            raise
        seconds = time.monotonic() - began
        host = self._config.host
        self._report("upstream", upstream=host, operation="token", outcome="ok", seconds=seconds)
        return fetched

    def _examine(self, key: TokenKey) -> None:
        """Request a token without a scope, to distinguish a wrong password from a missing right."""
        credential = key.credential
        if credential is None or credential.identity_token is not None:
            return
        try:
            if key.scope:
                bare = replace(key, scope="")
                fetch_token(self._wire, bare, self._headers, insecure=self._config.insecure)
                return
        except ConnectionBroken:
            return
        except TokenRefused as error:
            if error.response.status != _CHALLENGE:
                return
        self._trials.refuse(credential)

    def _denial(self, name: str) -> str:
        if self._credentials.find(name) is None:
            return "the upstream asks for credentials, and none are configured for it"
        return _REJECTED
