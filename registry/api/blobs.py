"""Send blobs, whole or in ranges, and delete them (OCI distribution-spec 1.1, end-2 and end-10)."""

from __future__ import annotations

import re
from functools import partial
from math import inf
from typing import TYPE_CHECKING

import falcon

from entrepot.datastore.refs import Digest
from entrepot.registry.api import response_body
from entrepot.registry.api.authorize import KIND, LARGEST_CACHED, REDIRECTED, Authorization
from entrepot.registry.api.cache_status import HIT, Forward, forwarded, hit
from entrepot.registry.api.etags_and_ranges import (
    ByteRange,
    etag,
    may_range,
    none_match,
    not_modified,
    parse_range,
)
from entrepot.registry.api.write_events import WriteEvents
from entrepot.registry.auth.identity import Identity
from entrepot.registry.errors import Unsupported
from entrepot.registry.pullthrough.blobs import Blobs
from entrepot.registry.pullthrough.responses import (
    ArrivingBlob,
    BlobAnswer,
    KnownBlob,
    ResponseSource,
    StoredBlob,
)
from entrepot.registry.push.deletes import Deletions
from entrepot.registry.routing.resolve import ResolvedRepository
from entrepot.registry.server.delivery import CONNECTION, LentConnection, Repeatable
from entrepot.registry.server.fileslice import in_bytes

if TYPE_CHECKING:  # Only a program that redirects clients loads `redirects`.
    from entrepot.registry.pullthrough.redirects import Redirects

LARGEST_REPEATED = 8 * 1024 * 1024
"""The worker's server repeats responses to equal requests for blobs up to this size in bytes.

PERF: for a larger blob, repeating the response saves little, because sending the blob costs far
more than calling the application.
"""

# RFC 9111, 5.2.2.1: the content of a digest never changes, so a response stays fresh for a year.
_IMMUTABLE = "max-age=31536000"
_CACHE_STATUS = {
    ResponseSource.HIT: HIT,
    ResponseSource.CONFIRMED: forwarded(Forward.URI_MISS, status=200, detail="linked"),
    ResponseSource.MISS: forwarded(Forward.URI_MISS, stored=True),
    ResponseSource.COLLAPSED: forwarded(Forward.URI_MISS, stored=True, collapsed=True),
    ResponseSource.PASSED: forwarded(Forward.URI_MISS),
}
_REDIRECTED = hit(detail="redirected")
_UNVERIFIED = {
    ResponseSource.MISS: forwarded(Forward.URI_MISS, stored=True, detail="unverified"),
    ResponseSource.COLLAPSED: forwarded(
        Forward.URI_MISS, stored=True, collapsed=True, detail="unverified"
    ),
    ResponseSource.PASSED: forwarded(Forward.URI_MISS, detail="unverified"),
}
"""The Cache-Status of a range that the worker sends before the whole blob is verified."""
_ONE_RANGE = re.compile(r"bytes=(\d{1,19})-(\d{0,19})", re.ASCII)
_ALLOWED = ("GET", "HEAD", "DELETE")


