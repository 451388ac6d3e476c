"""Map exceptions to HTTP statuses and OCI error codes.

The response's status and code determine what a client does next (docs/clients.md): podman aborts
the pull or retries, and containerd continues with its next host or retries. To a client, a 404
means that the content does not exist. Therefore the registry never reports an outage or a rate
limit as a 404. A client responds to a challenge with its credentials. Therefore the registry never
passes on the upstream's own WWW-Authenticate challenge.
"""

from __future__ import annotations

import errno
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import ceil
from types import MappingProxyType

import falcon

from entrepot.datastore import errors as datastore
from entrepot.registry import errors as registry
from entrepot.registry.api import cache_status, etags_and_ranges, request_body, scopes
from entrepot.registry.api.cache_status import Forward
from entrepot.registry.challenges import AuthChallenge, ChallengedRequest
from entrepot.registry.errors import Unavailable, Why
from entrepot.runtime.rare_lines import RareLines

log = logging.getLogger(__name__)

Detail = Mapping[str, str | int] | None


@dataclass(frozen=True, slots=True)
class ErrorRow:
    """An `ErrorRow` describes the response to a class of errors.

    If `code` is None, the code depends on the route, which determines whether the error reports a
    blob, a manifest or a repository as unknown. If `is_internal` is True, the worker logs the error
    and sends the client only the message `general`, because the error's own text can contain file
    paths.
    """

    status: int
    code: str | None
    is_internal: bool = False
    general: str = "internal error"


_TOO_MANY = 429
_INTERNAL = ErrorRow(500, "UNKNOWN", is_internal=True)


def _for_now(general: str) -> ErrorRow:
    return ErrorRow(503, "UNAVAILABLE", is_internal=True, general=general)


# The codes in this table are those of the OCI distribution-spec 1.1, "Error Codes". RANGE_INVALID,
# PAGINATION_NUMBER_INVALID, UNAVAILABLE and UNKNOWN come from docker distribution, because the spec
# defines no codes for these cases.
TABLE: Mapping[type[Exception], ErrorRow] = MappingProxyType(
    {
        registry.RegistryError: _INTERNAL,
        registry.UpstreamError: ErrorRow(502, "UNAVAILABLE"),
        registry.Absent: ErrorRow(404, None),
        registry.Denied: ErrorRow(403, "DENIED"),
        # For this error, a row of BY_WHY replaces this row; the error's attribute `why` selects the
        # row.
        registry.Unavailable: ErrorRow(502, "UNAVAILABLE"),
        registry.ListTooLong: ErrorRow(502, "UNAVAILABLE"),
        registry.NameUnknown: ErrorRow(404, "NAME_UNKNOWN"),
        registry.ManifestUnknown: ErrorRow(404, "MANIFEST_UNKNOWN"),
        registry.BlobUnknown: ErrorRow(404, "BLOB_UNKNOWN"),
        registry.PartsMissing: ErrorRow(503, "UNAVAILABLE"),
        registry.Unauthenticated: ErrorRow(401, "UNAUTHORIZED"),
        registry.InvalidToken: ErrorRow(401, "UNAUTHORIZED"),
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
        # The spec has no code for a malformed request; UNSUPPORTED is the nearest code.
        registry.MalformedRequest: ErrorRow(400, "UNSUPPORTED"),
        registry.InvalidPageSize: ErrorRow(400, "PAGINATION_NUMBER_INVALID"),
        # The function `_row` takes status and code from the error, so this row is not used.
        registry.Refused: ErrorRow(403, "DENIED"),
        registry.MiddlewareFailed: _INTERNAL,
        registry.Overloaded: ErrorRow(503, "TOOMANYREQUESTS"),
        registry.InvalidHtpasswd: _INTERNAL,
        datastore.DatastoreError: _INTERNAL,
        datastore.Malformed: ErrorRow(400, "UNSUPPORTED"),
        datastore.InvalidDigest: ErrorRow(400, "DIGEST_INVALID"),
        # An invalid tag names no manifest. docker distribution responds 404, and the conformance
        # tests of the spec expect a 404 for `.INVALID_MANIFEST_NAME`.
        datastore.InvalidTag: ErrorRow(404, "MANIFEST_UNKNOWN"),
        datastore.InvalidRepository: ErrorRow(400, "NAME_INVALID"),
        datastore.InvalidManifest: ErrorRow(400, "MANIFEST_INVALID"),
        datastore.InvalidLine: _INTERNAL,
        datastore.InvalidSnapshot: _INTERNAL,
        datastore.NotFound: ErrorRow(404, None),
        datastore.DigestMismatch: ErrorRow(400, "DIGEST_INVALID"),
        # A full or failing disk may recover soon, and clients retry after a 503.
        datastore.StorageFull: _for_now("the registry's disk is full or read-only"),
        datastore.StorageBroken: _for_now("the registry's disk fails"),
        # The damaged content is discarded, so a retry of the client may succeed.
        datastore.ContentDamaged: _for_now("the content is damaged on the registry's disk"),
        datastore.IndexUnavailable: _for_now("the registry's index is unavailable"),
    }
)

