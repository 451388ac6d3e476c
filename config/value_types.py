"""Define the types of settings: each type combines a Python type, its reader and its unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from entrepot.config import (
    access,
    ciphers,
    health,
    hosted,
    notifications,
    readers,
    response_headers,
    signing_algorithms,
    units,
)
from entrepot.config.access import AccessRule
from entrepot.config.address import (
    Address,
    SocketPath,
    address,
    base_url,
    cloud_domain,
    prefix,
    realm_url,
    registry_host,
    registry_url,
    service_url,
    tcp_address,
    url_path,
)
from entrepot.config.hosted import HostedRule
from entrepot.config.notifications import NotificationEndpoint
from entrepot.config.readers import optional
from entrepot.config.section import Reader, Writer

# The file haproxy.cfg lists the sockets of this many workers.
MOST_WORKERS: Final = 16
# The file haproxy.cfg has this many frontends, one for each thread of HAProxy.
MOST_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class ValueUnit:
    """A `ValueUnit` is the unit of a setting's value in `Settings`, which messages show."""

    name: str


BYTES = ValueUnit("bytes")
SECONDS = ValueUnit("s")
PER_CENT = ValueUnit("%")

Size = Annotated[int, Reader(units.size), BYTES]
Span = Annotated[float, Reader(units.span), SECONDS]
LongerSpan = Annotated[float, Reader(units.longer_span), SECONDS]
Percentage = Annotated[int, Reader(units.percentage), PER_CENT]
Workers = Annotated[int, Reader(readers.count(1, MOST_WORKERS, such_as=2))]
Threads = Annotated[int, Reader(readers.count(1, MOST_THREADS, such_as=2))]
EdgeCacheSize = Annotated[int, Reader(units.edge_cache_size), BYTES]
Layers = Annotated[int, Reader(readers.count(0, 64, such_as=3))]
Lanes = Annotated[int, Reader(readers.count(1, 16, such_as=4))]
Bodies = Annotated[int, Reader(readers.count(1, 512, such_as=176))]
Many = Annotated[int, Reader(readers.count(1, 100_000, such_as=1000))]
PageSize = Annotated[int, Reader(readers.page_size)]
Switch = Annotated[bool, Reader(readers.switch)]
Text = Annotated[str, Reader(readers.text)]
File = Annotated[Path, Reader(readers.path)]
PartSize = Annotated[int, Reader(units.size_between(5 * 2**20, 512 * 2**20)), BYTES]
_AZURE_LOGIN = readers.choice("shared_key", "client_secret", "default_credentials")
AzureLogin = Annotated[
    Literal["shared_key", "client_secret", "default_credentials"],
    Reader(readers.or_default(_AZURE_LOGIN, "shared_key")),
]
Realm = Annotated[str, Reader(readers.or_default(cloud_domain, "core.windows.net"))]
MaybeServiceUrl = Annotated[str | None, Reader(optional(service_url))]
StorageClass = Annotated[str, Reader(readers.storage_class)]
Words = Annotated[tuple[str, ...], Reader(readers.words)]
Host = Annotated[str, Reader(registry_host)]
SigningAlgorithms = Annotated[tuple[str, ...], Reader(signing_algorithms.algorithms)]
Files = Annotated[
    tuple[Path, ...],
    Reader(lambda given: tuple(readers.path(each) for each in readers.words(given))),
]
Listen = Annotated[Address | SocketPath, Reader(address), Writer(str)]
MaybeListen = Annotated[
    Address | None,
    Reader(optional(tcp_address)),
    Writer(lambda given: given and str(given)),
]
_NET = readers.or_default(readers.choice("tcp", "unix"), "tcp")
Net = Annotated[
    Literal["tcp", "unix"],
    Reader(readers.or_default(readers.choice("tcp", "unix"), "tcp")),
]
Prefix = Annotated[str, Reader(prefix)]
UrlPath = Annotated[str, Reader(url_path)]
MaybeBaseUrl = Annotated[str | None, Reader(optional(base_url))]
ResponseHeaders = Annotated[dict[str, tuple[str, ...]], Reader(response_headers.headers)]
CipherSuites = Annotated[tuple[str, ...], Reader(ciphers.suites)]
_VERSIONS = readers.choice(*ciphers.VERSIONS)
TlsVersion = Annotated[
    Literal["tls1.0", "tls1.1", "tls1.2", "tls1.3"],
    Reader(readers.or_default(_VERSIONS, "tls1.2")),
]
_CLIENT_AUTH = readers.choice(
    "require-and-verify-client-cert",
    "require-any-client-cert",
    "verify-client-cert-if-given",
    "request-client-cert",
)
ClientAuth = Annotated[
    Literal[
        "require-and-verify-client-cert",
        "require-any-client-cert",
        "verify-client-cert-if-given",
        "request-client-cert",
    ],
    Reader(readers.or_default(_CLIENT_AUTH, "require-and-verify-client-cert")),
]
Urls = Annotated[
    tuple[str, ...],
    Reader(lambda given: tuple(registry_url(each) for each in readers.words(given))),
]

