"""Test the variables of haproxy.cfg for the settings of `http:`."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from entrepot.appliance.supervise.http_environment import http_variables
from entrepot.config.distribution import ROWS, KeySupport
from entrepot.config.http_settings import HttpSettings


def _variables(**given: Any) -> dict[str, str]:
    every = http_variables(HttpSettings.from_tree(given))
    return {name.removeprefix("ENTREPOT_"): value for name, value in every.items()}


_USUAL = {"TLS_MIN": "TLSv1.2"}


def test_the_defaults_of_haproxy_cfg_need_no_variables() -> None:
    """With default settings, haproxy.cfg gets only the variable of the oldest TLS version."""
    assert _variables() == _USUAL


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({"minimumtls": "tls1.3"}, {"TLS_MIN": "TLSv1.3"}),
        ({"ciphersuites": ["TLS_AES_256_GCM_SHA384"]}, {"TLS_MIN": "TLSv1.3"}),
        (
            {"ciphersuites": ["TLS_RSA_WITH_AES_128_CBC_SHA"], "minimumtls": "tls1.0"},
            {"TLS_MIN": "TLSv1.0", "CIPHERS": "AES128-SHA:@SECLEVEL=0"},
        ),
        (
            {"ciphersuites": ["TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256"]},
            {"TLS_MIN": "TLSv1.2", "CIPHERS": "ECDHE-RSA-AES128-GCM-SHA256"},
        ),
    ],
    ids=["minimum", "only TLS 1.3", "old", "TLS 1.2"],
)
def test_go_names_of_cipher_suites_become_those_of_openssl(
    given: dict[str, Any], expected: dict[str, str]
) -> None:
    """Go's names of cipher suites are translated to OpenSSL's.

    If no configured suite belongs to TLS 1.2, HAProxy does not accept TLS 1.2; servers in Go behave
    in the same way.
    """
    found = _variables(tls=given)

    assert expected.items() <= found.items()
    assert found.get("CIPHERSUITES") == (
        "TLS_AES_256_GCM_SHA384" if "AES_256" in str(given) else None
    )


@pytest.mark.parametrize(
    ("mode", "certificate", "check"),
    [
        ("request-client-cert", "optional", "no"),
        ("require-any-client-cert", "required", "no"),
        ("verify-client-cert-if-given", "optional", "yes"),
        ("require-and-verify-client-cert", "required", "yes"),
    ],
)
def test_each_client_auth_mode_has_its_variables(mode: str, certificate: str, check: str) -> None:
    """Each value of `clientauth` sets whether a client certificate is required, and verified."""
    found = _variables(tls={"clientcas": ["/ca.pem"], "clientauth": mode})

    assert (certificate, check) == (found["CLIENT_CERT"], found["CLIENT_CHECK"])


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, None),
        ({"relativeurls": "false"}, "request"),
        ({"host": "https://a.test"}, "https://a.test"),
        ({"host": "https://a.test", "prefix": "/r/"}, "https://a.test"),
        ({"host": "https://a.test/x/", "prefix": "/r/"}, "https://a.test/x"),
    ],
)
def test_urls_begin_with_the_host_the_request_or_nothing(
    given: dict[str, Any], expected: str | None
) -> None:
    """If `http.host` is set, the URLs in responses begin with it, without `http.prefix`.

    Docker distribution does the same, because a proxy in front may add the prefix.
    """
    assert _variables(**given).get("URLS") == expected


def test_a_header_has_its_values_on_one_line_in_haproxys_notation() -> None:
    """A configured header has its values on one line in HAProxy's notation.

    A percent sign is doubled, because a single one would begin an expression of HAProxy.
    """
    found = _variables(headers={"X-A": ["50%", "b"]}, http2={"disabled": "true"})

    assert found == _USUAL | {"HEADER1": "X-A", "HEADER1_VALUE": "50%%, b", "ALPN": "http/1.1"}


def test_the_origin_and_its_methods_are_those_of_the_headers() -> None:
    """The CORS origin and the allowed methods are those of the configured headers.

    If no header configures methods, a page may only use GET.
    """
    origin = "access-control-allow-origin"
    methods = "Access-Control-Allow-Methods"

    found = _variables(headers={origin: ["*"], methods: ["HEAD, get", "DELETE"]})
    assert (found["ORIGIN"], found["METHODS"]) == ("any", "HEAD GET DELETE")
    alone = _variables(headers={origin: ["http://a.test"]})
    assert (alone["ORIGIN"], alone["METHODS"]) == ("http://a.test", "GET")


_OTHER_VALUES = {
    "http.addr": ("127.0.0.1:5002", "listen_address.bindable"),
    "http.net": ("unix", "LISTENER"),
    "http.prefix": ("/r/", "PREFIX"),
    "http.host": ("https://a.test", "URLS"),
    "http.secret": ("s", "uploads carry no signed state"),
    "http.relativeurls": ("false", "URLS"),
    "http.draintimeout": ("9s", "environment.variables"),
    "http.tls.certificate": ("/c.pem", "certificate.write_pem"),
    "http.tls.key": ("/k.pem", "certificate.write_pem"),
    "http.tls.clientcas": (["/ca.pem"], "CLIENT_CERT"),
    "http.tls.clientauth": ("request-client-cert", "CLIENT_CHECK"),
    "http.tls.minimumtls": ("tls1.3", "TLS_MIN"),
    "http.tls.ciphersuites": (["TLS_AES_128_GCM_SHA256"], "CIPHERSUITES"),
    "http.debug.addr": ("127.0.0.1:5003", "listen_address.bindable"),
    "http.debug.prometheus.enabled": ("true", "DEBUG_METRICS"),
    "http.debug.prometheus.path": ("/m", "DEBUG_METRICS"),
    "http.headers": ({"X-A": ["a"]}, "HEADER1"),
    "http.http2.disabled": ("true", "ALPN"),
    "http.h2c.enabled": ("true", "always accepted"),
}
"""For each key of `http:` that has an effect, a value other than the default, and the effect.

Words in capitals are variables of haproxy.cfg. Other words name the function that reads the
setting, or the reason why the key needs no variable.
"""
_TOGETHER: dict[str, dict[str, Any]] = {
    "http.tls.clientauth": {"tls": {"clientcas": ["/ca.pem"]}},
    "http.debug.prometheus.enabled": {"debug": {"addr": "127.0.0.1:1"}},
    "http.debug.prometheus.path": {
        "debug": {"addr": "127.0.0.1:1", "prometheus": {"enabled": "true"}}
    },
}


def test_each_key_of_http_in_docker_distribution_has_an_effect() -> None:
    """An honoured key changes a variable of haproxy.cfg, or another program reads the key."""
    honoured = {
        row.key
        for row in ROWS
        if row.key.startswith("http.") and row.verdict is KeySupport.HONOURED
    }
    assert {each for each in honoured if not each.endswith(".*")} == _OTHER_VALUES.keys()

    for key, (value, effect) in _OTHER_VALUES.items():
        if not effect.replace("_", "").rstrip("1").isupper():
            continue
        before = _TOGETHER.get(key, {})
        assert _variables(**before).get(effect) != _variables(**_with(before, key, value))[effect]


def _with(before: dict[str, Any], key: str, value: object) -> dict[str, Any]:
    """Return the settings *before* with one more key."""
    whole = copy.deepcopy(before)
    *above, last = key.split(".")[1:]
    below = whole
    for each in above:
        below = below.setdefault(each, {})
    below[last] = value
    return whole
