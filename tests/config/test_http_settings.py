"""Test the settings of `http:`, which are read as in docker distribution or refused."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.config import ciphers
from entrepot.config.address import SocketPath
from tests.config.config_folder import ConfigFolder

_ORIGIN = "Access-Control-Allow-Origin"


# ---- http.headers


def test_headers_are_a_map_of_names_to_lists(config_folder: ConfigFolder) -> None:
    """Response headers are a map of names to lists; an empty value sets no header."""
    config_folder.write("http: {headers: {X-A: [one, two], X-B: three, X-C: [], X-D: ''}}")

    assert config_folder.settings().http.headers == {"X-A": ("one", "two"), "X-B": ("three",)}


def test_a_variable_sets_one_header_or_all(config_folder: ConfigFolder) -> None:
    """A variable sets one header or all headers; docker-registry-ui uses one for each header.

    The case of a header's name in a variable may differ from that in the file.
    """
    config_folder.write("http: {headers: {Access-Control-Allow-Origin: ['http://a'], X-B: [b]}}")
    one = {f"REGISTRY_HTTP_HEADERS_{_ORIGIN}": "[http://ui.test]"}

    found = config_folder.settings(**one).http.headers
    assert found == {"X-B": ("b",), _ORIGIN.lower(): ("http://ui.test",)}
    assert config_folder.settings(REGISTRY_HTTP_HEADERS="{X-A: [a, b]}").http.headers == {
        "X-A": ("a", "b")
    }
    assert config_folder.settings("--http.headers={X-A: a}", **one).http.headers == {"X-A": ("a",)}


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{X-A: ["a\\r\\nX-B: b"]}', "a value of X-A is not one line of ASCII text"),
        ('{X-A: ["\\u20ac"]}', "a value of X-A is not one line of ASCII text"),
        ("{X-A: [[a]]}", "a value of X-A is not one line of ASCII text"),
        (f"{{X-A: [{'a' * 4090}]}}", "more than 4096 bytes of headers"),
        ("{X'A: [a]}", 'not the name of a header: "X\'A"'),
        ("{X$A: [a]}", "not the name of a header: 'X$A'"),
        ('{"X A": [a]}', "not the name of a header: 'X A'"),
        ('{"": [a]}', "not the name of a header: ''"),
        ('{"X:": [a]}', "not the name of a header: 'X:'"),
        ("{Content-Length: ['0']}", "Content-Length is different in each response"),
        ("{docker-content-digest: [a]}", "docker-content-digest is different in each response"),
        ("{X-Entrepot-Keep: [a]}", "X-Entrepot-Keep is different in each response"),
        ("{Transfer-Encoding: [a]}", "Transfer-Encoding belongs to a connection"),
        ("{Connection: [close]}", "Connection belongs to a connection"),
        ("{X-A: [a], x-a: [b]}", "x-a is set twice"),
        ("{Docker-Distribution-Api-Version: [x]}", "is always registry/2.0"),
        ("[X-A]", "not a map of headers"),
        (f"{{{', '.join(f'X-{n}: [a]' for n in range(17))}}}", "more than 16 headers"),
    ],
)
def test_a_header_that_would_break_responses_is_refused(
    config_folder: ConfigFolder, text: str, message: str
) -> None:
    """A configured header that would break responses is refused.

    The message has one line, even if the header contains a line break.
    """
    config_folder.write(f"http: {{headers: {text}}}")

    (problem,) = config_folder.problems()
    assert message in problem
    assert "; " in problem
    assert len(problem.splitlines()) == 1


def test_the_version_header_of_the_registry_api_may_be_repeated(
    config_folder: ConfigFolder,
) -> None:
    """Docker-Distribution-Api-Version may be configured: every response has it anyway."""
    config_folder.write("http: {headers: {Docker-Distribution-Api-Version: [registry/2.0]}}")

    assert config_folder.settings().http.headers == {}
    assert config_folder.warnings() == []


def test_several_origins_are_a_warning(config_folder: ConfigFolder) -> None:
    """Several origins in one header cause a warning, because browsers accept none of them."""
    config_folder.write(f"http: {{headers: {{{_ORIGIN}: ['http://a', 'http://b']}}}}")

    (warning,) = config_folder.warnings()
    assert f"browsers accept no {_ORIGIN} with several values" in warning


def test_every_page_that_may_write_without_a_password_is_a_warning(
    config_folder: ConfigFolder,
) -> None:
    """`Access-Control-Allow-Origin: *` with DELETE causes a warning: web pages could remove images.

    Without DELETE, as in many examples, or with passwords there is no warning.
    """
    methods = "Access-Control-Allow-Methods: [HEAD, GET, delete]"
    config_folder.write(f"http: {{headers: {{{_ORIGIN}: ['*'], {methods}}}}}")
    (warning,) = config_folder.warnings()
    assert "http.headers: every web page that a user opens may send DELETE" in warning

    config_folder.write(f"http: {{headers: {{{_ORIGIN}: ['*']}}}}")
    assert config_folder.warnings() == []
    config_folder.write(f"http: {{headers: {{{_ORIGIN}: ['http://a'], {methods}}}}}")
    assert config_folder.warnings() == []
    login = "\nauth: {htpasswd: {path: /p}}"
    config_folder.write(f"http: {{headers: {{{_ORIGIN}: ['*'], {methods}}}}}{login}")
    assert config_folder.warnings() == []


# ---- http.addr, http.net, http.prefix and http.host


def test_a_unix_socket_needs_net_and_an_absolute_path(config_folder: ConfigFolder) -> None:
    """A unix socket needs `net: unix` and an absolute path.

    With only one of the two, HAProxy would listen at an unintended address.
    """
    config_folder.write("http: {net: unix, addr: /run/registry.sock}")
    assert config_folder.settings().http.addr == SocketPath("/run/registry.sock")

    config_folder.write("http: {net: unix, addr: ':5000'}")
    assert "not the absolute path of a socket" in config_folder.problems()[0]
    config_folder.write("http: {addr: /run/registry.sock}")
    assert "http.addr is the path of a socket, but http.net is tcp" in config_folder.problems()[0]
    config_folder.write("http: {net: unix, addr: registry.sock}")
    assert (
        "not the absolute path of a socket; try /run/registry.sock" in config_folder.problems()[0]
    )
    config_folder.write(f"http: {{net: unix, addr: /run/{'a' * 100}.sock}}")
    assert (
        "longer than 95 bytes, the limit of a socket's path; shorten it"
        in config_folder.problems()[0]
    )
    config_folder.write("http: {net: udp}")
    assert "not one of tcp, unix" in config_folder.problems()[0]


@pytest.mark.parametrize(
    ("given", "read"), [("/", "/"), ("/a/", "/a"), ("/a/b", "/a/b"), ("''", "/")]
)
def test_a_prefix_needs_no_slash_at_its_end(
    config_folder: ConfigFolder, given: str, read: str
) -> None:
    """A prefix needs no slash at its end, as in docker distribution."""
    config_folder.write(f"http: {{prefix: {given}}}")

    assert config_folder.settings().http.prefix == read


@pytest.mark.parametrize("given", ["a/", "/a b/", "/../", "/a//b", "/%2f/", "/[a/"])
def test_a_prefix_that_is_no_plain_path_is_refused(config_folder: ConfigFolder, given: str) -> None:
    """A prefix that is not a plain path is refused, because every request would get 404."""
    config_folder.write(f"http: {{prefix: '{given}'}}")

    assert "not an absolute path of plain characters; try /registry/" in config_folder.problems()[0]


@pytest.mark.parametrize(
    ("given", "read"),
    [
        ("https://registry.test/", "https://registry.test"),
        ("HTTP://docker_registry:5000", "http://docker_registry:5000"),
        ("https://[::1]:8443/a/b/", "https://[::1]:8443/a/b"),
    ],
)
def test_a_host_is_a_url_with_or_without_a_path(
    config_folder: ConfigFolder, given: str, read: str
) -> None:
    """`http.host` is a URL with or without a path; a name may have an underscore, as in compose."""
    config_folder.write(f"http: {{host: '{given}'}}")

    assert config_folder.settings().http.host == read


@pytest.mark.parametrize("given", ["registry.test", "ftp://a", "https://u:p@a", "https://a?b", ":"])
def test_a_host_that_is_no_url_is_refused(config_folder: ConfigFolder, given: str) -> None:
    """An `http.host` that is no URL is refused; distribution ignores it without a message."""
    config_folder.write(f"http: {{host: '{given}'}}")

    assert "not the appliance's URL; try https://registry.example" in config_folder.problems()[0]


def test_a_host_and_relative_urls_contradict_each_other(config_folder: ConfigFolder) -> None:
    """`http.host` takes precedence over `http.relativeurls`, with a warning."""
    config_folder.write("http: {host: 'https://registry.test/', relativeurls: true}")

    assert config_folder.settings().http.host == "https://registry.test"
    assert (
        "the key has no effect: http.host is set, so URLs are absolute"
        in config_folder.warnings()[0]
    )


def test_a_host_without_the_prefix_is_a_warning(config_folder: ConfigFolder) -> None:
    """If `http.prefix` is set, an `http.host` without that prefix causes a warning.

    Such a host is correct if the proxy in front adds the prefix, and wrong if the proxy forwards
    the prefix.
    """
    config_folder.write("http: {host: 'https://registry.test', prefix: /reg/}")
    (warning,) = config_folder.warnings()
    assert (
        "Location begins with http.host, which does not end with http.prefix; add the prefix to"
        in warning
    )

    config_folder.write("http: {host: 'https://registry.test/reg/', prefix: /reg/}")
    assert config_folder.warnings() == []
    config_folder.write("http: {host: 'https://registry.test', prefix: /}")
    assert config_folder.warnings() == []


def test_a_secret_is_accepted_without_a_message(config_folder: ConfigFolder) -> None:
    """`http.secret` causes no message, because upload URLs contain no state that it must sign."""
    config_folder.write("http: {secret: asecretforlocaldevelopment}")

    assert (config_folder.problems(), config_folder.warnings()) == ([], [])


# ---- http.tls


def test_client_authorities_are_a_list_also_by_index(config_folder: ConfigFolder) -> None:
    """`clientcas` is a list; REGISTRY_HTTP_TLS_CLIENTCAS_0 sets its first entry."""
    config_folder.write("http: {tls: {certificate: c.pem, clientcas: [/a.pem, /b.pem]}}")
    assert config_folder.settings().http.tls.clientcas == (Path("/a.pem"), Path("/b.pem"))
    changed = config_folder.settings(REGISTRY_HTTP_TLS_CLIENTCAS_1="/c.pem").http.tls.clientcas
    assert changed == (Path("/a.pem"), Path("/c.pem"))

    (problem,) = config_folder.problems(REGISTRY_HTTP_TLS_CLIENTCAS_5="/c.pem")
    assert "not the index of an entry: 5" in problem


def test_client_authorities_without_a_certificate_are_refused(config_folder: ConfigFolder) -> None:
    """`clientcas` without a certificate of the appliance is refused: no client would be checked.

    Docker distribution accepts this configuration without a message.
    """
    config_folder.write("http: {tls: {clientcas: [/a.pem]}}")

    (problem,) = config_folder.problems()
    assert "http.tls.clientcas: without TLS no client certificate is checked" in problem


def test_client_auth_without_authorities_is_a_warning(config_folder: ConfigFolder) -> None:
    """`clientauth` without `clientcas` has no effect, and causes a warning."""
    config_folder.write("http: {tls: {clientauth: request-client-cert}}")
    (warning,) = config_folder.warnings()
    assert "the key has no effect: http.tls.clientcas is not set" in warning

    config_folder.write("http: {tls: {clientauth: verify}}")
    assert "not one of require-and-verify-client-cert" in config_folder.problems()[0]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("minimumtls: tls2", "not one of tls1.0, tls1.1, tls1.2, tls1.3"),
        ("ciphersuites: [TLS_NULL]", "no such cipher suite: 'TLS_NULL'"),
        ("ciphersuites: [TLS_RSA_WITH_3DES_EDE_CBC_SHA]", "is insecure, and OpenSSL has no 3DES"),
        (
            "minimumtls: tls1.3, ciphersuites: [TLS_RSA_WITH_AES_128_CBC_SHA]",
            "no suite of TLS 1.3 is named, but http.tls.minimumtls is tls1.3",
        ),
    ],
)
def test_a_version_or_suite_that_cannot_be_had_is_refused(
    config_folder: ConfigFolder, text: str, message: str
) -> None:
    """A TLS version or suite that HAProxy does not have is refused, as in docker distribution."""
    config_folder.write(f"http: {{tls: {{certificate: /c.pem, {text}}}}}")

    (problem,) = config_folder.problems()
    assert message in problem


def test_versions_and_suites_without_a_certificate_are_warnings(
    config_folder: ConfigFolder,
) -> None:
    """TLS versions and suites without a certificate have no effect, and cause warnings."""
    config_folder.write("http: {tls: {minimumtls: tls1.3, ciphersuites: [TLS_AES_128_GCM_SHA256]}}")

    assert len(config_folder.warnings()) == 2
    assert all(
        "the key has no effect: there is no certificate" in each
        for each in config_folder.warnings()
    )


def test_the_names_of_all_suites_are_read(config_folder: ConfigFolder) -> None:
    """The names of docker distribution's cipher suites are accepted, except those of 3DES."""
    named = [*ciphers.OLDER, *sorted(ciphers.TLS13)]
    config_folder.write(
        f"http: {{tls: {{certificate: /c.pem, ciphersuites: [{', '.join(named)}]}}}}"
    )

    assert config_folder.settings().http.tls.ciphersuites == tuple(named)


