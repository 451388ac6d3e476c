"""Answers an upstream's challenges: with a password, with a token, or with nobody's token."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import replace

from entrepot.registry.errors import Denied, Unavailable, Why
from entrepot.registry.upstream.challenge import Challenge, may_ask, may_trust, parse_challenges
from entrepot.registry.upstream.credentials import Credential, Credentials
from entrepot.registry.upstream.protocol import EventLog, silent
from entrepot.registry.upstream.tokens import TokenKey, Tokens, basic, fetch_token
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.wire import ConnectionBroken, Wire
from entrepot.runtime.clock import elapsed

log = logging.getLogger(__name__)

_MOST_SCOPES = 1024
"""Repositories whose scope is another than the usual one, and is remembered."""
_LONGEST_SCOPE = 2048


class Authorizer:
    """Knows how one upstream wants to be asked, once it has said so."""

    def __init__(
        self,
        source: UpstreamConfig,
        credentials: Credentials,
        wire: Wire,
        *,
        headers: Mapping[str, str] | None = None,
        report: EventLog = silent,
        clock: Callable[[], float] = elapsed,
    ) -> None:
        self._source = source
        self._credentials = credentials
        self._wire = wire
        self._headers = headers or {}
        self._report = report
        self._tokens = Tokens(self._fetch, clock)
        self._last: Challenge | None = None
        self._scopes: dict[str, str] = {}

    def known(self, name: str) -> str | None:
        """Return what the last challenge asks for, before it is asked again.

        Raises: as `answer`.
        """
        challenge = self._last
        if challenge is None:
            return None
        return self._authorization(challenge, name, refused=None)

    def has_credential(self, name: str) -> bool:
        """Return whether there is a credential for a repository. Raises: Unavailable."""
        return self._credentials.find(name) is not None

    def answer(self, header: str, name: str, refused: str | None) -> str:
        """Answer a WWW-Authenticate; *refused* is the Authorization that brought it about.

        An empty *header* after a refusal, which some registries send for an expired token, is taken
        for the last challenge. Raises: Denied when there is no better answer, Unavailable for a
        realm that is not the upstream's own, Broken and TokenRefused from its token endpoint.
        """
        offered = {each.scheme: each for each in parse_challenges(header)}
        challenge = offered.get("bearer") or offered.get("basic")
        if challenge is None and refused is not None:
            challenge = self._last
        if challenge is None:
            raise Denied(self._source.host, "it asks for credentials in no way known here")
        authorization = self._authorization(challenge, name, refused)
        if authorization is None or authorization == refused:
            raise Denied(self._source.host, self._nobody(name))
        self._last = replace(challenge, scope="")
        return authorization

    def _authorization(self, challenge: Challenge, name: str, refused: str | None) -> str | None:
        credential = self._credentials.find(name)
        if challenge.scheme == "basic":
            return basic(credential) if credential and credential.username else None
        if credential is not None and credential.registry_token is not None:
            return f"Bearer {credential.registry_token}"
        self._check(challenge.realm, credential)
        key = TokenKey(credential, challenge.realm, challenge.service, self._scope(challenge, name))
        stale = (refused or "").removeprefix("Bearer ") or None
        return f"Bearer {self._tokens.get(key, stale)}"

    def _scope(self, challenge: Challenge, name: str) -> str:
        """Return the scope to ask for: the challenge's own (distribution token specification).

        It differs from the usual one where a front rewrites names, and it holds for that name.
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
        if len(self._scopes) >= _MOST_SCOPES:
            self._scopes.clear()
        self._scopes[name] = named
        return named

    def _check(self, realm: str, credential: Credential | None) -> None:
        """Refuse a token endpoint that may not be trusted with the credential.

        Without a credential nothing secret is sent, so the endpoint may lie on any host.
        """
        if may_trust(realm, self._source.url, self._source.realm):
            return
        if credential is None and may_ask(realm, self._source.url):
            return
        host = self._source.host
        log.warning("token realm of another host", extra={"upstream": host, "realm": realm[:200]})
        message = f"its token realm is not its own; trust it with upstreams.{host}.realm"
        raise Unavailable(host, message, Why.NONSENSE)

    def _fetch(self, key: TokenKey) -> tuple[str, float]:
        """Fetch a token, and report it; its failures are reported with what it was for."""
        began = time.monotonic()
        try:
            fetched = fetch_token(self._wire, key, self._headers, insecure=self._source.insecure)
        except ConnectionBroken as error:  # a challenge of one repository may name any host
            if not may_trust(key.realm, self._source.url, self._source.realm):
                error.foreign = True
            raise
        seconds = time.monotonic() - began
        host = self._source.host
        self._report("upstream", upstream=host, operation="token", outcome="ok", seconds=seconds)
        return fetched

    def _nobody(self, name: str) -> str:
        if self._credentials.find(name) is None:
            return "it asks for credentials, and there are none for it"
        return "it refuses the credentials"
