"""A damaged manifest, or a blob file with a wrong length, is not served.

If the content came from an upstream, the worker fetches it again.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from entrepot.datastore import blobs as blobs_module
from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore, Integrity
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.errors import ContentDamaged, DatastoreError
from entrepot.datastore.index import REBUILT, ContentKind
from entrepot.datastore.quarantine import Quarantine
from entrepot.datastore.refs import Digest
from entrepot.datastore.unverified import UnverifiedMarks
from entrepot.registry.download.spoolfile import append
from entrepot.registry.errors import UpstreamError
from tests import images
from tests.disk_storage import disk_storage
from tests.registry.benches import CONTENT, DIGEST, Bench, eventually, read, task
from tests.registry.pulling import NAME, Pulling, pulling
from tests.registry.push.pushing import Pushing, code, pushing
from tests.registry.remotes import FakeRemote
from tests.upstream import FakeUpstream

LAYER = images.filler(90_000, 3)
LAYER_DIGEST = Digest.of(LAYER)
BLOB = f"blobs/{LAYER_DIGEST}"
Damage = Callable[[Path], None]


def _cut(path: Path) -> None:
    os.truncate(path, 1000)


def _emptied(path: Path) -> None:
    os.truncate(path, 0)


def _extended(path: Path) -> None:
    with path.open("ab") as file:
        file.write(b"more")


def _flipped(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)


LENGTHS = [_cut, _emptied, _extended]


@pytest.fixture
def u() -> Iterator[FakeUpstream]:
    """Run an upstream that has one image."""
    with FakeUpstream() as upstream:
        upstream.add_image(NAME, "v1", [LAYER])
        yield upstream


@pytest.fixture
def p(u: FakeUpstream, tmp_path: Path) -> Pulling:
    """Return a registry that has pulled the image once."""
    p = pulling(u, tmp_path)
    p.pull()
    u.forget()
    return p


def _stored(root: Path, digest: Digest = LAYER_DIGEST) -> Path:
    return root / layout.blob(digest)


def _quarantined(root: Path) -> list[Digest]:
    storage = disk_storage(root)
    return [each.digest for each in Quarantine(storage, MemoryIndex()).all()]


# ---- tests of stored files with a wrong length


@pytest.mark.parametrize("damage", LENGTHS)
@pytest.mark.parametrize("again", [False, True], ids=["same worker", "restarted"])
@pytest.mark.parametrize("header", [None, "bytes=10-19", "bytes=5-9,80000-"])
def test_a_blob_of_a_wrong_length_is_fetched_again_in_the_same_request(
    u: FakeUpstream,
    p: Pulling,
    damage: Damage,
    again: bool,  # noqa: FBT001
    header: str | None,
) -> None:
    """If a request finds a blob's file with a wrong length, the request fetches the blob again.

    The client gets no byte of the damaged file, even if the request is for a range.
    """
    right = p.get(BLOB, **({"Range": header} if header else {})).content
    damage(_stored(p.root))
    asked = pulling(u, p.root, index=_rows()) if again else p

    got = asked.get(BLOB, **({"Range": header} if header else {}))

    assert got.content == right
    assert u.count("GET") == 1
    eventually(lambda: _stored(p.root).exists() and _stored(p.root).read_bytes() == LAYER)
    assert _quarantined(p.root) == [LAYER_DIGEST]


def _rows() -> MemoryIndex:
    """Return an index with the correct length of the layer."""
    index = MemoryIndex()
    index.record(LAYER_DIGEST, len(LAYER), ContentKind.BLOB, 0)
    return index


@pytest.mark.parametrize("damage", LENGTHS)
def test_a_head_of_a_damaged_blob_is_answered_by_the_upstream(
    u: FakeUpstream, p: Pulling, damage: Damage
) -> None:
    """If the file of a blob has a wrong length, a HEAD returns the length from the upstream."""
    damage(_stored(p.root))

    got = p.head(BLOB)

    assert got.headers["content-length"] == str(len(LAYER))
    assert len(u.requests) == 1


def test_a_length_known_from_a_manifest_is_compared(u: FakeUpstream, p: Pulling) -> None:
    """If the index has a wrong length for a damaged blob, the size in a manifest reveals this."""
    _cut(_stored(p.root))
    index = MemoryIndex()
    index.record(LAYER_DIGEST, 1000, ContentKind.BLOB, 0)
    manifest = next(iter(p.repositories.manifests(next(p.repositories.below("")))))
    index.record(manifest, 1, ContentKind.MANIFEST, 0, children=[LAYER_DIGEST])

    assert pulling(u, p.root, index=index).get(BLOB).content == LAYER


def test_without_a_known_length_the_bytes_are_verified(u: FakeUpstream, p: Pulling) -> None:
    """If neither the index nor a manifest has a blob's length, a worker hashes the whole blob."""
    right = pulling(u, p.root, index=MemoryIndex()).get(BLOB)
    _cut(_stored(p.root))
    wrong = pulling(u, p.root, index=MemoryIndex()).get(BLOB)

    assert [right.content, wrong.content] == [LAYER, LAYER]
    assert right.headers["cache-status"] == "entrepot; hit"
    assert _quarantined(p.root) == [LAYER_DIGEST]


