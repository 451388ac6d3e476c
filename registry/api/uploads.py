"""Receive uploads of blobs (OCI distribution-spec 1.1, end-4 to 6, end-11, end-13, end-14)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import falcon

from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.refs import ALGORITHMS, Digest, Repository
from entrepot.registry.api import etags_and_ranges, request_body
from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.write_events import WriteEvents
from entrepot.registry.auth.identity import Identity
from entrepot.registry.errors import ChunkMisplaced
from entrepot.registry.push.uploads import BlobUploads

_START_METHODS = ("POST",)
_UPLOAD_METHODS = ("GET", "HEAD", "PATCH", "PUT", "DELETE")


class StartUploadResource:
    """`/v2/<name>/blobs/uploads/` starts uploads.

    *events* queues a notification of each push and mount; it is None if no notification endpoint is
    configured.
    """

    def __init__(
        self,
        authorization: Authorization,
        uploads: BlobUploads,
        events: WriteEvents | None = None,
    ) -> None:
        self._events = events
        self._authorization = authorization
        self._uploads = uploads

    def on_post(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Start an upload, or create a blob at once, by a mount or from the request body."""
        repository = _authorized(self._authorization, req, resp, name)
        mounted = self._mounted(req, repository)
        digest = req.get_param("digest")
        if mounted:
            _created(resp, repository, mounted)
        elif digest:
            expected = Digest.parse(digest)
            size = self._uploads.upload_monolithic(
                repository, request_body.body(req), expected, self._owner(req)
            )
            if self._events:
                self._events.blob_pushed(req, repository, expected, size)
            _created(resp, repository, expected)
        else:
            upload_id = self._uploads.begin(repository, _algorithm(req), self._owner(req))
            _accepted(resp, repository, upload_id, 0)

    def _owner(self, req: falcon.Request) -> str:
        """Return the owner of an upload: the user, or the address of an anonymous client."""
        user: str | None = req.context.identity.user
        return f"@{self._authorization.edge.login_source(req).address}" if user is None else user

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str) -> None:
        """Reject the method: uploads cannot be listed."""
        self._authorization.reject_method(req, resp, name, _START_METHODS)

    on_put = on_patch = on_delete = on_get

    def _mounted(self, req: falcon.Request, target: Repository) -> Digest | None:
        """Link the blob of the parameter `mount` if the client may pull it from another repository.

        Return the blob's digest, or None if the blob was not linked.
        """
        mount, source = req.get_param("mount"), req.get_param("from")
        if not mount:
            return None
        digest = Digest.parse(mount)
        if not source:
            identity: Identity = req.context.identity
            reads_all = identity.token is None and identity.may_everywhere("pull")
            reads_all = reads_all and not self._authorization.decides_by_repository
            may_read = self._may_read(req)
            mounted = self._uploads.mount_any(target, digest, may_read, reads_all=reads_all)
        else:
            resolved = self._authorization.readable_repository(req, source)
            mounted = self._uploads.mount(target, resolved.repository, digest) if resolved else None
        if mounted and self._events:
            self._events.blob_mounted(req, target, digest, mounted)
        return digest if mounted else None

    def _may_read(self, req: falcon.Request) -> Callable[[Repository], bool]:
        return lambda name: self._authorization.readable_repository(req, name.name) is not None


class UploadResource:
    """`/v2/<name>/blobs/uploads/<upload>` continues, finishes and cancels one upload.

    *events* queues a notification of each push; it is None if no notification endpoint is
    configured.
    """

    def __init__(
        self,
        authorization: Authorization,
        uploads: BlobUploads,
        events: WriteEvents | None = None,
    ) -> None:
        self._events = events
        self._authorization = authorization
        self._uploads = uploads

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Send the number of bytes that the upload has received."""
        repository = _authorized(self._authorization, req, resp, name)
        offset = self._uploads.offset(repository, upload)
        _accepted(resp, repository, upload, offset)
        resp.status = falcon.HTTP_204

    def on_patch(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Receive a chunk, or a stream of unknown length."""
        repository = _authorized(self._authorization, req, resp, name)
        part = etags_and_ranges.parse_upload_range(req.get_header("Content-Range"))
        body = request_body.body(req, part)
        with _location_on_error(resp, repository, upload):
            start = part.start if part else None
            offset = self._uploads.append(repository, upload, body, start)
        _accepted(resp, repository, upload, offset)

    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Receive the last chunk, if the request has one, and commit the upload as a blob."""
        repository = _authorized(self._authorization, req, resp, name)
        digest = Digest.parse(req.get_param("digest") or "")
        part = etags_and_ranges.parse_upload_range(req.get_header("Content-Range"))
        body = request_body.body(req, part)
        with _location_on_error(resp, repository, upload):
            start = part.start if part and body.length else None
            size = self._uploads.finish(repository, upload, body, start=start, digest=digest)
        if self._events:
            self._events.blob_pushed(req, repository, digest, size)
        _created(resp, repository, digest)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str, upload: str) -> None:
        """Cancel an upload."""
        repository = _authorized(self._authorization, req, resp, name)
        self._uploads.cancel(repository, upload)
        resp.status = falcon.HTTP_204

    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        name: str,
        upload: str,  # noqa: ARG002 - Falcon passes it by name
    ) -> None:
        """Reject the method: a client cannot choose the ID of an upload."""
        self._authorization.reject_method(req, resp, name, _UPLOAD_METHODS)


def _authorized(
    authorization: Authorization, req: falcon.Request, resp: falcon.Response, name: str
) -> Repository:
    """Return the repository if the client may push to it, and set the kind for the access log."""
    resp.set_header(KIND, "upload")
    return authorization.authorize_write(req, resp, name)


def _algorithm(req: falcon.Request) -> str:
    """Return the hash algorithm of an upload.

    Raises: InvalidDigest if the hash algorithm is not supported.
    """
    mount = req.get_param("mount")
    default = Digest.parse(mount).algorithm if mount else ALGORITHMS[0]
    algorithm = req.get_param("digest-algorithm") or default
    if algorithm not in ALGORITHMS:
        raise InvalidDigest(algorithm, "unsupported digest algorithm")
    return algorithm


def _created(resp: falcon.Response, repository: Repository, digest: Digest) -> None:
    resp.status = falcon.HTTP_201
    resp.set_header("Location", f"/v2/{repository}/blobs/{digest}")
    resp.set_header("Docker-Content-Digest", str(digest))
    resp.set_header(KIND, "blob")


def _accepted(resp: falcon.Response, repository: Repository, upload_id: str, offset: int) -> None:
    resp.status = falcon.HTTP_202
    _set_location(resp, repository, upload_id)
    resp.set_header("Range", etags_and_ranges.received_range(offset))


def _set_location(resp: falcon.Response, repository: Repository, upload_id: str) -> None:
    """Set the Location header to the URL at which the client continues the upload.

    The URL is relative, because the worker does not know the host name that the client uses.
    """
    resp.set_header("Location", f"/v2/{repository}/blobs/uploads/{upload_id}")
    resp.set_header("Docker-Upload-UUID", upload_id)


@contextmanager
def _location_on_error(
    resp: falcon.Response, repository: Repository, upload_id: str
) -> Iterator[None]:
    """Add the Location of the upload to the error response for a misplaced chunk."""
    try:
        yield
    except ChunkMisplaced:
        _set_location(resp, repository, upload_id)
        raise
