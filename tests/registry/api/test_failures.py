"""If a request fails, the client gets an error response with headers and a JSON body."""

from __future__ import annotations

import errno
import io
import logging
from collections.abc import Callable
from urllib.parse import quote

import falcon
import pytest
from falcon import testing
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.errors import StorageFull, storage_error
from entrepot.registry import errors as registry
from entrepot.registry.api import errors
from entrepot.registry.api.response_body import ResponseHeaders
from entrepot.registry.api.router import Router
from entrepot.registry.errors import Unavailable, Why

_BLOB = "/v2/{name}/blobs/{digest}"
_MANIFEST = "/v2/{name}/manifests/{reference}"
_PATHS = {_BLOB: "/v2/a/blobs/b", _MANIFEST: "/v2/a/manifests/b", None: "/v2/"}


class Failing:
    """A resource that sets a body and headers before it raises an error."""

    def __init__(self) -> None:
        self.error: Exception = RuntimeError()
        self.mirror_form: bool | None = None
        self.cache_status: str | None = None
        self.stream = io.BytesIO(b"half an answer")

    def on_get(self, req: falcon.Request, resp: falcon.Response, **_: str) -> None:
        """Set the response's headers and stream, then raise the error."""
        if self.mirror_form is not None:
            req.context.mirror_form = self.mirror_form
        if self.cache_status is not None:
            resp.set_header("Cache-Status", self.cache_status)
        resp.set_header("Docker-Content-Digest", "sha256:0")
        resp.set_header("OCI-Namespace", "quay.io")
        resp.etag = "0"
        resp.set_stream(self.stream, 14)
        raise self.error

    on_head = on_get


@pytest.fixture
def failing() -> Failing:
    """Return the resource that raises an error."""
    return Failing()


@pytest.fixture
def client(failing: Failing) -> testing.TestClient:
    """Return a client of an application in which every route raises an error."""
    app = falcon.App(middleware=[ResponseHeaders()])
    errors.install(app)
    for template in _PATHS:
        app.add_route(template or "/v2/", failing)
    return testing.TestClient(app)


@pytest.fixture
def fails(client: testing.TestClient, failing: Failing) -> Callable[..., testing.Result]:
    """Return a function that sends a request to a resource which raises *error*."""

    def ask(
        error: Exception,
        template: str | None = None,
        *,
        mirror_form: bool | None = None,
        method: str = "GET",
    ) -> testing.Result:
        failing.error = error
        failing.mirror_form = mirror_form
        return client.simulate_request(method, _PATHS[template])

    return ask


def _unavailable(why: Why, retry_after: float | None = None) -> Unavailable:
    return Unavailable("quay.io", "it did not", why, retry_after=retry_after)


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (registry.ManifestUnknown("x"), 404, "MANIFEST_UNKNOWN"),
        (registry.Absent("quay.io", "no"), 404, "BLOB_UNKNOWN"),
        (falcon.HTTPBadRequest(), 400, "UNSUPPORTED"),
        (falcon.HTTPServiceUnavailable(), 503, "UNKNOWN"),
        (RuntimeError("hunter2"), 500, "UNKNOWN"),
    ],
    ids=lambda each: type(each).__name__ if isinstance(each, Exception) else None,
)
def test_an_error_response_is_the_oci_envelope(
    fails: Callable[..., testing.Result], error: Exception, status: int, code: str
) -> None:
    """Each error response has the JSON body of the OCI spec, and a header that forbids caching.

    Errors that Falcon raises and unexpected errors also get a response of this form.
    """
    answer = fails(error, _BLOB)

    assert answer.status_code == status
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["cache-control"] == "no-store"
    assert answer.headers["docker-distribution-api-version"] == "registry/2.0"
    (entry,) = answer.json["errors"]
    assert set(entry) == {"code", "message", "detail"}
    assert entry["code"] == code
    assert entry["message"]


def test_only_a_401_has_a_challenge(fails: Callable[..., testing.Result]) -> None:
    """Only a 401 of the registry has a challenge; an upstream's challenge is never sent."""
    ours = fails(registry.Unauthenticated('Basic realm="r"'))
    theirs = fails(registry.Denied("quay.io", "401"))

    assert ours.headers["www-authenticate"] == 'Basic realm="r"'
    assert "www-authenticate" not in theirs.headers


def test_a_rate_limit_is_503_for_a_client_that_can_use_the_origin(
    fails: Callable[..., testing.Result],
) -> None:
    """If the upstream limits the rate, a client that uses the appliance as a mirror gets 503.

    podman waits after a 429, but after a 503 it pulls directly from the upstream.
    """
    mirror = fails(_unavailable(Why.LIMITED, 17.2), _MANIFEST, mirror_form=True)
    path = fails(_unavailable(Why.LIMITED, 17.2), _MANIFEST, mirror_form=False)

    assert (mirror.status_code, path.status_code) == (503, 429)
    for answer in (mirror, path):
        assert answer.headers["retry-after"] == "18"
        assert answer.json["errors"][0]["code"] == "TOOMANYREQUESTS"


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_unavailable(Why.TIMEOUT), "entrepot; fwd=uri-miss; detail=timeout"),
        (_unavailable(Why.LIMITED), "entrepot; fwd=uri-miss; fwd-status=429; detail=limited"),
        (_unavailable(Why.RESTING), "entrepot; detail=resting"),
        (registry.PartsMissing(_unavailable(Why.RESTING)), "entrepot; detail=resting"),
        (registry.Absent("quay.io", "no"), "entrepot; fwd=uri-miss"),
        (registry.ManifestUnknown("no"), "entrepot"),
    ],
)
def test_cache_status_has_the_failure_of_the_upstream(
    fails: Callable[..., testing.Result], error: Exception, expected: str
) -> None:
    """The Cache-Status of an error response states why the upstream failed.

    If the circuit breaker is open, the header shows that the request was not forwarded.
    """
    assert fails(error).headers["cache-status"] == expected


