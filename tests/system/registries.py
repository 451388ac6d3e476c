"""Debian's docker-registry on loopback as an upstream: public, with passwords, tokens, or TLS."""

from __future__ import annotations

import re
import ssl
import subprocess
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Self

import bcrypt
import yaml

from entrepot.datastore.refs import Digest
from tests import images
from tests.images import Family, Image
from tests.ports import free_port
from tests.system import processes
from tests.system.certificates import Authority
from tests.system.http_client import HttpClient, Response, listens
from tests.system.tokens import ISSUER, SERVICE, TokenServer
from tests.system.waiting import eventually

_REQUEST = re.compile(r'"(?P<method>[A-Z]+) (?P<target>\S+) HTTP/1\.1" (?P<status>\d{3}) ')


class Registry:
    """A docker-registry that a test can stop and restart on the same port.

    *storage* is its data directory; *settings* are merged into its configuration. If *tokens* is
    given, `push` uses a token of this token server.
    """

    def __init__(
        self,
        folder: Path,
        *,
        storage: Path | None = None,
        settings: Mapping[str, Any] | None = None,
        login: str | None = None,
        tls: ssl.SSLContext | None = None,
        tokens: TokenServer | None = None,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.http = HttpClient(free_port(), login=login, tls=tls)
        self._tokens = tokens
        self.log = folder / "registry.log"
        self._file = folder / "registry.yml"
        written = _configuration(self.http, storage or folder / "storage", settings or {})
        self._file.write_text(yaml.safe_dump(written))
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def url(self) -> str:
        """Return the URL of the registry, for the setting `url` of an upstream."""
        return f"{'https' if self.http.tls else 'http'}://{self.http.netloc}"

    def start(self) -> None:
        """Start the registry, and wait until it accepts connections."""
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                ["docker-registry", "serve", str(self._file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=processes.clean_environment({}),
            )
        eventually(lambda: listens(self.http.port), what=f"docker-registry listens, see {self.log}")

    def stop(self) -> None:
        """Kill the registry, as in an outage.

        Open connections break, and new ones are refused.
        """
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def requests(self) -> list[tuple[str, str, int]]:
        """Return method, target and status of all requests that the registry received so far."""
        found = _REQUEST.finditer(self.log.read_text(errors="replace"))
        return [(each["method"], each["target"], int(each["status"])) for each in found]

    def push(self, repository: str, tag: str, image: Image) -> Image:
        """Push an image to the registry, and return the image."""
        for blob in image.blobs:
            self._push_blob(repository, blob)
        self._put_manifest(repository, tag, image.manifest, image.media_type)
        return image

    def push_index(
        self, repository: str, tag: str, children: Sequence[Image], family: Family = "oci"
    ) -> Digest:
        """Push an index and its images, and return the index's digest."""
        for child in children:
            self.push(repository, str(child.digest), child)
        body, media_type = images.index(children, family)
        self._put_manifest(repository, tag, body, media_type)
        return Digest.of(body)

    def _push_blob(self, repository: str, content: bytes) -> None:
        path = f"/v2/{repository}/blobs"
        if self._may(repository).head(f"{path}/{Digest.of(content)}").status == 200:
            return
        upload = self._write("POST", repository, f"{path}/uploads/")
        target = "/v2/" + upload.headers["location"].partition("/v2/")[2]
        self._write("PUT", repository, f"{target}&digest={Digest.of(content)}", body=content)

    def _put_manifest(self, repository: str, tag: str, body: bytes, media_type: str) -> None:
        path = f"/v2/{repository}/manifests/{tag}"
        self._write("PUT", repository, path, body=body, media_type=media_type)

    def _write(
        self,
        method: str,
        repository: str,
        path: str,
        *,
        body: bytes = b"",
        media_type: str = "application/octet-stream",
    ) -> Response:
        http = self._may(repository)
        response = http.request(method, path, body=body, headers={"Content-Type": media_type})
        assert response.status in (201, 202), (method, path, response.status, response.body)
        return response

    def _may(self, repository: str) -> HttpClient:
        """Return an HTTP client with the right to push to *repository*."""
        if self._tokens is None:
            return self.http
        return replace(self.http, bearer=self._tokens.token([f"repository:{repository}:pull,push"]))


def token_registry(folder: Path, tokens: TokenServer) -> Registry:
    """Return a registry that accepts the tokens of the server *tokens*."""
    folder.mkdir(parents=True, exist_ok=True)
    bundle = folder / "tokens.pem"
    bundle.write_bytes(tokens.pair.pem())
    token = {
        "realm": tokens.realm,
        "service": SERVICE,
        "issuer": ISSUER,
        "rootcertbundle": str(bundle),
    }
    return Registry(folder, settings={"auth": {"token": token}}, tokens=tokens)


def basic_registry(folder: Path, login: str) -> Registry:
    """Return a registry that accepts only *login* (user:password)."""
    folder.mkdir(parents=True, exist_ok=True)
    path = htpasswd(folder / "htpasswd", login)
    auth = {"htpasswd": {"realm": "upstream", "path": str(path)}}
    return Registry(folder, settings={"auth": auth}, login=login)


def tls_registry(folder: Path, authority: Authority) -> Registry:
    """Return a registry whose certificate *authority* signed; write the CA to *folder*/ca.pem."""
    certificate, key = authority.issue().write(folder)
    context = ssl.create_default_context(cafile=str(authority.write(folder / "ca.pem")))
    tls = {"tls": {"certificate": str(certificate), "key": str(key)}}
    return Registry(folder, settings={"http": tls}, tls=context)


def htpasswd(path: Path, *logins: str, cost: int = 5) -> Path:
    """Replace the htpasswd file *path*; write one line for each user:password of *logins*."""
    lines = []
    for login in logins:
        user, _, password = login.partition(":")
        lines.append(f"{user}:{bcrypt.hashpw(password.encode(), bcrypt.gensalt(cost)).decode()}\n")
    path.write_text("".join(lines))
    return path


def _configuration(http: HttpClient, storage: Path, settings: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "version": 0.1,
        "log": {"level": "warn"},
        "storage": {"filesystem": {"rootdirectory": str(storage)}, "delete": {"enabled": True}},
        **settings,
        "http": {"addr": http.netloc, **settings.get("http", {})},
    }