def test_letsencrypt_is_refused_with_the_way_that_works(config_folder: ConfigFolder) -> None:
    """`letsencrypt` is refused with a remedy: certbot, and the folder /certs."""
    config_folder.write("http: {tls: {letsencrypt: {cachefile: /c, hosts: [a.test]}}}")

    assert all("certbot" in each and "/certs" in each for each in config_folder.problems())


# ---- http.debug


def test_a_debug_address_that_others_can_reach_is_a_warning(config_folder: ConfigFolder) -> None:
    """A debug address that other machines can reach causes a warning.

    Docker distribution's examples have the debug address `:5001`, which means every address of the
    machine.
    """
    config_folder.write("http: {debug: {addr: '127.0.0.1:5001', prometheus: {enabled: true}}}")
    assert config_folder.warnings() == []
    assert config_folder.settings().http.debug.prometheus.path == "/metrics"

    config_folder.write("http: {debug: {addr: ':5001'}}")
    (warning,) = config_folder.warnings()
    assert (
        "the debug address needs no login, and other machines can reach it; try 127.0.0.1:5001"
        in warning
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("addr: /run/x.sock", "not host:port"),
        ("addr: ':5001', prometheus: {path: metrics}", "not an absolute path"),
        ("addr: ':5001', prometheus: {path: /debug/vars}", "/debug/ belongs to other pages"),
        ("addr: '127.0.0.1:5000'", "http.addr has the same port"),
        ("addr: ':5000'", "http.addr has the same port"),
    ],
)
def test_an_unusable_debug_address_is_refused(
    config_folder: ConfigFolder, text: str, message: str
) -> None:
    """An unusable debug address, or path of the metrics, is refused."""
    config_folder.write(f"http: {{addr: '127.0.0.1:5000', debug: {{{text}}}}}")

    (problem,) = config_folder.problems()
    assert message in problem
