"""Tests that a worker fetches proxied content from its upstream while the disk fails."""

from __future__ import annotations

import errno
import itertools
import logging
import os
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn

import pytest

from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.content import ContentStore, DiskErrorLog
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import storage_error
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.reservations import Reservations, SpaceLimits
from tests import images
from tests.registry.pulling import NAME, Pulling, pulling
from tests.registry.push.pushing import pushing
from tests.upstream import FakeUpstream

_VERBS = ("stat", "open", "read", "write", "list", "commit_file")
_ERRORS = (
    errno.EIO,
    errno.EMFILE,
    errno.ENFILE,
    errno.EROFS,
    errno.EACCES,
    errno.ESTALE,
    errno.ENOSPC,
)


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Return a fake upstream that has one image."""
    with FakeUpstream() as upstream:
        upstream.put_image(NAME, "v1", images.image([images.filler(100_000)]))
        yield upstream


@pytest.fixture
def p(u: FakeUpstream, tmp_path: Path) -> Pulling:
    """Return an application that has pulled and stored the image."""
    p = pulling(u, tmp_path)
    p.pull()
    return p


def _break(monkeypatch: pytest.MonkeyPatch, *verbs: str, number: int = errno.EIO) -> None:
    def refuse(*_: object, **__: object) -> NoReturn:
        raise storage_error(OSError(number, os.strerror(number)))

    for verb in verbs:
        monkeypatch.setattr(Filesystem, verb, refuse)


def _responses(p: Pulling) -> list[tuple[int, bytes]]:
    """Return the responses to GET and HEAD for the manifest (by tag, by digest) and its layer."""
    manifest = p.get("manifests/v1")
    layer = manifest.json["layers"][0]["digest"]
    paths = (f"manifests/{manifest.headers['docker-content-digest']}", f"blobs/{layer}")
    found = [manifest, *map(p.get, paths)]
    heads = [p.head(path) for path in ("manifests/v1", *paths)]
    return [(each.status_code, each.content) for each in (*found, *heads)]


@pytest.mark.parametrize("verbs", [*((verb,) for verb in _VERBS), _VERBS], ids="-".join)
def test_a_hit_with_a_disk_error_is_fetched_from_the_upstream(
    p: Pulling, monkeypatch: pytest.MonkeyPatch, verbs: tuple[str, ...]
) -> None:
    """If stored content cannot be read, the client gets the same bytes from the upstream.

    In this test, one method of the storage fails, or all of them fail.
    """
    expected = _responses(p)
    _break(monkeypatch, *verbs)

    assert _responses(p) == expected


def _break_once(monkeypatch: pytest.MonkeyPatch, verb: str, number: int) -> None:
    """Make one call of the storage's method *verb* fail: call *number*, counted from 0."""
    real, calls = getattr(Filesystem, verb), itertools.count()

    def call(*arguments: object, **named: object) -> object:
        if next(calls) == number:
            raise storage_error(OSError(errno.EIO, os.strerror(errno.EIO)))
        return real(*arguments, **named)

    monkeypatch.setattr(Filesystem, verb, call)


@pytest.mark.parametrize("verb", _VERBS)
def test_any_single_call_that_fails_is_a_miss(
    u: FakeUpstream, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """If a single call of the storage fails during a request, the client gets the right bytes."""
    p = pulling(u, tmp_path, epoch=lambda: "1")
    p.pull()
    expected = _responses(p)
    for number in range(12):
        with monkeypatch.context() as patched:
            _break_once(patched, verb, number)
            assert _responses(p) == expected


def test_an_unreadable_part_counts_as_absent(p: Pulling, monkeypatch: pytest.MonkeyPatch) -> None:
    """If the disk cannot read the parts of a manifest, the manifest counts as incomplete."""
    name = Repository(f"{p.prefix}/{NAME}")
    storage, index = Filesystem(p.root), MemoryIndex()
    store = ContentStore(
        BlobStore(storage),
        Repositories(storage),
        index,
        Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        Proofs(storage),
    )
    held = store.content(Digest.parse(p.get("manifests/v1").headers["docker-content-digest"]), name)
    assert held
    assert store.is_complete(name, held)
    _break(monkeypatch, "stat", "open", "read")

    assert not store.is_complete(name, held)


@pytest.mark.parametrize("number", _ERRORS, ids=errno.errorcode.get)
def test_any_error_of_the_disk_is_a_miss(
    p: Pulling, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    """With any error number of the disk, the client gets the right bytes from the upstream.

    EMFILE and ENFILE are among these numbers: too many files are open.
    """
    expected = _responses(p)
    _break(monkeypatch, *_VERBS, number=number)

    assert _responses(p) == expected


def test_a_404_is_cached_for_a_moment_on_a_failing_disk_too(
    u: FakeUpstream, p: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk fails, the worker still remembers a 404 of the upstream for a short time.

    A repeated request then causes no second request to the upstream.
    """
    _break(monkeypatch, *_VERBS)
    u.forget()

    assert [p.get("manifests/absent").status_code for _ in range(3)] == [404] * 3
    assert u.count("GET", "/manifests/absent") == 1


def test_a_disk_error_without_an_upstream_is_a_gateway_error(
    u: FakeUpstream, p: Pulling, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk and the upstream both fail, the client gets 502, 503 or 504.

    After such a status, a client with several mirrors tries the next mirror.
    """
    u.stop()
    _break(monkeypatch, *_VERBS)

    assert p.get("manifests/v1").status_code in (502, 503, 504)


def test_hosted_content_with_a_disk_error_is_503_with_retry_after(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If the disk cannot read hosted content, the client gets 503 with the header Retry-After."""
    p = pushing(tmp_path)
    made = images.image([images.filler(1000)])
    p.image(made)
    layer = Digest.of(made.layers[0])
    _break(monkeypatch, "stat", "open", "read")

    for path in ("manifests/v1", f"manifests/{made.digest}", f"blobs/{layer}"):
        answer = p.ask("GET", path)
        assert answer.status_code == 503
        assert "retry-after" in answer.headers


def test_one_disk_error_in_ten_seconds_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """At most one disk error in ten seconds is logged, with the number of suppressed errors."""
    now = 0.0
    errors = DiskErrorLog(lambda: now)
    caplog.set_level(logging.WARNING)
    for _ in range(5):
        errors.log(OSError("one"))
    now = 11.0
    errors.log(OSError("two"))

    assert [vars(each)["before"] for each in caplog.records] == [0, 4]