class BlobResource:
    """`/v2/<name>/blobs/<digest>` sends and deletes blobs.

    If *deletes* is None, clients cannot delete blobs. *events* queues a notification of each
    deletion; it is None if no notification endpoint is configured. *redirects* makes the URLs with
    which clients fetch blobs directly from the storage; if it is None, the worker sends all blobs
    itself.
    """

    def __init__(
        self,
        authorization: Authorization,
        blobs: Blobs,
        deletes: Deletions | None,
        events: WriteEvents | None = None,
        *,
        redirects: Redirects | None = None,
    ) -> None:
        self._events = events
        self._redirects = redirects
        self._authorization = authorization
        self._blobs = blobs
        self._deletes = deletes

    def on_head(self, req: falcon.Request, resp: falcon.Response, name: str, digest: str) -> None:
        """Send a blob's size and digest."""
        resolved = self._authorization.authorize(req, resp, name)
        parsed = Digest.parse(digest)
        answer = self._blobs.head(resolved, parsed)
        _describe(resp, answer)
        if not none_match(req.get_header("If-None-Match"), parsed):
            not_modified(resp)
        elif answer.size is not None:
            resp.content_length = answer.size
        else:
            resp.stream = ()  # Without a stream, Falcon would send Content-Length: 0.

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, digest: str) -> None:
        """Send a whole blob or the requested ranges of it."""
        resolved = self._authorization.authorize(req, resp, name)
        parsed = Digest.parse(digest)
        if not none_match(req.get_header("If-None-Match"), parsed):
            answer = self._blobs.head(resolved, parsed)
            _describe(resp, answer)
            not_modified(resp)
            return
        if self._redirects is not None and self._redirect(
            self._redirects, req, resp, resolved, parsed
        ):
            return
        answer = self._blobs.get(resolved, parsed)
        _describe(resp, answer)
        self._authorization.edge.permit_caching(req, resp, lambda: _cacheable_s(resolved, answer))
        parts = _parts(req, parsed, answer.size)
        if parts is None:
            _send_whole(req, resp, answer)
            self._permit_repeating(req, resp, resolved, answer)
        else:
            _send_ranges(req, resp, answer, parts)

    def _redirect(
        self,
        redirects: Redirects,
        req: falcon.Request,
        resp: falcon.Response,
        resolved: ResolvedRepository,
        digest: Digest,
    ) -> bool:
        """Redirect the client to the storage; return False if the worker must send the blob itself.

        The worker itself responds to a request with If-Range: the header contains the digest, which
        differs from the storage's entity tag, so the storage would send the whole blob. The worker
        also responds itself to a request for a suffix of the blob (Azure does not support suffixes)
        or for several ranges (S3 does not support them), and to a request for a range past the end
        of the blob.
        """
        if req.get_header("If-Range") is not None:
            return False
        size = self._blobs.stored_size(resolved, digest)
        if size is not None and not _is_known_everywhere(req.get_header("Range"), size):
            return False
        identity: Identity = req.context.identity
        url = size and redirects.url(
            digest,
            size,
            expires=identity.token.claims.expires if identity.token else None,
            is_repeated=req.get_header(REDIRECTED) is not None,
        )
        if not url:
            return False
        _describe(resp, KnownBlob(digest, size, ResponseSource.HIT))
        resp.set_headers((("Cache-Control", "no-store"), ("Cache-Status", _REDIRECTED)))
        resp.delete_header("ETag")
        resp.delete_header("Accept-Ranges")
        resp.location = url
        resp.status = falcon.HTTP_307
        resp.content_length = 0
        return True

    def _permit_repeating(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        resolved: ResolvedRepository,
        answer: BlobAnswer,
    ) -> None:
        """Let the worker repeat the response until the cache epoch or the link changes.

        Rights and upstreams change only together with the cache epoch. The worker looks up the link
        and the file again each time it repeats the response.
        """
        connection = _connection(req)
        is_hit = isinstance(answer, StoredBlob) and answer.source is ResponseSource.HIT
        size = answer.size
        if connection is None or not is_hit or not size or size > LARGEST_REPEATED:
            return
        is_permitted = self._authorization.edge.permission(req, resp)
        if is_permitted is None:
            return
        again = partial(self._blobs.open_again, resolved, answer.digest, size)
        connection.repeatable = Repeatable(size, lambda: again() if is_permitted() else None)

    def on_delete(self, req: falcon.Request, resp: falcon.Response, name: str, digest: str) -> None:
        """Remove the link that permits reading the blob in this repository."""
        repository = self._authorization.authorize_write(req, resp, name, "delete")
        if self._deletes is None:
            raise Unsupported("deletion is disabled; set storage.delete.enabled", _ALLOWED[:-1])
        resp.set_header(KIND, "blob")
        parsed = Digest.parse(digest)
        self._deletes.blob(repository, parsed)
        if self._events:
            self._events.blob_deleted(req, repository, parsed)
        resp.status = falcon.HTTP_202

    def on_put(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        name: str,
        digest: str,  # noqa: ARG002 - Falcon passes it by name
    ) -> None:
        """Reject a PUT, which blobs do not support."""
        self._authorization.reject_method(req, resp, name, _ALLOWED)

    on_post = on_patch = on_put


