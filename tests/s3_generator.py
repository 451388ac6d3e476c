"""An S3 server on loopback with very many generated objects, which clients can list and read.

moto needs a second of CPU time for each list of 300,000 objects. This server keeps only keys in
memory, computes an object's content from the number of its image, and checks no signature. Clients
can write only objects below `entrepot/`.
"""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterator
from contextlib import suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self
from urllib.parse import parse_qs, unquote, urlsplit
from xml.sax.saxutils import escape

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from tests.serving import EndsAtOnce

_BUCKET = "images"
_LAYERS = 8
_IMAGES_EACH = 100
_PAGE = 1000
_TIME = "2026-01-02T03:04:05.000Z"


class GeneratedBucket:
    """A bucket with *images* proxied images of nine blobs each.

    `requests` counts requests by kind: `LIST`, or the method and the first folder of the key.
    """

    def __init__(self, images: int) -> None:
        self.images = images
        self.requests: Counter[str] = Counter()
        self._written: dict[str, bytes] = {}
        self._manifests: dict[str, int] = {}
        self._keys = sorted(self._generated())
        self._server = _Server(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def url(self) -> str:
        """Return the URL of the service, without the bucket."""
        return f"http://127.0.0.1:{self._server.server_address[1]}"

    @property
    def count(self) -> int:
        """Return the number of generated objects."""
        return len(self._keys)

    def blobs(self, number: int) -> list[Digest]:
        """Return the digests of the configuration and the layers of an image."""
        return [Digest.of(b"%d %d" % (number, part)) for part in range(1 + _LAYERS)]

    def manifest(self, number: int) -> bytes:
        """Return the manifest of an image."""
        config, *layers = (
            {"mediaType": "application/octet-stream", "digest": str(each), "size": 100}
            for each in self.blobs(number)
        )
        return json.dumps({"schemaVersion": 2, "config": config, "layers": layers}).encode()

    def _generated(self) -> Iterator[str]:
        for number in range(self.images):
            name = Repository(f"quay.io/many/r{number // _IMAGES_EACH}")
            manifest = Digest.of(self.manifest(number))
            self._manifests[layout.blob(manifest)] = number
            yield layout.blob(manifest)
            for blob in self.blobs(number):
                yield layout.blob(blob)
                yield layout.layer_link(name, blob)
            yield layout.revision_link(name, manifest)
            yield layout.tag_current(name, Tag(f"v{number}"))
            yield layout.tag_past(name, Tag(f"v{number}"), manifest)
            if number % _IMAGES_EACH == 0:
                yield layout.origin(name)

    def content(self, key: str) -> bytes | None:
        """Return the content of an object; None if it is absent."""
        if key in self._written:
            return self._written[key]
        if key in self._manifests:
            return self.manifest(self._manifests[key])
        at = bisect_left(self._keys, key)
        if at == len(self._keys) or self._keys[at] != key:
            return None
        return b"quay.io" if key.startswith(layout.ORIGINS) else bytes(100)

    def store(self, key: str, content: bytes) -> None:
        """Store an object that the appliance writes for its own state, below `entrepot/`."""
        assert key.startswith(layout.OWN)
        self._written[key] = content

    def page(self, prefix: str, after: str) -> tuple[list[str], bool]:
        """Return at most 1,000 keys with *prefix* that come after the key *after*.

        Also return whether more keys follow.
        """
        start = max(bisect_left(self._keys, prefix), bisect_right(self._keys, after))
        end = bisect_left(self._keys, f"{prefix}\U0010ffff")
        own = sorted(each for each in self._written if each.startswith(prefix) and each > after)
        found = sorted([*self._keys[start : min(end, start + _PAGE + 1)], *own])
        return found[:_PAGE], len(found) > _PAGE

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        bucket = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"

            def handle_one_request(self) -> None:
                with suppress(ConnectionError):
                    super().handle_one_request()

            def log_message(self, *_: Any) -> None:
                """Log nothing."""

            def do_any(self) -> None:
                _answer(bucket, self)

            do_GET = do_PUT = do_HEAD = do_any  # noqa: N815 - of http.server

        return Handler


class _Server(EndsAtOnce, ThreadingHTTPServer):
    daemon_threads = True
    request_queue_size = 128

    def process_request(self, request: Any, client_address: Any) -> None:
        request.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        super().process_request(request, client_address)


def _answer(bucket: GeneratedBucket, handler: BaseHTTPRequestHandler) -> None:
    body = handler.rfile.read(int(handler.headers.get("Content-Length") or 0))
    parts = urlsplit(handler.path)
    key = unquote(parts.path).removeprefix(f"/{_BUCKET}").removeprefix("/")
    query = {name: values[0] for name, values in parse_qs(parts.query).items()}
    if handler.command == "GET" and not key:
        bucket.requests["LIST"] += 1
        _send(handler, 200, _listed(bucket, query))
        return
    bucket.requests[f"{handler.command} {key.split('/')[0]}"] += 1
    if handler.command == "PUT":
        bucket.store(key, body)
        _send(handler, 200, b"", body)
        return
    content = bucket.content(key)
    _send(handler, 404 if content is None else 200, content or b"", content)


def _listed(bucket: GeneratedBucket, query: dict[str, str]) -> bytes:
    after = query.get("continuation-token") or query.get("start-after") or ""
    keys, is_truncated = bucket.page(query.get("prefix", ""), after)
    more = f"<NextContinuationToken>{escape(keys[-1])}</NextContinuationToken>" if keys else ""
    entries = "".join(
        f"<Contents><Key>{escape(key)}</Key><LastModified>{_TIME}</LastModified>"
        f"<ETag>&quot;{_entity_tag(content)}&quot;</ETag><Size>{len(content)}</Size></Contents>"
        for key in keys
        if (content := bucket.content(key)) is not None
    )
    return (
        f'<?xml version="1.0"?><ListBucketResult><Name>{_BUCKET}</Name><KeyCount>{len(keys)}'
        f"</KeyCount><IsTruncated>{str(is_truncated).lower()}</IsTruncated>"
        f"{more if is_truncated else ''}{entries}</ListBucketResult>"
    ).encode()


def _entity_tag(content: bytes) -> str:
    return hashlib.md5(content, usedforsecurity=False).hexdigest()


def _send(
    handler: BaseHTTPRequestHandler, status: int, body: bytes, tagged: bytes | None = None
) -> None:
    handler.send_response(status)
    handler.send_header("Content-Length", str(len(body)))
    handler.send_header("Last-Modified", "Fri, 02 Jan 2026 03:04:05 GMT")
    if tagged is not None:
        handler.send_header("ETag", f'"{_entity_tag(tagged)}"')
    handler.end_headers()
    if handler.command != "HEAD":
        handler.wfile.write(body)
