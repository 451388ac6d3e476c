"""Find contradictions between the redirect settings, and endpoints that clients cannot use."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import SplitResult, urlsplit

from entrepot.config.errors import Problem
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.schema import Settings
from entrepot.config.storage_middleware import CloudFrontTarget
from entrepot.runtime.hostnames import is_loopback

Given = Mapping[Key, RawValue]

_REDIRECT = ("storage", "redirect")
_MIDDLEWARE = ("middleware", "storage")
_ENDPOINT = (
    "set storage.redirect.endpoint to a URL that clients can use, or storage.redirect.disable"
)
_INTERNAL = (".svc", ".cluster.local", ".internal", ".local", ".lan")


def contradictions(settings: Settings, given: Given) -> Iterator[Problem]:
    """Yield a problem if CloudFront is configured without an S3 bucket as its origin."""
    if isinstance(settings.middleware.target, CloudFrontTarget) and not settings.storage.s3:
        chosen = given[_MIDDLEWARE]
        yield chosen.objection("cloudfront needs storage.s3", "use the middleware redirect")


def advice(settings: Settings, given: Given) -> Iterator[Problem]:
    """Yield a warning for each redirect setting without effect and for an unusable endpoint.

    The endpoint is the URL of the storage service to which clients are redirected.
    """
    yield from _no_effect(settings, given)
    if settings.middleware.target is None and settings.storage.has_redirects:
        yield from _unusable(settings, given)


def _unusable(settings: Settings, given: Given) -> Iterator[Problem]:
    """Yield a warning if clients probably cannot use the endpoint of the storage service."""
    s3, azure = settings.storage.s3, settings.storage.azure
    name = "regionendpoint" if s3 else "serviceurl"
    own = (s3.regionendpoint if s3 else None) or (azure.serviceurl if azure else None)
    own_key = ("storage", settings.storage.driver, name)
    chosen = given.get((*_REDIRECT, "endpoint")) or given.get(own_key)
    endpoint = settings.storage.redirect.endpoint or own
    if chosen is None or endpoint is None:
        return
    scheme = "http" if s3 and not s3.secure else "https"
    url = urlsplit(endpoint if "://" in endpoint else f"{scheme}://{endpoint}")
    for message in _faults(url, settings):
        yield chosen.problem(message, _ENDPOINT)


def _faults(url: SplitResult, settings: Settings) -> Iterator[str]:
    host, own = url.hostname or "", urlsplit(settings.http.host or "").hostname
    if url.scheme == "http" and _has_tls(settings):
        yield "a redirect leads from TLS to plain HTTP"
    if is_loopback(host) or _is_internal(host):
        yield "a redirect leads clients to a name of the local network"
    if own is not None and f".{host}".endswith(f".{own}"):
        # Go's http.Client sends the Authorization header to the target of a redirect if the host of
        # the target is the original host or a subdomain of it. The storage service refuses a
        # request that has both a signed URL and this header.
        why = "its host is http.host or a subdomain, so clients send their password there too"
        yield f"the service refuses redirected requests: {why}"


def _has_tls(settings: Settings) -> bool:
    is_public_tls = (settings.http.host or "").startswith("https:")
    return settings.http.tls.certificate is not None or is_public_tls


def _is_internal(host: str) -> bool:
    """Return whether a name is probably known only in a cluster or a local network."""
    return ("." not in host and ":" not in host) or host.endswith(_INTERNAL)


def _no_effect(settings: Settings, given: Given) -> Iterator[Problem]:
    target, redirect = settings.middleware.target, settings.storage.redirect
    why = "clients are redirected only to a bucket"
    if redirect.disable:
        why = "storage.redirect.disable is true"
    elif target is not None:
        why = "middleware.storage makes the URLs"
    has_none = not settings.has_redirects
    without = {
        "endpoint": has_none or target is not None,
        "expiry": has_none or isinstance(target, CloudFrontTarget),
    }
    for name in ("endpoint", "expiry"):
        if without[name] and (each := given.get((*_REDIRECT, name))) is not None:
            yield each.problem(f"the key has no effect: {why}", "take it out")
    chosen = given.get(_MIDDLEWARE)
    if chosen is not None and target is not None and redirect.disable:
        yield chosen.objection(f"the key has no effect: {why}", "take one of the two keys out")
