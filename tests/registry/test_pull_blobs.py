"""Clients pull blobs through the registry: hits, ranges, permissions and failures."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from falcon.testing import StartResponseMock, create_environ

from entrepot.datastore import layout
from entrepot.datastore.errors import StorageFull
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.reservations import SpaceLimits
from entrepot.registry.auth.basic import authenticator
from entrepot.registry.download.singleflight import Reader, SingleFlight
from entrepot.registry.download.writer import Task
from tests import images
from tests.registry.benches import eventually
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

CONTENT = images.filler(300_000)
DIGEST = Digest.of(CONTENT)
BLOB = f"blobs/{DIGEST}"


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream with one blob in two repositories."""
    with FakeUpstream() as upstream:
        upstream.add_blob(NAME, CONTENT)
        upstream.add_blob("other/name", CONTENT)
        yield upstream


@pytest.fixture
def p(u: FakeUpstream, tmp_path: Path) -> Pulling:
    """Return the registry in front of the upstream."""
    return pulling(u, tmp_path)


def test_a_blob_is_fetched_once_and_then_served_from_disk(u: FakeUpstream, p: Pulling) -> None:
    """The first pull of a blob fetches it from the upstream; the second pull is a hit."""
    first, second = p.get(BLOB), p.get(BLOB)

    assert [first.content, second.content] == [CONTENT, CONTENT]
    assert second.headers["cache-status"] == "entrepot; hit"
    assert second.headers["docker-content-digest"] == str(DIGEST)
    assert len(u.requests) == 1


def test_a_stored_blob_leaves_no_mark_of_a_confirmation(p: Pulling) -> None:
    """A file in the spool folder records that the upstream has confirmed a blob.

    The worker deletes this file when it links the blob. Otherwise the folder would accumulate one
    file for each blob and repository.
    """
    p.get(BLOB)

    eventually(lambda: not list((p.root / "entrepot" / layout.SPOOL).rglob("shown-*")))


def test_a_head_fetches_no_blob(u: FakeUpstream, p: Pulling) -> None:
    """A HEAD returns a blob's size, whether the blob is stored or not, and downloads no blob."""
    cold = p.head(BLOB)
    assert u.count("GET") == 0
    p.get(BLOB)

    assert cold.headers["content-length"] == str(len(CONTENT))
    assert p.head(BLOB).headers["content-length"] == str(len(CONTENT))


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
@pytest.mark.parametrize(
    ("header", "start", "stop"),
    [
        ("bytes=0-0", 0, 1),
        ("bytes=100-199", 100, 200),
        ("bytes=299999-", 299_999, 300_000),
        ("bytes=-7", 299_993, 300_000),
        ("bytes=0-999999", 0, 300_000),
    ],
)
def test_a_range_is_206(p: Pulling, warm: bool, header: str, start: int, stop: int) -> None:  # noqa: FBT001
    """A request for a range of a blob gets 206, whether the blob is stored or not.

    Lazy snapshotters and resumed pulls need ranges.
    """
    if warm:
        p.get(BLOB)
    got = p.get(BLOB, Range=header)

    assert got.status_code == 206
    assert got.content == CONTENT[start:stop]
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/300000"


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_several_ranges_are_a_multipart_body(p: Pulling, warm: bool) -> None:  # noqa: FBT001
    """A request for several ranges of a blob gets a multipart body.

    The stargz-snapshotter sends such requests.
    """
    if warm:
        p.get(BLOB)
    got = p.get(BLOB, Range="bytes=0-9,100-109")

    assert got.status_code == 206
    assert got.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert int(got.headers["content-length"]) == len(got.content)
    assert CONTENT[:10] in got.content
    assert CONTENT[100:110] in got.content


def test_a_range_past_the_end_is_416(p: Pulling) -> None:
    """If a range begins past the end of a blob, the client gets 416 with the size of the blob."""
    got = p.get(BLOB, Range="bytes=300000-")

    assert got.status_code == 416
    assert got.headers["content-range"] == "bytes */300000"


