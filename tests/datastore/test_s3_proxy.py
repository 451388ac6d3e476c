"""Tests that requests to a bucket go through the proxy that the environment variables name."""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.drivers.s3 import bucket_of
from entrepot.runtime.run_names import PROXIES
from tests.s3_front import S3Front
from tests.s3_storage import parameters
from tests.serving import EndsAtOnce

pytestmark = pytest.mark.slow


class Proxy(EndsAtOnce, ThreadingHTTPServer):
    """A `Proxy` is an HTTP proxy that responds to each HEAD with 404, and records the requests."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.requests: list[tuple[str, str | None]] = []

    @property
    def address(self) -> str:
        """Return host and port of the proxy."""
        return f"127.0.0.1:{self.server_address[1]}"


class _Handler(BaseHTTPRequestHandler):
    def do_HEAD(self) -> None:
        assert isinstance(self.server, Proxy)
        self.server.requests.append((self.path, self.headers["Proxy-Authorization"]))
        self.send_response(404)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_: object) -> None:
        """Print nothing."""


@pytest.fixture
def proxy(monkeypatch: pytest.MonkeyPatch) -> Iterator[Proxy]:
    """Run a proxy, and remove the environment variables for other proxies."""
    for name in ("http_proxy", "HTTP_PROXY", "no_proxy", "NO_PROXY", "ENTREPOT_RUN"):
        monkeypatch.delenv(name, raising=False)
    with Proxy() as running:
        thread = threading.Thread(target=running.serve_forever)
        thread.start()
        yield running
        running.shutdown()
        thread.join()


def _client(s3: S3Front, tmp_path: Path, endpoint: str) -> ObjectClient:
    keys = dict(parameters(s3, tmp_path, regionendpoint=endpoint, forcepathstyle=True))
    return ObjectClient(bucket_of(keys))


def test_requests_go_through_the_proxy(
    s3: S3Front, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If HTTP_PROXY is set, requests to the bucket are sent to this proxy."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")

    assert _client(s3, tmp_path, "http://s3.invalid:9000").head("key") is None
    assert [(path.partition("?")[0], login) for path, login in proxy.requests] == [
        (f"http://s3.invalid:9000/{s3.bucket}/key", None)
    ]


def test_the_login_of_the_proxy_comes_from_the_run_directory(
    s3: S3Front, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The user and the password for the proxy come from a file in the run directory.

    `serve` writes this file, and removes the password from the environment variables.
    """
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("ENTREPOT_RUN", str(tmp_path))
    url = f"http://ann:secret@{proxy.address}"
    (tmp_path / PROXIES).write_text(json.dumps({"proxies": {"http": url}, "exempt": []}))

    assert _client(s3, tmp_path, "http://s3.invalid:9000").head("key") is None
    login = "Basic " + base64.b64encode(b"ann:secret").decode()
    assert [found for _, found in proxy.requests] == [login]


@pytest.mark.parametrize("exempt", ["", "*"])
def test_a_bucket_on_loopback_needs_no_proxy(
    s3: S3Front, tmp_path: Path, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, exempt: str
) -> None:
    """Requests to a bucket on the same machine are not sent to a proxy, even without NO_PROXY."""
    monkeypatch.setenv("HTTP_PROXY", f"http://{proxy.address}")
    monkeypatch.setenv("NO_PROXY", exempt)

    assert _client(s3, tmp_path, s3.url).head("key") is None
    assert proxy.requests == []
