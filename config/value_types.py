"""Define the types of settings: each type combines a Python type, its reader and its unit."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import BeforeValidator, PlainSerializer

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

Size = Annotated[int, BeforeValidator(units.size), BYTES]
Span = Annotated[float, BeforeValidator(units.span), SECONDS]
LongerSpan = Annotated[float, BeforeValidator(units.longer_span), SECONDS]
Percentage = Annotated[int, BeforeValidator(units.percentage), PER_CENT]
Workers = Annotated[int, BeforeValidator(readers.count(1, MOST_WORKERS, such_as=2))]
Threads = Annotated[int, BeforeValidator(readers.count(1, MOST_THREADS, such_as=2))]
EdgeCacheSize = Annotated[int, BeforeValidator(units.edge_cache_size), BYTES]
Layers = Annotated[int, BeforeValidator(readers.count(0, 64, such_as=3))]
Lanes = Annotated[int, BeforeValidator(readers.count(1, 16, such_as=4))]
Bodies = Annotated[int, BeforeValidator(readers.count(1, 512, such_as=176))]
Many = Annotated[int, BeforeValidator(readers.count(1, 100_000, such_as=1000))]
PageSize = Annotated[int, BeforeValidator(readers.page_size)]
Switch = Annotated[bool, BeforeValidator(readers.switch)]
Text = Annotated[str, BeforeValidator(readers.text)]
File = Annotated[Path, BeforeValidator(readers.path)]
PartSize = Annotated[int, BeforeValidator(units.size_between(5 * 2**20, 512 * 2**20)), BYTES]
_AZURE_LOGIN = readers.choice("shared_key", "client_secret", "default_credentials")
AzureLogin = Annotated[
    Literal["shared_key", "client_secret", "default_credentials"],
    BeforeValidator(readers.or_default(_AZURE_LOGIN, "shared_key")),
]
Realm = Annotated[str, BeforeValidator(readers.or_default(cloud_domain, "core.windows.net"))]
MaybeServiceUrl = Annotated[str | None, BeforeValidator(optional(service_url))]
StorageClass = Annotated[str, BeforeValidator(readers.storage_class)]
Words = Annotated[tuple[str, ...], BeforeValidator(readers.words)]
Host = Annotated[str, BeforeValidator(registry_host)]
SigningAlgorithms = Annotated[tuple[str, ...], BeforeValidator(signing_algorithms.algorithms)]
Files = Annotated[
    tuple[Path, ...],
    BeforeValidator(lambda given: tuple(readers.path(each) for each in readers.words(given))),
]
Listen = Annotated[
    Address | SocketPath, BeforeValidator(address), PlainSerializer(str, return_type=str)
]
MaybeListen = Annotated[
    Address | None,
    BeforeValidator(optional(tcp_address)),
    PlainSerializer(lambda given: given and str(given), return_type=str | None),
]
_NET = readers.or_default(readers.choice("tcp", "unix"), "tcp")
Net = Annotated[
    Literal["tcp", "unix"],
    BeforeValidator(readers.or_default(readers.choice("tcp", "unix"), "tcp")),
]
Prefix = Annotated[str, BeforeValidator(prefix)]
UrlPath = Annotated[str, BeforeValidator(url_path)]
MaybeBaseUrl = Annotated[str | None, BeforeValidator(optional(base_url))]
ResponseHeaders = Annotated[dict[str, tuple[str, ...]], BeforeValidator(response_headers.headers)]
CipherSuites = Annotated[tuple[str, ...], BeforeValidator(ciphers.suites)]
_VERSIONS = readers.choice(*ciphers.VERSIONS)
TlsVersion = Annotated[
    Literal["tls1.0", "tls1.1", "tls1.2", "tls1.3"],
    BeforeValidator(readers.or_default(_VERSIONS, "tls1.2")),
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
    BeforeValidator(readers.or_default(_CLIENT_AUTH, "require-and-verify-client-cert")),
]
Urls = Annotated[
    tuple[str, ...],
    BeforeValidator(lambda given: tuple(registry_url(each) for each in readers.words(given))),
]

Redirects = Annotated[tuple[str, ...], BeforeValidator(readers.redirects)]
MaybeRedirects = Annotated[tuple[str, ...] | None, BeforeValidator(optional(readers.redirects))]

MaybeText = Annotated[str | None, BeforeValidator(optional(readers.text))]
MaybeFile = Annotated[Path | None, BeforeValidator(optional(readers.path))]
FileOrAbsent = Annotated[Path | None, BeforeValidator(readers.unless_absent(readers.path))]
AccessRules = Annotated[tuple[AccessRule, ...] | None, BeforeValidator(access.rules)]
HostedRules = Annotated[
    tuple[HostedRule, ...], BeforeValidator(hosted.rules), PlainSerializer(hosted.as_map)
]
CheckInterval = Annotated[float, BeforeValidator(health.interval), SECONDS]
CheckThreshold = Annotated[int, BeforeValidator(health.threshold)]
FileChecks = Annotated[tuple[health.FileCheck, ...], BeforeValidator(health.file_checks)]
HttpChecks = Annotated[tuple[health.HttpCheck, ...], BeforeValidator(health.http_checks)]
TcpChecks = Annotated[tuple[health.TcpCheck, ...], BeforeValidator(health.tcp_checks)]
Endpoints = Annotated[
    tuple[NotificationEndpoint, ...],
    BeforeValidator(notifications.endpoints),
    PlainSerializer(notifications.as_list),
]
Users = Annotated[dict[str, str] | None, BeforeValidator(access.users)]
MaybeUrl = Annotated[str | None, BeforeValidator(optional(registry_url))]
MaybeRealm = Annotated[str | None, BeforeValidator(optional(realm_url))]
MaybeHost = Annotated[str | None, BeforeValidator(optional(registry_host))]
MaybeSpan = Annotated[float | None, BeforeValidator(optional(units.span)), SECONDS]
MaybeLongerSpan = Annotated[float | None, BeforeValidator(optional(units.longer_span)), SECONDS]
SpanOrNone = Annotated[float | None, BeforeValidator(optional(units.span, "none")), SECONDS]

Version = Annotated[Literal["0.1"], BeforeValidator(readers.choice("0.1"))]
Level = Annotated[
    Literal["info", "error", "warn", "debug"],
    BeforeValidator(readers.log_level),
]
Formatter = Annotated[
    Literal["text", "json", "logstash"],
    BeforeValidator(readers.choice("text", "json", "logstash")),
]
Anonymous = Annotated[Literal["none", "pull"], BeforeValidator(readers.choice("none", "pull"))]
Takeover = Annotated[
    Literal["auto", "evict", "keep"], BeforeValidator(readers.choice("auto", "evict", "keep"))
]
OnGone = Annotated[Literal["refuse", "serve"], BeforeValidator(readers.choice("refuse", "serve"))]
_RANGES = readers.choice("auto", "verified", "early")
Ranges = Annotated[Literal["auto", "verified", "early"], BeforeValidator(_RANGES)]
MaybeRanges = Annotated[
    Literal["auto", "verified", "early"] | None, BeforeValidator(optional(_RANGES))
]
MaybeOnGone = Annotated[
    Literal["refuse", "serve"] | None,
    BeforeValidator(optional(readers.choice("refuse", "serve"))),
]
