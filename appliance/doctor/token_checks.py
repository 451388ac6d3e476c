"""Check `auth.token`: the key files, the token server, and a token that the server issues."""

from __future__ import annotations

import time
from collections import Counter

from entrepot.appliance.doctor.bearer import BearerTokens, bearer
from entrepot.appliance.doctor.finding import CannotContinue, Finding, Health, works
from entrepot.appliance.doctor.http_client import ClientResponse
from entrepot.config.schema import TokenSettings
from entrepot.config.signing_algorithms import accepted
from entrepot.registry.auth.key_files import KeyFiles
from entrepot.registry.auth.token_verifier import TokenTerms, TokenVerifier
from entrepot.registry.errors import InvalidToken
from entrepot.runtime.token_keys import SigningKey, TrustedKeys, UnusableKeys

_ALGORITHMS = {"RSA": ("RS", "PS"), "EC": ("ES",), "Ed25519": ("EdDSA",)}
_CHALLENGE = "www-authenticate"
_KINDS = {"RSAPublicKey": "RSA", "ECPublicKey": "EC", "Ed25519PublicKey": "Ed25519"}


def keys(settings: TokenSettings) -> Finding:
    """Load the key files, and report each accepted algorithm for which they have no key.

    Raises: CannotContinue if a file cannot be used.
    """
    trusted = _trusted(settings)
    found = {id(each.key): each for each in trusted.by_id.values()}
    kinds = Counter(map(_kind, found.values()))
    counted = ", ".join(f"{count} {kind}" for kind, count in sorted(kinds.items()))
    why = f"{len(trusted.roots)} certificates; keys: {counted or 'none'}"
    fitting = tuple(prefix for kind in kinds for prefix in _ALGORITHMS.get(kind, ()))
    useless = [each for each in settings.signingalgorithms if not each.startswith(fitting)]
    # If root certificates are trusted, a token can contain a certificate that one of them issued.
    # The key of that certificate can be of any type, so every algorithm can be used.
    if trusted.skipped or (useless and not trusted.roots):
        ignored = [*trusted.skipped, *(f"there is no key for {each}" for each in useless)]
        return Finding("token keys", Health.FELL_BACK, f"{why}; {'; '.join(ignored)}")
    return works("token keys", why)


def token(
    response: ClientResponse, tokens: BearerTokens, settings: TokenSettings | None
) -> Finding | None:
    """Request a token as a client does, and verify it with *settings* as the appliance does.

    *response* is the response to an anonymous request. Return None if *response* has no Bearer
    challenge. If *settings* are None, the settings of the appliance are unknown, and the token is
    not verified. Raises: CannotContinue if the token server fails, or the token would be refused.
    """
    challenge = bearer(response.headers.get(_CHALLENGE, ""))
    if challenge is None:
        return None
    began = time.monotonic()
    answer = tokens.respond(challenge)
    took = f"{answer.realm} answers in {(time.monotonic() - began) * 1000:.0f} ms"
    if not answer.token:
        why = f"{took}, but issues no token: {answer.status}"
        if tokens.login is None:
            return Finding("token", Health.NOT_TRIED, why, "log in: --user USER:PASSWORD")
        raise CannotContinue(why, "check user and password at the token server")
    if settings is None:
        return works("token", f"{took} with a token")
    valid_s = _verified(answer.token, settings)
    return works("token", f"{took}; its token is accepted, and valid for {valid_s} s")


def _verified(text: str, settings: TokenSettings) -> int:
    """Verify a token, and return how many seconds it remains valid.

    Raises: CannotContinue if the appliance would refuse the token.
    """
    trusted = _trusted(settings)
    terms = TokenTerms(
        settings.issuer or "", settings.service or "", accepted(settings.signingalgorithms)
    )
    try:
        claims = TokenVerifier(terms, lambda: trusted)(text)
    except InvalidToken as error:
        raise CannotContinue(f"the token is refused: {error}", _remedy(str(error))) from error
    return int(claims.expires - time.time())


def _trusted(settings: TokenSettings) -> TrustedKeys:
    try:
        return KeyFiles(settings.rootcertbundle, settings.jwks)()
    except UnusableKeys as error:
        raise CannotContinue(error.message, error.remedy) from error
    except OSError as error:
        why = f"{error.filename}: {(error.strerror or str(error)).lower()}"
        raise CannotContinue(why, "name files that can be read: entrepot check") from error


def _kind(key: SigningKey) -> str:
    return _KINDS.get(type(key.key).__name__.lstrip("_"), type(key.key).__name__)


def _remedy(reason: str) -> str:
    if "issuer" in reason:
        return "auth.token.issuer must be the issuer that the token server writes"
    if "audience" in reason:
        return "auth.token.service must be the audience that the token server writes"
    if "algorithm" in reason:
        return "auth.token.signingalgorithms must have the algorithm of the token server"
    if "expired" in reason or "not valid yet" in reason:
        return "compare the clocks of this host and of the token server"
    return "auth.token.rootcertbundle or .jwks must have the token server's key"
