"""The table `errors.TABLE` maps exceptions to HTTP statuses and codes of the OCI spec."""

from __future__ import annotations

import inspect
import json

import falcon
import pytest
from falcon import testing

from entrepot.datastore import errors as datastore
from entrepot.datastore.refs import Digest
from entrepot.registry import errors as registry
from entrepot.registry.api import errors
from entrepot.registry.api.errors import FailedRequest
from entrepot.registry.errors import Unavailable, Why
from entrepot.runtime.rare_lines import RareLines

_BLOB = "/v2/{name}/blobs/{digest}"
_MANIFEST = "/v2/{name}/manifests/{reference}"
_UPLOAD = "/v2/{name}/blobs/uploads/{upload}"


def _unavailable(why: Why, retry_after: float | None = None) -> Unavailable:
    return Unavailable("quay.io", "it did not", why, retry_after=retry_after)


@pytest.mark.parametrize("module", [datastore, registry], ids=["datastore", "registry"])
def test_every_exception_class_has_a_row(module: object) -> None:
    """Each exception class of the registry has a row in the table.

    An exception of any other class becomes a 500.
    """
    classes = {each for _, each in inspect.getmembers(module, inspect.isclass)}
    exceptions = {each for each in classes if issubclass(each, Exception)}

    assert exceptions - set(errors.TABLE) == set()
    assert len(exceptions) > 8


def test_every_reason_of_unavailability_has_a_row() -> None:
    """The table of errors has a status for each reason why an upstream can be unavailable."""
    assert set(errors.BY_WHY) == set(Why)


_ROWS: list[tuple[Exception, str | None, int, str]] = [
    (datastore.InvalidDigest("x", "no"), _BLOB, 400, "DIGEST_INVALID"),
    (datastore.InvalidTag(".x", "no"), _MANIFEST, 404, "MANIFEST_UNKNOWN"),
    (datastore.InvalidRepository("X", "no"), None, 400, "NAME_INVALID"),
    (datastore.InvalidManifest("{", "no"), _MANIFEST, 400, "MANIFEST_INVALID"),
    (datastore.NotFound("k"), _BLOB, 404, "BLOB_UNKNOWN"),
    (datastore.DigestMismatch("a", "b"), _BLOB, 400, "DIGEST_INVALID"),
    (datastore.StorageFull("no room"), _BLOB, 503, "UNAVAILABLE"),
    (datastore.StorageBroken("disk"), _BLOB, 503, "UNAVAILABLE"),
    (datastore.SpaceAwaited(5), _UPLOAD, 503, "UNAVAILABLE"),
    (datastore.IndexUnavailable("busy"), _BLOB, 503, "UNAVAILABLE"),
    (registry.Absent("quay.io", "no"), _MANIFEST, 404, "MANIFEST_UNKNOWN"),
    (registry.Absent("quay.io", "no"), _BLOB, 404, "BLOB_UNKNOWN"),
    (registry.Absent("quay.io", "no"), None, 404, "NAME_UNKNOWN"),
    (registry.Denied("quay.io", "no"), _MANIFEST, 403, "DENIED"),
    (registry.NameUnknown("x"), None, 404, "NAME_UNKNOWN"),
    (registry.InvalidToken("expired"), None, 401, "UNAUTHORIZED"),
    (registry.ManifestUnknown("x"), _MANIFEST, 404, "MANIFEST_UNKNOWN"),
    (registry.BlobUnknown("x"), _BLOB, 404, "BLOB_UNKNOWN"),
    (registry.PartsMissing(_unavailable(Why.REFUSED)), _MANIFEST, 503, "UNAVAILABLE"),
    (registry.PartsMissing(_unavailable(Why.LIMITED)), _MANIFEST, 503, "UNAVAILABLE"),
    (registry.Unauthenticated('Basic realm="r"'), None, 401, "UNAUTHORIZED"),
    (registry.Forbidden("no"), None, 403, "DENIED"),
    (registry.Unsupported("no"), None, 405, "UNSUPPORTED"),
    (registry.RangeUnsatisfiable(5), _BLOB, 416, "RANGE_INVALID"),
    (registry.MalformedRequest("n"), None, 400, "UNSUPPORTED"),
    (registry.PartsUnknown(()), _MANIFEST, 404, "MANIFEST_BLOB_UNKNOWN"),
    (registry.ManifestTooLarge("5 MiB"), _MANIFEST, 413, "SIZE_INVALID"),
    (registry.UploadUnknown("x"), _UPLOAD, 404, "BLOB_UPLOAD_UNKNOWN"),
    (registry.ChunkMisplaced("late", 5), _UPLOAD, 416, "BLOB_UPLOAD_INVALID"),
    (registry.BodyBroken("short"), _UPLOAD, 400, "SIZE_INVALID"),
    (registry.BodyTooSlow("slow"), _UPLOAD, 408, "UNSUPPORTED"),
    (registry.TooManyUploads("many"), _UPLOAD, 429, "TOOMANYREQUESTS"),
    (datastore.OutOfSpace(5, 3), _UPLOAD, 507, "DENIED"),
    (datastore.ContentDamaged("short"), _BLOB, 503, "UNAVAILABLE"),
    (registry.InvalidPageSize("n is 9"), None, 400, "PAGINATION_NUMBER_INVALID"),
    (registry.Refused("no", 409, "UNSUPPORTED"), None, 409, "UNSUPPORTED"),
    (registry.MiddlewareFailed("no"), None, 500, "UNKNOWN"),
    (registry.Overloaded("busy"), None, 503, "TOOMANYREQUESTS"),
    (_unavailable(Why.REFUSED), _BLOB, 502, "UNAVAILABLE"),
    (_unavailable(Why.NONSENSE), _BLOB, 502, "UNAVAILABLE"),
    (_unavailable(Why.TIMEOUT), _BLOB, 504, "UNAVAILABLE"),
    (_unavailable(Why.RESTING), _BLOB, 503, "UNAVAILABLE"),
    (_unavailable(Why.LIMITED), _BLOB, 429, "TOOMANYREQUESTS"),
    (registry.ListTooLong("quay.io", "no"), None, 502, "UNAVAILABLE"),
    (_unavailable(Why.UNSUPPORTED), _MANIFEST, 501, "UNSUPPORTED"),
    (_unavailable(Why.NONSENSE, 3600.0), _MANIFEST, 503, "UNAVAILABLE"),
    (_unavailable(Why.TIMEOUT, 5.0), _BLOB, 504, "UNAVAILABLE"),
    (RuntimeError("hunter2"), None, 500, "UNKNOWN"),
]


