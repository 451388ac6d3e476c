"""A real HAProxy with the project's haproxy.cfg, and a client that can send it any bytes."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self, TypeVar

from entrepot.appliance.supervise.environment import file_share
from entrepot.appliance.supervise.error_files import write_error_files
from entrepot.appliance.supervise.http_environment import http_variables
from entrepot.config.http_settings import HttpSettings
from entrepot.datastore.accesslog import AccessLine, parse
from entrepot.edge import cache_epoch
from entrepot.runtime import run_names
from tests.appliance.stub_worker import StubWorker
from tests.ports import free_port

ROOT = Path(__file__).resolve().parents[2]
SLOTS = 100  # requests that HAProxy sends to a worker at a time
UPLOADS = 4  # how many of the SLOTS are for requests that may have large bodies
SPARE = 2  # how many of the SLOTS are reserved for client addresses with few requests
_ONE_LOG = ("sh", "-c", 'exec "$@" 7>&1 8>&1 9>&1', "sh")  # all threads log to stdout
T = TypeVar("T")


def eventually(condition: Callable[[], T], within: float = 10.0) -> T:
    """Return the first true result of *condition*; fail after *within* seconds."""
    deadline = time.monotonic() + within
    while not (seen := condition()):
        assert time.monotonic() < deadline, f"not within {within} s"
        time.sleep(0.01)
    return seen


@dataclass(frozen=True, slots=True)
class Response:
    """A response that came from HAProxy; the names in `headers` are in lower case."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def parse(cls, raw: bytes) -> Response:
        """Return the complete response *raw*, parsed."""
        head, _, body = raw.partition(b"\r\n\r\n")
        first, *rest = head.decode("latin-1").split("\r\n")
        pairs = (line.partition(":") for line in rest)
        headers = {name.lower(): value.strip() for name, _, value in pairs}
        return cls(int(first.split()[1]), headers, body)


