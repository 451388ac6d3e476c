"""A small server with the part of Azure's blob service that the driver `azure` uses.

The server keeps blobs in memory, verifies the signature of each request as Azure does, and needs no
other program. `make soak` runs the same tests with Azurite (`tests/azurite.py`), which shows that
this server answers as Microsoft's emulator does. An example of a test:

    with AzureFront() as azure:
        ...
        assert azure.refused == []
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import re
import threading
import xml.etree.ElementTree as ET
from datetime import UTC, datetime, timedelta
from email.utils import formatdate, parsedate_to_datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, NamedTuple, Self
from urllib.parse import parse_qsl, unquote, urlsplit

from tests.azure_storage import ACCOUNT, KEY
from tests.serving import EndsAtOnce

CONTAINER: Final = "images"

_SIGNED: Final = (
    *("Content-Encoding", "Content-Language", "Content-Length", "Content-MD5", "Content-Type"),
    *("Date", "If-Modified-Since", "If-Match", "If-None-Match", "If-Unmodified-Since", "Range"),
)
_OLDEST: Final = timedelta(minutes=15)
_PAGE: Final = 100  # small, so that the tests see several pages of a list
_RANGE: Final = re.compile(r"bytes=(\d+)-(\d*)")
_SUBREQUEST: Final = re.compile(
    rb"Content-ID: (\d+)\r\n\r\nDELETE (\S+) HTTP/1.1\r\n(.*?)\r\n\r\n", re.DOTALL
)


class _Blob(NamedTuple):
    content: bytes
    entity_tag: str


class _Answer(NamedTuple):
    status: int
    body: bytes = b""
    headers: dict[str, str] = {}  # noqa: RUF012 - never changed


def _error(status: int, code: str) -> _Answer:
    text = f'<?xml version="1.0" encoding="utf-8"?><Error><Code>{code}</Code></Error>'
    return _Answer(status, text.encode())


class AzureFront(EndsAtOnce, ThreadingHTTPServer):
    """A stand-in for Azure with one empty container; `refused` lists wrongly signed requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self._blobs: dict[str, _Blob] = {}
        self._blocks: dict[tuple[str, str], bytes] = {}
        self._lock = threading.Lock()
        self._count = 0
        self.refused: list[str] = []

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=self.serve_forever)
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.shutdown()
        self._thread.join()
        self.server_close()

    @property
    def url(self) -> str:
        """Return the URL of the account, for `storage.azure.serviceurl`."""
        return f"http://127.0.0.1:{self.server_port}/{ACCOUNT}"

    def answer(self, method: str, target: str, headers: Any, body: bytes) -> _Answer:
        """Return the answer to one request."""
        if not _is_signed(method, target, headers):
            self.refused.append(f"{method} {target}")
            return _error(403, "AuthenticationFailed")
        parts = urlsplit(target)
        query = dict(parse_qsl(parts.query, keep_blank_values=True))
        _, account, container, *names = unquote(parts.path).split("/")
        if (account, container) != (ACCOUNT, CONTAINER):
            return _error(404, "ContainerNotFound")
        with self._lock:
            if query.get("restype") == "container":
                is_list = query["comp"] == "list"
                return self._list(query) if is_list else self._batch(body)
            return self._of_blob(method, "/".join(names), query, headers, body)

    def _of_blob(
        self,
        method: str,
        name: str,
        query: dict[str, str],
        headers: Any,
        body: bytes,
    ) -> _Answer:
        if method == "PUT" and query.get("comp") == "block":
            self._blocks[name, query["blockid"]] = body
            return _Answer(201)
        if method == "PUT":
            if query.get("comp") == "blocklist":
                ids = [each.text or "" for each in ET.fromstring(body)]
                body = b"".join(self._blocks.pop((name, each)) for each in ids)
            return self._put(name, headers, body)
        found = self._blobs.get(name)
        return _error(404, "BlobNotFound") if found is None else _read(found, headers.get("Range"))

    def _put(self, name: str, headers: Any, body: bytes) -> _Answer:
        current = self._blobs.get(name)
        if headers.get("If-None-Match") == "*" and current is not None:
            return _error(409, "BlobAlreadyExists")
        expected = headers.get("If-Match")
        if expected is not None and (current is None or current.entity_tag != expected):
            return _error(412, "ConditionNotMet")
        self._count += 1
        self._blobs[name] = _Blob(body, f'"0x{self._count:016X}"')
        return _Answer(201, headers={"ETag": self._blobs[name].entity_tag})

    def _list(self, query: dict[str, str]) -> _Answer:
        prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
        root = ET.Element("EnumerationResults")
        found = ET.SubElement(root, "Blobs")
        shown = dict.fromkeys(
            _below(name, prefix, delimiter)
            for name in sorted(self._blobs)
            if name.startswith(prefix)
        )
        page = [name for name in shown if name >= query.get("marker", "")]
        for name in page[:_PAGE]:
            blob = self._blobs.get(name)
            element = ET.SubElement(found, "Blob" if blob else "BlobPrefix")
            ET.SubElement(element, "Name").text = name
            if blob is not None:
                properties = ET.SubElement(element, "Properties")
                ET.SubElement(properties, "Last-Modified").text = formatdate(usegmt=True)
                ET.SubElement(properties, "Content-Length").text = str(len(blob.content))
                ET.SubElement(properties, "Content-Type").text = "application/octet-stream"
                ET.SubElement(properties, "Etag").text = blob.entity_tag.strip('"')
        ET.SubElement(root, "NextMarker").text = page[_PAGE] if page[_PAGE:] else None
        return _Answer(200, ET.tostring(root, "utf-8", xml_declaration=True))

    def _batch(self, body: bytes) -> _Answer:
        text = b""
        for number, path, lines in _SUBREQUEST.findall(body):
            headers = dict(line.split(": ", 1) for line in lines.decode().split("\r\n"))
            name = unquote(path.decode()).removeprefix(f"/{ACCOUNT}/{CONTAINER}/")
            status = "202 Accepted"
            if not _is_signed("DELETE", path.decode(), headers):
                status = "403 Forbidden"
            elif self._blobs.pop(name, None) is None:
                status = "404 The specified blob does not exist."
            head = f"--b\r\nContent-Type: application/http\r\nContent-ID: {number.decode()}\r\n\r\n"
            text += f"{head}HTTP/1.1 {status}\r\nx-ms-version: 1\r\n\r\n".encode()
        return _Answer(202, text + b"--b--\r\n", {"Content-Type": "multipart/mixed; boundary=b"})