def _is_known_everywhere(header: str | None, size: int) -> bool:
    """Return whether all storage services treat this Range of a *size*-byte blob alike."""
    if header is None:
        return True
    found = _ONE_RANGE.fullmatch(header)
    return found is not None and int(found[1]) < size and int(found[1]) <= int(found[2] or size)


def _cacheable_s(resolved: ResolvedRepository, answer: BlobAnswer) -> float:
    """Return the time for which HAProxy may cache the response to a blob request, in seconds.

    HAProxy may cache only small, stored blobs of an upstream. A hosted blob is never cached,
    because a client may delete it.
    """
    is_here = isinstance(answer, StoredBlob) and answer.source is ResponseSource.HIT
    is_small = answer.size is not None and answer.size <= LARGEST_CACHED
    return inf if resolved.upstream and is_here and is_small else 0.0


def _describe(resp: falcon.Response, answer: BlobAnswer) -> None:
    resp.content_type = response_body.OCTETS
    resp.set_headers(
        (
            (KIND, "blob"),
            ("Docker-Content-Digest", str(answer.digest)),
            ("ETag", etag(answer.digest)),
            ("Accept-Ranges", "bytes"),
            ("Cache-Control", _IMMUTABLE),
            ("Cache-Status", _CACHE_STATUS[answer.source]),
        )
    )


def _parts(req: falcon.Request, digest: Digest, size: int | None) -> list[ByteRange] | None:
    header = req.get_header("Range")
    if header is None or size is None or not may_range(req.get_header("If-Range"), digest):
        return None
    return parse_range(header, size)


def _send_whole(req: falcon.Request, resp: falcon.Response, answer: BlobAnswer) -> None:
    if isinstance(answer, StoredBlob):
        response_body.send_file(resp, answer.file, ByteRange(0, answer.size), _connection(req))
    elif isinstance(answer, ArrivingBlob):
        body = answer.read(0, answer.size)
        response_body.send_stream(resp, body, answer.size, _connection(req))


def _send_ranges(
    req: falcon.Request, resp: falcon.Response, answer: BlobAnswer, parts: list[ByteRange]
) -> None:
    resp.status = falcon.HTTP_206
    if isinstance(answer, ArrivingBlob) and answer.early:
        resp.set_header("Cache-Status", _UNVERIFIED[answer.source])
    size = answer.size or 0
    if len(parts) > 1:
        file = answer.file if isinstance(answer, StoredBlob) else None
        response_body.send_parts(
            resp, _reader(answer), parts, size, file=file, connection=_connection(req)
        )
        return
    part = parts[0]
    resp.set_header("Content-Range", part.content_range(size))
    if isinstance(answer, StoredBlob):
        response_body.send_file(resp, answer.file, part, _connection(req))
    elif isinstance(answer, ArrivingBlob):
        body = answer.read(part.start, part.stop)
        response_body.send_stream(resp, body, part.length, _connection(req))


def _connection(req: falcon.Request) -> LentConnection | None:
    lent: LentConnection | None = req.env.get(CONNECTION)
    return lent


def _reader(answer: BlobAnswer) -> response_body.Read:
    if isinstance(answer, StoredBlob):
        return response_body.read_file(answer.file)
    if isinstance(answer, ArrivingBlob):
        return lambda start, stop: in_bytes(answer.read(start, stop))
    raise TypeError(f"no body for {answer.digest}: the request was a HEAD")
