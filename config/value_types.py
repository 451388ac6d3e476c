"""Define the types of settings: each combines a Python type, a function to read it, and a unit."""

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
from entrepot.config.section import ReadBy, WrittenBy

# The file haproxy.cfg lists the sockets of this many workers.
MOST_WORKERS: Final = 16
# The file haproxy.cfg defines this many frontends, one for each thread of HAProxy.
MOST_THREADS: Final = 4


@dataclass(frozen=True, slots=True)
class ValueUnit:
    """A `ValueUnit` is the unit of a setting's value in `Settings`."""

    name: str


BYTES = ValueUnit("bytes")
SECONDS = ValueUnit("s")
PER_CENT = ValueUnit("%")

Size = Annotated[int, ReadBy(units.size), BYTES]
Span = Annotated[float, ReadBy(units.span), SECONDS]
LongerSpan = Annotated[float, ReadBy(units.longer_span), SECONDS]
Percentage = Annotated[int, ReadBy(units.percentage), PER_CENT]
Workers = Annotated[int, ReadBy(readers.count(1, MOST_WORKERS, such_as=2))]
Threads = Annotated[int, ReadBy(readers.count(1, MOST_THREADS, such_as=2))]
EdgeCacheSize = Annotated[int, ReadBy(units.edge_cache_size), BYTES]
Layers = Annotated[int, ReadBy(readers.count(0, 64, such_as=3))]
Lanes = Annotated[int, ReadBy(readers.count(1, 16, such_as=4))]
Bodies = Annotated[int, ReadBy(readers.count(1, 512, such_as=176))]
Many = Annotated[int, ReadBy(readers.count(1, 100_000, such_as=1000))]
PageSize = Annotated[int, ReadBy(readers.page_size)]
Switch = Annotated[bool, ReadBy(readers.switch)]
Text = Annotated[str, ReadBy(readers.text)]
File = Annotated[Path, ReadBy(readers.path)]
PartSize = Annotated[int, ReadBy(units.size_between(5 * 2**20, 512 * 2**20)), BYTES]
_AZURE_LOGIN = readers.choice("shared_key", "client_secret", "default_credentials")
AzureLogin = Annotated[
    Literal["shared_key", "client_secret", "default_credentials"],
    ReadBy(readers.or_default(_AZURE_LOGIN, "shared_key")),
]
Realm = Annotated[str, ReadBy(readers.or_default(cloud_domain, "core.windows.net"))]
MaybeServiceUrl = Annotated[str | None, ReadBy(optional(service_url))]
StorageClass = Annotated[str, ReadBy(readers.storage_class)]
Words = Annotated[tuple[str, ...], ReadBy(readers.words)]
Host = Annotated[str, ReadBy(registry_host)]
SigningAlgorithms = Annotated[tuple[str, ...], ReadBy(signing_algorithms.algorithms)]
Files = Annotated[
    tuple[Path, ...],
    ReadBy(lambda given: tuple(readers.path(each) for each in readers.words(given))),
]
Listen = Annotated[Address | SocketPath, ReadBy(address), WrittenBy(str)]
MaybeListen = Annotated[
    Address | None,
    ReadBy(optional(tcp_address)),
    WrittenBy(lambda given: given and str(given)),
]
Net = Annotated[
    Literal["tcp", "unix"],
    ReadBy(readers.or_default(readers.choice("tcp", "unix"), "tcp")),
]
Prefix = Annotated[str, ReadBy(prefix)]
UrlPath = Annotated[str, ReadBy(url_path)]
MaybeBaseUrl = Annotated[str | None, ReadBy(optional(base_url))]
ResponseHeaders = Annotated[dict[str, tuple[str, ...]], ReadBy(response_headers.headers)]
CipherSuites = Annotated[tuple[str, ...], ReadBy(ciphers.suites)]
_VERSIONS = readers.choice(*ciphers.VERSIONS)
TlsVersion = Annotated[
    Literal["tls1.0", "tls1.1", "tls1.2", "tls1.3"],
    ReadBy(readers.or_default(_VERSIONS, "tls1.2")),
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
    ReadBy(readers.or_default(_CLIENT_AUTH, "require-and-verify-client-cert")),
]
Urls = Annotated[
    tuple[str, ...],
    ReadBy(lambda given: tuple(registry_url(each) for each in readers.words(given))),
]

Redirects = Annotated[tuple[str, ...], ReadBy(readers.redirects)]
MaybeRedirects = Annotated[tuple[str, ...] | None, ReadBy(optional(readers.redirects))]

MaybeText = Annotated[str | None, ReadBy(optional(readers.text))]
MaybeFile = Annotated[Path | None, ReadBy(optional(readers.path))]
FileOrAbsent = Annotated[Path | None, ReadBy(readers.unless_absent(readers.path))]
AccessRules = Annotated[tuple[AccessRule, ...] | None, ReadBy(access.rules)]
HostedRules = Annotated[tuple[HostedRule, ...], ReadBy(hosted.rules), WrittenBy(hosted.as_map)]
CheckInterval = Annotated[float, ReadBy(health.interval), SECONDS]
CheckThreshold = Annotated[int, ReadBy(health.threshold)]
FileChecks = Annotated[tuple[health.FileCheck, ...], ReadBy(health.file_checks)]
HttpChecks = Annotated[tuple[health.HttpCheck, ...], ReadBy(health.http_checks)]
TcpChecks = Annotated[tuple[health.TcpCheck, ...], ReadBy(health.tcp_checks)]
Endpoints = Annotated[
    tuple[NotificationEndpoint, ...],
    ReadBy(notifications.endpoints),
    WrittenBy(notifications.as_list),
]
Users = Annotated[dict[str, str] | None, ReadBy(access.users)]
MaybeUrl = Annotated[str | None, ReadBy(optional(registry_url))]
MaybeRealm = Annotated[str | None, ReadBy(optional(realm_url))]
MaybeHost = Annotated[str | None, ReadBy(optional(registry_host))]
MaybeSpan = Annotated[float | None, ReadBy(optional(units.span)), SECONDS]
MaybeLongerSpan = Annotated[float | None, ReadBy(optional(units.longer_span)), SECONDS]
SpanOrNone = Annotated[float | None, ReadBy(optional(units.span, "none")), SECONDS]

Version = Annotated[Literal["0.1"], ReadBy(readers.choice("0.1"))]
Level = Annotated[
    Literal["info", "error", "warn", "debug"],
    ReadBy(readers.log_level),
]
Formatter = Annotated[
    Literal["text", "json", "logstash"],
    ReadBy(readers.choice("text", "json", "logstash")),
]
Anonymous = Annotated[Literal["none", "pull"], ReadBy(readers.choice("none", "pull"))]
Takeover = Annotated[
    Literal["auto", "evict", "keep"], ReadBy(readers.choice("auto", "evict", "keep"))
]
OnGone = Annotated[Literal["refuse", "serve"], ReadBy(readers.choice("refuse", "serve"))]
_RANGES = readers.choice("auto", "verified", "early")
Ranges = Annotated[Literal["auto", "verified", "early"], ReadBy(_RANGES)]
MaybeRanges = Annotated[Literal["auto", "verified", "early"] | None, ReadBy(optional(_RANGES))]
MaybeOnGone = Annotated[
    Literal["refuse", "serve"] | None,
    ReadBy(optional(readers.choice("refuse", "serve"))),
]
