"""An upstream misbehaves: clients get the right status, and no wrong content is stored.

A client never gets a 404 for a failure or a rate limit, never an upstream's challenge, and never
all bytes of a wrong blob.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.cases import SIZE, Case
from tests.system.datadir import spool_files
from tests.system.pulls import Reader, blob_path, manifest_path, pull, pull_blob
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

REFUSING = 50
SERVING = 10
ENVIRONMENT = {
    "ENTREPOT_FRESHNESS": "0s",
    "ENTREPOT_NEGATIVE_TTL": "0s",
    "ENTREPOT_READ_TIMEOUT": "1s",
    "ENTREPOT_PREFETCH": "0",
}
CHALLENGE = {"WWW-Authenticate": 'Basic realm="upstream"'}

FAULTS: dict[str, tuple[dict[str, Any], int, str]] = {
    "401": ({"status": 401, "headers": CHALLENGE}, 403, "DENIED UNAUTHORIZED"),
    "403": ({"status": 403}, 403, "DENIED"),
    "404": ({"status": 404}, 404, "MANIFEST_UNKNOWN BLOB_UNKNOWN NAME_UNKNOWN"),
    "429": ({"status": 429, "headers": {"Retry-After": "2"}}, 429, "TOOMANYREQUESTS"),
    "500": ({"status": 500}, 502, ""),
    "503": ({"status": 503}, 502, ""),
    "reset": ({"drop": True}, 502, ""),
    "hang": ({"delay": 30}, 504, ""),
}
CASES = [pytest.param(*FAULTS[name], id=name) for name in FAULTS]


@pytest.fixture(scope="module")
def cases() -> Iterator[dict[str, list[FakeUpstream]]]:
    """Run the upstreams of this file, grouped by their setting `ongone`."""
    with ExitStack() as stack:
        yield {
            on_gone: [stack.enter_context(FakeUpstream()) for _ in range(number)]
            for on_gone, number in (("refuse", REFUSING), ("serve", SERVING))
        }


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, cases: dict[str, list[FakeUpstream]]
) -> Iterator[Appliance]:
    """Run one appliance for all upstreams of this file."""
    upstreams = {
        f"{on_gone}{number}.test": {"url": fake.url, "ongone": on_gone}
        for on_gone, fakes in cases.items()
        for number, fake in enumerate(fakes)
    }
    folder = tmp_path_factory.mktemp("failures")
    with Appliance(folder, Setup(upstreams, environment=ENVIRONMENT)) as running:
        yield running


@pytest.fixture(scope="module")
def unused(appliance: Appliance, cases: dict[str, list[FakeUpstream]]) -> dict[str, Iterator[Case]]:
    """Return an iterator over unused upstreams for each value of their setting `ongone`."""
    return {
        on_gone: iter(
            [Case(appliance, fake, f"{on_gone}{number}.test") for number, fake in enumerate(fakes)]
        )
        for on_gone, fakes in cases.items()
    }


@pytest.fixture
def case(unused: dict[str, Iterator[Case]]) -> Case:
    """Return an unused upstream with `ongone: refuse`."""
    return next(unused["refuse"])


@pytest.fixture
def serving(unused: dict[str, Iterator[Case]]) -> Case:
    """Return an unused upstream with `ongone: serve`."""
    return next(unused["serve"])


@pytest.mark.parametrize(("fault", "status", "code"), CASES)
@pytest.mark.parametrize("by", ["tag", "digest"])
def test_a_manifest_that_the_upstream_refuses(
    case: Case, by: str, fault: dict[str, Any], status: int, code: str
) -> None:
    """If the upstream refuses a manifest, the client gets the right status and an OCI error.

    After the failure the manifest can be pulled.
    """
    image = case.put()
    path = manifest_path(case.name, "v1" if by == "tag" else image.digest)
    case.fake.misbehave("/manifests/", **fault)

    response = case.appliance.http.get(path)
    head = case.appliance.http.head(path)
    case.fake.behave()

    assert response.status == status
    assert response.code
    assert response.code in code.split() or not code
    assert "www-authenticate" not in response.headers
    assert ("retry-after" in response.headers) or status != 429
    assert head.status in (status, 503)  # the circuit breaker of the upstream may be open by now
    eventually(lambda: case.appliance.http.get(path).status == 200, what="pulls succeed again")
    pull(case.appliance.http, case.name, "v1")


@pytest.mark.parametrize(("fault", "status", "code"), CASES)
def test_a_blob_that_the_upstream_refuses(
    case: Case, fault: dict[str, Any], status: int, code: str
) -> None:
    """If the upstream refuses a blob, the client gets the right status, and nothing is stored.

    After the failure the blob can be pulled.
    """
    digest = Digest.of(case.put().config)
    path = blob_path(case.name, digest)
    case.fake.misbehave("/blobs/", **fault)

    response = case.appliance.http.get(path)
    stored = (case.appliance.data / layout.blob(digest)).exists()
    case.fake.behave()

    assert response.status == status
    assert response.code in code.split() or not code
    assert "www-authenticate" not in response.headers
    assert not stored
    eventually(lambda: case.appliance.http.get(path).status == 200, what="pulls succeed again")
    pull_blob(case.appliance.http, case.name, digest)


def test_a_rate_limit_is_503_for_a_mirrors_client(case: Case) -> None:
    """A 429 of the upstream becomes 503 for a client that uses the appliance as a mirror.

    After a 503 such a client pulls from the upstream itself. After a 429 it would wait, or repeat
    its request to the mirror.
    """
    case.put()
    case.fake.misbehave("/manifests/", **FAULTS["429"][0])

    response = case.appliance.http.get(f"/v2/app/manifests/v1?ns={case.host}")

    assert (response.status, response.code) == (503, "TOOMANYREQUESTS")
    assert int(response.headers["retry-after"]) <= 2


@pytest.mark.parametrize("name", ["429", "500", "503", "reset", "hang"])
def test_a_tag_that_can_not_be_checked_means_what_it_meant(case: Case, name: str) -> None:
    """If the upstream cannot confirm a tag, the stored manifest is served with a Warning header."""
    image = case.put()
    pull(case.appliance.http, case.name, "v1")
    case.fake.misbehave("/manifests/", **FAULTS[name][0])

    response = case.appliance.http.get(manifest_path(case.name, "v1"))

    assert (response.status, image.manifest) == (200, response.body)
    assert response.headers["warning"].startswith("299 - ")


@pytest.mark.parametrize("name", ["401", "403", "404"])
def test_a_tag_that_has_gone_is_refused(case: Case, name: str) -> None:
    """If the upstream refuses a stored tag, clients get an error by default (`ongone: refuse`)."""
    fault, status, _ = FAULTS[name]
    case.put()
    pull(case.appliance.http, case.name, "v1")
    case.fake.misbehave("/manifests/", **fault)

    assert case.appliance.http.get(manifest_path(case.name, "v1")).status == status


@pytest.mark.parametrize("name", ["401", "403", "404"])
def test_a_tag_that_has_gone_is_served_where_the_operator_says_so(serving: Case, name: str) -> None:
    """With `ongone: serve` a stored tag that the upstream refuses is served with a Warning."""
    image = serving.put()
    pull(serving.appliance.http, serving.name, "v1")
    serving.fake.misbehave("/manifests/", **FAULTS[name][0])

    response = serving.appliance.http.get(manifest_path(serving.name, "v1"))

    assert (response.status, image.manifest) == (200, response.body)
    assert response.headers["warning"].startswith("299 - ")


@pytest.mark.parametrize(
    "fault",
    [{"body": filler(SIZE, 61), "times": 1}, {"corrupt": True}],
    ids=["all of them once", "the last one always"],
)
def test_wrong_bytes_of_a_blob_are_completed_by_nobody(case: Case, fault: dict[str, Any]) -> None:
    """If an upstream's blob does not match its digest, the client never gets the last byte."""
    digest, release = case.put_blob(), threading.Event()
    case.fake.misbehave("/blobs/", method="GET", hold=release, hold_after=SIZE // 2, **fault)

    reader = Reader(case.appliance.http, blob_path(case.name, digest)).begin()
    eventually(lambda: reader.received, what="the client has received some bytes")
    release.set()
    reader.end()
    case.fake.behave()

    assert not reader.is_whole
    assert not (case.appliance.data / layout.blob(digest)).exists()
    assert len(pull_blob(case.appliance.http, case.name, digest)) == SIZE


def test_one_wrong_byte_at_the_end_is_asked_for_again(case: Case) -> None:
    """If the last byte of a blob is wrong, the client gets the right blob or an incomplete one."""
    digest = case.put_blob()
    case.fake.misbehave("/blobs/", method="GET", times=1, corrupt=True)

    reader = Reader(case.appliance.http, blob_path(case.name, digest)).begin().end()

    assert reader.has(digest) or not reader.is_whole


def test_wrong_bytes_of_a_manifest_are_served_to_nobody(case: Case) -> None:
    """If the upstream sends a manifest with wrong bytes, the client gets 502 and nothing else."""
    image = case.put()
    path = manifest_path(case.name, image.digest)
    case.fake.misbehave("/manifests/", method="GET", times=1, corrupt=True)

    response = case.appliance.http.get(path)

    assert response.status == 502
    assert not (case.appliance.data / layout.blob(image.digest)).exists()
    eventually(lambda: case.appliance.http.get(path).status == 200, what="pulls succeed again")


@pytest.mark.parametrize("ignore_range", [False, True], ids=["with ranges", "without ranges"])
def test_a_blob_that_is_cut_off_is_resumed_under_the_same_client(
    case: Case, *, ignore_range: bool
) -> None:
    """If the upstream's response breaks off, the worker requests the rest with a range request.

    The client gets the rest in the same response, even if the upstream ignores the range.
    """
    digest = case.put_blob()
    case.fake.misbehave("/blobs/", method="GET", ignore_range=ignore_range)
    case.fake.misbehave("/blobs/", method="GET", times=1, cut=SIZE // 2)

    reader = Reader(case.appliance.http, blob_path(case.name, digest)).begin().end()

    first, second = case.fake.find("GET", "/blobs/")
    assert reader.has(digest)
    assert "range" not in first.headers
    assert second.headers["range"].startswith("bytes=")


def test_a_blob_that_is_always_cut_off_ends_cut_and_resumes_later(case: Case) -> None:
    """If every response of the upstream breaks off, the response to the client breaks off too.

    When the upstream works again, the next client gets the whole blob.
    """
    digest = case.put_blob()
    case.fake.misbehave("/blobs/", method="GET", cut=0)
    case.fake.misbehave("/blobs/", method="GET", times=1, cut=SIZE // 2)

    reader = Reader(case.appliance.http, blob_path(case.name, digest)).begin().end()
    case.fake.behave()

    assert not reader.is_whole
    assert not (case.appliance.data / layout.blob(digest)).exists()
    path = blob_path(case.name, digest)
    eventually(lambda: case.appliance.http.get(path).status == 200, what="pulls succeed again")
    pull_blob(case.appliance.http, case.name, digest)
    name = layout.spool(layout.spool_key(digest, case.host))
    assert not [path for path in spool_files(case.appliance.state) if name in path.name]


def test_a_realm_on_another_host_gets_no_credentials(case: Case) -> None:
    """If a challenge names a realm on another host, the appliance sends no credentials there."""
    case.put()
    with FakeUpstream() as thief:
        realm = {
            "WWW-Authenticate": f'Bearer realm="{thief.url.replace("127.0.0.1", "localhost")}"'
        }
        case.fake.misbehave("/manifests/", status=401, headers=realm)

        response = case.appliance.http.get(manifest_path(case.name, "v1"))

    assert response.status in (403, 502)
    assert all("authorization" not in each.headers for each in thief.requests)