def test_a_stored_blob_is_confirmed_for_another_repository(u: FakeUpstream, p: Pulling) -> None:
    """Before another repository serves a stored blob, a HEAD to the upstream confirms the blob.

    The upstream does not send the blob again.
    """
    p.get(BLOB)
    u.forget()
    got = p.ask("GET", f"/v2/{p.prefix}/other/name/{BLOB}")

    assert got.content == CONTENT
    assert [each.method for each in u.requests] == ["HEAD"]


def test_a_blob_is_not_served_to_a_repository_without_permission(
    u: FakeUpstream, p: Pulling
) -> None:
    """If the upstream does not confirm a stored blob for another repository, the client gets 404.

    A client can know the digest of a blob that it has no right to read.
    """
    p.get(BLOB)

    assert p.ask("GET", f"/v2/{p.prefix}/third/name/{BLOB}").status_code == 404
    assert [each.method for each in u.requests] == ["GET", "HEAD", "GET"]


def test_readers_of_the_same_repository_need_no_confirmation(
    u: FakeUpstream, p: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Eight readers of one repository share a download, for which the upstream gets one request.

    The upstream has confirmed the blob for the first reader. The confirmation is valid for the
    whole repository.
    """
    release = threading.Event()
    joined: list[Reader] = []
    join = SingleFlight.join

    def counted(flight: SingleFlight, task: Task) -> Reader:
        joined.append(join(flight, task))
        return joined[-1]

    monkeypatch.setattr(SingleFlight, "join", counted)
    u.misbehave(str(DIGEST), method="GET", hold=release, hold_after=1000)
    with ThreadPoolExecutor(8) as pool:
        got = [pool.submit(p.get, BLOB) for _ in range(8)]
        eventually(lambda: len(joined) == 8)
        release.set()

    assert [each.result().content for each in got] == [CONTENT] * 8
    assert [each.method for each in u.requests] == ["GET"]


@pytest.mark.parametrize(("name", "status"), [("other/name", 200), ("third/name", 404)])
def test_readers_of_another_repository_need_a_confirmation(
    u: FakeUpstream, p: Pulling, name: str, status: int
) -> None:
    """A reader of another repository joins a download after the upstream has confirmed the blob.

    The upstream can permit the blob for one repository and deny it for another.
    """
    release = threading.Event()
    u.misbehave(f"{NAME}/{BLOB}", method="GET", hold=release, hold_after=1000)
    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(p.get, BLOB)
        eventually(lambda: u.count("GET") == 1)
        second = pool.submit(p.ask, "GET", f"/v2/{p.prefix}/{name}/{BLOB}")
        eventually(lambda: u.count("HEAD") == 1)
        release.set()

    assert first.result().content == CONTENT
    assert second.result().status_code == status
    assert (second.result().content == CONTENT) == (status == 200)
    # If the upstream denies the HEAD, the registry also sends a GET for this repository.
    assert u.count("GET") == (1 if status == 200 else 2)


def test_a_download_of_another_length_is_not_joined(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream states another length for a blob, a reader does not join the download.

    The length of the running download or the new length is wrong, so the bytes of the download
    could also be wrong.
    """
    release = threading.Event()
    u.misbehave(f"/v2/{NAME}/{BLOB}", method="GET", hold=release, hold_after=1000)
    u._repository("other/name").blobs[str(DIGEST)] = CONTENT + b"more"
    with ThreadPoolExecutor(2) as pool:
        pool.submit(p.get, BLOB)
        eventually(lambda: u.count("GET") == 1)
        second = pool.submit(p.ask, "GET", f"/v2/{p.prefix}/other/name/{BLOB}")
        eventually(lambda: u.count("GET") == 2 or second.done())
        release.set()

    assert u.count("GET") == 2
    assert second.exception() is not None  # the blob has extra bytes and so a wrong digest


def test_a_complete_file_of_a_dead_writer_needs_a_confirmation(u: FakeUpstream, p: Pulling) -> None:
    """A whole blob in a dead writer's spool file is served only if the upstream confirms the blob.

    Without a running download, the spool file does not show which repositories may serve the blob.
    """
    spool = p.root / "entrepot" / layout.SPOOL / layout.spool(layout.spool_key(DIGEST, u.host))
    spool.parent.mkdir(parents=True)
    spool.write_bytes(CONTENT)
    refused = p.ask("GET", f"/v2/{p.prefix}/third/name/{BLOB}")

    assert refused.status_code == 404
    assert p.get(BLOB).content == CONTENT
    assert [each.method for each in u.requests] == ["HEAD", "GET", "HEAD"]


def test_an_evicted_blob_is_fetched_again(u: FakeUpstream, p: Pulling) -> None:
    """If the file of a blob was evicted but its link still exists, the blob is fetched again."""
    p.get(BLOB)
    p.forget_blob(DIGEST)

    assert p.get(BLOB).content == CONTENT
    assert u.count("GET") == 2


@pytest.mark.parametrize(
    ("knobs", "expected"),
    [
        ({"status": 404}, 404),
        ({"status": 403}, 403),
        ({"status": 429}, 429),
        ({"status": 400}, 200),
        ({"status": 500}, 200),
        ({"status": 503}, 200),
        ({"drop": True}, 200),
    ],
    ids=["404", "403", "429", "400", "500", "503", "reset"],
)
def test_a_temporary_failure_is_retried_and_a_refusal_is_returned(
    u: FakeUpstream, tmp_path: Path, knobs: dict[str, Any], expected: int
) -> None:
    """If an upstream fails once, the registry retries; it passes a refusal on to the client.

    In this test, a 404 is not cached.
    """
    patience = 2.0 if expected == 429 else 20.0  # seconds; after a 429, the registry waits 5 s
    p = pulling(u, tmp_path, negative_ttl=0.0, read_timeout=patience)
    u.misbehave("/blobs/", times=1, **knobs)

    assert p.get(BLOB).status_code == expected
    assert expected == 429 or p.get(BLOB).content == CONTENT


@pytest.mark.parametrize(
    "knobs",
    [{"status": 500}, {"status": 503}, {"status": 400}, {"drop": True}],
    ids=["500", "503", "400", "reset"],
)
def test_a_lasting_failure_ends_the_pull(
    u: FakeUpstream, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """If an upstream always fails, a pull fails when it has received no byte for `readtimeout`."""
    p = pulling(u, tmp_path, read_timeout=0.6)
    u.misbehave("/blobs/", **knobs)

    assert p.get(BLOB).status_code in (502, 503)
    assert u.count("GET", "/blobs/") >= 2


@pytest.mark.parametrize("knobs", [{"cut": 100_000}, {"ignore_range": True, "cut": 100_000}])
def test_a_body_that_breaks_off_is_completed(
    u: FakeUpstream, p: Pulling, knobs: dict[str, Any]
) -> None:
    """If the upstream's connection breaks, the registry requests the rest.

    The client receives all bytes without a gap.
    """
    u.misbehave("/blobs/", times=1, **knobs)

    assert p.get(BLOB).content == CONTENT


def test_a_response_with_wrong_bytes_is_never_complete(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream sends wrong bytes, the response breaks off, and the next pull succeeds."""
    u.misbehave("/blobs/", corrupt=True)
    with pytest.raises(ConnectionResetError):
        p.get(BLOB)
    u.behave()

    assert p.get(BLOB).content == CONTENT


def test_a_blob_above_the_cap_is_passed_through(u: FakeUpstream, tmp_path: Path) -> None:
    """A blob that is larger than the cap is passed through."""
    p = pulling(u, tmp_path, limits=SpaceLimits(max_used_bytes=1000, largest=1000))

    assert p.get(BLOB).content == CONTENT
    assert p.get(BLOB).content == CONTENT
    assert u.count("GET") == 2


def test_a_download_that_fails_on_the_disk_between_two_checks_fails_no_pull(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a disk error ends a download just after a reader has joined it, the pull succeeds."""
    p = pulling(u, tmp_path, limits=SpaceLimits(max_used_bytes=1000, largest=1000))
    seen: list[object] = []

    def look_too_early(reader: Any) -> bool:
        eventually(lambda: reader._download.is_done)
        seen.append(reader._download.error)
        return False

    monkeypatch.setattr(Reader, "_is_abandoned", look_too_early)

    assert p.get(BLOB).content == CONTENT
    assert [type(each) for each in seen] == [StorageFull]


def _is_a_download_joined() -> bool:
    """Return True if a thread is executing the module in which requests join a download."""
    for frame in sys._current_frames().values():
        calls = [each.filename for each in traceback.extract_stack(frame)]
        if any(each.endswith("download/singleflight.py") for each in calls):
            return True
    return False


def test_a_disk_error_during_a_joined_download_fails_no_pull(p: Pulling) -> None:
    """If a disk error ends a download, every pull that has joined the download succeeds.

    The worker then fetches the blob again from its first byte and passes it through.
    """
    spool = p.root / "entrepot" / layout.SPOOL
    held = try_lock(spool / layout.spool(layout.spool_key(DIGEST, p.u.host)))
    assert held
    with ThreadPoolExecutor(1) as pool, held:
        got = pool.submit(p.get, BLOB)
        eventually(_is_a_download_joined)
        spool.rename(p.root / "gone")
        spool.touch()

    assert got.result().content == CONTENT
    assert got.result().headers["cache-status"] == "entrepot; fwd=uri-miss"


def test_without_a_password_every_request_is_401(u: FakeUpstream, tmp_path: Path) -> None:
    """A request without a password gets 401, whether the requested content exists or not."""
    gate = authenticator(lambda user, password: (user, password) == ("u", "p"))
    p = pulling(u, tmp_path, authenticator=gate)
    urls = [f"/v2/{p.prefix}/{NAME}/{BLOB}", "/v2/no/such/manifests/x", "/v2/"]

    assert {p.ask("GET", url).status_code for url in urls} == {401}
    assert p.get(BLOB, Authorization="Basic dTpw").content == CONTENT
    assert u.count("GET") == 1


@pytest.mark.parametrize(
    ("path", "status", "code"),
    [
        ("blobs/sha256:xyz", 400, "DIGEST_INVALID"),
        ("blobs/md5:d41d8cd98f00b204e9800998ecf8427e", 400, "DIGEST_INVALID"),
        ("manifests/..", 404, "MANIFEST_UNKNOWN"),
        ("tags/list?n=-1", 400, "PAGINATION_NUMBER_INVALID"),
    ],
)
def test_a_malformed_request_is_a_client_error(
    p: Pulling, path: str, status: int, code: str
) -> None:
    """A malformed request gets a 4xx with an error code of the OCI spec, never a 500."""
    got = p.get(path)

    assert got.status_code == status
    assert got.json["errors"][0]["code"] == code


def test_a_405_to_head_is_no_permission(u: FakeUpstream, p: Pulling) -> None:
    """If the upstream responds 405 to a HEAD, a GET must show that the repository has the blob."""
    p.get(BLOB)
    u.misbehave("/blobs/", method="HEAD", status=405)

    assert p.ask("GET", f"/v2/{p.prefix}/third/name/{BLOB}").status_code == 404
    assert p.ask("GET", f"/v2/{p.prefix}/other/name/{BLOB}").content == CONTENT


def test_a_blob_is_linked_before_its_last_byte_leaves(p: Pulling) -> None:
    """When a client gets the last byte of a blob, the repository already has a link to the blob.

    Without this link, the registry would treat the image as incomplete, and would not serve its
    manifest during an outage.
    """
    name = Repository(f"{p.prefix}/{NAME}")
    wsgi = create_environ(path=f"/v2/{name}/{BLOB}")
    seen: list[bool] = []
    came = 0
    for piece in p.client.app(wsgi, StartResponseMock()):
        came += len(piece)
        if came == len(CONTENT):
            seen.append(p.repositories.links_blob(name, DIGEST))

    assert (came, seen) == (len(CONTENT), [True])
