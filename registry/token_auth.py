"""Makes the authenticators of `auth.token` and `auth.silly` from the settings."""

from __future__ import annotations

from entrepot.config.schema import Settings, SillySettings, TokenSettings
from entrepot.config.signing_algorithms import accepted
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.auth.identity import Authenticator
from entrepot.registry.auth.key_files import KeyFiles
from entrepot.registry.auth.silly import SillyAuthenticator
from entrepot.registry.auth.token_verifier import TokenTerms, TokenVerifier
from entrepot.registry.auth.tokens import TokenAuthenticator, TokensOnly, owner_by_rules
from entrepot.registry.auth.verified_tokens import VerifiedTokens
from entrepot.registry.challenges import BearerChallenge, SillyChallenge
from entrepot.registry.followed_rights import rights_in_force


def of_server(settings: Settings, invalidation: Invalidation) -> Authenticator:
    """Return the authenticator for tokens of a token server, or the one that accepts anything.

    Raises: OSError, UnusableKeys.
    """
    token, silly = settings.auth.token, settings.auth.silly
    if token is None:
        assert silly is not None  # noqa: S101 - the caller has checked it
        return _silly(silly)
    keys = KeyFiles(token.rootcertbundle, token.jwks, settings.run)
    invalidation.watch(keys)
    rights = rights_in_force(settings, invalidation)
    challenge = _challenge(token)
    verifier = TokenVerifier(_terms(token), keys)
    grants = VerifiedTokens(verifier, challenge, generation=lambda: keys.generation)
    owner = owner_by_rules(lambda: rights().value.rules)
    return TokenAuthenticator(grants, owner, TokensOnly(challenge), challenge)


def _silly(silly: SillySettings) -> Authenticator:
    return SillyAuthenticator(SillyChallenge(silly.realm or "", silly.service or ""))


def _challenge(token: TokenSettings) -> BearerChallenge:
    path = token.autoredirectpath
    redirect = f"/{path.removeprefix('/')}" if token.autoredirect else ""
    return BearerChallenge(token.realm or "", token.service or "", redirect=redirect)


def _terms(token: TokenSettings) -> TokenTerms:
    return TokenTerms(token.issuer or "", token.service or "", accepted(token.signingalgorithms))
