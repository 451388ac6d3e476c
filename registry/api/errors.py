"""The one table from what went wrong to what a client is told: OCI code and HTTP status.

What a client does next hangs on these: whether podman ends the pull, containerd goes on to its
next host, and when either comes back (docs/clients.md). So: never 404 for an outage or a rate
limit, never the upstream's own challenge.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType

import falcon

from entrepot.datastore import errors as datastore
from entrepot.registry import errors as registry
from entrepot.registry.api import cache_status, etags_and_ranges, request_body
from entrepot.registry.api.cache_status import Forward
from entrepot.registry.errors import Unavailable, Why

log = logging.getLogger(__name__)

Detail = Mapping[str, str | int] | None


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """What a class of errors means to a client.

    `code` None: the unknown thing is named by the route. `ours`: it is no client's business, is
    logged, and the client is told no more than that it happened.
    """

    status: int
    code: str | None
    ours: bool = False


_TOO_MANY = 429
_BROKEN = ErrorRow(500, "UNKNOWN", ours=True)

# Codes: OCI distribution-spec 1.1, "Error Codes"; RANGE_INVALID, UNAVAILABLE and UNKNOWN are
# docker distribution's, for the spec has none for these.
TABLE: Mapping[type[Exception], ErrorRow] = MappingProxyType(
    {
        registry.RegistryError: _BROKEN,
        registry.UpstreamError: ErrorRow(502, "UNAVAILABLE"),
        registry.Absent: ErrorRow(404, None),
        registry.Denied: ErrorRow(403, "DENIED"),
        registry.Unavailable: ErrorRow(502, "UNAVAILABLE"),  # by its `why`: see below
        registry.ListTooLong: ErrorRow(502, "UNAVAILABLE"),
        registry.NameUnknown: ErrorRow(404, "NAME_UNKNOWN"),
        registry.ManifestUnknown: ErrorRow(404, "MANIFEST_UNKNOWN"),
        registry.BlobUnknown: ErrorRow(404, "BLOB_UNKNOWN"),
        registry.PartsMissing: ErrorRow(503, "UNAVAILABLE"),
        registry.Unauthenticated: ErrorRow(401, "UNAUTHORIZED"),
        registry.Forbidden: ErrorRow(403, "DENIED"),
        registry.Unsupported: ErrorRow(405, "UNSUPPORTED"),
        registry.RangeUnsatisfiable: ErrorRow(416, "RANGE_INVALID"),
        registry.PartsUnknown: ErrorRow(404, "MANIFEST_BLOB_UNKNOWN"),
        registry.ManifestTooLarge: ErrorRow(413, "SIZE_INVALID"),
        registry.UploadUnknown: ErrorRow(404, "BLOB_UPLOAD_UNKNOWN"),
        registry.ChunkMisplaced: ErrorRow(416, "BLOB_UPLOAD_INVALID"),
        registry.BodyBroken: ErrorRow(400, "SIZE_INVALID"),
        registry.BodyTooSlow: ErrorRow(408, "UNSUPPORTED"),
        registry.TooManyUploads: ErrorRow(_TOO_MANY, "TOOMANYREQUESTS"),
        datastore.OutOfSpace: ErrorRow(507, "DENIED"),
        datastore.SpaceAwaited: ErrorRow(503, "UNAVAILABLE"),
        # the spec has no code for a request that cannot be read; this is its nearest
        registry.MalformedRequest: ErrorRow(400, "UNSUPPORTED"),
        registry.Overloaded: ErrorRow(503, "TOOMANYREQUESTS"),
        registry.InvalidHtpasswd: _BROKEN,
        datastore.DatastoreError: _BROKEN,
        datastore.Malformed: ErrorRow(400, "UNSUPPORTED"),
        datastore.InvalidDigest: ErrorRow(400, "DIGEST_INVALID"),
        # What cannot be a tag names no manifest: docker distribution answers 404, and so must
        # we, for the spec's conformance tests ask for `.INVALID_MANIFEST_NAME`.
        datastore.InvalidTag: ErrorRow(404, "MANIFEST_UNKNOWN"),
        datastore.InvalidRepository: ErrorRow(400, "NAME_INVALID"),
        datastore.InvalidManifest: ErrorRow(400, "MANIFEST_INVALID"),
        datastore.InvalidLine: _BROKEN,
        datastore.NotFound: ErrorRow(404, None),
        datastore.DigestMismatch: ErrorRow(400, "DIGEST_INVALID"),
        # a disk that is full or fails may be right again in a moment: clients repeat a 503
        datastore.StorageFull: ErrorRow(503, "UNAVAILABLE", ours=True),
        datastore.StorageBroken: ErrorRow(503, "UNAVAILABLE", ours=True),
        # what was received is lost, and is right the next time
        datastore.ContentDamaged: ErrorRow(503, "UNAVAILABLE", ours=True),
        datastore.IndexUnavailable: ErrorRow(503, "UNAVAILABLE", ours=True),
    }
)

BY_WHY: Mapping[Why, ErrorRow] = MappingProxyType(
    {
        Why.REFUSED: ErrorRow(502, "UNAVAILABLE"),
        Why.NONSENSE: ErrorRow(502, "UNAVAILABLE"),
        Why.TIMEOUT: ErrorRow(504, "UNAVAILABLE"),
        Why.RESTING: ErrorRow(503, "UNAVAILABLE"),
        # podman sleeps on a 429, containerd repeats it at once: a client that has an origin to
        # go to is better told to go there
        Why.LIMITED: ErrorRow(503, "TOOMANYREQUESTS"),
        # the upstream is well: it is this registry that cannot pass such a manifest on
        Why.UNSUPPORTED: ErrorRow(501, "UNSUPPORTED"),
    }
)
_LIMITED_WITHOUT_ORIGIN = ErrorRow(_TOO_MANY, "TOOMANYREQUESTS")
# An upstream that announces when it is back: 502 has no place for that, 503 has Retry-After
_COMES_BACK = ErrorRow(503, "UNAVAILABLE")

# RFC 9110, 10.2.3 and RFC 6585, 4: the statuses that may say when to come back
_COME_BACK = frozenset({_TOO_MANY, 503})

# in s, where nobody said it
_RETRY_SOON = 5.0
_RETRY_LIMITED = 60.0
_LONGEST_RETRY = 3600.0

# Statuses that Falcon raises by itself; others are UNSUPPORTED below 500, UNKNOWN from there on.
_HTTP_CODES = MappingProxyType({404: "NAME_UNKNOWN", 416: "RANGE_INVALID"})
_SERVER_ERROR = 500

# What a resource may have said of the body that it then did not send.
_OF_A_BODY = (
    "Accept-Ranges",
    "Age",
    "Content-Length",
    "Content-Range",
    "Docker-Content-Digest",
    "ETag",
    "Last-Modified",
    "Link",
)


@dataclass(frozen=True, slots=True)
class Asked:
    """What of a request its failure's answer depends on; `template` None: no route was met."""

    template: str | None = None
    mirror_form: bool = False