Redirects = Annotated[tuple[str, ...], Reader(readers.redirects)]
MaybeRedirects = Annotated[tuple[str, ...] | None, Reader(optional(readers.redirects))]

MaybeText = Annotated[str | None, Reader(optional(readers.text))]
MaybeFile = Annotated[Path | None, Reader(optional(readers.path))]
FileOrAbsent = Annotated[Path | None, Reader(readers.unless_absent(readers.path))]
AccessRules = Annotated[tuple[AccessRule, ...] | None, Reader(access.rules)]
HostedRules = Annotated[tuple[HostedRule, ...], Reader(hosted.rules), Writer(hosted.as_map)]
CheckInterval = Annotated[float, Reader(health.interval), SECONDS]
CheckThreshold = Annotated[int, Reader(health.threshold)]
FileChecks = Annotated[tuple[health.FileCheck, ...], Reader(health.file_checks)]
HttpChecks = Annotated[tuple[health.HttpCheck, ...], Reader(health.http_checks)]
TcpChecks = Annotated[tuple[health.TcpCheck, ...], Reader(health.tcp_checks)]
Endpoints = Annotated[
    tuple[NotificationEndpoint, ...],
    Reader(notifications.endpoints),
    Writer(notifications.as_list),
]
Users = Annotated[dict[str, str] | None, Reader(access.users)]
MaybeUrl = Annotated[str | None, Reader(optional(registry_url))]
MaybeRealm = Annotated[str | None, Reader(optional(realm_url))]
MaybeHost = Annotated[str | None, Reader(optional(registry_host))]
MaybeSpan = Annotated[float | None, Reader(optional(units.span)), SECONDS]
MaybeLongerSpan = Annotated[float | None, Reader(optional(units.longer_span)), SECONDS]
SpanOrNone = Annotated[float | None, Reader(optional(units.span, "none")), SECONDS]

Version = Annotated[Literal["0.1"], Reader(readers.choice("0.1"))]
Level = Annotated[
    Literal["info", "error", "warn", "debug"],
    Reader(readers.log_level),
]
Formatter = Annotated[
    Literal["text", "json", "logstash"],
    Reader(readers.choice("text", "json", "logstash")),
]
Anonymous = Annotated[Literal["none", "pull"], Reader(readers.choice("none", "pull"))]
Takeover = Annotated[
    Literal["auto", "evict", "keep"], Reader(readers.choice("auto", "evict", "keep"))
]
OnGone = Annotated[Literal["refuse", "serve"], Reader(readers.choice("refuse", "serve"))]
_RANGES = readers.choice("auto", "verified", "early")
Ranges = Annotated[Literal["auto", "verified", "early"], Reader(_RANGES)]
MaybeRanges = Annotated[Literal["auto", "verified", "early"] | None, Reader(optional(_RANGES))]
MaybeOnGone = Annotated[
    Literal["refuse", "serve"] | None,
    Reader(optional(readers.choice("refuse", "serve"))),
]
