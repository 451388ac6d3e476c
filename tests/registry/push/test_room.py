"""A push that does not fit into the free space is rejected early, and none of its bytes remain."""

from __future__ import annotations

import errno
import os
import socket
import threading
from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore import layout
from entrepot.datastore import reservations as datastore_reservations
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.memory_parts import MemoryPins
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import ContentKind
from entrepot.datastore.locks import holding
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.server.delivery import CONNECTION, LentConnection
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, Stream, code, pieces, pushing

_KB = 1024
_ROOM = 100 * _KB


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pushing:
    """Return a worker with a cap of 100 KiB, of which 50 KiB are used.

    No cleaner is running, so no space is freed.
    """
    monkeypatch.setattr(datastore_reservations, "_WAIT_S", 0.02)
    p = pushing(tmp_path, limits=SpaceLimits(max_used_bytes=_ROOM, largest=_ROOM))
    p.index.record(Digest.of(b"taken"), 50 * _KB, ContentKind.BLOB, 1.0)
    return p


def _is_refused(p: Pushing, answer: Result, size: int) -> bool:
    """Return True if the push was rejected and no file of its upload remains.

    Assert that the response states the needed and the free size.
    """
    detail = answer.json["errors"][0]["detail"]
    assert (answer.status_code, code(answer)) == (507, "DENIED")
    assert detail["size"] >= size
    assert 40 * _KB < detail["room"] < 50 * _KB
    assert str(detail["size"]) in answer.json["errors"][0]["message"]
    assert p.index.reservations.used_bytes() == 50 * _KB + OVERHEAD
    return p.uploads() == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_that_cannot_fit_is_not_read(p: Pushing, method: str) -> None:
    """If the Content-Length of a body exceeds the free space, the body is rejected unread."""
    content = filler(60 * _KB, 1)
    query = f"?digest={Digest.of(content)}"
    url = f"/v2/team/app/blobs/uploads/{query}" if method == "POST" else p.begin() + query

    class Unread(Stream):
        def read(self, size: int = -1, /) -> bytes:
            raise AssertionError(f"the worker has read {size} bytes")

    path, _, text = url.partition("?")
    extras = {"wsgi.input": Unread([]), "CONTENT_LENGTH": str(len(content))}
    answer = p.client.simulate_request(method, path, query_string=text, body=b"-", extras=extras)

    assert _is_refused(p, answer, len(content))


