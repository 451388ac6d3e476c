"""What becomes of each key that docker distribution 2.x and 3.x know.

What protects or places data and is not built is refused, never ignored: an operator who asks for
it must not believe that he has it. What merely does nothing here is a warning.
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

    `harmless` are the values that ask for nothing that is not so anyway, an empty one among them
    where it says `""`; `tolerated` those for which a refused key only has no effect. `instead` is
    what an operator can do.
    """

    key: str
    verdict: Verdict
    why: str = ""
    instead: str = "take it out"
    harmless: tuple[str, ...] = ()
    tolerated: tuple[str, ...] = ()

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


def _idle(key: str, why: str, *harmless: str, instead: str = "take it out") -> Row:
    return Row(key, Verdict.WITHOUT_EFFECT, why, instead, ("", *harmless))


def _refused(key: str, why: str, *harmless: str) -> Row:
    return Row(key, Verdict.REFUSED, why, harmless=harmless)


_NO_DRIVER = "only storage.filesystem is built"
_HEALTH = "/healthz asks the workers themselves"
_NO_REDIS = "nothing here needs redis"

ROWS: Final = (
    _honoured("version", "0.1"),
    _honoured("log.level"),
    _honoured("log.formatter", "text and json"),
    _idle(
        "log.accesslog.disabled",
        "the access log is how use is known",
        "false",
        instead="keep it small with CLEANER_MAXSIZE",
    ),
    _idle("log.reportcaller", "no line names its place in the code", "false"),
    _idle(
        "log.fields.**", "a line's fields are fixed", instead="add them where the log is collected"
    ),
    _idle("log.hooks.**", "no mail is sent", instead="send mail where the log is collected"),
    _honoured("loglevel", "as log.level"),
    _honoured("storage.filesystem.rootdirectory"),
    _idle(
        "storage.filesystem.maxthreads",
        "workers bound what runs at a time",
        instead="set ENTREPOT_WORKERS",
    ),
    _honoured("storage.delete.enabled"),
    _idle("storage.redirect.disable", "no answer is a redirect", "true", instead="take it out"),
    _idle("storage.cache.blobdescriptor", "the disk itself is looked at"),
    _idle("storage.cache.blobdescriptorsize", "the disk itself is looked at"),
    _idle("storage.cache.layerinfo", "the disk itself is looked at"),
    _idle("storage.tag.concurrencylimit", "tags are read one by one"),
    _refused("storage.maintenance.readonly.enabled", "a read-only mode is not built", "false", ""),
    _refused(
        "storage.maintenance.uploadpurging.enabled",
        "abandoned uploads are always purged",
        "true",
        "",
    ),
    _idle("storage.maintenance.uploadpurging.age", "168 hours after the last byte, always", "168h"),
    _idle(
        "storage.maintenance.uploadpurging.interval",
        "cleaner.runevery says when",
        instead="set CLEANER_RUNEVERY_TIME",
    ),
    _refused(
        "storage.maintenance.uploadpurging.dryrun",
        "abandoned uploads are always purged",
        "false",
        "",
    ),
    *(
        _refused(f"storage.{driver}.**", _NO_DRIVER)
        for driver in ("azure", "gcs", "inmemory", "oss", "rados", "s3", "s3aws", "swift")
    ),
    _honoured("auth.htpasswd.realm"),
    _honoured("auth.htpasswd.path", "bcrypt only; a missing file is an error"),
    _honoured("auth.none.**", "open, as without the key"),
    _refused("auth.silly.**", "it protects nothing; use auth.htpasswd"),
    _refused("auth.token.**", "tokens are not built; use auth.htpasswd"),
    _refused("middleware.registry.**", "middleware is not built", ""),
    _refused("middleware.repository.**", "middleware is not built", ""),
    _refused("middleware.storage.**", "middleware is not built", ""),
    _idle(
        "reporting.bugsnag.**",
        "nothing is reported to others",
        instead="watch /metrics and the log",
    ),
    _idle(
        "reporting.newrelic.**",
        "nothing is reported to others",
        instead="watch /metrics and the log",
    ),
    _honoured("http.addr"),
    _refused("http.net", "it listens on TCP only; set http.addr", "tcp", ""),
    _refused("http.prefix", "the API is at /v2/ only", "/", ""),
    _idle("http.host", "no answer needs an absolute URL"),
    _idle("http.secret", "uploads carry no signed state"),
    _idle("http.relativeurls", "no answer needs an absolute URL", "true", instead="take it out"),
    _honoured("http.draintimeout", "4s where it is not set"),
    _honoured("http.tls.certificate"),
    _honoured("http.tls.key", "the key may lie in the certificate's file"),
    _refused("http.tls.clientcas.**", "client certificates are not built; use auth.htpasswd", ""),
    _refused("http.tls.clientauth", "client certificates are not built; use auth.htpasswd", ""),
    _refused(
        "http.tls.minimumtls", "TLS 1.2 is the least, always", "tls1.0", "tls1.1", "tls1.2", ""
    ),
    _refused("http.tls.ciphersuites.**", "ciphers can't be chosen; take it out", ""),
    _refused("http.tls.letsencrypt.**", "it fetches no certificate; set http.tls.certificate", ""),
    _idle(
        "http.debug.addr",
        "metrics are at /metrics of http.addr",
        instead="read /metrics of http.addr",
    ),
    _idle(
        "http.debug.prometheus.enabled",
        "metrics are always at /metrics",
        "true",
        instead="read /metrics of http.addr",
    ),
    _idle(
        "http.debug.prometheus.path",
        "metrics are always at /metrics",
        "/metrics",
        instead="read /metrics of http.addr",
    ),
    _idle(
        "http.headers.**",
        "they speak to browsers, which have nothing to run here",
        instead="set them in a proxy before it",
    ),
    _idle("http.http2.disabled", "HTTP/2 is offered with TLS, always", "false"),
    _idle("http.h2c.enabled", "HTTP/2 needs TLS here", "false"),
    _idle(
        "notifications.events.includereferences",
        "no notifications are sent",
        instead="follow the access log",
    ),
    _idle(
        "notifications.endpoints.**", "no notifications are sent", instead="follow the access log"
    ),
    _idle("redis.**", _NO_REDIS),
    _idle("health.storagedriver.enabled", _HEALTH, instead="probe /healthz"),
    _idle("health.storagedriver.interval", _HEALTH, instead="probe /healthz"),
    _idle("health.storagedriver.threshold", _HEALTH, instead="probe /healthz"),
    _idle("health.file.**", _HEALTH, instead="probe /healthz"),
    _idle("health.http.**", _HEALTH, instead="probe /healthz"),
    _idle("health.tcp.**", _HEALTH, instead="probe /healthz"),
    _idle("catalog.maxentries", "a page of the catalog is as long as the client asks"),
    _honoured("proxy.remoteurl", "an upstream among others, and the default"),
    _honoured("proxy.username"),
    _honoured("proxy.password"),
    Row(
        "proxy.ttl",
        Verdict.REFUSED,
        "age counts from the last use here, set CLEANER_TTL",
        tolerated=("0", "0s", "0m", "0h"),
    ),
    _refused("proxy.exec.**", "credential helpers are not built; use the pull secret", ""),
    _idle(
        "proxy.cachewritetimeout",
        "a download ends when its upstream does",
        instead="set ENTREPOT_READ_TIMEOUT",
    ),
    _idle(
        "compatibility.schema1.enabled",
        "schema 1 is neither made nor converted",
        "false",
        instead="convert such images with skopeo copy",
    ),
    _idle("compatibility.schema1.signingkeyfile", "schema 1 is neither made nor converted"),
    _idle("validation.enabled", "a push is always validated", "true", instead="take it out"),
    _idle("validation.disabled", "a push is always validated", "false", instead="take it out"),
    _refused("validation.manifests.urls.allow.**", "URLs in manifests can't be restricted", ""),
    _refused("validation.manifests.urls.deny.**", "URLs in manifests can't be restricted", ""),
    _idle("validation.manifests.indexes.**", "an index's children must always be here"),
    _refused("policy.repository.classes.**", "classes of repositories are not built", ""),
)

DRIVERS: Final = frozenset(
    {"filesystem", "azure", "gcs", "inmemory", "oss", "rados", "s3", "s3aws", "swift"}
)
SCHEMES: Final = frozenset({"htpasswd", "none", "silly", "token"})
