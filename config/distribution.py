"""List all keys of docker distribution 2.x and 3.x, and the appliance's treatment of each.

A key that protects data or selects where data is stored, and is not implemented, is refused and
never ignored. The operator must not believe that such a key has an effect. A key that only has no
effect is a warning.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class KeySupport(Enum):
    """A `KeySupport` states how the appliance treats a key."""

    HONOURED = "honoured"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class DistributionKey:
    """One key. `*` matches any name; `**` at the end matches the key itself and all keys below it.

    `harmless` values request the appliance's normal behaviour and cause no message; `""` includes
    the empty value. A refused key with a `tolerated` value is only a warning. `instead` is the
    remedy.
    """

    key: str
    verdict: KeySupport
    why: str = ""
    instead: str = "take it out"
    harmless: tuple[str, ...] = ()
    tolerated: tuple[str, ...] = ()

    def matches(self, key: tuple[str, ...]) -> bool:
        """Return whether this row describes *key*."""
        pattern = tuple(self.key.split("."))
        if pattern[-1] == "**":
            pattern, key = pattern[:-1], key[: len(pattern) - 1]
        return len(pattern) == len(key) and all(
            each in {"*", part} for each, part in zip(pattern, key, strict=True)
        )


def _honoured(key: str, why: str = "") -> DistributionKey:
    return DistributionKey(key, KeySupport.HONOURED, why)


def _ineffective(
    key: str, why: str, *harmless: str, instead: str = "take it out"
) -> DistributionKey:
    return DistributionKey(key, KeySupport.WITHOUT_EFFECT, why, instead, ("", *harmless))


def _refused(key: str, why: str, *harmless: str) -> DistributionKey:
    return DistributionKey(key, KeySupport.REFUSED, why, harmless=harmless)


_NO_DRIVER = "only storage.filesystem and storage.inmemory are implemented"
_NO_REDIS = "blobs are looked up on the disk, without redis"
_LOOKED_UP = "blobs are looked up on the disk"
_PACKAGE = "names middleware of an installed Python package, not of Go"
_EXTRA = "errors of the workers, if the tracker's Python library is installed"

ROWS: Final = (
    _honoured("version", "0.1"),
    _honoured("log.level", "in capitals too"),
    _honoured("log.formatter", "text, json and logstash"),
    _honoured("log.accesslog.disabled", "default false in the image, else true"),
    _honoured("log.reportcaller", "the fields func and file"),
    _honoured("log.fields", "in the lines of all programs"),
    _honoured("log.fields.*", "one field, in a variable"),
    _honoured("log.hooks", "type mail; another type is refused"),
    _honoured("log.hooks.*.**", "one key of one hook, in a variable"),
    _honoured("loglevel", "as log.level"),
    _honoured("storage.filesystem.rootdirectory"),
    _ineffective(
        "storage.filesystem.maxthreads",
        "the number of workers limits concurrency",
        instead="set ENTREPOT_WORKERS",
    ),
    _honoured("storage.inmemory.rootdirectory", "docker distribution has no key here"),
    _honoured("storage.delete.enabled"),
    _ineffective(
        "storage.redirect.disable", "no response is a redirect", "true", instead="take it out"
    ),
    _ineffective("storage.cache.blobdescriptor", _LOOKED_UP),
    _ineffective("storage.cache.blobdescriptorsize", _LOOKED_UP),
    _ineffective("storage.cache.layerinfo", _LOOKED_UP),
    _ineffective("storage.tag.concurrencylimit", "tags are read sequentially"),
    _honoured("storage.maintenance.readonly.enabled", "an upstream's content is still stored"),
    _honoured("storage.maintenance.uploadpurging.enabled"),
    _honoured("storage.maintenance.uploadpurging.age", "counted from the last byte"),
    _honoured("storage.maintenance.uploadpurging.interval"),
    _honoured("storage.maintenance.uploadpurging.dryrun"),
    *(
        _refused(f"storage.{driver}.**", _NO_DRIVER)
        for driver in ("azure", "gcs", "oss", "rados", "s3", "s3aws", "swift")
    ),
    _honoured("auth.htpasswd.realm"),
    _honoured(
        "auth.htpasswd.path",
        "bcrypt only; a missing file is an error, because a generated password would be in the log",
    ),
    _honoured("auth.none.**", "open to all, as without the key"),
    _honoured("auth.silly.realm", "it protects nothing, as there"),
    _honoured("auth.silly.service"),
    _honoured("auth.token.realm"),
    _honoured("auth.token.service"),
    _honoured("auth.token.issuer"),
    _honoured("auth.token.rootcertbundle", "changes are followed"),
    _honoured("auth.token.jwks", "changes are followed"),
    _honoured("auth.token.signingalgorithms", "HS256, HS384 and HS512 are never accepted"),
    _honoured("auth.token.autoredirect"),
    _honoured("auth.token.autoredirectpath"),
    _honoured("middleware.registry", _PACKAGE),
    _honoured("middleware.registry.**", "one key of an entry, in a variable"),
    _honoured("middleware.repository", _PACKAGE),
    _honoured("middleware.repository.**", "one key of an entry, in a variable"),
    _refused("middleware.storage.**", "blobs are served from here, not from a CDN", ""),
    _honoured("reporting.bugsnag.apikey", _EXTRA),
    _honoured("reporting.bugsnag.releasestage"),
    _honoured("reporting.bugsnag.endpoint"),
    _honoured("reporting.newrelic.licensekey", _EXTRA),
    _honoured("reporting.newrelic.name", "default entrepot"),
    _honoured("reporting.newrelic.verbose"),
    _honoured("http.addr"),
    _honoured("http.net", "tcp and unix"),
    _honoured("http.prefix", "Location, Link and the token's realm have it too"),
    _honoured("http.host", "begins Location; http.prefix is not added to it"),
    _honoured("http.secret", "uploads carry no signed state, so every worker continues them"),
    _honoured("http.relativeurls", "default true; distribution's default is false"),
    _honoured("http.draintimeout", "default 4s"),
    _honoured("http.tls.certificate"),
    _honoured("http.tls.key", "the key may be in the certificate's file"),
    _honoured("http.tls.clientcas", "changes take effect without a restart"),
    _honoured("http.tls.clientcas.*", "one entry, in a variable"),
    _honoured("http.tls.clientauth", "the four values of 3.x"),
    _honoured("http.tls.minimumtls", "tls1.0 to tls1.3"),
    _honoured("http.tls.ciphersuites", "Go's names; also restricts TLS 1.3"),
    _honoured("http.tls.ciphersuites.*", "one entry, in a variable"),
    DistributionKey(
        "http.tls.letsencrypt.**",
        KeySupport.REFUSED,
        "the appliance requests no certificates",
        instead="let certbot renew them in a folder that is mounted as /certs",
        harmless=("",),
    ),
    _honoured("http.debug.addr", "/debug/health and /debug/vars; no profiles at /debug/pprof"),
    _honoured("http.debug.prometheus.enabled", "metrics are at /metrics of http.addr as well"),
    _honoured("http.debug.prometheus.path"),
    _honoured("http.headers", "in every response, also of errors"),
    _honoured("http.headers.*", "one header, in a variable"),
    _honoured("http.http2.disabled"),
    _honoured("http.h2c.enabled", "HTTP/2 without TLS is always accepted, with prior knowledge"),
    _honoured("notifications.events.includereferences"),
    _honoured("notifications.endpoints", "queued on disk, in order for each endpoint"),
    _honoured("notifications.endpoints.**", "one key of an endpoint, in a variable"),
    _ineffective("redis.**", _NO_REDIS),
    _honoured("health.storagedriver.enabled", "a folder that does not answer fails too"),
    _honoured("health.storagedriver.interval"),
    _honoured("health.storagedriver.threshold"),
    _honoured("health.file"),
    _honoured("health.file.*.**", "one key of one check, in a variable"),
    _honoured("health.http", "a timeout of 10s, where there is none in distribution"),
    _honoured("health.http.*.**", "one key of one check, in a variable"),
    _honoured("health.tcp", "a timeout of 10s, where there is none in distribution"),
    _honoured("health.tcp.*.**", "one key of one check, in a variable"),
    _honoured("catalog.maxentries", "default 1000; 100 at a time without n"),
    _honoured("tags.maxtags", "default 1000; all without n"),
    _honoured("proxy.remoteurl", "declares an upstream and makes it the default"),
    _honoured("proxy.username"),
    _honoured("proxy.password"),
    _honoured("proxy.ttl", "as CLEANER_TTL, which has precedence: counted from the last use"),
    _honoured("proxy.exec.command"),
    _honoured("proxy.exec.lifetime"),
    _ineffective(
        "proxy.cachewritetimeout",
        "a download ends when its upstream ends the response",
        instead="set ENTREPOT_READ_TIMEOUT",
    ),
    _ineffective(
        "compatibility.schema1.enabled",
        "schema 1 is neither produced nor converted",
        "false",
        instead="convert such images with skopeo copy",
    ),
    _ineffective(
        "compatibility.schema1.signingkeyfile", "schema 1 is neither produced nor converted"
    ),
    _honoured("validation.enabled", "with true, validation.disabled has no effect"),
    _honoured("validation.disabled"),
    _honoured("validation.manifests.urls.allow", "any URL without a validation section"),
    _honoured("validation.manifests.urls.deny"),
    _honoured("validation.manifests.indexes.platforms"),
    _honoured("validation.manifests.indexes.platformlist"),
    _honoured("policy.repository.classes", "image and plugin"),
)

DRIVERS: Final = frozenset(
    {"filesystem", "azure", "gcs", "inmemory", "oss", "rados", "s3", "s3aws", "swift"}
)
IMPLEMENTED: Final = frozenset({"filesystem", "inmemory"})
"""The names of the storage drivers that are not refused."""
SCHEMES: Final = frozenset({"htpasswd", "none", "silly", "token"})
