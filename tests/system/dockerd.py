"""dockerd in a network of its own, driven by its API: no docker0, no rules, no client program."""

from __future__ import annotations

import http.client
import json
import shutil
import socket
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from tests.system import netns, processes
from tests.system.netns import Ways
from tests.system.pullers import PullFailed
from tests.system.waiting import eventually

_PATIENCE = 120
_API = "/v1.41"
_QUIET = ("--bridge=none", "--iptables=false", "--ip6tables=false", "--storage-driver=vfs")


class Dockerd:
    """A dockerd that is started by `configure`; it reaches no more than *ways* (port to port).

    *names* are hosts that are this machine to it, *ca* is all that it trusts. *folder* must have
    a short path, for there are sockets below it.
    """

    reads = "docker"

    def __init__(
        self, folder: Path, *, ways: Mapping[int, int], names: Sequence[str] = (), ca: Path
    ) -> None:
        self._folder = folder
        self._log = folder / "dockerd.log"
        self._socket = folder / "socket"
        self._ports = dict(ways)
        self._ca = ca
        self._stack = ExitStack()
        self.ways: Ways | None = None
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(names)}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def configure(self, tree: Path) -> None:
        """Start it anew, with daemon.json and certs.d of *tree*."""
        self._stop()
        file = tree / "etc" / "docker" / "daemon.json"
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                netns.inside(self._folder / "hosts", self._argv(file)),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=processes.clean_environment({"SSL_CERT_FILE": str(self._ca)}),
            )
        self.ways = self._stack.enter_context(Ways(self._process.pid, self._ports))
        eventually(self._answers, what=f"dockerd is up, see {self._log}", within=30)

    def version(self) -> str:
        """Return its version."""
        return str(json.loads(self._ask("GET", "/version"))["Version"])

    def pull(self, image: str) -> set[str]:
        """Pull, and return the image's ID, which is the config's digest."""
        told = self._ask("POST", f"/images/create?{urlencode({'fromImage': image})}")
        for line in told.splitlines():
            if "error" in (said := json.loads(line)):
                raise PullFailed(said["error"])
        return {str(json.loads(self._ask("GET", f"/images/{quote(image)}/json"))["Id"])}

    def forget(self) -> None:
        """Remove every image."""
        for each in json.loads(self._ask("GET", "/images/json?all=1")):
            with suppress(PullFailed):  # another one's parent, gone with it
                self._ask("DELETE", f"/images/{each['Id']}?force=1")

    def _argv(self, file: Path) -> list[str]:
        at = self._folder
        places = [f"--data-root={at}/data", f"--exec-root={at}/exec", f"--pidfile={at}/pid"]
        return [
            "dockerd",
            f"--config-file={file}",
            f"--host=unix://{self._socket}",
            *places,
            *_QUIET,
        ]

    def _stop(self) -> None:
        self._stack.close()
        if self._process is None:
            return
        self._process.terminate()
        self._process.wait(timeout=60)
        self._process = None
        shutil.rmtree(self._folder / "data", ignore_errors=True)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        with suppress(OSError, http.client.HTTPException):
            return self._ask("GET", "/_ping") == "OK"
        return False

    def _ask(self, method: str, path: str) -> str:
        connection = _UnixConnection(self._socket)
        try:
            connection.request(method, f"{_API}{path}")
            response = connection.getresponse()
            text = response.read().decode()
            if response.status >= 400:
                raise PullFailed(_message(text))
            return text
        finally:
            connection.close()


class _UnixConnection(http.client.HTTPConnection):
    """HTTP over a socket in the file system."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost", timeout=_PATIENCE)
        self._path = path

    def connect(self) -> None:
        """Connect to the file."""
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(str(self._path))


def _message(text: str) -> str:
    try:
        answer: Any = json.loads(text)
    except ValueError:
        return text
    return str(answer.get("message", text))
