"""Make the authenticator for tokens of a token server, or for the appliance's own tokens."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from entrepot.config.schema import Settings, SillySettings, TokenSettings
from entrepot.config.signing_algorithms import accepted
from entrepot.datastore import layout
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.api import router
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.api.token_endpoint import TokenResource
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.htpasswd import Htpasswd
from entrepot.registry.auth.identity import Authenticator, Identity
from entrepot.registry.auth.key_files import KeyFiles
from entrepot.registry.auth.own_tokens import ALGORITHM, NAME, TokenIssuer, key_file, parse_key
from entrepot.registry.auth.silly import SillyAuthenticator
from entrepot.registry.auth.token_grant import Claims
from entrepot.registry.auth.token_verifier import TokenTerms, TokenVerifier
from entrepot.registry.auth.tokens import TokenAuthenticator, TokensOnly, owner_by_rules
from entrepot.registry.auth.verified_tokens import VerifiedTokens
from entrepot.registry.challenges import BearerChallenge, SillyChallenge, basic_challenge
from entrepot.registry.errors import InvalidToken
from entrepot.registry.followed_rights import rights_in_force
from entrepot.registry.passwords import PasswordLogins
from entrepot.runtime.reloading_file import ReloadingFile
from entrepot.runtime.run_names import OWN_KEY
from entrepot.runtime.token_keys import UnusableKeys


def of_server(settings: Settings, invalidation: Invalidation) -> Authenticator:
    """Return the authenticator of `auth.token`, or the authenticator of `auth.silly`.

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


def with_own_tokens(
    settings: Settings, passwords: PasswordLogins, invalidation: Invalidation
) -> tuple[Authenticator, Callable[[Authorization], object]]:
    """Return the authenticator of `auth.htpasswd.token`, and a function that makes its endpoint.

    The function returns a Falcon resource that issues tokens. The authenticator accepts tokens that
    the appliance issued, and passwords.
    """
    path = key_file(settings.storage.statedir / layout.TOKEN_KEY, settings.run / OWN_KEY)
    key = ReloadingFile(path, parse_key, errors=(UnusableKeys,))
    invalidation.watch(key)
    realm = passwords.htpasswd.realm
    challenge = BearerChallenge(
        "", NAME, router.DOCKER_LOGIN, "http", is_own=True, fallback=basic_challenge(realm)
    )
    files: list[Htpasswd] = []
    users = passwords.authenticator(challenge, files.append)
    issuer = TokenIssuer(key, files[0].hash_of)
    verifier = TokenVerifier(TokenTerms(NAME, NAME, frozenset({ALGORITHM})), issuer.trusted)
    grants = VerifiedTokens(verifier, challenge, generation=lambda: key.generation)
    authenticator = TokenAuthenticator(grants, partial(_owner, users, issuer), users, challenge)
    return authenticator, lambda authorization: TokenResource(authorization, issuer, realm)


def _owner(users: BasicAuthenticator, issuer: TokenIssuer, claims: Claims) -> Identity:
    """Return the identity of the user for whom the appliance issued a token.

    Raises: InvalidToken.
    """
    if not claims.subject:
        return users.identify(None)
    if not issuer.is_current(claims):
        raise InvalidToken("the user's password has changed since this token was issued")
    return users.identity_of(claims.subject)


def _silly(silly: SillySettings) -> Authenticator:
    return SillyAuthenticator(SillyChallenge(silly.realm or "", silly.service or ""))


def _challenge(token: TokenSettings) -> BearerChallenge:
    path = token.autoredirectpath
    redirect = f"/{path.removeprefix('/')}" if token.autoredirect else ""
    return BearerChallenge(token.realm or "", token.service or "", redirect=redirect)


def _terms(token: TokenSettings) -> TokenTerms:
    return TokenTerms(token.issuer or "", token.service or "", accepted(token.signingalgorithms))