@pytest.mark.parametrize(
    ("error", "template", "status", "code"),
    _ROWS,
    ids=[f"{type(row[0]).__name__}-{row[2]}-{row[3]}" for row in _ROWS],
)
def test_status_and_code_follow_the_table(
    error: Exception, template: str | None, status: int, code: str
) -> None:
    """The status and the code of an error depend on its class, its reason, and the path."""
    response = errors.error_response(error, FailedRequest(template))

    assert (status, code) == (response.status, response.code)


def test_every_row_is_tested() -> None:
    """Each row of the error table is tested, except for classes that no request can raise."""
    roots = {
        registry.RegistryError,
        registry.UpstreamError,
        datastore.DatastoreError,
        datastore.Malformed,
    }
    startup = {registry.InvalidHtpasswd, datastore.InvalidLine, datastore.InvalidSnapshot}

    assert set(errors.TABLE) == {type(row[0]) for row in _ROWS} - {RuntimeError} | roots | startup


def test_a_subclass_without_a_row_uses_the_row_of_its_parent() -> None:
    """If an exception class has no row in the table, the registry uses the row of its parent class.

    Programs that embed the registry can define such subclasses.
    """

    class Revoked(registry.Denied):
        pass

    assert errors.error_response(Revoked("quay.io", "no"), FailedRequest()).status == 403


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (_unavailable(Why.RESTING), "5"),
        (_unavailable(Why.RESTING, 0.0), "1"),
        (_unavailable(Why.RESTING, -3.0), "1"),
        (_unavailable(Why.RESTING, 1.01), "2"),
        (_unavailable(Why.RESTING, float("inf")), "3600"),
        (_unavailable(Why.RESTING, float("nan")), "1"),
        (_unavailable(Why.LIMITED), "60"),
        (registry.PartsMissing(_unavailable(Why.TIMEOUT, 3.5)), "4"),
        (registry.PartsMissing(_unavailable(Why.TIMEOUT)), "5"),
        (registry.Overloaded("busy"), "5"),
        (_unavailable(Why.TIMEOUT, 9.0), None),
        (_unavailable(Why.REFUSED, 9.0), None),
    ],
)
def test_retry_after_is_a_positive_number_of_whole_seconds(
    error: Exception, expected: str | None
) -> None:
    """Each 503 and 429 has a Retry-After of 1 to 3600 whole seconds; 502 and 504 have none."""
    response = errors.error_response(error, FailedRequest())

    assert expected == response.headers.get("Retry-After")