def test_a_client_that_is_still_sending_gets_the_response(p: Pushing) -> None:
    """If a push is rejected while the client is still sending, the client can read the response.

    The server reads the rest of the body for at most 10 s. If it closed the connection at once, the
    kernel would reset the connection, and the response could be lost.
    """
    content = filler(60 * _KB, 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lent = LentConnection(ours)
        sent = Stream(pieces(content, _KB))
        extras = {"wsgi.input": sent, "CONTENT_LENGTH": str(len(content)), CONNECTION: lent}

        answer = p.client.simulate_patch(p.begin(), body=b"-", extras=extras)

    assert answer.status_code == 507
    assert len(answer.content) == int(answer.headers["content-length"])
    assert lent.drain_s == 10


def test_a_stream_is_refused_when_space_runs_out(p: Pushing) -> None:
    """A body without a Content-Length is rejected as soon as there is no space for its next bytes.

    The upload is deleted.
    """
    where = p.begin()

    answer = p.stream("PATCH", where, pieces(filler(60 * _KB, 1), 10 * _KB))

    assert _is_refused(p, answer, 50 * _KB)
    assert p.send("GET", where).status_code == 404


def test_a_stream_that_fits_is_accepted_near_the_limit(p: Pushing) -> None:
    """A body without a Content-Length is accepted if it exactly fits.

    Space for such a body is reserved in large steps, and in small steps near the limit.
    """
    where, content = p.begin(), filler(40 * _KB, 1)

    taken = p.stream("PATCH", where, pieces(content, _KB))
    done = p.send("PUT", f"{where}?digest={Digest.of(content)}", b"")

    assert (taken.status_code, done.status_code) == (202, 201)
    assert p.index.reservations.used_bytes() == 90 * _KB + 2 * OVERHEAD


def test_a_chunk_that_does_not_fit_ends_the_upload(p: Pushing) -> None:
    """If a chunk does not fit, the worker deletes the whole upload, including earlier chunks."""
    where, content = p.begin(), filler(60 * _KB, 1)
    first = p.send("PATCH", where, content[: 30 * _KB])

    second = p.send("PATCH", where, content[30 * _KB :])

    assert first.status_code == 202
    assert _is_refused(p, second, 60 * _KB)


def test_a_blob_above_the_cap_is_refused(tmp_path: Path) -> None:
    """A blob that is larger than the cap is rejected, even if no content is stored."""
    p = pushing(tmp_path, limits=SpaceLimits(max_used_bytes=200 * _KB, largest=_ROOM))

    answer = p.send("PUT", f"{p.begin()}?digest={Digest.of(b'')}", filler(101 * _KB, 1))

    assert answer.status_code == 507
    assert answer.json["errors"][0]["detail"] == {"size": 101 * _KB, "room": _ROOM}


def test_a_push_is_503_while_the_index_is_rebuilt(p: Pushing) -> None:
    """While the index is being rebuilt, a push gets 503.

    The used bytes are unknown during this time, so the worker cannot check whether the push fits.
    The upload is kept, so that the client can repeat the request.
    """
    p.index.notes._values.clear()  # type: ignore[attr-defined]  # the index is lost
    where = p.begin()

    answer = p.send("PATCH", where, b"x")

    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert p.send("GET", where).headers["range"] == "0-0"


def test_a_manifest_that_does_not_fit_is_refused(p: Pushing) -> None:
    """A manifest that does not fit gets 507.

    Neither the manifest nor a link to it is stored.
    """
    made = image([filler(_KB, 1)])
    for blob in made.blobs:
        p.blob(blob)
    left = _ROOM - p.index.reservations.used_bytes() - OVERHEAD
    p.index.record(Digest.of(b"more"), left - 100, ContentKind.BLOB, 1.0)

    answer = p.manifest(made.manifest, made.media_type, "v1")

    assert (answer.status_code, code(answer)) == (507, "DENIED")
    assert p.ask("GET", "manifests/v1").status_code == 404
    assert p.content(made.digest) is None


def test_stored_content_needs_no_space(p: Pushing) -> None:
    """If there is no free space, a client can still add a tag to a stored manifest."""
    made = image([filler(_KB, 1)])
    p.image(made)
    p.index.record(
        Digest.of(b"more"), _ROOM - p.index.reservations.used_bytes(), ContentKind.BLOB, 1.0
    )

    assert p.manifest(made.manifest, made.media_type, "v2").status_code == 201
    assert p.ask("GET", "manifests/v2").status_code == 200


def test_an_upload_keeps_its_reservation_between_chunks(p: Pushing) -> None:
    """Between two chunks, the received bytes of an upload remain reserved.

    The reservation has exactly the size of these bytes.
    """
    where = p.begin()
    p.stream("PATCH", where, pieces(filler(30 * _KB, 1), _KB))

    assert p.index.reservations.used_bytes() == 80 * _KB + 2 * OVERHEAD
    (promise,) = p.index.reservations.all()
    assert promise.size == 30 * _KB


def test_a_full_disk_is_503(p: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """A push to a full disk gets 503 with the reason, and the upload is deleted."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    where = p.begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        answer = p.send("PATCH", where, b"some bytes")

    assert (answer.status_code, code(answer)) == (503, "UNAVAILABLE")
    assert "disk has no space" in answer.text
    assert "retry-after" in answer.headers
    assert p.uploads() == []


def test_an_unavailable_index_is_503(p: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the index is unavailable, a push gets 503.

    Without the index, the worker cannot pin the pushed content to protect it from eviction. The
    worker does not read the body, so the upload does not change, and the client can repeat the
    request.
    """

    def busy(*_: object) -> None:
        raise IndexUnavailable("busy")

    where = p.begin()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryPins, "pin", busy)
        answer = p.send("PUT", f"{where}?digest={Digest.of(b'x')}", b"x")
    again = p.send("PUT", f"{where}?digest={Digest.of(b'x')}", b"x")

    assert (answer.status_code, again.status_code) == (503, 201)


def test_a_push_waits_for_a_removal_by_the_cleaner(p: Pushing) -> None:
    """A push of content that the cleaner is deleting waits until the deletion has ended.

    Otherwise the worker would find the content stored and accept the push, and the cleaner would
    delete the content a moment later.
    """
    content = filler(_KB, 1)
    digest = p.blob(content)
    p.ask("DELETE", f"blobs/{digest}")
    entry = p.index.entry(digest)
    assert entry is not None
    assert p.index.mark_for_deletion(entry)
    where = p.begin()
    p.send("PATCH", where, content)
    answers: list[int] = []

    def push() -> None:
        answers.append(p.send("PUT", f"{where}?digest={digest}", b"").status_code)

    thread = threading.Thread(target=push)
    thread.start()
    while not p.index.pins.pinned([digest]):
        pass
    (p.root / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data").unlink()
    p.index.forget(digest)
    thread.join()

    assert answers == [201]
    assert p.content(digest) == content
    assert p.index.entry(digest) is not None


def test_a_push_undoes_the_mark_of_a_dead_cleaner(
    p: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a cleaner died after it had marked content for deletion, a new push removes the mark.

    Otherwise the next cleaner would delete the pushed content.
    """
    monkeypatch.setattr("entrepot.registry.push.pins._CLEANER_WAIT_S", 0.02)
    content = filler(_KB, 1)
    digest = p.blob(content)
    entry = p.index.entry(digest)
    assert entry is not None
    assert p.index.mark_for_deletion(entry)

    p.blob(content)

    assert p.index.marked_for_deletion() == []
    assert p.content(digest) == content


def test_a_push_is_refused_during_a_slow_removal(
    p: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the cleaner takes too long to delete the old copy of pushed content, the push gets 503."""
    monkeypatch.setattr("entrepot.registry.push.pins._CLEANER_WAIT_S", 0.02)
    content = filler(_KB, 1)
    digest = p.blob(content)
    entry = p.index.entry(digest)
    assert entry is not None
    where = p.begin()
    with holding(p.root / "entrepot" / layout.SWEEP_LOCK, 0) as held:
        assert held
        assert p.index.mark_for_deletion(entry)

        refused = p.send("PUT", f"{where}?digest={digest}", content)

        assert (refused.status_code, "retry-after" in refused.headers) == (503, True)
        assert p.index.marked_for_deletion() == [entry]
        p.storage.delete(layout.blob(digest))
        p.index.forget(digest)

    again = p.send("PUT", f"{where}?digest={digest}", content)

    assert again.status_code == 201
    assert p.content(digest) == content


def test_the_cleaner_is_woken_when_no_upload_can_begin(
    p: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk has no free inodes, an upload cannot begin, and the worker wakes the cleaner."""
    woken: list[int] = []

    real = os.open

    def without_inodes(path: str, flags: int, *more: int, **named: int) -> int:
        if flags & os.O_EXCL:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return real(path, flags, *more, **named)

    monkeypatch.setattr(Reservations, "refused", lambda _, size: woken.append(size))
    with monkeypatch.context() as patch:
        patch.setattr("entrepot.registry.push.upload_sessions.os.open", without_inodes)
        refused = p.send("POST", f"/v2/{NAME}/blobs/uploads/")

    assert (refused.status_code, woken) == (503, [0])
    assert "no inodes left" in refused.text
