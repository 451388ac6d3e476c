"""Uploads of blobs (OCI distribution-spec 1.1, end-4 to end-6, end-11, end-13 and end-14)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import falcon

from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.refs import ALGORITHMS, Digest, Repository
from entrepot.registry.api import etags_and_ranges, request_body
from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.errors import ChunkMisplaced
from entrepot.registry.push.uploads import BlobUploads

_BEGINNING = ("POST",)
_GOING_ON = ("GET", "HEAD", "PATCH", "PUT", "DELETE")


class BeginningResource:
    """`/v2/<name>/blobs/uploads/`."""

    def __init__(self, authorization: Authorization, uploads: BlobUploads) -> None:
        self._authorization = authorization
        self._uploads = uploads

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Begin an upload, or make a blob at once: by mounting it, or of the body."""
        repository = _entered(self._authorization, req, resp, name)
        mounted = self._mounted(req, repository)
        digest = req.get_param("digest")
        if mounted:
            _created(resp, repository, mounted)
        elif digest:
            wanted = Digest.parse(digest)
            self._uploads.upload_monolithic(
                repository, request_body.body(req), wanted, self._owner(req)
            )
            _created(resp, repository, wanted)
        else:
            number = self._uploads.begin(repository, _algorithm(req), self._owner(req))
            _accepted(resp, repository, number, 0)

    def _owner(self, req: falcon.Request) -> str:
        """Return whose upload it is: a user's, or an address's where there are no users."""
        user: str | None = req.context.identity.user
        return f"@{self._authorization.edge.asker(req).address}" if user is None else user

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Refuse: nobody lists uploads."""
        self._authorization.refuse(req, resp, name, _BEGINNING)

    on_put = on_patch = on_delete = on_get

    def _mounted(self, req: falcon.Request, target: Repository) -> Digest | None:
        """Link the blob that was asked for, if it is where the sender may read it."""
        mount, source = req.get_param("mount"), req.get_param("from")
        if not mount:
            return None
        digest = Digest.parse(mount)
        if not source:
            is_done = self._uploads.mount_any(target, digest, self._may_read(req))
            return digest if is_done else None
        resolved = self._authorization.readable(req, source)
        if resolved is None or not self._uploads.mount(target, resolved.repository, digest):
            return None
        return digest

    def _may_read(self, req: falcon.Request) -> Callable[[Repository], bool]:
        return lambda name: self._authorization.readable(req, name.name) is not None


class UploadResource:
    """`/v2/<name>/blobs/uploads/<upload>`."""

    def __init__(self, authorization: Authorization, uploads: BlobUploads) -> None:
        self._authorization = authorization
        self._uploads = uploads

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Tell how far an upload has come."""
        repository = _entered(self._authorization, req, resp, name)
        offset = self._uploads.offset(repository, upload)
        _accepted(resp, repository, upload, offset)
        resp.status = falcon.HTTP_204

    def on_patch(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Take a chunk in, or a stream without an announced length."""
        repository = _entered(self._authorization, req, resp, name)
        part = etags_and_ranges.parse_upload_range(req.get_header("Content-Range"))
        body = request_body.body(req, part)
        with _told_where(resp, repository, upload):
            start = part.start if part else None
            offset = self._uploads.append(repository, upload, body, start)
        _accepted(resp, repository, upload, offset)

    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Take the last chunk in, if there is one, and make it all a blob."""
        repository = _entered(self._authorization, req, resp, name)
        digest = Digest.parse(req.get_param("digest") or "")
        part = etags_and_ranges.parse_upload_range(req.get_header("Content-Range"))
        body = request_body.body(req, part)
        with _told_where(resp, repository, upload):
            start = part.start if part and body.length else None
            self._uploads.finish(repository, upload, body, start=start, digest=digest)
        _created(resp, repository, digest)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Give an upload up."""
        repository = _entered(self._authorization, req, resp, name)
        self._uploads.cancel(repository, upload)
        resp.status = falcon.HTTP_204

    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        name: str,
        upload: str,  # noqa: ARG002 - the route's
    ) -> None:
        """Refuse: an upload is not begun under a number of the client's."""
        self._authorization.refuse(req, resp, name, _GOING_ON)


def _entered(
    authorization: Authorization, req: falcon.Request, resp: falcon.Response, name: str
) -> Repository:
    """Let in who may push there, and tell the log what he does."""
    resp.set_header(KIND, "upload")
    return authorization.enter_to_write(req, resp, name)


def _algorithm(req: falcon.Request) -> str:
    """Return what to hash an upload by. Raises: InvalidDigest."""
    mount = req.get_param("mount")
    usual = Digest.parse(mount).algorithm if mount else ALGORITHMS[0]
    said = req.get_param("digest-algorithm") or usual
    if said not in ALGORITHMS:
        raise InvalidDigest(said, "not an algorithm that is known here")
    return said


def _created(resp: falcon.Response, repository: Repository, digest: Digest) -> None:
    resp.status = falcon.HTTP_201
    resp.set_header("Location", f"/v2/{repository}/blobs/{digest}")
    resp.set_header("Docker-Content-Digest", str(digest))
    resp.set_header(KIND, "blob")


def _accepted(resp: falcon.Response, repository: Repository, number: str, offset: int) -> None:
    resp.status = falcon.HTTP_202
    _tell_where(resp, repository, number)
    resp.set_header("Range", etags_and_ranges.received_range(offset))


def _tell_where(resp: falcon.Response, repository: Repository, number: str) -> None:
    """Say where to go on: relative, for nobody here knows by which name he is called."""
    resp.set_header("Location", f"/v2/{repository}/blobs/uploads/{number}")
    resp.set_header("Docker-Upload-UUID", number)


@contextmanager
def _told_where(resp: falcon.Response, repository: Repository, number: str) -> Iterator[None]:
    """Let a chunk's failure say where its client goes on."""
    try:
        yield
    except ChunkMisplaced:
        _tell_where(resp, repository, number)
        raise
