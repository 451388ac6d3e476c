"""What becomes of each key that docker distribution 2.x and 3.x know.

What protects or places data and is not built is refused, never ignored: an operator who asks for
it must not believe that he has it. What merely does nothing here is taken in silence, or with a
warning where somebody would miss it.
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import Enum
from typing import Final


class Verdict(Enum):
    """What becomes of a key."""

    HONOURED = "honoured"
    WITHOUT_EFFECT = "without effect"
    REFUSED = "refused"


@dataclass(frozen=True, slots=True)
class Row:
    """One key: `*` stands for any name, `**` at the end for anything below and the key itself.

    `harmless` are the values that a refused key may have, an empty one among them where it says
    `""`. `missed`: who sets it expects something, and is warned.
    """

    key: str
    verdict: Verdict
    why: str = ""
    harmless: tuple[str, ...] = ()
    missed: bool = False

    def matches(self, key: tuple[str, ...]) -> bool:
        """Say whether *key* is the one that this row is about."""
        pattern = tuple(self.key.split("."))
        if pattern[-1] == "**":
            pattern, key = pattern[:-1], key[: len(pattern) - 1]
        return len(pattern) == len(key) and all(
            each in {"*", part} for each, part in zip(pattern, key, strict=True)
        )


def _honoured(key: str, why: str = "") -> Row:
    return Row(key, Verdict.HONOURED, why)


def _idle(key: str, why: str) -> Row:
    return Row(key, Verdict.WITHOUT_EFFECT, why)


def _missed(key: str, why: str, *harmless: str) -> Row:
    return Row(key, Verdict.WITHOUT_EFFECT, why, ("", *harmless), missed=True)


def _refused(key: str, why: str, *harmless: str) -> Row:
    return Row(key, Verdict.REFUSED, why, harmless)


_NO_DRIVER = "only storage.filesystem is built"
_HEALTH = "/healthz asks the workers themselves"
_NO_REDIS = "nothing here needs redis"

ROWS: Final = (
    _honoured("version", "0.1"),
    _honoured("log.level"),
    _honoured("log.formatter", "text and json"),
    _idle("log.accesslog.disabled", "the access log is how use is known"),
    _idle("log.fields.**", "a line's fields are fixed"),
    _missed("log.hooks.**", "no mail is sent"),
    _honoured("loglevel", "as log.level"),
    _honoured("storage.filesystem.rootdirectory"),
    _idle("storage.filesystem.maxthreads", "workers bound what runs at a time"),
    _honoured("storage.delete.enabled"),
    _idle("storage.redirect.disable", "no answer is a redirect"),
    _idle("storage.cache.blobdescriptor", "the disk itself is looked at"),
    _idle("storage.cache.blobdescriptorsize", "the disk itself is looked at"),
    _idle("storage.tag.concurrencylimit", "tags are read one by one"),
    _refused("storage.maintenance.readonly.enabled", "a read-only mode is not built", "false", ""),
    _refused(
        "storage.maintenance.uploadpurging.enabled",
        "abandoned uploads are always purged",
        "true",
        "",
    ),
    _missed("storage.maintenance.uploadpurging.age", "cleaner.garbage says after how long", "168h"),
    _idle("storage.maintenance.uploadpurging.interval", "cleaner.runevery says when"),
    _refused(
        "storage.maintenance.uploadpurging.dryrun",
        "abandoned uploads are always purged",
        "false",
        "",
    ),
    *(
        _refused(f"storage.{driver}.**", _NO_DRIVER)
        for driver in ("azure", "gcs", "inmemory", "oss", "s3", "s3aws", "swift")
    ),
    _honoured("auth.htpasswd.realm"),
    _honoured("auth.htpasswd.path", "bcrypt only; a missing file is an error"),
    _honoured("auth.none.**", "open, as without the key"),
    _refused("auth.silly.**", "it protects nothing; use auth.htpasswd"),
    _refused("auth.token.**", "tokens are not built; use auth.htpasswd"),
    _refused("middleware.registry.**", "middleware is not built", ""),
    _refused("middleware.repository.**", "middleware is not built", ""),
    _refused("middleware.storage.**", "middleware is not built", ""),
    _missed("reporting.bugsnag.**", "nothing is reported to others"),
    _missed("reporting.newrelic.**", "nothing is reported to others"),
    _honoured("http.addr"),
    _refused("http.net", "it listens on TCP only; set http.addr", "tcp", ""),
    _refused("http.prefix", "the API is at /v2/ only", "/", ""),
    _idle("http.host", "no answer needs an absolute URL"),
    _idle("http.secret", "uploads carry no signed state"),
    _idle("http.relativeurls", "no answer needs an absolute URL"),
    _idle("http.draintimeout", "pulls in flight get a fixed grace"),
    _honoured("http.tls.certificate"),
    _honoured("http.tls.key", "the key may lie in the certificate's file"),
    _refused("http.tls.clientcas.**", "client certificates are not built; use auth.htpasswd", ""),
    _refused("http.tls.clientauth", "client certificates are not built; use auth.htpasswd", ""),
    _refused(
        "http.tls.minimumtls", "TLS 1.2 is the least, always", "tls1.0", "tls1.1", "tls1.2", ""
    ),
    _refused("http.tls.ciphersuites.**", "ciphers can't be chosen; take it out", ""),
    _refused("http.tls.letsencrypt.**", "it fetches no certificate; set http.tls.certificate", ""),
    _missed("http.debug.addr", "metrics are at /metrics of http.addr"),
    _idle("http.debug.prometheus.enabled", "metrics are always at /metrics"),
    _idle("http.debug.prometheus.path", "metrics are always at /metrics"),
    _idle("http.headers.**", "they speak to browsers, which have nothing to run here"),
    _missed("http.http2.disabled", "HTTP/2 is offered with TLS, always", "false"),
    _missed("http.h2c.enabled", "HTTP/2 needs TLS here", "false"),
    _idle("notifications.events.includereferences", "no notifications are sent"),
    _missed("notifications.endpoints.**", "no notifications are sent"),
    _idle("redis.**", _NO_REDIS),
    _idle("health.storagedriver.enabled", _HEALTH),
    _idle("health.storagedriver.interval", _HEALTH),
    _idle("health.storagedriver.threshold", _HEALTH),
    _missed("health.file.**", _HEALTH),
    _missed("health.http.**", _HEALTH),
    _missed("health.tcp.**", _HEALTH),
    _idle("catalog.maxentries", "a page of the catalog is as long as the client asks"),
    _honoured("proxy.remoteurl", "an upstream among others, and the default"),
    _honoured("proxy.username"),
    _honoured("proxy.password"),
    _refused("proxy.ttl", "age counts from the last use here, set CLEANER_TTL"),
    _refused("proxy.exec.**", "credential helpers are not built; use the pull secret", ""),
    _idle("proxy.cachewritetimeout", "a download ends when its upstream does"),
    _missed("compatibility.schema1.enabled", "schema 1 is neither made nor converted", "false"),
    _idle("compatibility.schema1.signingkeyfile", "schema 1 is neither made nor converted"),
    _idle("validation.enabled", "a push is always validated"),
    _idle("validation.disabled", "a push is always validated"),
    _refused("validation.manifests.urls.allow.**", "URLs in manifests can't be restricted", ""),
    _refused("validation.manifests.urls.deny.**", "URLs in manifests can't be restricted", ""),
    _idle("validation.manifests.indexes.**", "an index's children must always be here"),
    _refused("policy.repository.classes.**", "classes of repositories are not built", ""),
)

DRIVERS: Final = frozenset(
    {"filesystem", "azure", "gcs", "inmemory", "oss", "s3", "s3aws", "swift"}
)
SCHEMES: Final = frozenset({"htpasswd", "none", "silly", "token"})