class Haproxy:
    """HAProxy in front of two stand-ins for workers, the second of which may be missing."""

    def __init__(
        self,
        run: Path,
        workers: int = 2,
        certificate: Path | None = None,
        files: int = 4096,
        *,
        write_access: str = "closed",
        credentials: str = "passwords",
        http: HttpSettings | None = None,
        variables: Mapping[str, str] | None = None,
        second_address: str | None = None,
        edge_cache: str = "on",
    ) -> None:
        settings = http or HttpSettings()
        self.run = run
        self.port = free_port()
        if not (run / run_names.CACHE_EPOCH).exists():
            cache_epoch.begin(run)
        write_error_files(run, settings.headers)
        self._log = run / "access.log"
        limited = ("prlimit", f"--nofile={files}:{files}")
        share = file_share(files, SLOTS * workers)
        environment = {
            f"ENTREPOT_WORKER{number}": "enabled" if number <= workers else "disabled"
            for number in range(1, 17)
        } | {
            "PATH": os.environ["PATH"],
            "ENTREPOT_RUN": str(run),
            "ENTREPOT_ADDRESS": ",".join(filter(None, (f"127.0.0.1:{self.port}", second_address))),
            "ENTREPOT_CERTIFICATE": str(certificate or "none"),
            "ENTREPOT_WORKER_MAXCONN": str(SLOTS),
            "ENTREPOT_BLOB_MAXCONN": str(SLOTS),
            "ENTREPOT_UPLOAD_MAXCONN": str(UPLOADS),
            "ENTREPOT_SPARE_MAXCONN": str(SPARE),
            "ENTREPOT_FEW": "4",
            "ENTREPOT_CROWDED": str(share.connections * 7 // 8),
            "ENTREPOT_GUESSES": "60",
            "ENTREPOT_OPEN": write_access,
            "ENTREPOT_CREDENTIALS": credentials,
            "ENTREPOT_EDGE_CACHE": edge_cache,
            "ENTREPOT_MAXCONN": str(share.connections),
            "ENTREPOT_MAXPIPES": str(share.pipes),
        }
        environment |= http_variables(settings) | dict(variables or {})
        with self._log.open("wb") as log, (run / "haproxy.err").open("wb") as errors:
            self._process = subprocess.Popen(
                [*_ONE_LOG, *limited, "haproxy", "-db", "-f", str(ROOT / "haproxy.cfg")],
                env=environment,
                stdout=log,
                stderr=errors,
            )
        try:
            eventually(self._listens)
        except AssertionError:
            self.__exit__()
            raise AssertionError((run / "haproxy.err").read_text()) from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._process.send_signal(signal.SIGTERM)
        self._process.wait(timeout=10)

    def stop_gracefully(self) -> None:
        """Stop HAProxy with the signal that supervisord uses, and wait until it has exited."""
        self._process.send_signal(signal.SIGUSR1)
        self._process.wait(timeout=10)

    def send_raw(self, raw: bytes) -> Response:
        """Send raw bytes, and read the response until HAProxy closes the connection."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=10) as connection:
            received = bytearray()
            # a server that refuses a request early does not read the rest of the request's body
            with suppress(ConnectionError):
                connection.sendall(raw)
            with suppress(ConnectionError):
                while piece := connection.recv(65536):
                    received += piece
            return Response.parse(bytes(received))

    def request(self, target: str, *headers: str, method: str = "GET") -> Response:
        """Send one request with the given header lines."""
        lines = [f"{method} {target} HTTP/1.1", "Host: localhost", "Connection: close", *headers]
        return self.send_raw("\r\n".join([*lines, "", ""]).encode("latin-1"))

    def lines(self, mark: str) -> list[AccessLine]:
        """Return the lines of HAProxy's access log whose URI contains *mark*."""
        raw = self._log.read_bytes().splitlines(keepends=True)
        parsed = [parse(line) for line in raw if line.endswith(b"\n")]
        return [line for line in parsed if mark in line.uri]

    def line(self, mark: str) -> AccessLine:
        """Wait for a line of HAProxy's access log whose URI contains *mark*, and return it."""
        return eventually(lambda: self.lines(mark))[0]

    def admin(self, command: str) -> str:
        """Send a command to HAProxy's admin socket, and return the response."""
        with socket.socket(socket.AF_UNIX) as connection:
            connection.connect(str(self.run / run_names.ADMIN_SOCKET))
            connection.sendall(command.encode() + b"\n")
            return b"".join(iter(lambda: connection.recv(65536), b"")).decode()

    def active_requests(self, backend: str) -> int:
        """Return how many requests of *backend* the workers handle, without queued requests."""
        rows = self.admin("show stat").splitlines()
        names = rows[0].removeprefix("# ").split(",")
        stats = [dict(zip(names, row.split(","), strict=False)) for row in rows[1:] if row]
        own = [each for each in stats if each["pxname"] == backend]
        return sum(int(each["scur"]) for each in own if each["svname"].startswith("worker"))

    def is_up(self, stub_worker: int) -> bool:
        """Return True if HAProxy's health check regards the stand-in *stub_worker* as alive."""
        rows = self.admin("show stat").splitlines()
        names = rows[0].removeprefix("# ").split(",")
        stats = (dict(zip(names, row.split(","), strict=False)) for row in rows[1:] if row)
        found = next(each for each in stats if each["svname"] == f"worker{stub_worker}")
        return found["status"].startswith("UP")

    def _listens(self) -> bool:
        try:
            socket.create_connection(("127.0.0.1", self.port), timeout=1).close()
        except OSError:
            return False
        # HAProxy creates the admin socket after the listener, so both exist if the socket does
        return (self.run / run_names.ADMIN_SOCKET).exists()


def stub_worker(run: Path, number: int, headers: Mapping[str, str] | None = None) -> StubWorker:
    """Return the stand-in for worker *number* of the HAProxy in *run*."""
    return StubWorker(run / f"worker{number}.sock", headers)
