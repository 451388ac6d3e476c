"""Credentials are sent only to their origin, and redirect URLs are requested byte for byte."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import suppress

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import RegistryError, Unavailable, Why
from entrepot.registry.upstream.protocol import Upstream
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared, open_upstream
from entrepot.registry.upstream.urls import (
    Sealed,
    origin_of,
    resolve_location,
    sealed,
    split_target,
)
from tests.gates import BasicGate, Gate, TokenService
from tests.registry.upstream.clients import client_of, secret_of
from tests.upstream import FakeUpstream

HOME = "https://reg.example"


@pytest.mark.parametrize(
    "url",
    [
        "https://reg.example/v2/",
        "HTTPS://REG.Example",
        "https://reg.example:443/v2/?a=b",
        "https://reg.example:/v2/",
        "https://reg.example?n=1",
    ],
)
def test_the_spellings_of_one_origin_are_equal(url: str) -> None:
    """Two URLs have the same origin if they differ only in case or a default port (RFC 6454, 4)."""
    assert origin_of(url) == origin_of(HOME) is not None


@pytest.mark.parametrize(
    ("url", "other"),
    [
        ("https://[::1]:5000", "https://[0:0:0:0:0:0:0:1]:5000/x"),
        ("http://[2001:DB8::1]", "http://[2001:db8:0::1]:80"),
    ],
)
def test_spellings_of_one_ipv6_address_are_equal(url: str, other: str) -> None:
    """URLs with two spellings of one IPv6 address (RFC 5952) have the same origin."""
    assert origin_of(url) == origin_of(other) is not None


@pytest.mark.parametrize(
    "url",
    [
        "http://reg.example/",
        "http://reg.example:443/",
        "https://reg.example:444/",
        "https://reg.example./",
        "https://sub.reg.example/",
        "https://reg.example.evil.example/",
        "https://reg.example@evil.example/",
        "https://user:password@reg.example/",
        "https://reg.example\\@evil.example/",
        "https://evil.example\\@reg.example/",
        "https://reg.example\t/",
        "https://reg.example /",
        "https://reg.example\u3002evil.example/",
        "https://r\u00e9g.example/",
        "https://reg.example%2eevil.example/",
        "https://reg.example:99999/",
        "https://reg.example:+443/",
        "https://[::1%25eth0]/",
        "https:reg.example/",
        "https:///reg.example/",
        "//reg.example/",
        "ftp://reg.example/",
        "",
    ],
)
def test_a_url_of_another_origin_gets_no_credential(url: str) -> None:
    """A request to a URL of another origin gets no credential.

    A request to a URL that two parsers could interpret differently gets no credential either.
    """
    known = sealed(HOME, "Basic secret")
    assert known is not None

    assert known.headers_for(f"{HOME}/v2/app/tags/list") == {"Authorization": "Basic secret"}
    assert known.headers_for(url) == {}


def test_repr_of_a_sealed_credential_hides_it() -> None:
    """The repr of a credential omits its secret, so no message or traceback contains the secret."""
    origin = origin_of(HOME)
    assert origin is not None

    assert "secret" not in repr(Sealed(origin, "Basic secret"))


# ---- tests of requests through the client of an upstream


@pytest.fixture(params=["basic", "bearer"])
def gate(request: pytest.FixtureRequest) -> Iterator[Gate]:
    """Yield the way in which an upstream authenticates clients: by password or by token."""
    if request.param == "basic":
        yield BasicGate({"me": "pw"})
        return
    with TokenService({"me": "pw"}) as service:
        yield service


@pytest.fixture
def registry(gate: Gate) -> Iterator[FakeUpstream]:
    """Run an upstream that requires credentials."""
    with FakeUpstream(gate=gate) as running:
        running.add_image("app", "a", [b"layer"])
        yield running


@pytest.fixture
def other() -> Iterator[FakeUpstream]:
    """Run an upstream on another host; each page of its tag list has one tag."""
    with FakeUpstream() as running:
        for tag in "abc":
            running.add_image("app", tag, [b"layer"])
        running.page = 1
        yield running


def _client(registry: FakeUpstream) -> Upstream:
    secret = secret_of(registry.host, "me", "pw")
    return client_of(registry, Shared(secret=lambda: secret))


def _renamed(host: FakeUpstream) -> str:
    """Return the URL of *host* with the host name `localhost`."""
    return host.url.replace("127.0.0.1", "localhost")


def _saw_credentials(host: FakeUpstream) -> list[str]:
    return [each.path for each in host.requests if "authorization" in each.headers]


@pytest.mark.parametrize("by_name", [False, True], ids=["other port", "other name"])
def test_later_pages_of_a_redirected_list_get_no_credential(
    registry: FakeUpstream,
    other: FakeUpstream,
    by_name: bool,  # noqa: FBT001 - a case
) -> None:
    """If a list is redirected to another host, its next pages are requested without a credential.

    The links to these pages come from the other host, so they can lead to any URL.
    """
    target = _renamed(other) if by_name else other.url
    registry.misbehave("/tags/list", redirect=target + "{path}?{query}")

    assert _client(registry).tags("app") == ["a", "b", "c"]
    assert _saw_credentials(other) == []


def test_a_challenge_of_another_host_is_not_answered(
    registry: FakeUpstream, other: FakeUpstream, gate: Gate
) -> None:
    """The client sends no password after another host's challenge, whose realm may be any URL."""
    registry.misbehave("/tags/list", redirect=_renamed(other) + "{path}")
    client = _client(registry)
    client.tags("app")  # this request gives the client the upstream's challenge
    requests = len(gate.requests) if isinstance(gate, TokenService) else 0
    other.forget()
    challenge = f'Basic realm="x", Bearer realm="{_renamed(other)}/token",service="s"'
    headers = {"WWW-Authenticate": challenge}
    other.misbehave("/tags/list", status=401, headers=headers)
    other.misbehave("/tags/list", times=1, status=200, body=b'{"tags": ["a"]}', headers=_NEXT)

    with pytest.raises(RegistryError):
        client.tags("app")

    assert _saw_credentials(other) == []
    assert other.count(pattern="token") == 0
    assert isinstance(gate, BasicGate) or requests == len(gate.requests)  # type: ignore[attr-defined]