@dataclass(frozen=True, slots=True)
class Said:
    """An answer to a failure, before it is one of Falcon's."""

    status: int
    code: str
    message: str
    details: tuple[Detail, ...] = (None,)
    headers: Mapping[str, str] = field(default_factory=dict)


def decide(error: Exception, asked: Asked) -> Said:
    """Look *error* up, by its nearest class that has a row."""
    row = _row(error, asked)
    message = "something failed here; the registry's log says what" if row.ours else str(error)
    code = row.code or _unknown(asked.template)
    headers = _headers(error) | _retry(error, row.status)
    return Said(row.status, code, message, _details(error), headers)


def envelope(said: Said) -> bytes:
    """Write the body that the spec gives to every failure: one error a detail."""
    entries = [
        {"code": said.code, "message": said.message, "detail": detail} for detail in said.details
    ]
    return json.dumps({"errors": entries}).encode()


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Make *app* answer every failure by the table."""
    app.add_error_handler(Exception, _answer)
    app.add_error_handler(falcon.HTTPError, _answer_falcon)


def _answer(
    req: falcon.Request, resp: falcon.Response, error: Exception, _params: dict[str, object]
) -> None:
    asked = Asked(req.uri_template, getattr(req.context, "mirror_form", False))
    if _row(error, asked).ours:
        log.error(
            "request failed",
            extra={"method": req.method, "path": req.path},
            exc_info=error,
        )
    _write(req, resp, decide(error, asked))


def _answer_falcon(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, object]
) -> None:
    status = error.status_code
    otherwise = "UNSUPPORTED" if status < _SERVER_ERROR else "UNKNOWN"
    code = _HTTP_CODES.get(status, otherwise)
    message = error.description or error.title
    _write(req, resp, Said(status, code, message, headers=dict(error.headers or {})))


def _write(req: falcon.Request, resp: falcon.Response, said: Said) -> None:
    _drop_body(resp)
    resp.status = said.status
    resp.content_type = falcon.MEDIA_JSON
    _send(req, resp, envelope(said))
    # a 404 may be kept by any cache on the way unless it is told not to (RFC 9110, 15.1)
    resp.set_header("Cache-Control", "no-store")
    for name, text in said.headers.items():
        if name != "Cache-Status" or resp.get_header(name) is None:
            resp.set_header(name, text)


def _send(req: falcon.Request, resp: falcon.Response, body: bytes) -> None:
    """Send the answer; a client that is still sending is let finish, or stop by itself."""
    if request_body.awaits_more(req):
        request_body.let_finish(req)
    resp.data = body


def _drop_body(resp: falcon.Response) -> None:
    """Forget what a resource had begun to answer with, and close its file."""
    close = getattr(resp.stream, "close", None)
    resp.stream = None
    if close is not None:
        close()
    for name in _OF_A_BODY:
        resp.delete_header(name)


def _row(error: Exception, asked: Asked) -> ErrorRow:
    if isinstance(error, Unavailable):
        if error.why is Why.LIMITED and not asked.mirror_form:
            return _LIMITED_WITHOUT_ORIGIN
        if error.why is Why.NONSENSE and error.retry_after is not None:
            return _COMES_BACK
        return BY_WHY[error.why]
    return next((TABLE[each] for each in type(error).__mro__ if each in TABLE), _BROKEN)


def _unknown(template: str | None) -> str:
    if template is not None and "/blobs/" in template:
        return "BLOB_UNKNOWN"
    if template is not None and "/manifests/" in template:
        return "MANIFEST_UNKNOWN"
    return "NAME_UNKNOWN"


def _headers(error: Exception) -> dict[str, str]:
    match error:
        case registry.Unauthenticated():
            return {"WWW-Authenticate": error.challenge}
        case registry.Unsupported():
            return {"Allow": ", ".join(error.allowed)}
        case registry.RangeUnsatisfiable():
            return {"Content-Range": etags_and_ranges.unsatisfied_range(error.size)}
        case registry.ChunkMisplaced(offset=offset):
            return {"Range": etags_and_ranges.received_range(offset)}
        case registry.PartsMissing() | registry.UpstreamError():
            return {"Cache-Status": _cache_status(_cause(error))}
    return {}


def _cause(error: Exception) -> Exception:
    return error.cause if isinstance(error, registry.PartsMissing) else error


def _cache_status(error: Exception) -> str:
    if not isinstance(error, Unavailable):
        return cache_status.forwarded(Forward.URI_MISS)
    if error.why is Why.RESTING:
        return cache_status.neither(error.why.value)
    status = _TOO_MANY if error.why is Why.LIMITED else None
    return cache_status.forwarded(Forward.URI_MISS, status=status, detail=error.why.value)


def _retry(error: Exception, status: int) -> dict[str, str]:
    """Say when to come back, in whole seconds from 1 on, where the status has a place for it."""
    if status not in _COME_BACK:
        return {}
    cause, seconds = _cause(error), _RETRY_SOON
    if isinstance(cause, Unavailable):
        usual = _RETRY_LIMITED if cause.why is Why.LIMITED else _RETRY_SOON
        seconds = usual if cause.retry_after is None else cause.retry_after
    return {"Retry-After": str(ceil(min(seconds, _LONGEST_RETRY)) if seconds > 1 else 1)}


def _details(error: Exception) -> tuple[Detail, ...]:
    match _cause(error):
        case registry.PartsUnknown(digests=digests):
            return tuple({"digest": str(digest)} for digest in digests)
        case datastore.OutOfSpace(size=size, available=available):
            return ({"size": size, "room": available},)
        case Unavailable(upstream=upstream, why=why):
            return ({"upstream": upstream, "why": why.value},)
        case registry.UpstreamError(upstream=upstream):
            return ({"upstream": upstream},)
    return (None,)
