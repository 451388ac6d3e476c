"""Pulls over plain HTTP as a client does: manifest, config, layers; all digests are verified."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from http import HTTPStatus
from http.client import HTTPException
from typing import Self
from urllib.parse import urlsplit

from entrepot.datastore import manifest
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from tests.system.http_client import HttpClient, Response


def manifest_path(name: str, reference: object) -> str:
    """Return the path of a manifest."""
    return f"/v2/{name}/manifests/{reference}"


def blob_path(name: str, digest: object) -> str:
    """Return the path of a blob."""
    return f"/v2/{name}/blobs/{digest}"


def pull_manifest(http: HttpClient, name: str, reference: object) -> Response:
    """Fetch a manifest, which must exist and match its digest."""
    response = http.get(manifest_path(name, reference))
    assert response.status == 200, (name, reference, response.status, response.body)
    assert response.headers["docker-content-digest"] == str(Digest.of(response.body))
    return response


def get_blob(http: HttpClient, name: str, digest: Digest, **headers: str) -> Response:
    """GET a blob; follow a redirect, and ask the appliance again if the redirect leads nowhere.

    Docker, podman and containerd follow redirects, and repeat a request that failed.
    """
    response = http.get(blob_path(name, digest), **headers)
    if response.status != HTTPStatus.TEMPORARY_REDIRECT:
        return response
    to = urlsplit(response.headers["location"])
    storage = HttpClient(to.port or 80, to.hostname or "")
    try:
        found = storage.get(f"{to.path}?{to.query}", **headers)
    except (OSError, HTTPException):
        return http.get(blob_path(name, digest), **headers)
    is_refused = found.status in {HTTPStatus.FORBIDDEN, HTTPStatus.SERVICE_UNAVAILABLE}
    return http.get(blob_path(name, digest), **headers) if is_refused else found


def pull_blob(http: HttpClient, name: str, digest: Digest) -> bytes:
    """Fetch a blob, which must exist and match its digest."""
    response = get_blob(http, name, digest)
    assert response.status == 200, (name, digest, response.status, response.body)
    assert Digest.of(response.body) == digest
    return response.body


def pull(http: HttpClient, name: str, reference: object) -> list[Digest]:
    """Fetch an image with all its parts, and return their digests, the manifest's first.

    If the reference leads to an index, fetch the images of all its platforms too.
    """
    response = pull_manifest(http, name, reference)
    read = manifest.parse(response.body, response.headers["content-type"])
    for digest in read.parts():
        if read.kind is ContentKind.INDEX:
            pull(http, name, digest)
        else:
            pull_blob(http, name, digest)
    return [Digest.of(response.body), *read.parts()]


class Reader(threading.Thread):
    """A `Reader` downloads one path in a thread; `is_whole` is true after a complete body."""

    def __init__(self, http: HttpClient, path: str) -> None:
        super().__init__(daemon=True)
        self._http = http
        self._path = path
        self.status = 0
        self.received = bytearray()
        self.is_whole = False

    def run(self) -> None:
        """Read until the end of the response's body, or until the connection breaks."""
        try:
            with self._http.open("GET", self._path) as response:
                self.status = response.status
                while piece := response.read1(65536):
                    self.received += piece
                announced = response.getheader("Content-Length")
                self.is_whole = announced in (None, str(len(self.received)))
        except (OSError, HTTPException):
            self.is_whole = False

    def begin(self) -> Self:
        """Start, and return the reader."""
        self.start()
        return self

    def end(self) -> Self:
        """Wait for the end of the reader's download, and return the reader."""
        self.join(timeout=60)
        assert not self.is_alive(), f"a download hangs: {self._path}"
        return self

    def has(self, digest: Digest) -> bool:
        """Return whether the reader received all content of *digest*."""
        return self.status == 200 and self.is_whole and Digest.of(bytes(self.received)) == digest


def end_all(readers: Sequence[Reader]) -> None:
    """Wait for the end of all readers' downloads."""
    for reader in readers:
        reader.end()
