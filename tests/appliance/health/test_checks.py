"""Tests each kind of health check: of a file, a URI, an address, or the storage."""

from __future__ import annotations

import errno
import socket
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from entrepot.appliance.health.checks import (
    configured,
    file_fault,
    http_fault,
    storage_fault,
    tcp_fault,
)
from entrepot.config.health import HttpCheck, TcpCheck
from entrepot.config.schema import Settings
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.errors import StorageBroken
from entrepot.datastore.storage import Stat
from tests.ports import free_port
from tests.serving import EndsAtOnce


class _Handler(BaseHTTPRequestHandler):
    """Responds to HEAD with the status in the path, such as 204 for /204.

    /moved redirects to /200, and /loop redirects to itself. `seen` records each request.
    """

    seen: list[tuple[str, str, list[str] | None]]

    def do_HEAD(self) -> None:
        self.seen.append((self.command, self.path, self.headers.get_all("X-Key")))
        moved = {"/moved": "/200", "/loop": "/loop"}.get(self.path)
        self.send_response(302 if moved else int(self.path.strip("/")))
        if moved:
            self.send_header("Location", moved)
        self.end_headers()

    def log_message(self, *_: object) -> None:
        pass


class _Server(EndsAtOnce, ThreadingHTTPServer):
    pass


@pytest.fixture
def server() -> Iterator[str]:
    """Return the URL of a server that answers HEAD requests."""
    _Handler.seen = []
    with _Server(("127.0.0.1", 0), _Handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


class _BrokenStorage(MemoryStorage):
    """A storage whose operations all fail."""

    def stat(self, key: str) -> Stat | None:
        raise StorageBroken(f"{key}: {errno.errorcode[errno.EIO]}")


def test_a_file_that_exists_is_a_fault(tmp_path: Path) -> None:
    """A file check fails while its file exists; operators create the file to stop all requests."""
    path = tmp_path / "down"

    assert not file_fault(path)
    path.touch()
    assert file_fault(path) == "file exists"


def test_a_file_that_cannot_be_looked_at_is_a_fault(tmp_path: Path) -> None:
    """A file check fails if its path is below a file, as in docker distribution.

    For such a path the system reports "not a directory" instead of "no such file".
    """
    (tmp_path / "file").touch()

    assert file_fault(tmp_path / "file" / "down") == "not a directory"


def test_a_storage_with_an_error_is_a_fault_and_an_empty_one_is_none() -> None:
    """The storage check only needs a response without an error; the storage may be empty."""
    assert not storage_fault(MemoryStorage())
    assert "EIO" in storage_fault(_BrokenStorage())


@pytest.mark.parametrize(
    ("path", "expected", "fault"),
    [
        ("/200", 200, ""),
        ("/moved", 200, ""),
        ("/204", 204, ""),
        ("/503", 200, "unexpected status: 503"),
        ("/200", 204, "unexpected status: 200"),
        ("/loop", 200, "error while checking"),
    ],
)
def test_a_uri_must_answer_a_head_request_with_the_status(
    server: str, path: str, expected: int, fault: str
) -> None:
    """A check of a URI sends HEAD, follows redirects, and compares the status with `statuscode`."""
    found = http_fault(HttpCheck(f"{server}{path}", statuscode=expected))

    assert fault in found
    assert bool(fault) == bool(found)
    assert {method for method, *_ in _Handler.seen} == {"HEAD"}


def test_a_uri_gets_every_configured_header(server: str) -> None:
    """A health check of a URI sends each value of a configured header, in the configured order."""
    http_fault(HttpCheck(f"{server}/200", headers={"X-Key": ["a", "b"]}))

    assert _Handler.seen == [("HEAD", "/200", ["a", "b"])]


def test_the_reason_has_no_password_of_the_uri() -> None:
    """The reason of a failed check contains no password of a URI: anyone may read the reason."""
    found = http_fault(HttpCheck(f"http://ann:secret@127.0.0.1:{free_port()}/", timeout=1))

    assert "connection refused" in found.lower()
    assert "secret" not in found


def test_an_address_must_accept_a_connection() -> None:
    """A health check of an address only connects, and sends nothing."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        assert not tcp_fault(TcpCheck(f"127.0.0.1:{server.getsockname()[1]}"))

    assert "connection refused" in tcp_fault(TcpCheck(f"127.0.0.1:{free_port()}"))


def test_a_server_that_never_answers_is_left_after_the_timeout() -> None:
    """A health check ends with its time-out if the server accepts the connection and is silent."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        uri = f"http://127.0.0.1:{server.getsockname()[1]}/"

        assert "timed out" in http_fault(HttpCheck(uri, timeout=0.05)).lower()


def test_each_check_has_the_name_that_docker_distribution_gives_it(tmp_path: Path) -> None:
    """Health checks have the names that docker distribution shows at /debug/health."""
    settings = Settings.from_tree(
        {
            "storage": {"filesystem": {"rootdirectory": str(tmp_path)}},
            "health": {
                "storagedriver": {"enabled": "true", "interval": "1s", "threshold": "3"},
                "file": [{"file": "/down"}],
                "http": [{"uri": "http://ann:secret@a.test/"}],
                "tcp": [{"addr": "a.test:1", "timeout": "3s"}],
            },
        }
    )
    found = list(configured(settings))

    names = [each.name for each in found]
    assert names == ["storagedriver_filesystem", "/down", "http://***@a.test/", "a.test:1"]
    assert names == list(settings.health.names("filesystem"))
    assert [each.threshold for each in found] == [3, 0, 0, 0]
    assert [each.look() for each in found[:2]] == ["", ""]


def test_without_a_section_there_is_no_check() -> None:
    """Without a section `health` nothing is checked."""
    assert not list(configured(Settings()))
    assert not Settings().health.has_checks