BY_WHY: Mapping[Why, ErrorRow] = MappingProxyType(
    {
        Why.REFUSED: ErrorRow(502, "UNAVAILABLE"),
        Why.NONSENSE: ErrorRow(502, "UNAVAILABLE"),
        Why.TIMEOUT: ErrorRow(504, "UNAVAILABLE"),
        Why.RESTING: ErrorRow(503, "UNAVAILABLE"),
        # After a 429, podman waits and retries, and containerd repeats the request at once. After a
        # 503, a client that uses this registry as a mirror continues with the upstream itself.
        Why.LIMITED: ErrorRow(503, "TOOMANYREQUESTS"),
        # The upstream works, but this registry cannot pass on a manifest of that type.
        Why.UNSUPPORTED: ErrorRow(501, "UNSUPPORTED"),
    }
)
_LIMITED_WITHOUT_ORIGIN = ErrorRow(_TOO_MANY, "TOOMANYREQUESTS")
# This row is used for `Why.NONSENSE` if the upstream sent Retry-After, because a 503 can carry that
# header and a 502 cannot.
_ANNOUNCED_RETURN = ErrorRow(503, "UNAVAILABLE")

_FULL_DISK = MappingProxyType(
    {
        errno.ENOSPC: "the registry's disk has no space or no inodes left",
        errno.EDQUOT: "the registry's disk quota is used up",
        errno.EROFS: "the registry's disk is read-only",
    }
)

# An error response with 429 or 503 may carry Retry-After (RFC 9110, 10.2.3, and RFC 6585, 4).
_WITH_RETRY_AFTER = frozenset({_TOO_MANY, 503})

# These values of the header Retry-After are in seconds. `_RETRY_SOON` and `_RETRY_LIMITED` are used
# if the upstream sent no Retry-After. `_LONGEST_RETRY` is the largest value that is sent.
_RETRY_SOON = 5.0
_RETRY_LIMITED = 60.0
_LONGEST_RETRY = 3600.0

# This table maps the statuses 404 and 416, which Falcon itself raises, to OCI codes. The OCI code
# for any other status of Falcon is UNSUPPORTED below 500, and UNKNOWN from 500 on.
_HTTP_CODES = MappingProxyType({404: "NAME_UNKNOWN", 416: "RANGE_INVALID"})
_SERVER_ERROR = 500
_EVERY_S = 10.0

