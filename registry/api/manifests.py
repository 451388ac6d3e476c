"""Send, store and delete manifests (OCI distribution-spec 1.1, end-3, end-7 and end-9)."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from time import monotonic

import falcon

from entrepot.datastore.content import StoredManifest
from entrepot.datastore.errors import InvalidTag
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import LARGEST
from entrepot.datastore.refs import Digest, Reference, Repository, Tag, parse_reference
from entrepot.registry.api import request_body
from entrepot.registry.api.authorize import KIND, Authorization
from entrepot.registry.api.cache_status import HIT, Forward, forwarded, hit
from entrepot.registry.api.etags_and_ranges import etag, none_match, not_modified
from entrepot.registry.api.write_events import WriteEvents
from entrepot.registry.errors import MalformedRequest, ManifestTooLarge, Unsupported
from entrepot.registry.pullthrough.manifests import Manifests
from entrepot.registry.pullthrough.responses import ManifestAnswer, ResponseSource
from entrepot.registry.push import referrers
from entrepot.registry.push.deletes import Deletions
from entrepot.registry.push.manifests import ManifestPushes, read
from entrepot.registry.server.delivery import CONNECTION, LentConnection, RepeatableBytes

_CACHE_STATUS = {
    ResponseSource.HIT: HIT,
    ResponseSource.CONFIRMED: forwarded(Forward.STALE, status=304),
    ResponseSource.MISS: forwarded(Forward.URI_MISS, stored=True),
    ResponseSource.PASSED: forwarded(Forward.URI_MISS),
    ResponseSource.COLLAPSED: forwarded(Forward.URI_MISS, stored=True, collapsed=True),
}
_ALLOWED = ("GET", "HEAD", "PUT", "DELETE")
# A worker repeats a response for at most this many seconds, because the value of the response's Age
# header changes after that time.
_REPEATED_S = 1.0


class ManifestResource:
    """`/v2/<name>/manifests/<reference>` sends, stores and deletes manifests.

    If *deletes* is None, clients cannot delete manifests. *events* queues a notification of each
    push and deletion; it is None if no notification endpoint is configured.
    """

    def __init__(
        self,
        authorization: Authorization,
        manifests: Manifests,
        pushes: ManifestPushes,
        deletes: Deletions | None,
        events: WriteEvents | None = None,
    ) -> None:
        self._events = events
        self._authorization = authorization
        self._manifests = manifests
        self._pushes = pushes
        self._deletes = deletes

    def on_head(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> None:
        """Send a manifest's size, digest and media type."""
        answer = self._answer(req, resp, name, reference)
        if answer:
            resp.content_length = len(answer.stored.body)

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, reference: str) -> None:
        """Send a manifest byte for byte as it is stored."""
        answer = self._answer(req, resp, name, reference)
        if answer:
            resp.data = answer.stored.body

    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str, reference: str) -> None:
        """Store the pushed manifest byte for byte."""
        repository = self._authorization.authorize_write(req, resp, name)
        resp.set_header(KIND, "manifest")
        parsed = _pushed_reference(reference)
        tags = (parsed,) if isinstance(parsed, Tag) else _tags(req)
        pushed = _received(req, parsed)
        self._pushes.put(repository, pushed, tags=tags)
        if self._events:
            self._events.manifest_pushed(req, repository, pushed, tags)
        _created(resp, repository, pushed)
        if tags and isinstance(parsed, Digest):
            resp.set_header("OCI-Tag", ", ".join(map(str, tags)))

    def on_delete(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> None:
        """Remove a tag, or a manifest with all of its tags."""
        repository = self._authorization.authorize_write(req, resp, name, "delete")
        if self._deletes is None:
            raise Unsupported("deletion is disabled; set storage.delete.enabled", _ALLOWED[:-1])
        resp.set_header(KIND, "manifest")
        parsed = parse_reference(reference)
        if isinstance(parsed, Tag):
            self._deletes.tag(repository, parsed)
            if self._events:
                self._events.tag_deleted(req, repository, parsed)
        else:
            removed = self._deletes.manifest(repository, parsed)
            if self._events:
                self._events.manifest_deleted(req, repository, parsed, removed)
        resp.status = falcon.HTTP_202

    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        name: str,
        reference: str,  # noqa: ARG002 - Falcon passes it by name
    ) -> None:
        """Reject a POST, which manifests do not support."""
        self._authorization.reject_method(req, resp, name, _ALLOWED)

    on_patch = on_post

    def _answer(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> ManifestAnswer | None:
        """Find a manifest and set the headers of the response; return None for a 304."""
        resolved = self._authorization.authorize(req, resp, name)
        resp.set_header(KIND, "manifest")
        answer = self._manifests.get(resolved, parse_reference(reference))
        _describe(resp, answer)
        if none_match(req.get_header("If-None-Match"), answer.stored.digest):
            cacheable_s = partial(self._manifests.cacheable_for, resolved, answer)
            self._authorization.edge.permit_caching(req, resp, cacheable_s)
            self._permit_repeating(req, resp, answer, cacheable_s)
            return answer
        not_modified(resp)
        return None

    def _permit_repeating(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        answer: ManifestAnswer,
        cacheable_s: Callable[[], float],
    ) -> None:
        """Let the worker repeat the response to a frequent request until the header Age changes.

        If HAProxy has a content cache, HAProxy responds to frequent requests. Without a content
        cache, the worker repeats the responses that HAProxy would be allowed to cache: complete
        manifests of an upstream, until the cache epoch changes. PERF: the worker checks whether the
        manifest is complete only if an equal request arrived less than a second earlier.
        """
        connection: LentConnection | None = req.env.get(CONNECTION)
        edge = self._authorization.edge
        if edge.has_cache or req.method != "GET" or connection is None:
            return
        if not connection.is_frequent():
            return
        is_permitted = edge.permission(req, resp)
        if is_permitted is None:
            return
        seconds = min(cacheable_s(), _REPEATED_S - (answer.age or 0.0) % 1.0)
        until = monotonic() + seconds
        if seconds > 0:
            connection.repeatable = RepeatableBytes(
                answer.stored.body, lambda: monotonic() < until and is_permitted()
            )


def _describe(resp: falcon.Response, answer: ManifestAnswer) -> None:
    resp.content_type = answer.stored.media_type
    resp.set_headers(
        (
            (KIND, "index" if answer.stored.manifest.kind is ContentKind.INDEX else "manifest"),
            ("Docker-Content-Digest", str(answer.stored.digest)),
            ("ETag", etag(answer.stored.digest)),
            ("Cache-Status", _cache_status(answer)),
        )
    )
    if answer.age is not None:
        resp.set_header("Age", str(int(answer.age)))
    # The header Warning is defined in the OCI distribution-spec 1.1, "Warnings".
    if answer.warning is not None:
        resp.set_header("Warning", f'299 - "{answer.warning}"')


def _cache_status(answer: ManifestAnswer) -> str:
    if answer.source is ResponseSource.STALE:
        return hit(ttl=-1, detail=answer.reason)
    return _CACHE_STATUS[answer.source]


def _pushed_reference(reference: str) -> Reference:
    """Parse the reference that a manifest is pushed to.

    Raises: InvalidDigest or MalformedRequest if the reference is invalid.
    """
    try:
        return parse_reference(reference)
    # For an invalid tag, the response to a GET is 404, and the response to a PUT is 400.
    except InvalidTag as error:
        raise MalformedRequest(str(error)) from error


def _tags(req: falcon.Request) -> tuple[Tag, ...]:
    """Parse the `tag` parameters of a push by digest. Raises: MalformedRequest."""
    try:
        values = req.get_param_as_list("tag") or []
        return tuple(dict.fromkeys(Tag.parse(each) for each in values))
    except InvalidTag as error:
        raise MalformedRequest(str(error)) from error


def _received(req: falcon.Request, parsed: Reference) -> StoredManifest:
    """Read the manifest's body from the request.

    Raises: ManifestTooLarge, BodyBroken, DigestMismatch, InvalidManifest.
    """
    body = request_body.read_small(req, LARGEST)
    if body is None:
        raise ManifestTooLarge(f"the manifest is larger than {LARGEST} bytes")
    return read(body, req.content_type, parsed if isinstance(parsed, Digest) else None)


def _created(resp: falcon.Response, repository: Repository, pushed: StoredManifest) -> None:
    resp.status = falcon.HTTP_201
    resp.set_headers(
        (
            (KIND, "index" if pushed.manifest.kind is ContentKind.INDEX else "manifest"),
            ("Location", f"/v2/{repository}/manifests/{pushed.digest}"),
            ("Docker-Content-Digest", str(pushed.digest)),
        )
    )
    about = referrers.subject(pushed)
    # The header OCI-Subject is defined in the OCI distribution-spec 1.1, "Pushing Manifests with
    # Subject".
    if about:
        resp.set_header("OCI-Subject", str(about))