def test_a_wrong_row_or_manifest_does_not_remove_a_valid_file(u: FakeUpstream, p: Pulling) -> None:
    """If the index has a wrong length but the file's digest is correct, the file is served."""
    index = MemoryIndex()
    index.record(LAYER_DIGEST, 17, ContentKind.BLOB, 0)

    got = pulling(u, p.root, index=index).get(BLOB)

    assert (got.content, got.headers["cache-status"]) == (LAYER, "entrepot; hit")
    assert _quarantined(p.root) == []


# ---- damaged manifests


@pytest.mark.parametrize("damage", [*LENGTHS, _flipped])
@pytest.mark.parametrize("by", ["v1", "digest"])
def test_a_manifest_is_verified_when_it_is_read(
    u: FakeUpstream, p: Pulling, damage: Damage, by: str
) -> None:
    """A worker verifies each stored manifest that it reads and fetches a damaged one again."""
    right = p.get("manifests/v1")
    digest = Digest.parse(right.headers["docker-content-digest"])
    damage(_stored(p.root, digest))

    got = p.get(f"manifests/{digest if by == 'digest' else by}")

    assert got.content == right.content
    assert _quarantined(p.root) == [digest]
    assert u.count("GET") == 1
    assert _stored(p.root, digest).read_bytes() == right.content


# ---- tests of pushes and damaged content


@pytest.fixture
def pushed(tmp_path: Path) -> Pushing:
    """Return a registry with one pushed layer."""
    pushed = pushing(tmp_path)
    pushed.index.notes.put({REBUILT: "0"})
    pushed.blob(LAYER)
    return pushed


@pytest.mark.parametrize("damage", [*LENGTHS, _flipped])
def test_a_push_replaces_a_damaged_layer(pushed: Pushing, damage: Damage) -> None:
    """If a stored layer is damaged, a push of the layer replaces it."""
    damage(_stored(pushed.root))

    pushed.blob(LAYER)

    assert pushed.content(LAYER_DIGEST) == LAYER


@pytest.mark.parametrize("damage", [*LENGTHS, _flipped])
def test_a_push_replaces_a_damaged_manifest(pushed: Pushing, damage: Damage) -> None:
    """If a stored manifest is damaged, a push of the manifest replaces it."""
    made = images.image([LAYER])
    digest = pushed.image(made)
    damage(_stored(pushed.root, digest))

    pushed.image(made)

    assert pushed.content(digest) == made.manifest


@pytest.mark.parametrize("damage", LENGTHS)
def test_a_damaged_layer_counts_as_missing_in_a_push(pushed: Pushing, damage: Damage) -> None:
    """If a stored layer has a wrong length, pushes treat it as missing.

    The layer is not mounted, a HEAD gets 404, and manifests that refer to it are rejected.
    """
    made = images.image([LAYER])
    for blob in made.blobs:
        pushed.blob(blob)
    damage(_stored(pushed.root))

    mounted = pushed.send(
        "POST", f"/v2/team/other/blobs/uploads/?mount={LAYER_DIGEST}&from=team/app"
    )
    named = pushed.manifest(made.manifest, made.media_type, "v1")

    assert mounted.status_code == 202
    assert (named.status_code, code(named)) == (404, "MANIFEST_BLOB_UNKNOWN")
    assert pushed.ask("HEAD", BLOB).status_code == 404


def test_a_damaged_pushed_layer_is_quarantined_and_counted(pushed: Pushing) -> None:
    """A damaged pushed layer is moved to the quarantine, from which an operator can recover it.

    Its bytes are still included in the used bytes.
    """
    _extended(_stored(pushed.root))

    pushed.ask("GET", BLOB)

    kept = pushed.root / layout.quarantined(LAYER_DIGEST)
    assert kept.read_bytes() == LAYER + b"more"
    assert pushed.index.reservations.used_bytes() >= len(LAYER)


# ---- tests of damaged downloads and uploads


def _spooled(bench: Bench) -> Path:
    return bench.root / "spool" / layout.spool(DIGEST)


