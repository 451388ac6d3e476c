"""Blobs through the application: hits, ranges, permission, failures."""

from __future__ import annotations

import sys
import threading
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore import layout
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import SpaceLimits
from entrepot.registry.auth.identity import authenticator
from tests import images
from tests.registry.benches import eventually
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

CONTENT = images.filler(300_000)
DIGEST = Digest.of(CONTENT)
BLOB = f"blobs/{DIGEST}"


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Return a registry that holds one blob, under two names."""
    with FakeUpstream() as upstream:
        upstream.add_blob(NAME, CONTENT)
        upstream.add_blob("other/name", CONTENT)
        yield upstream


@pytest.fixture
def p(u: FakeUpstream, tmp_path: Path) -> Pulling:
    """Return the application in front of it."""
    return pulling(u, tmp_path)


def test_a_miss_is_fetched_once_and_a_hit_asks_nobody(u: FakeUpstream, p: Pulling) -> None:
    """The same bytes both times."""
    first, second = p.get(BLOB), p.get(BLOB)

    assert [first.content, second.content] == [CONTENT, CONTENT]
    assert second.headers["cache-status"] == "entrepot; hit"
    assert second.headers["docker-content-digest"] == str(DIGEST)
    assert len(u.requests) == 1


def test_a_head_fetches_nothing(u: FakeUpstream, p: Pulling) -> None:
    """It tells the length of what is not here, and of what is."""
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
    """Cached or not: lazy snapshotters and resuming clients demand it."""
    if warm:
        p.get(BLOB)
    got = p.get(BLOB, Range=header)

    assert got.status_code == 206
    assert got.content == CONTENT[start:stop]
    assert got.headers["content-range"] == f"bytes {start}-{stop - 1}/300000"


@pytest.mark.parametrize("warm", [True, False], ids=["warm", "cold"])
def test_several_ranges_are_a_multipart_body(p: Pulling, warm: bool) -> None:  # noqa: FBT001
    """As stargz asks for them."""
    if warm:
        p.get(BLOB)
    got = p.get(BLOB, Range="bytes=0-9,100-109")

    assert got.status_code == 206
    assert got.headers["content-type"].startswith("multipart/byteranges; boundary=")
    assert int(got.headers["content-length"]) == len(got.content)
    assert CONTENT[:10] in got.content
    assert CONTENT[100:110] in got.content


def test_a_range_past_the_end_is_416(p: Pulling) -> None:
    """With the length it should have kept to."""
    got = p.get(BLOB, Range="bytes=300000-")

    assert got.status_code == 416
    assert got.headers["content-range"] == "bytes */300000"


def test_a_blob_under_another_name_is_asked_for_but_not_fetched(
    u: FakeUpstream, p: Pulling
) -> None:
    """A link is permission, data is content."""
    p.get(BLOB)
    u.forget()
    got = p.ask("GET", f"/v2/{p.prefix}/other/name/{BLOB}")

    assert got.content == CONTENT
    assert [each.method for each in u.requests] == ["HEAD"]


def test_a_blob_is_not_shown_to_a_name_that_may_not_see_it(u: FakeUpstream, p: Pulling) -> None:
    """Nobody reads a private layer by knowing its digest."""
    p.get(BLOB)

    assert p.ask("GET", f"/v2/{p.prefix}/third/name/{BLOB}").status_code == 404
    assert [each.method for each in u.requests] == ["GET", "HEAD", "GET"]


def test_who_reads_along_under_the_same_name_asks_nothing(u: FakeUpstream, p: Pulling) -> None:
    """The upstream has shown the blob there to whoever came first: one question for all."""
    release = threading.Event()
    u.misbehave(str(DIGEST), method="GET", hold=release, hold_after=1000)
    with ThreadPoolExecutor(8) as pool:
        got = [pool.submit(p.get, BLOB) for _ in range(8)]
        eventually(lambda: u.count("GET") == 1)
        release.set()

    assert [each.result().content for each in got] == [CONTENT] * 8
    assert [each.method for each in u.requests] == ["GET"]


@pytest.mark.parametrize(("name", "status"), [("other/name", 200), ("third/name", 404)])
def test_who_reads_along_under_another_name_needs_its_permission(
    u: FakeUpstream, p: Pulling, name: str, status: int
) -> None:
    """What one repository shows is no proof for the next."""
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
    assert u.count("GET") == (1 if status == 200 else 2)  # a refused HEAD decides nothing


def test_what_a_dead_writer_left_whole_is_shown_to_nobody_unasked(
    u: FakeUpstream, p: Pulling
) -> None:
    """It needs no fetch, so no answer of the upstream says who may see it."""
    spool = p.root / "entrepot" / layout.SPOOL / layout.spool(layout.spool_key(DIGEST, u.host))
    spool.parent.mkdir(parents=True)
    spool.write_bytes(CONTENT)
    refused = p.ask("GET", f"/v2/{p.prefix}/third/name/{BLOB}")

    assert refused.status_code == 404
    assert p.get(BLOB).content == CONTENT
    assert [each.method for each in u.requests] == ["HEAD", "GET", "HEAD"]


def test_an_evicted_blob_comes_again(u: FakeUpstream, p: Pulling) -> None:
    """A link without data is a miss, and heals itself."""
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
def test_one_failure_that_may_pass_is_not_noticed_and_a_refusal_is_reported(
    u: FakeUpstream, tmp_path: Path, knobs: dict[str, Any], expected: int
) -> None:
    """Nothing is kept of a failure but a 404, and that for a moment."""
    p = pulling(u, tmp_path, negative_ttl=0.0)
    u.misbehave("/blobs/", times=1, **knobs)

    assert p.get(BLOB).status_code == expected
    assert expected == 429 or p.get(BLOB).content == CONTENT


@pytest.mark.parametrize(
    "knobs",
    [{"status": 500}, {"status": 503}, {"status": 400}, {"drop": True}],
    ids=["500", "503", "400", "reset"],
)
def test_a_failure_that_lasts_ends_the_pull(
    u: FakeUpstream, tmp_path: Path, knobs: dict[str, Any]
) -> None:
    """When no byte has come for the read time-out; at once when asking again makes no sense."""
    p = pulling(u, tmp_path, read_timeout=0.6)
    u.misbehave("/blobs/", **knobs)

    assert p.get(BLOB).status_code in (502, 503)
    assert u.count("GET", "/blobs/") >= 2


@pytest.mark.parametrize("knobs", [{"cut": 100_000}, {"ignore_range": True, "cut": 100_000}])
def test_a_cut_body_is_completed(u: FakeUpstream, p: Pulling, knobs: dict[str, Any]) -> None:
    """The client does not notice."""
    u.misbehave("/blobs/", times=1, **knobs)

    assert p.get(BLOB).content == CONTENT


def test_wrong_bytes_never_complete(u: FakeUpstream, p: Pulling) -> None:
    """The connection is dropped before the last byte, and the next try succeeds."""
    u.misbehave("/blobs/", corrupt=True)
    with pytest.raises(ConnectionResetError):
        p.get(BLOB)
    u.behave()

    assert p.get(BLOB).content == CONTENT


def test_what_is_larger_than_the_cap_passes_through(u: FakeUpstream, tmp_path: Path) -> None:
    """No pull fails for want of space."""
    p = pulling(u, tmp_path, limits=SpaceLimits(max_used_bytes=1000, largest=1000))

    assert p.get(BLOB).content == CONTENT
    assert p.get(BLOB).content == CONTENT
    assert u.count("GET") == 2


def _somebody_waits_for_a_download() -> bool:
    """Return whether a thread is inside the module that joins downloads."""
    for frame in sys._current_frames().values():
        calls = [each.filename for each in traceback.extract_stack(frame)]
        if any(each.endswith("download/singleflight.py") for each in calls):
            return True
    return False


def test_a_disk_that_breaks_while_another_downloads_fails_no_pull(p: Pulling) -> None:
    """What was waited for is fetched past the disk, from the first byte."""
    spool = p.root / "entrepot" / layout.SPOOL
    held = try_lock(spool / layout.spool(layout.spool_key(DIGEST, p.u.host)))
    assert held
    with ThreadPoolExecutor(1) as pool, held:
        got = pool.submit(p.get, BLOB)
        eventually(_somebody_waits_for_a_download)
        spool.rename(p.root / "gone")
        spool.touch()

    assert got.result().content == CONTENT
    assert got.result().headers["cache-status"] == "entrepot; fwd=uri-miss"


def test_who_has_no_password_learns_nothing(u: FakeUpstream, tmp_path: Path) -> None:
    """401 comes before any word on what exists."""
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
        ("tags/list?n=-1", 400, "UNSUPPORTED"),
    ],
)
def test_what_is_malformed_is_told_so(p: Pulling, path: str, status: int, code: str) -> None:
    """Never a 500."""
    got = p.get(path)

    assert got.status_code == status
    assert got.json["errors"][0]["code"] == code


def test_a_registry_without_head_does_not_permit_by_that(u: FakeUpstream, p: Pulling) -> None:
    """405 to a HEAD says nothing: a GET must tell whether that name may see the blob."""
    p.get(BLOB)
    u.misbehave("/blobs/", method="HEAD", status=405)

    assert p.ask("GET", f"/v2/{p.prefix}/third/name/{BLOB}").status_code == 404
    assert p.ask("GET", f"/v2/{p.prefix}/other/name/{BLOB}").content == CONTENT
