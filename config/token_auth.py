"""Check the settings of `auth.token` and `auth.silly` and the key files that they name."""

from __future__ import annotations

import stat
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Final

from entrepot.config.errors import Problem
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.schema import Settings, TokenSettings
from entrepot.config.signing_algorithms import SYMMETRIC

if TYPE_CHECKING:
    from entrepot.runtime.token_keys import TrustedKeys

_REQUIRED: Final = ("realm", "service", "issuer")
_TOKEN: Final = ("auth", "token")
_SILLY: Final = ("auth", "silly")
_ANONYMOUS: Final = ("auth", "anonymous")


def contradictions(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a problem for each missing or contradictory key of `auth.token` and `auth.silly`."""
    token, silly = settings.auth.token, settings.auth.silly
    if silly is not None:
        yield from _missing(_SILLY, silly, ("realm", "service"), given)
    if token is None:
        return
    yield from _missing(_TOKEN, token, _REQUIRED, given)
    if token.rootcertbundle is None and token.jwks is None:
        section = _section(_TOKEN, given)
        yield section.objection(
            "auth.token has no keys", "set auth.token.rootcertbundle or auth.token.jwks"
        )
    if settings.auth.anonymous != "none":
        yield given[_ANONYMOUS].problem(
            "the token server decides what anonymous clients may do",
            "take the key out, and let the server issue tokens without a user",
        )


def advice(settings: Settings) -> Iterator[Problem]:
    """Yield a warning for each key of `auth.token` and `auth.silly` that is probably a mistake."""
    token, silly = settings.auth.token, settings.auth.silly
    if silly is not None:
        yield Problem(
            "auth.silly",
            "the scheme protects nothing: every Authorization header is accepted",
            "use auth.htpasswd or auth.token",
        )
    if token is not None and (symmetric := set(token.signingalgorithms) & set(SYMMETRIC)):
        yield Problem(
            "auth.token.signingalgorithms",
            f"the algorithm has no effect: {', '.join(sorted(symmetric))} is never accepted",
            "take it out",
        )


def key_problems(settings: Settings) -> Iterator[Problem]:
    """Yield a problem for each key file of `auth.token` that cannot be used."""
    for path, name, parse in _files(settings.auth.token):
        yield from _read(path, name, parse)[1]


def key_remarks(settings: Settings) -> Iterator[Problem]:
    """Yield a warning for each key in the key files that is never used."""
    for path, name, parse in _files(settings.auth.token):
        found = _read(path, name, parse)[0]
        for line in found.skipped if found else ():
            yield Problem(f"{name}={path}", f"ignored: {line}", "take it out of the file")


_Parse = Callable[[bytes], "TrustedKeys"]


def _files(token: TokenSettings | None) -> Iterator[tuple[Path, str, _Parse]]:
    if token is None:
        return
    from entrepot.runtime import token_keys  # noqa: PLC0415 - takes 60 ms, only with auth.token

    if token.rootcertbundle is not None:
        yield token.rootcertbundle, "auth.token.rootcertbundle", token_keys.parse_bundle
    if token.jwks is not None:
        yield token.jwks, "auth.token.jwks", token_keys.parse_jwks


def _read(path: Path, name: str, parse: _Parse) -> tuple[TrustedKeys | None, list[Problem]]:
    from entrepot.runtime.token_keys import MAX_BYTES, UnusableKeys  # noqa: PLC0415 - as above

    source = f"{name}={path}"
    try:
        if not stat.S_ISREG(path.stat().st_mode):
            remedy = "name an existing file; Docker creates a folder for a missing mount source"
            return None, [Problem(source, "is not a regular file", remedy)]
        with path.open("rb") as file:
            content = file.read(MAX_BYTES + 1)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        return None, [Problem(source, why, "name a file that can be read")]
    try:
        return parse(content), []
    except UnusableKeys as error:
        return None, [Problem(source, error.message, error.remedy)]


def _missing(
    section: Key, values: object, names: tuple[str, ...], given: Mapping[Key, RawValue]
) -> Iterator[Problem]:
    for name in names:
        if getattr(values, name) is None:
            key = ".".join((*section, name))
            yield _section(section, given).objection(f"{key} is missing", f"set {key}")


def _section(section: Key, given: Mapping[Key, RawValue]) -> RawValue:
    """Return the first value of a section; its source starts a message about a missing key."""
    return next(each for key, each in given.items() if key[:2] == section)