def test_a_cache_status_set_by_the_resource_is_kept(
    fails: Callable[..., testing.Result], failing: Failing
) -> None:
    """If a resource sets Cache-Status and then raises an error, the response has that Cache-Status.

    For example, the Cache-Status of a 404 that the registry has cached states a hit.
    """
    failing.cache_status = "entrepot; hit"

    answer = fails(registry.Absent("quay.io", "no"), _MANIFEST)

    assert answer.headers["cache-status"] == "entrepot; hit"


def test_allow_and_content_range_are_sent(fails: Callable[..., testing.Result]) -> None:
    """A 405 lists the supported methods in Allow, and a 416 has the size in Content-Range."""
    unsupported = fails(registry.Unsupported("no", ("GET", "HEAD", "PUT")))
    past_the_end = fails(registry.RangeUnsatisfiable(77))

    assert unsupported.headers["allow"] == "GET, HEAD, PUT"
    assert past_the_end.headers["content-range"] == "bytes */77"


def test_headers_and_body_of_the_resource_are_discarded(
    fails: Callable[..., testing.Result], failing: Failing
) -> None:
    """If a resource fails after it has set a body, the error response omits that body.

    The response also lacks the ETag and the digest that the resource set. The open file of the body
    is closed.
    """
    answer = fails(registry.BlobUnknown("no"), _BLOB)

    assert "docker-content-digest" not in answer.headers
    assert "etag" not in answer.headers
    assert answer.headers["oci-namespace"] == "quay.io"
    assert failing.stream.closed


def test_a_failed_head_has_the_headers_of_a_get_and_no_body(
    fails: Callable[..., testing.Result],
) -> None:
    """A failed HEAD has the headers of a failed GET, including Content-Length, and no body."""
    error = _unavailable(Why.LIMITED, 9.0)
    get, head = fails(error, _BLOB), fails(error, _BLOB, method="HEAD")

    assert get.status_code == head.status_code
    assert get.headers == head.headers
    assert head.content == b""


@pytest.mark.parametrize(
    ("number", "reason"),
    [
        (errno.ENOSPC, "the registry's disk has no space or no inodes left"),
        (errno.EDQUOT, "the registry's disk quota is used up"),
        (errno.EROFS, "the registry's disk is read-only"),
        (errno.EIO, "the registry's disk fails"),
    ],
)
def test_a_disk_error_is_named_without_its_path(
    fails: Callable[..., testing.Result], number: int, reason: str
) -> None:
    """After a disk error, the response names the kind of error; only the log contains the path."""
    cause = OSError(number, "broken", "/data/hunter2")
    error = storage_error(cause)
    error.__cause__ = cause
    answer = fails(error, _BLOB)

    assert (answer.status_code, "retry-after" in answer.headers) == (503, True)
    assert answer.json["errors"][0]["message"] == f"{reason}; see the registry's log"
    assert "hunter2" not in answer.text


def test_a_full_disk_without_a_system_error_is_named() -> None:
    """If a reservation fails before any write, the response states that the disk is full."""
    found = errors.error_response(StorageFull("/data"), errors.FailedRequest())

    assert found.message == "the registry's disk is full or read-only; see the registry's log"


def test_an_unexpected_error_is_logged_once_and_hidden_from_the_client(
    fails: Callable[..., testing.Result], caplog: pytest.LogCaptureFixture
) -> None:
    """An unexpected error is logged once with its traceback.

    The response does not contain the text of the error.
    """
    answer = fails(RuntimeError("hunter2"), _BLOB)

    assert "hunter2" not in answer.text
    assert "Traceback" not in answer.text
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.exc_info is not None
    assert vars(record)["path"] == _PATHS[_BLOB]


def test_errors_of_clients_and_upstreams_are_not_logged(
    fails: Callable[..., testing.Result], caplog: pytest.LogCaptureFixture
) -> None:
    """Errors that a client or an upstream caused are recorded only in the access log."""
    fails(registry.BlobUnknown("no"), _BLOB)
    fails(_unavailable(Why.TIMEOUT), _BLOB)

    assert caplog.records == []


def test_an_unknown_path_has_the_envelope(client: testing.TestClient) -> None:
    """A request for an unknown path gets 404 with the JSON body of the OCI spec.

    Falcon, not the registry, raises this error.
    """
    answer = client.simulate_get("/v2/a/blobs/b/")

    assert answer.status_code == 404
    assert answer.json["errors"][0]["code"] == "NAME_UNKNOWN"


def test_an_unsupported_method_has_the_envelope(client: testing.TestClient) -> None:
    """An unsupported method gets 405 with Allow and the JSON body of the OCI spec."""
    answer = client.simulate_put("/v2/a/manifests/b")

    assert answer.status_code == 405
    assert "GET" in answer.headers["allow"]
    assert answer.json["errors"][0]["code"] == "UNSUPPORTED"


@given(st.text(max_size=40))
def test_no_path_is_a_500(path: str) -> None:
    """Any request path without a resource gets 404 or 405, never 500."""
    app = falcon.App(router=Router(), middleware=[ResponseHeaders()])
    errors.install(app)
    app.add_route(_MANIFEST, object())

    for each in (path, f"/v2/{path}", f"/v2/{path}/manifests/{path}"):
        answer = testing.TestClient(app).simulate_get("/" + quote(each.lstrip("/"), safe="/"))
        assert answer.status_code in {404, 405}
        assert answer.json["errors"][0]["code"] in {"NAME_UNKNOWN", "UNSUPPORTED"}