# A resource can set these headers before it fails. They describe the intended body, so the worker
# removes them from the error response.
_BODY_HEADERS = (
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
class FailedRequest:
    """A `FailedRequest` holds the properties of a request on which the error response depends.

    `template` is the path template of the route, or None if no route matched. `mirror_form` is True
    if the client uses this registry as a mirror and can fall back to the upstream. `challenged`
    holds the data from which the WWW-Authenticate challenge is made.
    """

    template: str | None = None
    mirror_form: bool = False
    challenged: ChallengedRequest = field(default_factory=ChallengedRequest)


@dataclass(frozen=True, slots=True)
class ErrorResponse:
    """An `ErrorResponse` holds the parts of an error response, which `_write` passes to Falcon."""

    status: int
    code: str
    message: str
    details: tuple[Detail, ...] = (None,)
    headers: Mapping[str, str] = field(default_factory=dict)


def error_response(error: Exception, request: FailedRequest) -> ErrorResponse:
    """Return the response to *error* that TABLE specifies for its class or nearest base class."""
    row = _row(error, request)
    message = f"{_general(error, row)}; see the registry's log" if row.is_internal else str(error)
    code = row.code or _unknown_code(request.template)
    headers = _headers(error, request) | _retry(error, row.status)
    return ErrorResponse(row.status, code, message, _details(error), headers)


def _general(error: Exception, row: ErrorRow) -> str:
    """Return a message without paths; for a full disk, the reason that the system reported."""
    cause = error.__cause__
    reason = _FULL_DISK.get(cause.errno or 0) if isinstance(cause, OSError) else None
    is_full = isinstance(error, datastore.StorageFull)
    return reason if reason is not None and is_full else row.general


def envelope(response: ErrorResponse) -> bytes:
    """Return the JSON body that the OCI spec defines for errors, with an entry for each detail."""
    entries = [
        {"code": response.code, "message": response.message, "detail": detail}
        for detail in response.details
    ]
    return json.dumps({"errors": entries}).encode()


def install(app: falcon.App[falcon.Request, falcon.Response]) -> None:
    """Make Falcon respond to every exception as TABLE specifies."""
    app.add_error_handler(Exception, _handle)
    app.add_error_handler(falcon.HTTPError, _handle_falcon)


def _handle(
    req: falcon.Request, resp: falcon.Response, error: Exception, params: dict[str, object]
) -> None:
    request = FailedRequest(
        req.uri_template,
        getattr(req.context, "mirror_form", False),
        _challenged(req, error, params),
    )
    row = _row(error, request)
    if row.is_internal:
        _log(error, req, is_foreseen=row.status != _INTERNAL.status)
    _write(req, resp, error_response(error, request))


def _log(error: Exception, req: falcon.Request, *, is_foreseen: bool) -> None:
    """Log the error of a request, with a traceback if the error is unexpected.

    An expected error, such as a full disk, can occur with every request. Therefore each class of
    expected errors is logged at most once in `_EVERY_S` seconds. The log line contains the number
    of errors of that class that were not logged since the previous line.
    """
    names = {"method": req.method, "path": req.path}
    if not is_foreseen:
        log.error("request failed", extra=names, exc_info=error)
        return
    before = _foreseen.due(type(error))
    if before is not None:
        fields = {**names, "error": error, "before": before}
        log.warning("the registry cannot serve the request at present", extra=fields)


_foreseen = RareLines(_EVERY_S)


def _challenged(
    req: falcon.Request, error: Exception, params: dict[str, object]
) -> ChallengedRequest:
    if not isinstance(error, registry.Unauthenticated):
        return ChallengedRequest()
    name = params.get("name")
    return scopes.challenged(req, None if name is None else str(name))


def _handle_falcon(
    req: falcon.Request, resp: falcon.Response, error: falcon.HTTPError, _params: dict[str, object]
) -> None:
    status = error.status_code
    otherwise = "UNSUPPORTED" if status < _SERVER_ERROR else "UNKNOWN"
    code = _HTTP_CODES.get(status, otherwise)
    message = error.description or error.title
    _write(req, resp, ErrorResponse(status, code, message, headers=dict(error.headers or {})))


def _write(req: falcon.Request, resp: falcon.Response, response: ErrorResponse) -> None:
    _drop_body(resp)
    resp.status = response.status
    resp.content_type = falcon.MEDIA_JSON
    _send(req, resp, envelope(response))
    # Without this header, a cache would be allowed to store a 404 response (RFC 9110, 15.1).
    resp.set_header("Cache-Control", "no-store")
    for name, text in response.headers.items():
        if name != "Cache-Status" or resp.get_header(name) is None:
            resp.set_header(name, text)


def _send(req: falcon.Request, resp: falcon.Response, body: bytes) -> None:
    """Send the error body; let the connection poller read the rest of the request body."""
    if request_body.may_still_be_sending(req):
        request_body.drain_after_response(req)
    resp.data = body


def _drop_body(resp: falcon.Response) -> None:
    """Discard the response that a resource had started, and close its file."""
    close = getattr(resp.stream, "close", None)
    resp.stream = None
    if close is not None:
        close()
    for name in _BODY_HEADERS:
        resp.delete_header(name)


def _row(error: Exception, request: FailedRequest) -> ErrorRow:
    if isinstance(error, Unavailable):
        if error.why is Why.LIMITED and not request.mirror_form:
            return _LIMITED_WITHOUT_ORIGIN
        if error.why is Why.NONSENSE and error.retry_after is not None:
            return _ANNOUNCED_RETURN
        return BY_WHY[error.why]
    if isinstance(error, registry.Refused):
        return ErrorRow(error.status, error.code)
    return next((TABLE[each] for each in type(error).__mro__ if each in TABLE), _INTERNAL)


def _unknown_code(template: str | None) -> str:
    if template is not None and "/blobs/" in template:
        return "BLOB_UNKNOWN"
    if template is not None and "/manifests/" in template:
        return "MANIFEST_UNKNOWN"
    return "NAME_UNKNOWN"


def _headers(error: Exception, request: FailedRequest) -> dict[str, str]:
    match error:
        case registry.Unauthenticated():
            return {"WWW-Authenticate": _challenge(error.challenge, request)}
        case registry.Unsupported():
            return {"Allow": ", ".join(error.allowed)}
        case registry.RangeUnsatisfiable():
            return {"Content-Range": etags_and_ranges.unsatisfied_range(error.size)}
        case registry.ChunkMisplaced(offset=offset):
            return {"Range": etags_and_ranges.received_range(offset)}
        case registry.PartsMissing() | registry.UpstreamError():
            return {"Cache-Status": _cache_status(_cause(error))}
    return {}


def _challenge(challenge: AuthChallenge | str, request: FailedRequest) -> str:
    return challenge if isinstance(challenge, str) else challenge.header(request.challenged)


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
    """Return the header Retry-After in whole seconds, at least 1, if *status* may carry it."""
    if status not in _WITH_RETRY_AFTER:
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
