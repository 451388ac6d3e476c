"""Read `middleware.storage:`, which accepts two of docker distribution's storage middlewares.

With `redirect` and `cloudfront`, clients that request a large blob are redirected to a URL of
another server. If there are several entries, only the last one has an effect, as in docker
distribution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from entrepot.config import readers, units
from entrepot.config.errors import Problem, Unreadable

PRIVATE_KEY: Final = "privatekey"
_EXAMPLE: Final = "try {baseurl: https://cdn.example}"
_SHORTEST_S, _LONGEST_S = 10.0, 24 * 3600.0
_USUAL_S: Final = "20m"
_UNUSED: Final = frozenset({"awsregion", "iprangesurl", "updatefrequency", "updatefrenquency"})
"""Options of `cloudfront` that have no effect, because `ipfilteredby` must be none."""


@dataclass(frozen=True, slots=True)
class RedirectTarget:
    """A `RedirectTarget` is a server that has the blobs; its base URL ends without a slash."""

    base_url: str


@dataclass(frozen=True, slots=True)
class CloudFrontTarget:
    """A `CloudFrontTarget` is a distribution of Amazon CloudFront whose origin is the bucket.

    `private_key` is a PEM file. `duration` is the lifetime of a signed URL in seconds.
    """

    base_url: str
    private_key: Path
    key_pair_id: str
    duration: float


Target = RedirectTarget | CloudFrontTarget


def target_of(name: str, options: Mapping[str, object]) -> Target:
    """Return the redirect target of one entry of `middleware.storage`. Raises: Unreadable."""
    if name not in _KINDS:
        raise Unreadable(f"no storage middleware {name[:32]}", "try redirect or cloudfront")
    read, known = _KINDS[name]
    if unknown := sorted(options.keys() - known):
        raise Unreadable(f"{name} has no option {unknown[0][:32]}", f"known: {', '.join(known)}")
    return read(options)


def _redirect(options: Mapping[str, object]) -> RedirectTarget:
    return RedirectTarget(_base_url(_required("redirect", options, "baseurl")))


def _cloudfront(options: Mapping[str, object]) -> CloudFrontTarget:
    base_url = _required("cloudfront", options, "baseurl")
    filtered = str(options.get("ipfilteredby") or "none").strip().lower()
    if filtered != "none":
        why = "ipfilteredby needs Amazon's list of addresses, which the appliance does not load"
        raise Unreadable(why, "take it out: all clients use CloudFront")
    duration = units.span(options.get("duration") or _USUAL_S)
    if not _SHORTEST_S <= duration <= _LONGEST_S:
        raise Unreadable("the duration of cloudfront is not from 10s to 24h", f"try {_USUAL_S}")
    return CloudFrontTarget(
        _base_url(base_url if "://" in base_url else f"https://{base_url}"),
        readers.path(_required("cloudfront", options, PRIVATE_KEY)),
        _required("cloudfront", options, "keypairid"),
        duration,
    )


_CLOUDFRONT: Final = ("baseurl", PRIVATE_KEY, "keypairid", "duration", "ipfilteredby")
_KINDS: Final[Mapping[str, tuple[Callable[[Mapping[str, object]], Target], tuple[str, ...]]]] = {
    "redirect": (_redirect, ("baseurl",)),
    "cloudfront": (_cloudfront, (*_CLOUDFRONT, *sorted(_UNUSED))),
}


def _required(name: str, options: Mapping[str, object], option: str) -> str:
    found = options.get(option)
    if not isinstance(found, str) or not found.strip():
        raise Unreadable(f"{name} needs the option {option}", f"set options.{option}")
    return found.strip()


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    is_plain = not (parts.query or parts.fragment or "@" in parts.netloc)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not is_plain:
        raise Unreadable("baseurl is not an http or https URL without a query", _EXAMPLE)
    return text.rstrip("/")


def key_problems(target: Target | None) -> Iterator[Problem]:
    """Yield a problem if the private key of CloudFront cannot be used."""
    if not isinstance(target, CloudFrontTarget):
        return
    from cryptography.hazmat.primitives.asymmetric import rsa  # noqa: PLC0415 - only with CloudFront
    from cryptography.hazmat.primitives.serialization import (  # noqa: PLC0415 - as above
        load_pem_private_key,
    )

    source = f"middleware.storage=cloudfront {target.private_key}"
    try:
        key = load_pem_private_key(target.private_key.read_bytes(), None)
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        yield Problem(source, why, f"name the key's file in options.{PRIVATE_KEY}")
    except (ValueError, TypeError):
        yield Problem(source, "no private key in it", "write an RSA key in PEM, unencrypted")
    else:
        if not isinstance(key, rsa.RSAPrivateKey):
            yield Problem(source, "not an RSA key", "use the RSA key of the key pair")
