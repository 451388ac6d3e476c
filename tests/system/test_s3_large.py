"""One worker sends large blobs to a slow bucket, and needs only a bounded amount of memory."""

from __future__ import annotations

import hashlib
import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest

from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.s3_front import Answer, S3Front
from tests.s3_signatures import Signed
from tests.s3_storage import configured
from tests.sizes import scaled
from tests.system.appliance import Appliance, Setup
from tests.system.images import MB
from tests.system.pulls import blob_path
from tests.system.pushes import begin
from tests.system.waiting import eventually

COUNT = 4
SIZE = scaled(64 * MB, 2048 * MB)
MEMORY = 300 * MB
RATE = scaled(40 * MB, 160 * MB)
"""The bucket accepts this many bytes a second, in all transfers together."""

pytestmark = pytest.mark.soak


class Sink(S3Front):
    """An S3 server that discards the parts of blobs, and keeps only the lengths of the objects."""

    def __init__(self) -> None:
        super().__init__()
        self.sizes: dict[str, int] = {}
        self.completed: dict[str, int] = {}
        self._taking = threading.Lock()

    def _forward(self, request: Signed) -> Answer:
        parts = urlsplit(request.target)
        query = parse_qs(parts.query, keep_blank_values=True)
        if not parts.path.endswith("/data") or not (query or request.method == "HEAD"):
            return super()._forward(request)
        key = parts.path
        if request.method == "HEAD":
            size = self.completed.get(key)
            head = [("Content-Length", str(size)), ("Last-Modified", _DATE), ("ETag", '"e"')]
            return Answer(404, [], b"") if size is None else Answer(200, head, b"")
        if request.method == "PUT":
            with self._taking:
                time.sleep(len(request.body) / RATE)
            self.sizes[key] = self.sizes.get(key, 0) + len(request.body)
            return Answer(200, [("ETag", '"p"')], b"")
        if "uploads" in query:
            return _xml("InitiateMultipartUploadResult", "<UploadId>one</UploadId>")
        self.completed[key] = self.sizes.pop(key)
        return _xml("CompleteMultipartUploadResult", '<ETag>"e"</ETag>')


_DATE = "Sun, 06 Nov 1994 08:49:37 GMT"


def _xml(name: str, content: str) -> Answer:
    body = f'<?xml version="1.0"?><{name}><Key>k</Key><Bucket>b</Bucket>{content}</{name}>'
    return Answer(200, [("Content-Type", "application/xml")], body.encode())


def _chunks(seed: int) -> Iterator[bytes]:
    chunk = filler(MB, seed)
    for _ in range(SIZE // MB):
        yield chunk


def _digest(seed: int) -> Digest:
    hasher = hashlib.sha256()
    for chunk in _chunks(seed):
        hasher.update(chunk)
    return Digest("sha256", hasher.hexdigest())


@pytest.fixture(scope="module")
def digests() -> list[Digest]:
    """Return the digests of the blobs; a digest's position in the list is its content's seed."""
    return [_digest(seed) for seed in range(2 * COUNT)]


@pytest.fixture(scope="module")
def upstream(digests: list[Digest]) -> Iterator[str]:
    """Run an upstream that sends the blobs that the tests pull; yield its URL."""

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            """Send a blob."""
            found = re.search(r"/blobs/(sha256:[0-9a-f]{64})$", self.path)
            self.send_response(200)
            if found is None:
                self.send_header("Content-Length", "0")
                self.end_headers()
                return
            self.send_header("Content-Length", str(SIZE))
            self.end_headers()
            for chunk in _chunks(digests.index(Digest.parse(found[1]))):
                self.wfile.write(chunk)

        def log_message(self, *_: Any) -> None:
            """Log nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f"http://127.0.0.1:{server.server_port}"
    server.shutdown()
    server.server_close()


@pytest.fixture(scope="module")
def sink() -> Iterator[Sink]:
    """Run the bucket."""
    with Sink() as running:
        yield running


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, sink: Sink, upstream: str
) -> Iterator[Appliance]:
    """Run an appliance with one worker."""
    folder: Path = tmp_path_factory.mktemp("large")
    keys = {
        **configured(sink),
    }
    environment = {
        "REGISTRYDIR": "",
        "ENTREPOT_STATEDIR": str(folder / "state"),
        "ENTREPOT_WORKERS": "1",
        "CLEANER_MAXSIZE": "100G",
        "REGISTRY_STORAGE_REDIRECT_DISABLE": "true",
    }
    setup = Setup(
        {"one.test": {"url": upstream}},
        {"storage": {"s3": keys}},
        environment,
        data=folder / "data",
    )
    with Appliance(folder, setup) as running:
        yield running


def _peak(appliance: Appliance) -> int:
    """Return the largest memory that the worker had, in bytes."""
    (worker,) = appliance.workers()
    status = Path(f"/proc/{worker.pid}/status").read_text()
    found = re.search(r"VmHWM:\s+(\d+) kB", status)
    assert found
    return int(found[1]) * 1024


def _stored(sink: Sink, digests: list[Digest]) -> bool:
    sizes = {key.split("/")[-2]: size for key, size in sink.completed.items()}
    return all(sizes.get(digest.hex) == SIZE for digest in digests)


def test_large_pulls_take_little_memory_and_do_not_wait(
    appliance: Appliance, sink: Sink, digests: list[Digest]
) -> None:
    """Clients get all blobs before the slow bucket has stored the last blob.

    The worker's memory stays below 300 MB.
    """

    def pull(digest: Digest) -> bool:
        hasher = digest.hasher()
        with appliance.http.open("GET", blob_path("one.test/big", digest)) as response:
            while chunk := response.read(MB):
                hasher.update(chunk)
        return hasher.hexdigest() == digest.hex

    pulled = digests[:COUNT]
    with ThreadPoolExecutor(COUNT) as pool:
        assert all(pool.map(pull, pulled))
    assert not _stored(sink, pulled)

    eventually(lambda: _stored(sink, pulled), what="all blobs are stored", within=600, pause=1)
    assert _peak(appliance) < MEMORY, _peak(appliance)


def test_large_pushes_take_little_memory(
    appliance: Appliance, sink: Sink, digests: list[Digest]
) -> None:
    """Four concurrent uploads get 201 when the bucket has stored them.

    The worker's memory stays below 300 MB.
    """

    def push(seed: int) -> int:
        where = begin(appliance.http, "team/big")
        return appliance.http.request(
            "PUT",
            f"{where}?digest={digests[seed]}",
            headers={"Content-Length": str(SIZE)},
            body=_chunks(seed),
        ).status

    with ThreadPoolExecutor(COUNT) as pool:
        assert list(pool.map(push, range(COUNT, 2 * COUNT))) == [201] * COUNT

    assert _stored(sink, digests[COUNT:])
    assert _peak(appliance) < MEMORY, _peak(appliance)
