"""Tests of the S3 server for tests: it refuses the same requests as S3, and injects faults."""

from __future__ import annotations

import dataclasses
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path

import obstore
import pytest
from obstore.exceptions import BaseError

from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.drivers.s3 import bucket_of
from entrepot.datastore.errors import StorageBroken
from tests.s3_front import ApplyLater, CutBody, LoseAnswer, S3Front, SlowDown, Stall, WrongRegion
from tests.s3_signatures import Account, Signed, refusal
from tests.s3_storage import parameters

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def running() -> Iterator[S3Front]:
    """Run one strict S3 server for all tests of this module."""
    with S3Front() as front:
        yield front


@pytest.fixture
def s3(running: S3Front) -> Iterator[S3Front]:
    """Return the strict S3 server, without requests and faults of earlier tests."""
    running.forget()
    yield running
    running.forget()


def _client(s3: S3Front, **others: object) -> ObjectClient:
    return ObjectClient(bucket_of(dict(parameters(s3, Path(), **others))))


@pytest.mark.parametrize(
    ("wrong", "code"),
    [
        ({"accesskey": "AKIAOTHER"}, "InvalidAccessKeyId"),
        ({"secretkey": "other"}, "SignatureDoesNotMatch"),
        ({"region": "us-east-1"}, "AuthorizationHeaderMalformed"),
        ({"sessiontoken": "unknown"}, "InvalidToken"),
    ],
)
def test_a_wrong_key_secret_region_or_token_is_refused(
    s3: S3Front, wrong: dict[str, object], code: str
) -> None:
    """The strict server refuses a wrong key, secret, region or token, which moto alone accepts."""
    with pytest.raises(StorageBroken):
        _client(s3, **wrong).put("key", b"content")

    assert code in s3.refused
    assert s3.get("key") is None


def test_a_presigned_url_is_valid_for_its_method_and_its_time(s3: S3Front) -> None:
    """A presigned URL is valid for one method until its expiry; moto alone checks neither."""
    client = _client(s3)
    client.put("a key/with+signs", b"content")
    url = obstore.sign(client._requests, "GET", "a key/with+signs", timedelta(minutes=1))

    with urllib.request.urlopen(url) as response:
        assert response.read() == b"content"
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(urllib.request.Request(url, method="HEAD"))
    with pytest.raises(urllib.error.HTTPError, match="403"):
        urllib.request.urlopen(url.replace("Expires=60", "Expires=600"))
    host, _, target = url.removeprefix("http://").partition("/")
    request = Signed("GET", f"/{target}", {"host": host}, b"")
    later = datetime.now(UTC) + timedelta(seconds=62)
    assert refusal(request, s3.account) is None
    found = refusal(request, s3.account, later)
    assert found is not None
    assert found.message == "Request has expired"


def test_a_request_is_valid_for_fifteen_minutes_with_its_body(s3: S3Front) -> None:
    """A signature is valid for fifteen minutes, and only with the body that it covers."""
    _client(s3).put("key", b"content")
    seen = next(each for each in s3.requests if each.method == "PUT")
    request = Signed("PUT", f"/{s3.bucket}/key", seen.headers, b"content")

    def code(changed: Signed, later: timedelta = timedelta()) -> str | None:
        found = refusal(changed, s3.account, datetime.now(UTC) + later)
        return found.code if found else None

    assert code(request) is None
    assert code(request, timedelta(minutes=16)) == "RequestTimeTooSkewed"
    assert code(request, -timedelta(minutes=16)) == "RequestTimeTooSkewed"
    assert code(dataclasses.replace(request, body=b"other")) == "XAmzContentSHA256Mismatch"
    assert code(dataclasses.replace(request, method="DELETE")) == "SignatureDoesNotMatch"
    assert code(dataclasses.replace(request, target="/x")) == "SignatureDoesNotMatch"
    assert code(dataclasses.replace(request, headers={"host": "h"})) == "AccessDenied"


def test_a_session_token_is_needed_with_a_temporary_key(s3: S3Front) -> None:
    """A temporary key needs its session token, in a header that the signature covers."""
    account = Account(token="secret token")
    with S3Front(account) as temporary:
        _client(temporary, sessiontoken="secret token").put("key", b"content")
        with pytest.raises(StorageBroken):
            _client(temporary).put("key", b"content")

        assert set(temporary.refused) == {"InvalidToken"}
    assert s3.requests == []


def test_requests_are_counted_by_method_and_key(s3: S3Front) -> None:
    """The strict server counts requests by method and key."""
    client = _client(s3)
    client.put("a/one", b"1")
    client.head("a/one")
    client.delete("a/one")

    assert (s3.count("PUT"), s3.count("HEAD", "^a/"), s3.count("DELETE", "other")) == (1, 1, 0)
    assert s3.counts() == {"PUT": 1, "HEAD": 1, "DELETE": 1}
    assert s3.keys("a/") == []


def test_each_fault_is_seen_by_the_client(s3: S3Front) -> None:
    """The client sees each kind of fault once, as set by `times`, and then the usual response."""
    client = _client(s3)
    client.put("key", bytes(200_000))
    for fault in (SlowDown(), WrongRegion("eu-north-1"), CutBody(1000)):
        s3.fault("GET", "key", fault, times=1)
        with pytest.raises((BaseError, OSError)):
            obstore.get(client._requests, "key").bytes()
        assert len(obstore.get(client._requests, "key").bytes()) == 200_000


def test_a_request_whose_answer_is_lost_was_applied(s3: S3Front) -> None:
    """A request with the fault `LoseAnswer` is applied, although its client gets no response."""
    client = _client(s3)
    s3.fault("PUT", "key", LoseAnswer(), times=1)

    with pytest.raises(BaseError):
        obstore.put(client._requests, "key", b"lost", use_multipart=False)

    assert s3.get("key") == b"lost"


def test_a_removal_can_be_applied_late(s3: S3Front) -> None:
    """With the fault `ApplyLater`, a DELETE can delete an object that a later PUT has written."""
    client = _client(s3)
    client.put("key", b"old")
    late = ApplyLater(threading.Event())
    s3.fault("DELETE", "key", late, times=1)
    with pytest.raises(StorageBroken):
        client.delete("key")
    client.put("key", b"new")

    late.when.set()

    assert late.applied.wait(30)
    assert s3.get("key") is None


def test_a_stalled_answer_comes_in_the_end(s3: S3Front) -> None:
    """With the fault `Stall`, the usual response arrives only after the test has set an event."""
    client = _client(s3)
    client.put("key", b"content")
    until = threading.Event()
    s3.fault("HEAD", "key", Stall(until), times=1)
    found: list[object] = []
    thread = threading.Thread(target=lambda: found.append(client.head("key")))
    thread.start()
    assert found == []
    until.set()
    thread.join(30)

    assert [getattr(each, "size", None) for each in found] == [7]
