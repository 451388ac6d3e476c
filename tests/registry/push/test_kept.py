"""Test the index row and the log fields of a pushed blob."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest, Repository
from tests.images import filler
from tests.registry.push.pushing import (
    NAME,
    Pushing,
    RecordingPins,
    pushing,
)

_CONTENT = filler(10_000, seed=1)
_DIGEST = Digest.of(_CONTENT)


def test_a_pushed_blob_is_recorded_and_pinned(tmp_path: Path) -> None:
    """A pushed blob counts against the cap.

    A pin keeps the pushed blob from eviction until a manifest links it.
    """
    pins = RecordingPins()
    p = pushing(tmp_path, index=MemoryIndex(pins=pins))

    digest = p.blob(_CONTENT)

    entry = p.index.entry(digest)
    assert entry is not None
    assert (entry.size, entry.kind) == (len(_CONTENT), ContentKind.BLOB)
    assert pins.held_once == {digest}
    assert pins.are_removed()
    assert p.repositories.origin(Repository(NAME)) is None


def test_an_unfinished_upload_makes_no_repository(p: Pushing) -> None:
    """An unfinished upload creates no repository."""
    p.begin()

    assert p.ask("GET", "tags/list").status_code == 404
    assert p.send("GET", "/v2/_catalog").json == {"repositories": []}


def test_a_blob_push_of_a_manifest_keeps_its_row(p: Pushing) -> None:
    """A push of a manifest's bytes as a blob keeps the manifest's row with its parts.

    The order of eviction depends on the manifest's parts.
    """
    part = Digest.of(b"part")
    p.index.record(_DIGEST, len(_CONTENT), ContentKind.MANIFEST, 1.0, children=[part])
    (p.root / "docker").mkdir()
    p.storage.write(
        f"docker/registry/v2/blobs/sha256/{_DIGEST.hex[:2]}/{_DIGEST.hex}/data", _CONTENT
    )

    p.blob(_CONTENT)

    entry = p.index.entry(_DIGEST)
    assert entry is not None
    assert entry.kind is ContentKind.MANIFEST
    assert entry.used > 1.0
    assert p.index.children(_DIGEST) == [part]


def test_a_push_is_logged_as_an_access(p: Pushing) -> None:
    """A push is logged as an access: HAProxy logs kind and digest."""
    done = p.send("PUT", f"{p.begin()}?digest={_DIGEST}", _CONTENT)

    assert done.headers["x-entrepot-kind"] == "blob"
    assert done.headers["x-entrepot-repository"] == NAME
    assert done.headers["docker-content-digest"] == str(_DIGEST)
