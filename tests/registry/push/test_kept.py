"""A pushed blob gets a row in the index, and the response has headers for the access log."""

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
    """A pushed blob counts against the cap and is pinned until its repository has a link to it.

    The pin keeps the cleaner from deleting the blob before the link exists.
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
    """While the first upload to a repository is unfinished, the repository does not exist."""
    p.begin()

    assert p.ask("GET", "tags/list").status_code == 404
    assert p.send("GET", "/v2/_catalog").json == {"repositories": []}


def test_a_blob_push_of_a_manifest_keeps_its_row(p: Pushing) -> None:
    """If a client pushes a stored manifest's bytes as a blob, the index still describes a manifest.

    The manifest's row in the index also lists the manifest's parts. The cleaner needs this list,
    because it evicts a manifest before its parts.
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
    """The response to a push has headers with the kind and the digest, which HAProxy logs.

    The logger reads the log line of HAProxy and records the push as a use of the blob.
    """
    done = p.send("PUT", f"{p.begin()}?digest={_DIGEST}", _CONTENT)

    assert done.headers["x-entrepot-kind"] == "blob"
    assert done.headers["x-entrepot-repository"] == NAME
    assert done.headers["docker-content-digest"] == str(_DIGEST)
