"""What is kept of a blob that was pushed, and what the log is told."""

from __future__ import annotations

from pathlib import Path

from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest, Repository
from tests.images import filler
from tests.registry.push.pushing import (
    NAME,
    Holding,
    Pushing,
    pushing,
)

_CONTENT = filler(10_000, seed=1)
_DIGEST = Digest.of(_CONTENT)


def test_a_pushed_blob_is_recorded_and_held(tmp_path: Path) -> None:
    """It counts against the cap, and no eviction takes it before it is linked."""
    index = Holding()
    p = pushing(tmp_path, index=index)

    digest = p.blob(_CONTENT)

    entry = index.entry(digest)
    assert entry is not None
    assert (entry.size, entry.kind) == (len(_CONTENT), ContentKind.BLOB)
    assert index.held_once == {digest}
    assert index.let_go()
    assert p.repositories.origin(Repository(NAME)) is None


def test_an_upload_makes_no_repository(p: Pushing) -> None:
    """Nothing was pushed as long as it has not ended."""
    p.begin()

    assert p.ask("GET", "tags/list").status_code == 404
    assert p.send("GET", "/v2/_catalog").json == {"repositories": []}


def test_a_blob_that_is_here_stays_what_it_was(p: Pushing) -> None:
    """Pushed as a blob, a manifest's row keeps what it names: the order of eviction needs it."""
    part = Digest.of(b"part")
    p.index.record(_DIGEST, len(_CONTENT), ContentKind.MANIFEST, 1.0, names=[part])
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


def test_the_log_is_told_what_was_pushed(p: Pushing) -> None:
    """A push is a use: HAProxy logs kind and digest, and the logger stamps them."""
    done = p.send("PUT", f"{p.begin()}?digest={_DIGEST}", _CONTENT)

    assert done.headers["x-entrepot-kind"] == "blob"
    assert done.headers["x-entrepot-repository"] == NAME
    assert done.headers["docker-content-digest"] == str(_DIGEST)
