"""Run Chromium on a page of the test, and collect the results that the page's script sends."""

from __future__ import annotations

import json
import shutil
import subprocess
import tempfile
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final, Self

import pytest

from tests.system import processes
from tests.system.waiting import eventually

_FLAGS: Final = (
    "--headless=new",
    "--no-sandbox",  # Chromium's sandbox does not work as root; the pages of the tests are harmless
    "--disable-gpu",
    "--disable-dev-shm-usage",
    "--disable-background-networking",
    "--no-first-run",
)
_WITHIN = 60.0


class PageServer:
    """An HTTP server on loopback with pages, whose scripts POST their results to `/report/NAME`.

    `localhost` and `127.0.0.1` are two origins for the browser.
    """

    def __init__(self) -> None:
        self.pages: dict[str, str] = {}
        self.reports: dict[str, Any] = {}
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), self._handler())
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))

    @property
    def port(self) -> int:
        """Return the port of the server; both origins have this port."""
        return int(self._server.server_address[1])

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def _handler(self) -> type[BaseHTTPRequestHandler]:
        pages, reports = self.pages, self.reports

        class Handler(BaseHTTPRequestHandler):
            """Sends the test's pages to the browser, and stores the results that the pages POST."""

            def do_GET(self) -> None:
                page = pages.get(self.path)
                self._send(200 if page is not None else 404, (page or "").encode())

            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                reports[self.path.removeprefix("/report/")] = json.loads(body)
                self._send(200, b"")

            def _send(self, status: int, body: bytes) -> None:
                self.send_response(status)
                self.send_header("Content-Type", "text/html; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                """Log nothing."""

        return Handler


def visit(server: PageServer, url: str, *names: str) -> Mapping[str, Any]:
    """Open *url* in Chromium, wait for the results *names*, and return all results."""
    with _chromium(url):
        eventually(
            lambda: set(names) <= server.reports.keys(),
            what=f"reports of {', '.join(names)}, there are {sorted(server.reports)}",
            within=_WITHIN,
        )
    return server.reports


@contextmanager
def _chromium(url: str) -> Iterator[None]:
    program = shutil.which("chromium")
    if program is None:
        pytest.skip("chromium is needed: as root, sh appliance/packages.sh test")
    with tempfile.TemporaryDirectory(prefix="cr-", ignore_cleanup_errors=True) as profile:
        running = subprocess.Popen(
            [program, *_FLAGS, f"--user-data-dir={profile}", url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=processes.clean_environment({"HOME": profile}),
        )
        try:
            yield
        finally:
            running.terminate()
            running.wait(timeout=20)
