"""Define the settings of `http:`: addresses, URLs, TLS, response headers, debug address."""

from __future__ import annotations

import os
from typing import Final

from entrepot.config import value_types
from entrepot.config.section import Section, section, setting
from entrepot.config.value_types import MOST_THREADS, MOST_WORKERS

_FEWEST_WORKERS: Final = 2


def workers_here() -> int:
    """Return the default number of workers: one for each usable CPU core, from 2 to 16."""
    return min(MOST_WORKERS, max(_FEWEST_WORKERS, len(os.sched_getaffinity(0))))


def threads_here() -> int:
    """Return the default number of HAProxy's threads: one for every two usable CPU cores.

    The workers need the other cores.
    """
    return min(MOST_THREADS, max(1, len(os.sched_getaffinity(0)) // 2))


class TlsSettings(Section):
    """The settings of `http.tls:`."""

    certificate: value_types.MaybeFile = setting(
        None,
        "a PEM file with the certificate and its chain",
        shown="/certs/certs.pem, if it exists",
    )
    key: value_types.MaybeFile = setting(
        None, "a PEM file with the private key", shown="the certificate's file"
    )
    clientcas: value_types.Files = setting(
        (),
        "PEM files of the CAs that sign client certificates; changes take effect without a restart",
    )
    clientauth: value_types.ClientAuth = setting(
        "require-and-verify-client-cert",
        "whether clients need a certificate if clientcas is set: request-client-cert,"
        " require-any-client-cert, verify-client-cert-if-given or require-and-verify-client-cert",
    )
    minimumtls: value_types.TlsVersion = setting(
        "tls1.2", "the oldest accepted version of TLS: tls1.0, tls1.1, tls1.2 or tls1.3"
    )
    ciphersuites: value_types.CipherSuites = setting(
        (),
        "the accepted cipher suites, named as in the programming language Go",
        shown="the suites with forward secrecy and authenticated encryption",
    )


class PrometheusSettings(Section):
    """The settings of `http.debug.prometheus:`."""

    enabled: value_types.Switch = setting("false", "whether http.debug.addr serves metrics")
    path: value_types.UrlPath = setting("/metrics", "the path of the metrics at http.debug.addr")


class DebugSettings(Section):
    """The settings of `http.debug:`."""

    addr: value_types.MaybeListen = setting(
        None,
        "a second address, host:port, which serves /debug/health and /debug/vars without a login",
        shown="none: off",
    )
    prometheus: PrometheusSettings = section(PrometheusSettings)


class Http2Settings(Section):
    """The settings of `http.http2:`."""

    disabled: value_types.Switch = setting("false", "true: TLS clients are offered only HTTP/1.1")


class HttpSettings(Section):
    """The settings of `http:`."""

    net: value_types.Net = setting("tcp", "the kind of address in http.addr: tcp or unix")
    addr: value_types.Listen = setting(
        "127.0.0.1:5000",
        "the address and port on which to listen; with http.net: unix, the absolute path of a "
        "socket",
        shown=":8443 with a certificate; else :5000 in the image, 127.0.0.1:5000 outside",
    )
    prefix: value_types.Prefix = setting(
        "/", "the path below which the API is available: /path/ for /path/v2/"
    )
    host: value_types.MaybeBaseUrl = setting(
        None,
        "the URL by which clients reach the appliance; every absolute URL in responses begins with "
        "it",
        shown="none: the URL of the request",
    )
    relativeurls: value_types.Switch = setting(
        "true", "whether a Location header has only a path; no effect if http.host is set"
    )
    headers: value_types.ResponseHeaders = setting(
        {},
        "headers that every response gets: a map of header names to lists of values",
        shown="none",
    )
    tls: TlsSettings = section(TlsSettings)
    http2: Http2Settings = section(Http2Settings)
    debug: DebugSettings = section(DebugSettings)
    draintimeout: value_types.Span = setting(
        "4s",
        "how long running pulls and pushes may continue after the appliance gets a stop signal;"
        " podman and docker kill a container after 10 s",
    )
    workers: value_types.Workers = setting(
        workers_here,
        "the number of worker processes, 1 to 16",
        env="ENTREPOT_WORKERS",
        shown="one for each core, at least 2",
    )
    threads: value_types.Threads = setting(
        threads_here,
        "the number of HAProxy's threads, 1 to 4; with http.net: unix, always 1",
        env="ENTREPOT_THREADS",
        shown="one for every two cores",
    )
    edgecache: value_types.Switch = setting(
        "on",
        "whether HAProxy caches small, complete responses in memory",
        env="ENTREPOT_EDGE_CACHE",
    )
    edgecachesize: value_types.EdgeCacheSize = setting(
        "4M",
        "the size of HAProxy's cache, 1M to 1G in whole MiB; HAProxy allocates all of it at the"
        " start",
        env="ENTREPOT_EDGE_CACHE_SIZE",
    )
