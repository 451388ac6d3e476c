"""List all keys of docker distribution 2.x and 3.x and how the appliance treats each key.

The appliance does not implement every key. It does not start if an unimplemented key is set that
protects data or selects where data is stored; otherwise the operator would believe that the key has
an effect. Any other unimplemented key causes a warning.
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
    """A `DistributionKey` is one key of docker distribution.

    In `key`, `*` matches any name; `**` at the end matches the key itself and all keys below it.

    A value in `harmless` requests the appliance's normal behaviour, so it causes no message; the
    text `""` in `harmless` stands for every empty value. `why` is the reason, and `instead` the
    remedy, in the message.
    """

    key: str
    verdict: KeySupport
    why: str = ""
    instead: str = "take it out"
    harmless: tuple[str, ...] = ()

    def matches(self, key: tuple[str, ...]) -> bool:
        """Return whether this row of the table describes *key*."""
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


_NO_DRIVER = "the driver is not implemented"
_COPY_WAIT = "the key is for copies inside Azure, which the appliance does not make"
_ONE_COPY = "the appliance copies only damaged objects, each with one request"
_NO_REDIS = "the appliance looks blobs up on the disk, without redis"
_LOOKED_UP = "the appliance looks blobs up on the disk"
_PACKAGE = "the names refer to middleware in installed Python packages, not to Go middleware"
_EXTRA = "the workers send their errors to the tracker if its Python library is installed"

ROWS: Final = (
    _honoured("version", "0.1"),
    _honoured("log.level", "upper-case names are accepted too"),
    _honoured("log.formatter", "text, json and logstash"),
    _honoured("log.accesslog.disabled", "the default is false in the image, else true"),
    _honoured("log.reportcaller", "log lines have the fields func and file"),
    _honoured("log.fields", "the log lines of all programs have these fields"),
    _honoured("log.fields.*", "an environment variable can set a single field"),
    _honoured("log.hooks", "only the type mail is implemented; every other type is refused"),
    _honoured("log.hooks.*.**", "an environment variable can set a single key of a hook"),
    _honoured("loglevel", "the same as log.level"),
    _honoured("storage.filesystem.rootdirectory"),
    _ineffective(
        "storage.filesystem.maxthreads",
        "the number of workers limits concurrency",
        instead="set ENTREPOT_WORKERS",
    ),
    _honoured("storage.inmemory.rootdirectory", "docker distribution has no such key"),
    _honoured(
        "storage.s3.accesskey",
        "without the key, the driver uses the AWS environment, as docker distribution does",
    ),
    _honoured("storage.s3.secretkey"),
    _honoured("storage.s3.sessiontoken"),
    _honoured("storage.s3.region"),
    _honoured("storage.s3.regionendpoint"),
    _honoured(
        "storage.s3.forcepathstyle", "the default is true if regionendpoint is set, as in 2.x"
    ),
    _honoured("storage.s3.bucket"),
    _honoured("storage.s3.rootdirectory"),
    _honoured("storage.s3.encrypt"),
    _honoured("storage.s3.keyid"),
    _honoured("storage.s3.secure"),
    _honoured("storage.s3.skipverify"),
    _refused("storage.s3.v4auth", "version 2 signatures are not supported", "true"),
    _honoured("storage.s3.chunksize", "5M to 512M"),
    _ineffective("storage.s3.multipartcopychunksize", _ONE_COPY),
    _ineffective("storage.s3.multipartcopymaxconcurrency", _ONE_COPY),
    _ineffective("storage.s3.multipartcopythresholdsize", _ONE_COPY),
    _honoured("storage.s3.storageclass"),
    _honoured("storage.s3.useragent"),
    _refused(
        "storage.s3.objectacl",
        "S3 refuses an object's ACL if ACLs are disabled for the bucket, which is the default",
        "private",
    ),
    _honoured("storage.s3.usedualstack"),
    _honoured("storage.s3.accelerate"),
    _honoured("storage.s3.usefipsendpoint"),
    _ineffective("storage.s3.loglevel", "requests are not logged", "off", "false"),
    _honoured("storage.azure.accountname"),
    _honoured("storage.azure.accountkey"),
    _honoured("storage.azure.container", "the container must exist; 2.x creates it"),
    _honoured("storage.azure.credentials.type", "the default is shared_key, as in 2.x"),
    _honoured("storage.azure.credentials.clientid"),
    _honoured("storage.azure.credentials.tenantid"),
    _honoured("storage.azure.credentials.secret"),
    _honoured("storage.azure.realm", "the realm also selects the host that issues tokens"),
    _honoured("storage.azure.rootdirectory", "as in 3.x; 2.x has no such key"),
    _honoured("storage.azure.serviceurl"),
    _honoured("storage.azure.skipverify"),
    _ineffective("storage.azure.max_retries", _COPY_WAIT),
    _ineffective("storage.azure.retry_delay", _COPY_WAIT),
    DistributionKey(
        "storage.azure.connectionstring",
        KeySupport.REFUSED,
        "docker distribution ignores the key, and the appliance does not implement it",
        instead="set accountname, accountkey and serviceurl",
        harmless=("",),
    ),
    DistributionKey(
        "storage.azure.trimlegacyrootprefix",
        KeySupport.REFUSED,
        "names that begin with a slash, as GitLab's registry writes them, are not supported",
        instead="copy the blobs to names without that slash (docs/storage.md, azure)",
        harmless=("true",),
    ),
    DistributionKey(
        "storage.azure.legacyrootprefix",
        KeySupport.REFUSED,
        "names that begin with a slash, as GitLab's registry writes them, are not supported",
        instead="copy the blobs to names without that slash (docs/storage.md, azure)",
        harmless=("false", ""),
    ),
    _honoured("storage.oss.accesskeyid"),
    _honoured("storage.oss.accesskeysecret"),
    _honoured("storage.oss.region"),
    _honoured(
        "storage.oss.bucket",
        "the driver uses OSS's S3-compatible API, and was not tested with Alibaba's service",
    ),
    _honoured("storage.oss.endpoint"),
    _honoured("storage.oss.internal"),
    _honoured("storage.oss.rootdirectory"),
    _honoured("storage.oss.encrypt"),
    _honoured("storage.oss.secure"),
    _honoured("storage.oss.chunksize", "5M to 512M"),
    _honoured("storage.delete.enabled"),
    _honoured(
        "storage.redirect.disable",
        "if the key is false, GETs of blobs above 64 KiB in a bucket are redirected",
    ),
    _ineffective("storage.cache.blobdescriptor", _LOOKED_UP),
    _ineffective("storage.cache.blobdescriptorsize", _LOOKED_UP),
    _ineffective("storage.cache.layerinfo", _LOOKED_UP),
    _ineffective(
        "storage.tag.concurrencylimit",
        "tags are read one after another; 10,000 tags on a disk take half a second",
    ),
    _honoured(
        "storage.maintenance.readonly.enabled",
        "content that is pulled from upstreams is still stored",
    ),
    _honoured("storage.maintenance.uploadpurging.enabled"),
    _honoured(
        "storage.maintenance.uploadpurging.age",
        "the age is the time since the upload received its last byte",
    ),
    _honoured("storage.maintenance.uploadpurging.interval"),
    _honoured("storage.maintenance.uploadpurging.dryrun"),
    DistributionKey(
        "storage.s3aws.**",
        KeySupport.REFUSED,
        "another name of storage.s3",
        instead="write storage.s3",
    ),
    DistributionKey(
        "storage.gcs.**",
        KeySupport.REFUSED,
        "the driver is not implemented, because it could not be tested",
        instead="use another driver (docs/storage.md)",
    ),
    *(
        DistributionKey(
            f"storage.{driver}.**",
            KeySupport.REFUSED,
            _NO_DRIVER,
            instead=f"use storage.s3 with the S3 gateway of {system}: set regionendpoint and"
            " forcepathstyle",
        )
        for driver, system in (("rados", "Ceph"), ("swift", "Swift"))
    ),
    _honoured("auth.htpasswd.realm"),
    _honoured(
        "auth.htpasswd.path",
        "only bcrypt is accepted; a missing file is an error, and no password is generated",
    ),
    _honoured("auth.none.**", "the registry is open to all, as without the key"),
    _honoured("auth.silly.realm", "auth.silly protects nothing, as in docker distribution"),
    _honoured("auth.silly.service"),
    _honoured("auth.token.realm"),
    _honoured("auth.token.service"),
    _honoured("auth.token.issuer"),
    _honoured("auth.token.rootcertbundle", "changes take effect without a restart"),
    _honoured("auth.token.jwks", "changes take effect without a restart"),
    _honoured("auth.token.signingalgorithms", "HS256, HS384 and HS512 are never accepted"),
    _honoured("auth.token.signingalgorithms.*", "an environment variable can set a single entry"),
    _honoured("auth.token.autoredirect"),
    _honoured("auth.token.autoredirectpath"),
    _honoured("middleware.registry", _PACKAGE),
    _honoured("middleware.registry.**", "an environment variable can set a single key of an entry"),
    _honoured("middleware.repository", _PACKAGE),
    _honoured(
        "middleware.repository.**", "an environment variable can set a single key of an entry"
    ),
    _honoured(
        "middleware.storage", "redirect and cloudfront are implemented; every other name is refused"
    ),
    _honoured("middleware.storage.**", "an environment variable can set a single key of an entry"),
    _honoured("reporting.bugsnag.apikey", _EXTRA),
    _honoured("reporting.bugsnag.releasestage"),
    _honoured("reporting.bugsnag.endpoint"),
    _honoured("reporting.newrelic.licensekey", _EXTRA),
    _honoured("reporting.newrelic.name", "the default is entrepot"),
    _honoured("reporting.newrelic.verbose"),
    _honoured("http.addr"),
    _honoured("http.net", "tcp and unix"),
    _honoured(
        "http.prefix", "the headers Location and Link and the token's realm also contain the prefix"
    ),
    _honoured("http.host", "Location begins with this URL; http.prefix is not added to it"),
    _honoured(
        "http.secret", "upload URLs have no signed state; every worker can continue an upload"
    ),
    _honoured("http.relativeurls", "the default is true; distribution's default is false"),
    _honoured("http.draintimeout", "the default is 4s"),
    _honoured("http.tls.certificate"),
    _honoured("http.tls.key", "the private key may be in the certificate's file"),
    _honoured("http.tls.clientcas", "changes take effect without a restart"),
    _honoured("http.tls.clientcas.*", "an environment variable can set a single entry of the list"),
    _honoured("http.tls.clientauth", "the four values of distribution 3.x are accepted"),
    _honoured("http.tls.minimumtls", "tls1.0 to tls1.3"),
    _honoured(
        "http.tls.ciphersuites",
        "the suites have Go's names; if the list has suites of TLS 1.3, no other suites of TLS 1.3"
        " are offered",
    ),
    _honoured(
        "http.tls.ciphersuites.*", "an environment variable can set a single entry of the list"
    ),
    DistributionKey(
        "http.tls.letsencrypt.**",
        KeySupport.REFUSED,
        "the appliance requests no certificates",
        instead="let certbot renew certificates in a folder that is mounted as /certs",
        harmless=("",),
    ),
    _honoured(
        "http.debug.addr", "/debug/health and /debug/vars are served; /debug/pprof has no profiles"
    ),
    _honoured("http.debug.prometheus.enabled", "http.addr serves the metrics at /metrics as well"),
    _honoured("http.debug.prometheus.path"),
    _honoured("http.headers", "every response carries these headers, even an error response"),
    _honoured("http.headers.*", "an environment variable can set a single header"),
    _honoured("http.http2.disabled"),
    _honoured(
        "http.h2c.enabled", "HTTP/2 without TLS is always on, for clients with prior knowledge"
    ),
    _honoured("notifications.events.includereferences"),
    _honoured(
        "notifications.endpoints", "events are queued on disk, and each endpoint gets them in order"
    ),
    _honoured(
        "notifications.endpoints.**", "an environment variable can set a single key of an endpoint"
    ),
    _ineffective("redis.**", _NO_REDIS),
    _honoured("health.storagedriver.enabled", "the check also fails if the disk does not respond"),
    _honoured("health.storagedriver.interval"),
    _honoured("health.storagedriver.threshold"),
    _honoured("health.file"),
    _honoured("health.file.*.**", "an environment variable can set a single key of a check"),
    _honoured("health.http", "the default timeout is 10s; distribution has no timeout"),
    _honoured("health.http.*.**", "an environment variable can set a single key of a check"),
    _honoured("health.tcp", "the default timeout is 10s; distribution has no timeout"),
    _honoured("health.tcp.*.**", "an environment variable can set a single key of a check"),
    _honoured("catalog.maxentries", "the default is 1000; without ?n= a page has 100 entries"),
    _honoured("tags.maxtags", "the default is 1000; without ?n= a page has all tags"),
    _honoured("proxy.remoteurl", "the key declares an upstream and makes it the default"),
    _honoured("proxy.username"),
    _honoured("proxy.password"),
    _honoured(
        "proxy.ttl",
        "the same as CLEANER_TTL, which takes precedence; the time starts at the last use of "
        "the content",
    ),
    _honoured("proxy.exec.command"),
    _honoured("proxy.exec.lifetime"),
    _ineffective(
        "proxy.cachewritetimeout",
        "no write hangs: a download ends if its sources send nothing for ENTREPOT_READ_TIMEOUT",
        instead="set ENTREPOT_READ_TIMEOUT",
    ),
    _ineffective(
        "compatibility.schema1.enabled",
        "the appliance neither produces nor converts schema 1",
        "false",
        instead="convert schema 1 images with skopeo copy",
    ),
    _ineffective(
        "compatibility.schema1.signingkeyfile",
        "the appliance neither produces nor converts schema 1",
    ),
    _honoured("validation.enabled", "if the key is true, validation.disabled has no effect"),
    _honoured("validation.disabled"),
    _honoured(
        "validation.manifests.urls.allow", "any URL is allowed if there is no validation section"
    ),
    _honoured(
        "validation.manifests.urls.allow.*", "an environment variable can set a single entry"
    ),
    _honoured("validation.manifests.urls.deny"),
    _honoured("validation.manifests.urls.deny.*", "an environment variable can set a single entry"),
    _honoured("validation.manifests.indexes.platforms"),
    _honoured("validation.manifests.indexes.platformlist"),
    _honoured(
        "validation.manifests.indexes.platformlist.*.*",
        "an environment variable can set a single key of an entry",
    ),
    _honoured("policy.repository.classes", "image and plugin"),
    _honoured("policy.repository.classes.*", "an environment variable can set a single entry"),
)

DRIVERS: Final = frozenset(
    {"filesystem", "azure", "gcs", "inmemory", "oss", "rados", "s3", "s3aws", "swift"}
)
IMPLEMENTED: Final = frozenset({"azure", "filesystem", "inmemory", "oss", "s3"})
"""The storage drivers that an operator can select; every other driver is refused."""
SCHEMES: Final = frozenset({"htpasswd", "none", "silly", "token"})