@pytest.mark.parametrize("at", [1, 5000], ids=["at the start", "in the middle"])
@pytest.mark.parametrize("damage", [_cut, _emptied, _extended, _flipped])
@pytest.mark.parametrize("same", [True, False], ids=["same worker", "another worker"])
def test_a_damaged_spool_file_is_never_committed(
    tmp_path: Path,
    damage: Damage,
    at: int,
    same: bool,  # noqa: FBT001
) -> None:
    """A spool file that is damaged during its download is never committed.

    A response that ends without an error has the full length of the blob.
    """
    bench = _bench(tmp_path)
    remote = FakeRemote(CONTENT, until=at)
    worker = bench.worker()
    worker.join(task(remote))
    reader = (worker if same else bench.worker()).join(task(remote))
    body = read(reader, 0, len(CONTENT))
    got = next(body)
    eventually(lambda: _spooled(bench).stat().st_size >= at)
    damage(_spooled(bench))
    remote.let(None)
    try:
        got += b"".join(body)
        is_complete = True
    except (DatastoreError, UpstreamError):
        is_complete = False
    eventually(lambda: bool(bench.events))

    assert not is_complete or len(got) == len(CONTENT)
    stored = _stored(tmp_path, DIGEST)
    assert not stored.exists() or stored.read_bytes() == CONTENT


def _bench(root: Path) -> Bench:
    return Bench(root)


def test_an_append_to_a_file_of_another_length_fails(tmp_path: Path) -> None:
    """If a spool file does not have the expected length, the next write to it fails."""
    path = tmp_path / "file"
    path.write_bytes(b"12345")
    with path.open("ab", buffering=0) as file:
        append(file.fileno(), b"67", 5)
        os.truncate(path, 3)
        with pytest.raises(ContentDamaged):
            append(file.fileno(), b"89", 7)

    assert path.read_bytes() == b"123"


@pytest.mark.parametrize("damage", LENGTHS)
def test_an_upload_file_of_another_length_ends_the_upload(pushed: Pushing, damage: Damage) -> None:
    """If an upload's file has a wrong length, the next request for the upload gets 503.

    The worker deletes the upload.
    """
    where = pushed.begin()

    def pieces() -> Iterator[bytes]:
        yield LAYER
        (path,) = [each for each in pushed.uploads() if each.suffix not in (".digest", ".size")]
        damage(path)
        yield LAYER

    assert pushed.stream("PATCH", where, pieces()).status_code == 503
    assert pushed.uploads() == []


# ---- tests of the commit of a file to the blob store


@pytest.fixture
def blobs(tmp_path: Path) -> BlobStore:
    """Return a blob store that marks unverified content."""
    storage, index = disk_storage(tmp_path), MemoryIndex()
    unproven = UnverifiedMarks(tmp_path / "unproven")
    return BlobStore(storage, Integrity(storage, index, Quarantine(storage, index), unproven))


@pytest.mark.parametrize("damage", [*LENGTHS, _flipped])
def test_a_short_file_is_read_before_the_commit(
    blobs: BlobStore, tmp_path: Path, damage: Damage
) -> None:
    """If a finished file was damaged, the commit rejects it, even if correct bytes were received.

    The digest was computed from the received bytes, so the commit reads the file again.
    """
    path = tmp_path / "finished"
    path.write_bytes(LAYER)
    damage(path)

    with pytest.raises(ContentDamaged):
        blobs.commit_file(path, LAYER_DIGEST, verified=LAYER_DIGEST, size=len(LAYER))

    assert blobs.stat(LAYER_DIGEST) is None


def test_a_large_file_is_marked_for_verification(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large file is marked as unverified before its commit.

    So the cleaner verifies the file later, even if the process is killed during the commit.
    """
    monkeypatch.setattr(blobs_module, "REREAD", 1000)
    path = tmp_path / "finished"
    path.write_bytes(LAYER)

    blobs.commit_file(path, LAYER_DIGEST, verified=LAYER_DIGEST, size=len(LAYER))

    assert [digest for digest, _ in UnverifiedMarks(tmp_path / "unproven").all()] == [LAYER_DIGEST]


def test_a_large_file_that_cannot_be_marked_is_read_at_once(
    blobs: BlobStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """If a large file cannot be marked as unverified, the commit reads and verifies it at once."""
    monkeypatch.setattr(blobs_module, "REREAD", 1000)
    (tmp_path / "unproven").write_text("no folder")
    path = tmp_path / "finished"
    path.write_bytes(LAYER)
    _flipped(path)

    with pytest.raises(ContentDamaged):
        blobs.commit_file(path, LAYER_DIGEST, verified=LAYER_DIGEST, size=len(LAYER))


def test_replaced_content_is_not_quarantined(tmp_path: Path) -> None:
    """A file that has replaced a damaged file is not moved to the quarantine.

    Two processes can find the same damage, and the second can act after the replacement.
    """
    storage, index = disk_storage(tmp_path), MemoryIndex()
    quarantine = Quarantine(storage, index)
    key = layout.blob(LAYER_DIGEST)
    storage.write(key, b"damaged")
    with storage.open(key) as damaged:
        storage.write(key, LAYER)

        assert not quarantine.put(LAYER_DIGEST, damaged, size=7, found="open")

    assert storage.read(key) == LAYER
    assert list(quarantine.all()) == []