_NEXT = {
    "Content-Type": "application/json",
    "Link": '</v2/app/tags/list?last=a>; rel="next"',
}


@pytest.mark.parametrize(
    ("path", "is_first", "requested"),
    [
        ("/team", False, "/v2/team/app/tags/list"),
        ("/team", True, "/team/v2/app/tags/list"),
        ("/a/b/v2/", True, "/a/b/v2/app/tags/list"),
        ("/nav2", True, "/nav2/v2/app/tags/list"),
        ("", True, "/v2/app/tags/list"),
    ],
)
def test_a_path_in_the_url_begins_each_name_or_precedes_the_api(
    registry: FakeUpstream, path: str, requested: str, *, is_first: bool
) -> None:
    """A path in `url` comes before each repository's name.

    A path in `proxy.remoteurl` comes before `/v2/`.
    """
    config = UpstreamConfig(registry.host, f"{registry.url}{path}", path_first=is_first)
    with suppress(RegistryError):  # the fake upstream has no tags below most of these paths
        open_upstream(config, Shared()).tags("app")

    assert requested in [each.path for each in registry.requests]


@pytest.mark.parametrize(
    "location",
    [
        "//{other}/v2/app/tags/list",
        "\\\\{other}/v2/app/tags/list",
        "http://{own}\\@{other}/v2/app/tags/list",
        "http://{other}\\@{own}/v2/app/tags/list",
        "http://{own}@{other}/v2/app/tags/list",
        "http://{other}#@{own}/v2/app/tags/list",
        "http://{other}?@{own}/v2/app/tags/list",
        "http://{other}/v2/app/tags/list?a=@{own}/",
        "HTTP://{other}/v2/app/tags/list",
        "http://{other} {own}/v2/app/tags/list",
    ],
)
def test_no_spelling_of_a_redirect_forwards_the_credential(
    registry: FakeUpstream, other: FakeUpstream, location: str
) -> None:
    """However the URL of a redirect is written, no other host gets the credential.

    For some of the test's URLs, URL parsers disagree about the host.
    """
    there = _renamed(other).removeprefix("http://")
    target = location.format(own=registry.host, other=there)
    registry.misbehave("/tags/list", redirect=target.replace("{", "{{").replace("}", "}}"))

    # some of these URLs are valid, and the other host sends its list of tags
    with suppress(RegistryError):
        _client(registry).tags("app")

    assert _saw_credentials(other) == []


