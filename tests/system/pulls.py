"""Pulls over plain HTTP: manifest, config and layers, each compared with its digest."""

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
    """Request a manifest, assert status 200 and the right digest, and return the response."""
    response = http.get(manifest_path(name, reference))
    assert response.status == 200, (name, reference, response.status, response.body)
    assert response.headers["docker-content-digest"] == str(Digest.of(response.body))
    return response


def get_blob(http: HttpClient, name: str, digest: Digest, **headers: str) -> Response:
    """GET a blob and follow a redirect; if the redirect's URL fails, repeat the first request.

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
    """Request a blob, assert status 200 and the right digest, and return the blob's bytes."""
    response = get_blob(http, name, digest)
    assert response.status == 200, (name, digest, response.status, response.body)
    assert Digest.of(response.body) == digest
    return response.body


def pull(http: HttpClient, name: str, reference: object) -> list[Digest]:
    """Pull an image with all its parts; return the digests of the manifest and of its parts.

    If *reference* leads to an index, pull the images of all its platforms as well.
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
    """A thread that downloads one path; `is_whole` is True after a complete body."""

    def __init__(self, http: HttpClient, path: str) -> None:
        super().__init__(daemon=True)
        self._http = http
        self._path = path
        self.status = 0
        self.received = bytearray()
        self.is_whole = False

    def run(self) -> None:
        """Read the body of the response until its end, or until the connection breaks."""
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
        """Start the download, and return this reader."""
        self.start()
        return self

    def end(self) -> Self:
        """Wait for the end of the download, at most 60 s, and return this reader."""
        self.join(timeout=60)
        assert not self.is_alive(), f"a download hangs: {self._path}"
        return self

    def has(self, digest: Digest) -> bool:
        """Return True if the response was complete and its bytes have *digest*."""
        return self.status == 200 and self.is_whole and Digest.of(bytes(self.received)) == digest


def end_all(readers: Sequence[Reader]) -> None:
    """Wait for the end of each reader's download."""
    for reader in readers:
        reader.end()
