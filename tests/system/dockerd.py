"""Runs dockerd in a network namespace, without the bridge docker0 and without firewall rules.

The tests control dockerd through its API.
"""

from __future__ import annotations

import base64
import http.client
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Any, Self
from urllib.parse import quote, urlencode

from entrepot.runtime.unix_http import UnixConnection
from tests.system import netns, processes
from tests.system.netns import Ways
from tests.system.pullers import PullFailed
from tests.system.waiting import eventually

_TIMEOUT_S = 120
_API = "/v1.41"
_NO_LOGIN = base64.urlsafe_b64encode(b"{}").decode()
_OPTIONS = (
    "--bridge=none",
    "--iptables=false",
    "--ip6tables=false",
    "--storage-driver=vfs",
)


class Dockerd:
    """A dockerd that `configure` starts; it can connect only to the ports in *ways*.

    *ways* maps ports of the namespace's loopback to ports of the machine's loopback. The host names
    *names* resolve to loopback. The process trusts the CA *ca* in addition to the authorities in
    its configuration. *folder* must have a short path, because sockets are below it.
    """

    reads = "docker"

    def __init__(
        self,
        folder: Path,
        *,
        ways: Mapping[int, int],
        names: Sequence[str] = (),
        ca: Path | None = None,
    ) -> None:
        self._folder = folder
        self._log = folder / "dockerd.log"
        self._socket = folder / "socket"
        self._ports = dict(ways)
        self._ca = ca or Path("/dev/null")
        self._stack = ExitStack()
        self.ways: Ways | None = None
        self._process: subprocess.Popen[bytes] | None = None
        (folder / "hosts").write_text(f"127.0.0.1 localhost {' '.join(names)}\n")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stop()

    def configure(self, tree: Path) -> None:
        """Restart dockerd with the files of *tree*/etc/docker in the place of /etc/docker."""
        self._stop()
        places = {self._folder / "hosts": "/etc/hosts", tree / "etc" / "docker": "/etc/docker"}
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                netns.inside(places, self._argv()),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=processes.clean_environment({"SSL_CERT_FILE": str(self._ca)}),
            )
        self.ways = self._stack.enter_context(Ways(self._process.pid, self._ports))
        eventually(self._answers, what=f"dockerd is up, see {self._log}", within=30)

    def version(self) -> str:
        """Return dockerd's version."""
        return str(json.loads(self._ask("GET", "/version"))["Version"])

    def pull(self, image: str, login: str = "") -> set[str]:
        """Pull an image, and return its ID, which is the digest of its config.

        dockerd gets *login* (user:password) with the request, as from a client after `docker
        login`.
        """
        path = f"/images/create?{urlencode({'fromImage': image})}"
        _check_progress(self._ask("POST", path, _registry_auth(image, login) if login else {}))
        return {str(json.loads(self._ask("GET", f"/images/{quote(image)}/json"))["Id"])}

    def push(self, image: str, repository: str, tag: str, login: str = "") -> None:
        """Tag the pulled *image* as *repository*:*tag* and push it; *login* is user:password."""
        target = urlencode({"repo": repository, "tag": tag})
        self._ask("POST", f"/images/{quote(image)}/tag?{target}")
        path = f"/images/{quote(repository)}/push?{urlencode({'tag': tag})}"
        no_login = {"X-Registry-Auth": _NO_LOGIN}
        headers = _registry_auth(repository, login) if login else no_login
        _check_progress(self._ask("POST", path, headers))

    def login(self, registry: str, login: str) -> bool:
        """Return True if `docker login` accepts *login* (user:password)."""
        username, _, password = login.partition(":")
        body = {"username": username, "password": password, "serveraddress": registry}
        try:
            self._ask("POST", "/auth", {"Content-Type": "application/json"}, json.dumps(body))
        except PullFailed:
            return False
        return True

    def forget(self) -> None:
        """Remove every image of dockerd."""
        for each in json.loads(self._ask("GET", "/images/json?all=1")):
            # dockerd removes a parent image together with its child, so this image may be gone
            # already.
            with suppress(PullFailed):
                self._ask("DELETE", f"/images/{each['Id']}?force=1")

    def _argv(self) -> list[str]:
        at = self._folder
        places = [f"--data-root={at}/data", f"--exec-root={at}/exec", f"--pidfile={at}/pid"]
        socket = f"--host=unix://{self._socket}"
        return ["dockerd", socket, *places, *_OPTIONS]

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

    def _ask(
        self, method: str, path: str, headers: Mapping[str, str] | None = None, body: str = ""
    ) -> str:
        connection = UnixConnection(self._socket, _TIMEOUT_S)
        try:
            connection.request(method, f"{_API}{path}", body or None, headers or {})
            response = connection.getresponse()
            text = response.read().decode()
            if response.status >= 400:
                raise PullFailed(_message(text))
            return text
        finally:
            connection.close()


def _check_progress(text: str) -> None:
    """Look for an error in the progress lines of a pull or a push.

    Raises: PullFailed if dockerd reports an error.
    """
    for line in text.splitlines():
        if "error" in (progress := json.loads(line)):
            raise PullFailed(progress["error"])


def _registry_auth(image: str, login: str) -> dict[str, str]:
    username, _, password = login.partition(":")
    host = image.partition("/")[0]
    text = json.dumps({"username": username, "password": password, "serveraddress": host})
    return {"X-Registry-Auth": base64.urlsafe_b64encode(text.encode()).decode()}


def _message(text: str) -> str:
    try:
        response: Any = json.loads(text)
    except ValueError:
        return text
    return str(response.get("message", text))
