"""Find contradictions between the storage driver and other settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from urllib.parse import urlsplit

from entrepot.config.errors import Problem
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.s3_settings import S3Settings
from entrepot.config.schema import Settings
from entrepot.runtime.hostnames import is_loopback

_S3 = ("storage", "s3")
_REDIRECT = ("storage", "redirect")
_ENDPOINT = (
    "set storage.redirect.endpoint to a URL that clients can use, or storage.redirect.disable"
)
_INTERNAL = (".svc", ".cluster.local", ".internal", ".local", ".lan")


def contradictions(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a problem for each setting that contradicts the storage driver, or that it needs."""
    if settings.storage.inmemory:
        yield from _in_memory(settings, given)
    if settings.storage.s3:
        yield from _s3(settings.storage.s3, given)


def advice(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a warning for each key of `storage.redirect:` that is probably a mistake."""
    s3 = settings.storage.s3
    if not settings.storage.has_redirects or s3 is None:
        yield from _no_redirects(settings, given)
        return
    chosen = given.get((*_REDIRECT, "endpoint")) or given.get((*_S3, "regionendpoint"))
    endpoint = settings.storage.redirect.endpoint or s3.regionendpoint
    if chosen is None or endpoint is None:
        return
    scheme = "https" if s3.secure else "http"
    url = urlsplit(endpoint if "://" in endpoint else f"{scheme}://{endpoint}")
    host, own = url.hostname or "", urlsplit(settings.http.host or "").hostname
    if url.scheme == "http" and _has_tls(settings):
        yield chosen.problem("a redirect leads from TLS to plain HTTP", _ENDPOINT)
    if is_loopback(host) or _is_internal(host):
        yield chosen.problem("a redirect leads clients to a name of the local network", _ENDPOINT)
    if own is not None and f".{host}".endswith(f".{own}"):
        why = "clients send their password there too, because http.host is the same or above it"
        yield chosen.problem(f"S3 then refuses a redirect: {why}", _ENDPOINT)


def _has_tls(settings: Settings) -> bool:
    is_public_tls = (settings.http.host or "").startswith("https:")
    return settings.http.tls.certificate is not None or is_public_tls


def _is_internal(host: str) -> bool:
    """Return whether a name is probably known only in a cluster or a local network."""
    return ("." not in host and ":" not in host) or host.endswith(_INTERNAL)


def _no_redirects(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a warning for each key of `storage.redirect:` that has no effect."""
    is_disabled = settings.storage.redirect.disable
    why = (
        "storage.redirect.disable is true" if is_disabled else "clients are redirected to a bucket"
    )
    for name in ("endpoint", "expiry"):
        if (each := given.get((*_REDIRECT, name))) is not None:
            yield each.problem(f"the key has no effect: {why}", "take it out")


def _in_memory(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    if (state := given.get(("storage", "statedir"))) is not None:
        why = "with storage.inmemory, index and logs are in memory too"
        yield state.problem(why, "take it out")
    maxsize = given.get(("cleaner", "maxsize"))
    if maxsize is not None and not settings.cleaner.maxsize:
        yield maxsize.problem("storage.inmemory needs a size limit", "try 1G")


def _s3(s3: S3Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    chosen = next(each for key, each in given.items() if key[:2] == _S3)
    for name in ("bucket", "region"):
        if getattr(s3, name) is None:
            yield chosen.objection(f"storage.s3.{name} is missing", f"set storage.s3.{name}")
    if (s3.accesskey is None) != (s3.secretkey is None):
        lacking = "accesskey" if s3.accesskey is None else "secretkey"
        yield chosen.objection(f"storage.s3.{lacking} is missing", "set both keys, or neither")
    if s3.sessiontoken is not None and s3.accesskey is None:
        yield chosen.objection("storage.s3.sessiontoken is of no key", "set the keys too")
    if s3.keyid is not None and not s3.encrypt:
        yield given[*_S3, "keyid"].objection("without effect", "set storage.s3.encrypt: true")
    if s3.regionendpoint is not None:
        for name in ("accelerate", "usedualstack", "usefipsendpoint"):
            if getattr(s3, name):
                why = "it selects a host of AWS, and storage.s3.regionendpoint selects another"
                yield given[*_S3, name].objection(why, "take one of them out")
    if s3.accelerate and s3.usefipsendpoint:
        why = "AWS has no such host together with storage.s3.usefipsendpoint"
        yield given[*_S3, "accelerate"].objection(why, "take one of them out")
