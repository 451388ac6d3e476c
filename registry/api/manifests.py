"""Manifests: read, pushed, deleted (OCI distribution-spec 1.1, end-3, end-7 and end-9)."""

from __future__ import annotations

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
from entrepot.registry.errors import MalformedRequest, ManifestTooLarge, Unsupported
from entrepot.registry.pullthrough.manifests import Manifests
from entrepot.registry.pullthrough.responses import ManifestAnswer, ResponseSource
from entrepot.registry.push import referrers
from entrepot.registry.push.deletes import Deletions
from entrepot.registry.push.manifests import ManifestPushes, read

_CACHE_STATUS = {
    ResponseSource.HIT: HIT,
    ResponseSource.CONFIRMED: forwarded(Forward.STALE, status=304),
    ResponseSource.MISS: forwarded(Forward.URI_MISS, stored=True),
    ResponseSource.PASSED: forwarded(Forward.URI_MISS),
    ResponseSource.COLLAPSED: forwarded(Forward.URI_MISS, stored=True, collapsed=True),
}
_ALLOWED = ("GET", "HEAD", "PUT", "DELETE")


class ManifestResource:
    """`/v2/<name>/manifests/<reference>`; *deletes* None: nobody may delete."""

    def __init__(
        self,
        authorization: Authorization,
        manifests: Manifests,
        pushes: ManifestPushes,
        deletes: Deletions | None,
    ) -> None:
        self._authorization = authorization
        self._manifests = manifests
        self._pushes = pushes
        self._deletes = deletes

    def on_head(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> None:
        """Describe a manifest."""
        answer = self._answer(req, resp, name, reference)
        if answer:
            resp.content_length = len(answer.stored.body)

    def on_get(self, req: falcon.Request, resp: falcon.Response, name: str, reference: str) -> None:
        """Send a manifest, byte for byte."""
        answer = self._answer(req, resp, name, reference)
        if answer:
            resp.data = answer.stored.body

    def on_put(self, req: falcon.Request, resp: falcon.Response, name: str, reference: str) -> None:
        """Take a manifest in, byte for byte."""
        repository = self._authorization.enter_to_write(req, resp, name)
        resp.set_header(KIND, "manifest")
        wanted = _to_set(reference)
        tags = (wanted,) if isinstance(wanted, Tag) else _tags(req)
        held = _received(req, wanted)
        self._pushes.put(repository, held, tags=tags)
        _created(resp, repository, held)
        if tags and isinstance(wanted, Digest):
            resp.set_header("OCI-Tag", ", ".join(map(str, tags)))

    def on_delete(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> None:
        """Remove a tag, or a manifest with all of its tags."""
        repository = self._authorization.enter_to_write(req, resp, name, "delete")
        if self._deletes is None:
            raise Unsupported("deleting is not enabled here", _ALLOWED[:-1])
        resp.set_header(KIND, "manifest")
        wanted = parse_reference(reference)
        if isinstance(wanted, Tag):
            self._deletes.tag(repository, wanted)
        else:
            self._deletes.manifest(repository, wanted)
        resp.status = falcon.HTTP_202

    def on_post(
        self,
        req: falcon.Request,
        resp: falcon.Response,
        name: str,
        reference: str,  # noqa: ARG002 - the route's
    ) -> None:
        """Refuse."""
        self._authorization.refuse(req, resp, name, _ALLOWED)

    on_patch = on_post

    def _answer(
        self, req: falcon.Request, resp: falcon.Response, name: str, reference: str
    ) -> ManifestAnswer | None:
        """Find a manifest and describe it; None when the client has it already."""
        resolved = self._authorization.enter(req, resp, name)
        resp.set_header(KIND, "manifest")
        answer = self._manifests.get(resolved, parse_reference(reference))
        _describe(resp, answer)
        if none_match(req.get_header("If-None-Match"), answer.stored.digest):
            self._authorization.edge.keep(
                req, resp, lambda: self._manifests.cacheable_for(resolved, answer)
            )
            return answer
        not_modified(resp)
        return None


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
    if answer.warning is not None:  # OCI distribution-spec 1.1, "Warnings"
        resp.set_header("Warning", f'299 - "{answer.warning}"')


def _cache_status(answer: ManifestAnswer) -> str:
    if answer.source is ResponseSource.STALE:
        return hit(ttl=-1, detail=answer.reason)
    return _CACHE_STATUS[answer.source]


def _to_set(reference: str) -> Reference:
    """Read what a manifest is pushed as. Raises: InvalidDigest, MalformedRequest."""
    try:
        return parse_reference(reference)
    except InvalidTag as error:  # read, it is unknown; written, it is a mistake
        raise MalformedRequest(str(error)) from error


def _tags(req: falcon.Request) -> tuple[Tag, ...]:
    """Read the tags that a manifest gets beside its digest. Raises: MalformedRequest."""
    try:
        said = req.get_param_as_list("tag") or []
        return tuple(dict.fromkeys(Tag.parse(each) for each in said))
    except InvalidTag as error:
        raise MalformedRequest(str(error)) from error


def _received(req: falcon.Request, wanted: Reference) -> StoredManifest:
    """Read the body. Raises: ManifestTooLarge, BodyBroken, DigestMismatch, InvalidManifest."""
    body = request_body.small(req, LARGEST)
    if body is None:
        raise ManifestTooLarge(f"a manifest may have {LARGEST} bytes")
    return read(body, req.content_type, wanted if isinstance(wanted, Digest) else None)


def _created(resp: falcon.Response, repository: Repository, held: StoredManifest) -> None:
    resp.status = falcon.HTTP_201
    resp.set_headers(
        (
            (KIND, "index" if held.manifest.kind is ContentKind.INDEX else "manifest"),
            ("Location", f"/v2/{repository}/manifests/{held.digest}"),
            ("Docker-Content-Digest", str(held.digest)),
        )
    )
    about = referrers.subject(held)
    if about:  # OCI distribution-spec 1.1, "Pushing Manifests with Subject"
        resp.set_header("OCI-Subject", str(about))
