"""Tests that each request to the bucket is reported once to the metrics."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.accesslog import STORAGE_EVENT
from entrepot.datastore.drivers.objects.circuit import StorageCircuit
from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.drivers.s3 import bucket_of
from entrepot.datastore.errors import StorageBroken
from entrepot.datastore.storage import report_requests
from tests.clock import Clock
from tests.s3_front import Refused, S3Front, SlowDown
from tests.s3_signatures import Refusal
from tests.s3_storage import always_owned, parameters

pytestmark = pytest.mark.slow

MB = 1024 * 1024
REPORT = list[dict[str, Any]]


@pytest.fixture
def said() -> REPORT:
    """Return the list of reports."""
    return []


@pytest.fixture
def storage(s3: S3Front, tmp_path: Path, said: REPORT) -> ObjectStorage:
    """Return a storage whose requests are reported."""
    made = always_owned(s3, tmp_path)
    report_requests(made, lambda event, **fields: said.append({"event": event, **fields}))
    return made


def _requests(said: REPORT) -> list[tuple[str, str, int]]:
    assert {each["event"] for each in said} == {STORAGE_EVENT}
    assert {each["driver"] for each in said} == {"s3aws"}
    found = [each for each in said if each["what"] == "request"]
    assert all(0 <= each["seconds"] < 60 for each in found)
    return [(each["action"], each["status"], each["bytes"]) for each in found]


def test_each_request_has_its_action_its_status_and_its_bytes(
    storage: ObjectStorage, said: REPORT, tmp_path: Path
) -> None:
    """For each request, the action, the status and the number of written bytes are reported."""
    storage.write("small", b"12345")
    storage.stat("absent")
    with storage.open("small") as file:
        assert file.read() == b"12345"
    assert list(storage.walk("")) != []
    storage.delete("small")
    assert _requests(said) == [
        ("PutContent", "2xx", 5),
        ("Stat", "404", 0),
        ("Walk", "2xx", 0),
        ("Walk", "2xx", 0),
        ("Delete", "2xx", 0),
    ]
    said.clear()
    big = tmp_path / "big"
    big.write_bytes(bytes(6 * MB))
    storage.commit_file(big, "big")
    with storage.open("big") as file:
        file.seek(5 * MB)
        assert len(file.read()) == MB

    assert ("Writer", "2xx", 6 * MB) in _requests(said)
    (read,) = (each["bytes"] for each in said if each["what"] == "read")
    assert MB <= read <= 6 * MB


def test_a_failure_and_its_repetition_are_reported(
    s3: S3Front, storage: ObjectStorage, said: REPORT
) -> None:
    """If a put fails with 503, the failure, the repetition and the second put are reported.

    A put that fails with 403 is not repeated.
    """
    s3.fault("PUT", "key", SlowDown(), times=1)
    storage.write("key", b"1")
    s3.fault("PUT", "key", Refused(Refusal(403, "AccessDenied")))
    with pytest.raises(StorageBroken):
        storage.write("key", b"2")

    assert _requests(said) == [
        ("PutContent", "503", 0),
        ("PutContent", "2xx", 1),
        ("PutContent", "403", 0),
    ]
    assert sum(each["what"] == "retry" for each in said) == 1


def test_the_circuit_is_reported_when_it_opens_and_when_it_closes(
    s3: S3Front, tmp_path: Path, said: REPORT
) -> None:
    """The circuit is reported when two failures in two seconds open it, and when it closes."""
    timer = Clock(100.0)
    client = ObjectClient(bucket_of(dict(parameters(s3, tmp_path))), StorageCircuit(timer))
    client.report_to(lambda _, **fields: said.append(fields))
    end = s3.fault("*", "key", SlowDown())
    for _ in range(2):
        with pytest.raises(StorageBroken):
            client.head("key")
    end()
    timer.now += 2
    client.head("key")
    client.head("key")

    assert [each["state"] for each in said if each["what"] == "circuit"] == ["open", "closed"]
