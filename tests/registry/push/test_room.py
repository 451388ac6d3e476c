"""A push that does not fit is refused at its first chunk, and nothing of it stays."""

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
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import ContentKind
from entrepot.datastore.locks import holding
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.server.delivery import CONNECTION, Lent
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, Stream, code, pieces, pushing

_KB = 1024
_ROOM = 100 * _KB


@pytest.fixture
def p(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Pushing:
    """A worker whose cap is 100 kB, half of it taken; no cleaner makes room."""
    monkeypatch.setattr(datastore_reservations, "_WAIT_S", 0.02)
    p = pushing(tmp_path, limits=SpaceLimits(max_used_bytes=_ROOM, largest=_ROOM))
    p.index.record(Digest.of(b"taken"), 50 * _KB, ContentKind.BLOB, 1.0)
    return p


def _is_refused(p: Pushing, answer: Result, size: int) -> bool:
    """Tell whether it was, with both sizes, and whether nothing of it stayed."""
    detail = answer.json["errors"][0]["detail"]
    assert (answer.status_code, code(answer)) == (507, "DENIED")
    assert detail["size"] >= size
    assert 40 * _KB < detail["room"] < 50 * _KB
    assert str(detail["size"]) in answer.json["errors"][0]["message"]
    assert p.index.used_bytes() == 50 * _KB + OVERHEAD
    return p.uploads() == []


@pytest.mark.parametrize("method", ["POST", "PUT", "PATCH"])
def test_a_body_that_cannot_fit_is_not_read(p: Pushing, method: str) -> None:
    """Its announced length is enough."""
    content = filler(60 * _KB, 1)
    query = f"?digest={Digest.of(content)}"
    url = f"/v2/team/app/blobs/uploads/{query}" if method == "POST" else p.begin() + query

    class Unread(Stream):
        def read(self, size: int = -1, /) -> bytes:
            raise AssertionError(f"{size} bytes were read")

    path, _, text = url.partition("?")
    extras = {"wsgi.input": Unread([]), "CONTENT_LENGTH": str(len(content))}
    answer = p.client.simulate_request(method, path, query_string=text, body=b"-", extras=extras)

    assert _is_refused(p, answer, len(content))


def test_a_client_that_is_still_sending_is_told_before_it_is_cut_off(p: Pushing) -> None:
    """Most read no answer once they are; so what they send is read on, after the answer."""
    content = filler(60 * _KB, 1)
    ours, theirs = socket.socketpair()
    with ours, theirs:
        lent = Lent(ours)
        sent = Stream(pieces(content, _KB))
        extras = {"wsgi.input": sent, "CONTENT_LENGTH": str(len(content)), CONNECTION: lent}

        answer = p.client.simulate_patch(p.begin(), body=b"-", extras=extras)

    assert answer.status_code == 507
    assert len(answer.content) == int(answer.headers["content-length"])
    assert lent.drain_s == 10


def test_a_stream_is_refused_where_the_room_ends(p: Pushing) -> None:
    """Without an announced length it may fill what there is."""
    where = p.begin()

    answer = p.stream("PATCH", where, pieces(filler(60 * _KB, 1), 10 * _KB))

    assert _is_refused(p, answer, 50 * _KB)
    assert p.send("GET", where).status_code == 404


def test_a_stream_that_fits_is_taken_though_a_step_would_not(p: Pushing) -> None:
    """Room is reserved in large steps, and near the limit in small ones."""
    where, content = p.begin(), filler(40 * _KB, 1)

    taken = p.stream("PATCH", where, pieces(content, _KB))
    done = p.send("PUT", f"{where}?digest={Digest.of(content)}", b"")

    assert (taken.status_code, done.status_code) == (202, 201)
    assert p.index.used_bytes() == 90 * _KB + 2 * OVERHEAD


def test_the_chunk_that_is_too_much_ends_the_upload(p: Pushing) -> None:
    """What came before it goes as well."""
    where, content = p.begin(), filler(60 * _KB, 1)
    first = p.send("PATCH", where, content[: 30 * _KB])

    second = p.send("PATCH", where, content[30 * _KB :])

    assert first.status_code == 202
    assert _is_refused(p, second, 60 * _KB)


def test_a_blob_larger_than_the_whole_cap_is_refused(tmp_path: Path) -> None:
    """However empty it is."""
    p = pushing(tmp_path, limits=SpaceLimits(max_used_bytes=200 * _KB, largest=_ROOM))

    answer = p.send("PUT", f"{p.begin()}?digest={Digest.of(b'')}", filler(101 * _KB, 1))

    assert answer.status_code == 507
    assert answer.json["errors"][0]["detail"] == {"size": 101 * _KB, "room": _ROOM}


def test_a_push_is_not_accepted_while_nobody_knows_what_is_held(p: Pushing) -> None:
    """A lost index is being rebuilt: 503, come again; a refusal would be believed."""
    p.index._notes.clear()  # type: ignore[attr-defined]  # as it is when it was lost
    where = p.begin()

    answer = p.send("PATCH", where, b"x")

    assert answer.status_code == 503
    assert "retry-after" in answer.headers
    assert p.send("GET", where).headers["range"] == "0-0"


def test_a_manifest_that_does_not_fit_is_refused(p: Pushing) -> None:
    """Its blobs came in; it does not, nor does a link to it."""
    made = image([filler(_KB, 1)])
    for blob in made.blobs:
        p.blob(blob)
    left = _ROOM - p.index.used_bytes() - OVERHEAD
    p.index.record(Digest.of(b"more"), left - 100, ContentKind.BLOB, 1.0)

    answer = p.manifest(made.manifest, made.media_type, "v1")

    assert (answer.status_code, code(answer)) == (507, "DENIED")
    assert p.ask("GET", "manifests/v1").status_code == 404
    assert p.content(made.digest) is None


def test_what_is_here_already_needs_no_room(p: Pushing) -> None:
    """A manifest gets another tag though nothing fits any more."""
    made = image([filler(_KB, 1)])
    p.image(made)
    p.index.record(Digest.of(b"more"), _ROOM - p.index.used_bytes(), ContentKind.BLOB, 1.0)

    assert p.manifest(made.manifest, made.media_type, "v2").status_code == 201
    assert p.ask("GET", "manifests/v2").status_code == 200


def test_an_upload_keeps_the_room_that_it_takes(p: Pushing) -> None:
    """Between two chunks others cannot have it, nor more than it needs."""
    where = p.begin()
    p.stream("PATCH", where, pieces(filler(30 * _KB, 1), _KB))

    assert p.index.used_bytes() == 80 * _KB + 2 * OVERHEAD
    (promise,) = p.index.reservations()
    assert promise.size == 30 * _KB


def test_a_full_disk_is_503(p: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Room on the disk may come by itself; it gets back what was taken."""

    def refuse(*_: object) -> int:
        raise OSError(errno.ENOSPC, "no space")

    where = p.begin()
    with monkeypatch.context() as patch:
        patch.setattr(os, "pwrite", refuse)
        answer = p.send("PATCH", where, b"some bytes")

    assert (answer.status_code, code(answer)) == (503, "UNAVAILABLE")
    assert "retry-after" in answer.headers
    assert p.uploads() == []


def test_an_index_that_does_not_answer_is_503(p: Pushing, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing can be held then; not a byte is taken, so that the request may be repeated."""

    def busy(*_: object) -> None:
        raise IndexUnavailable("busy")

    where = p.begin()
    with monkeypatch.context() as patch:
        patch.setattr(MemoryIndex, "pin", busy)
        answer = p.send("PUT", f"{where}?digest={Digest.of(b'x')}", b"x")
    again = p.send("PUT", f"{where}?digest={Digest.of(b'x')}", b"x")

    assert (answer.status_code, again.status_code) == (503, 201)


def test_what_the_cleaner_has_begun_to_remove_is_waited_for(p: Pushing) -> None:
    """A push that found the old copy there would lose its bytes a moment later."""
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
    while not p.index.pinned([digest]):
        pass
    (p.root / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}/data").unlink()
    p.index.forget(digest)
    thread.join()

    assert answers == [201]
    assert p.content(digest) == content
    assert p.index.entry(digest) is not None


def test_what_a_dead_cleaner_had_begun_to_remove_is_taken_back(
    p: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next one would finish it."""
    monkeypatch.setattr("entrepot.registry.push.pins._CLEANER_WAIT_S", 0.02)
    content = filler(_KB, 1)
    digest = p.blob(content)
    entry = p.index.entry(digest)
    assert entry is not None
    assert p.index.mark_for_deletion(entry)

    p.blob(content)

    assert p.index.marked_for_deletion() == []
    assert p.content(digest) == content


def test_what_a_slow_cleaner_is_still_removing_is_not_confirmed(
    p: Pushing, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It stands still between its mark and the removal: the removal would take what is pushed."""
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
    """The disk has no inodes left, so no byte comes in that could not be written."""
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
