"""Test the log line of a request that HAProxy cannot parse, and the tail of a log line."""

from __future__ import annotations

import socket
import tempfile
from collections.abc import Mapping
from pathlib import Path

import pytest

from entrepot.appliance.supervise.access_formats import combined_lines, without_tails
from entrepot.datastore.accesslog import parse
from tests.appliance.haproxy import Haproxy, eventually, stub_worker

pytestmark = pytest.mark.slow

_SETTINGS, _HEADERS = 4, 1
_ENDS = 0b101  # END_STREAM and END_HEADERS


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return an HTTP/2 frame (RFC 9113, 4.1)."""
    head = len(payload).to_bytes(3, "big") + bytes([kind, flags])
    return head + stream.to_bytes(4, "big") + payload


def _fields(fields: Mapping[str, str]) -> bytes:
    """Return a block of HTTP/2 headers as literals (RFC 7541, 6.2.2)."""
    texts = (text.encode() for field in fields.items() for text in field)
    pieces = [bytes([len(text)]) + text for text in texts]
    return b"".join(b"\0" + b"".join(pieces[at : at + 2]) for at in range(0, len(pieces), 2))


def _http2(method: str) -> bytes:
    """Return the bytes of a new HTTP/2 connection with one request."""
    fields = {":method": method, ":scheme": "http", ":path": "/v2/", ":authority": "localhost"}
    request = _frame(_HEADERS, _ENDS, 1, _fields(fields))
    return b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(_SETTINGS, 0, 0, b"") + request


def test_an_http2_request_that_is_refused_at_once_has_a_json_log_line() -> None:
    """An HTTP/2 request with an invalid method has a log line in JSON; missing values are ""."""
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1),
        Haproxy(Path(folder), 1) as haproxy,
        socket.create_connection(("127.0.0.1", haproxy.port), timeout=10) as connection,
    ):
        connection.sendall(_http2('G"T'))
        line = eventually(lambda: haproxy.lines(""))[0]

    assert (line.status, line.termination, line.method) == (400, "PR", "")
    assert (line.digest, line.repository, line.kind, line.cache) == ("", "", "", "")
    assert line.start > 0


@pytest.mark.parametrize("notify", ["off", "on"])
def test_a_line_has_a_tail_while_the_access_log_is_printed(notify: str) -> None:
    """While the access log is printed, a line has version, Referer and User-Agent at its end.

    The three values are escaped and truncated, with and without notifications.
    """
    variables = {"ENTREPOT_LOG_REQUEST": "on", "ENTREPOT_NOTIFY": notify}
    with (
        tempfile.TemporaryDirectory(prefix="ent-") as folder,
        stub_worker(Path(folder), 1),
        Haproxy(Path(folder), 1, variables=variables) as haproxy,
    ):
        headers = b'User-Agent: a"b\\\xc3\xa9\r\nReferer: ' + b"r" * 300 + b"\r\n"
        haproxy.send_raw(
            b"GET /v2/one HTTP/1.1\r\nHost: a\r\n%bConnection: close\r\n\r\n" % headers
        )
        haproxy.send_raw(b"GET /v2/two HTTP/1.0\r\nHost: a\r\n\r\n")
        log = Path(folder) / "access.log"
        eventually(lambda: log.read_bytes().count(b"\n") == 2)
        first, second = log.read_bytes().splitlines()

    assert b'"uri":"/v2/one"' in first
    assert first.endswith(
        b'"},"protocol":"1.1","referer":"' + b"r" * 256 + b'","agent":"a\\"b\\\\\\u00e9"}'
    )
    assert second.endswith(b'"},"protocol":"1.0","referer":"","agent":""}')
    assert parse(without_tails(first)).uri == "/v2/one"
    assert b'"GET /v2/two HTTP/1.0"' in combined_lines(second + b"\n")