def test_the_detail_names_the_upstream_and_the_reason() -> None:
    """If parts are missing because an upstream failed, the error names the upstream and the reason.

    Clients log this detail.
    """
    response = errors.error_response(
        registry.PartsMissing(_unavailable(Why.TIMEOUT)), FailedRequest()
    )

    assert response.details == ({"upstream": "quay.io", "why": "timeout"},)


def test_a_message_may_contain_any_character() -> None:
    """Control characters from a request are escaped in the JSON of the error response."""
    given = '"}\x00\n\udcff\u2028'

    response = errors.error_response(
        datastore.InvalidRepository(given, "not a name"), FailedRequest()
    )

    (entry,) = json.loads(errors.envelope(response))["errors"]
    assert entry == {"code": "NAME_INVALID", "message": response.message, "detail": None}


def test_each_missing_part_has_its_own_error_entry() -> None:
    """If parts of a pushed manifest are missing, the response has one error for each missing part.

    The code of these errors is MANIFEST_BLOB_UNKNOWN. OCI distribution-spec 1.1, "Push", allows
    several errors in a response.
    """
    missing = (Digest.of(b"1"), Digest.of(b"2"))

    response = errors.error_response(registry.PartsUnknown(missing), FailedRequest(_MANIFEST))

    digests = [each["detail"]["digest"] for each in json.loads(errors.envelope(response))["errors"]]
    assert digests == [str(digest) for digest in missing]


def test_out_of_space_states_the_requested_and_the_free_size() -> None:
    """If an upload does not fit, the error states the requested and the free size in bytes."""
    response = errors.error_response(datastore.OutOfSpace(5000, 300), FailedRequest(_UPLOAD))

    assert response.details == ({"size": 5000, "room": 300},)
    assert "5000" in response.message
    assert "300" in response.message


def test_a_misplaced_chunk_gets_the_range_received_so_far() -> None:
    """A chunk with a wrong start offset gets 416; the Range header states the received bytes."""
    misplaced = errors.error_response(registry.ChunkMisplaced("late", 1024), FailedRequest(_UPLOAD))

    assert misplaced.headers == {"Range": "0-1023"}


@pytest.mark.parametrize(
    "error",
    [
        datastore.StorageFull("no space left on device"),
        datastore.StorageBroken("input/output error"),
        datastore.IndexUnavailable("the index is being rebuilt"),
    ],
    ids=lambda each: type(each).__name__,
)
def test_a_foreseen_error_is_one_line_without_a_traceback(
    error: Exception, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Three equal errors of an expected kind, such as disk errors, are logged as one warning.

    The log line has no traceback.
    """
    monkeypatch.setattr(errors, "_foreseen", RareLines(10.0))
    client = testing.TestClient(_failing(error))
    for _ in range(3):
        assert client.simulate_get("/x").status_code == 503

    assert [(each.levelname, each.exc_info) for each in caplog.records] == [("WARNING", None)]
    assert caplog.records[0].error is error  # type: ignore[attr-defined]  # a field of the record


def test_an_unforeseen_error_is_logged_with_its_traceback(caplog: pytest.LogCaptureFixture) -> None:
    """An error without a row in the table is a defect, so it is logged with its traceback."""
    response = testing.TestClient(_failing(RuntimeError("defect"))).simulate_get("/x")

    assert response.status_code == 500
    assert [(each.levelname, bool(each.exc_info)) for each in caplog.records] == [("ERROR", True)]


def _failing(error: Exception) -> falcon.App[falcon.Request, falcon.Response]:
    class Failing:
        def on_get(self, _req: falcon.Request, _resp: falcon.Response) -> None:
            raise error

    app = falcon.App()
    errors.install(app)
    app.add_route("/x", Failing())
    return app