def test_a_redirect_back_to_the_origin_gets_no_credential(
    registry: FakeUpstream, other: FakeUpstream
) -> None:
    """If another host redirects back to the upstream, the request has no credential.

    The other host must not be able to choose requests that carry the credential.
    """
    registry.misbehave("/tags/list", redirect=other.url + "{path}")
    other.misbehave("/tags/list", redirect=registry.url + "/v2/app/manifests/a")

    with pytest.raises(RegistryError):
        _client(registry).tags("app")

    assert _saw_credentials(other) == []
    assert [
        each for each in registry.find(pattern="manifests") if _has_credential(each.headers)
    ] == []


def _has_credential(headers: dict[str, str]) -> bool:
    return "authorization" in headers


CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)


@pytest.mark.parametrize(
    "target",
    [
        "/x/sha256%3aab/data?sig=a%2fb%3d",
        "/x~y/d?s=a~b+c|d",
        "/a//docker//registry?se=1",
        '/a?policy={"x":1}&s=*^`',
        "/a?",
        "/?x",
        "/a/../b/./c",
        "/a?b?c=[d]\\e",
        "/caf\xe9?n=\xc3\xbc",
    ],
)
def test_the_target_of_a_redirect_is_sent_byte_for_byte(
    upstream: FakeUpstream, target: str
) -> None:
    """The client requests the path and query of a redirect byte for byte.

    A signature in the URL covers the path and query.
    """
    with socket.create_server(("127.0.0.1", 0)) as storage:
        lines: list[bytes] = []
        thread = threading.Thread(target=_answer, args=(storage, lines))
        thread.start()
        location = f"http://127.0.0.1:{storage.getsockname()[1]}{target}"
        upstream.misbehave("/blobs/", status=307, headers={"Location": location})

        with client_of(upstream).blob("app", DIGEST) as blob:
            assert b"".join(blob.chunks()) == CONTENT
        thread.join(10)

    assert [f"GET {target} HTTP/1.1".encode("latin-1")] == lines


def _answer(storage: socket.socket, lines: list[bytes]) -> None:
    storage.settimeout(10)
    connection, _ = storage.accept()
    with connection, connection.makefile("rb") as request:
        lines.append(request.readline().rstrip(b"\r\n"))
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n" + CONTENT)


@pytest.mark.parametrize(
    ("location", "expected"),
    [
        ("https://cdn.example/a#part", ("https://cdn.example", "/a")),
        ("HTTPS://CDN.example?x", ("HTTPS://CDN.example", "/?x")),
        ("//cdn.example/a%3a", ("https://cdn.example", "/a%3a")),
        ("/a%3a?", ("https://reg.example:5000", "/a%3a?")),
        ("next?b", ("https://reg.example:5000", "/v2/next?b")),
        ("https://cdn.example/a b?c d", ("https://cdn.example", "/a%20b?c%20d")),
        ("https://[::1]:5000/a", ("https://[::1]:5000", "/a")),
    ],
)
def test_resolving_a_location_keeps_its_bytes(location: str, expected: tuple[str, str]) -> None:
    """A resolved Location keeps its bytes; only blanks are escaped and fragments are dropped.

    See RFC 9110, 10.2.2.
    """
    assert expected == split_target(resolve_location("https://reg.example:5000/v2/x", location))


@pytest.mark.parametrize("sign", ["\r", "\n", "\r\nX: y", "\0", "\t", "\x7f", "\x0b"])
@pytest.mark.parametrize("where", ["http://cdn.example/a{}b", "/a?{}b", "http://cdn{}.example/"])
def test_a_control_character_in_a_location_is_rejected(sign: str, where: str) -> None:
    """A Location with a control character is rejected, because it could begin another header."""
    with pytest.raises(ValueError, match="control character"):
        resolve_location("https://reg.example/", where.format(sign))


@pytest.mark.parametrize("location", ["http://a\\\\b/", "http:///x", "ftp://x/", "http://a b/"])
def test_a_location_that_is_not_a_valid_url_is_nonsense(
    upstream: FakeUpstream, location: str
) -> None:
    """If a Location is not a valid URL, the request fails.

    URL parsers could find different hosts in an invalid URL.
    """
    upstream.misbehave("/blobs/", status=307, headers={"Location": location})

    with pytest.raises(Unavailable) as raised, client_of(upstream).blob("app", DIGEST):
        pass

    assert Why.NONSENSE is raised.value.why
