"""The URL of a redirect is sent byte for byte, and cannot end the request line."""

from __future__ import annotations

import socket
import threading

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Unavailable, Why
from entrepot.registry.upstream.target import resolve, split_target
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream

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
def test_a_redirect_is_sent_as_it_was_written(upstream: FakeUpstream, target: str) -> None:
    """A signature is over what was written."""
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
def test_a_location_is_resolved_without_a_change_of_its_bytes(
    location: str, expected: tuple[str, str]
) -> None:
    """A blank cannot be sent and is encoded; a fragment stays here (RFC 9110, 10.2.2)."""
    assert expected == split_target(resolve("https://reg.example:5000/v2/x", location))


@pytest.mark.parametrize("sign", ["\r", "\n", "\r\nX: y", "\0", "\t", "\x7f", "\x0b"])
@pytest.mark.parametrize("where", ["http://cdn.example/a{}b", "/a?{}b", "http://cdn{}.example/"])
def test_a_control_character_is_refused(sign: str, where: str) -> None:
    """It could end the request line, or begin a header."""
    with pytest.raises(ValueError, match="control character"):
        resolve("https://reg.example/", where.format(sign))


@pytest.mark.parametrize("location", ["http://a\\\\b/", "http:///x", "ftp://x/", "http://a b/"])
def test_no_url_is_nonsense(upstream: FakeUpstream, location: str) -> None:
    """Two parsers could take the host of such a URL for two."""
    upstream.misbehave("/blobs/", status=307, headers={"Location": location})

    with pytest.raises(Unavailable) as raised, client_of(upstream).blob("app", DIGEST):
        pass

    assert Why.NONSENSE is raised.value.why