def _below(name: str, prefix: str, delimiter: str) -> str:
    """Return the name that a list shows for a blob: the blob's name, or the name of a folder.

    The name of a folder ends with the delimiter.
    """
    rest, end, _ = name[len(prefix) :].partition(delimiter) if delimiter else (name, "", "")
    return name if not end else f"{prefix}{rest}{end}"


def _read(blob: _Blob, asked: str | None) -> _Answer:
    headers = {"ETag": blob.entity_tag, "Last-Modified": formatdate(usegmt=True)}
    match = _RANGE.fullmatch(asked or "")
    if match is None:
        return _Answer(200, blob.content, headers)
    size, start = len(blob.content), int(match[1])
    if start >= size:
        return _error(416, "InvalidRange")
    stop = min(int(match[2]) + 1, size) if match[2] else size
    headers["Content-Range"] = f"bytes {start}-{stop - 1}/{size}"
    return _Answer(206, blob.content[start:stop], headers)


def _is_signed(method: str, target: str, headers: Any) -> bool:
    """Return True if a request is signed with the account's key (Authorize with Shared Key)."""
    lower = {name.lower(): value for name, value in headers.items()}
    date = lower.get("x-ms-date") or lower.get("date")
    if date is None or abs(datetime.now(UTC) - parsedate_to_datetime(date)) > _OLDEST:
        return False
    parts = urlsplit(target)
    values = [lower.get(name.lower(), "") for name in _SIGNED]
    values[2] = "" if values[2] == "0" else values[2]
    extra = [f"{name}:{lower[name]}" for name in sorted(lower) if name.startswith("x-ms-")]
    query = sorted((k.lower(), v) for k, v in parse_qsl(parts.query, keep_blank_values=True))
    resource = [f"/{ACCOUNT}{parts.path}", *(f"{name}:{value}" for name, value in query)]
    text = "\n".join([method, *values, *extra, *resource])
    mac = hmac.new(base64.b64decode(KEY), text.encode(), hashlib.sha256).digest()
    expected = f"SharedKey {ACCOUNT}:{base64.b64encode(mac).decode()}"
    return hmac.compare_digest(expected, lower.get("authorization", ""))


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def _respond(self) -> None:
        assert isinstance(self.server, AzureFront)
        body = self.rfile.read(int(self.headers.get("Content-Length", "0")))
        answer = self.server.answer(self.command, self.path, self.headers, body)
        self.send_response(answer.status)
        for name, value in answer.headers.items():
            self.send_header(name, value)
        self.send_header("Content-Length", str(len(answer.body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(answer.body)

    do_GET = do_HEAD = do_PUT = do_POST = _respond  # noqa: N815 - names of the base class

    def log_message(self, *_: object) -> None:
        """Log nothing."""
