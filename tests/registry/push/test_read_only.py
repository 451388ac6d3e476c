"""A read-only worker (`storage.maintenance.readonly`) rejects every change and serves pulls."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.datastore.refs import Digest
from tests.images import filler, image
from tests.registry.push.pushing import Pushing, code, pushing

_MADE = image([filler(1000, 1)])
_LAYER = Digest.of(_MADE.layers[0])


@pytest.fixture
def frozen(tmp_path: Path, p: Pushing) -> Pushing:
    """Return a read-only worker on a data directory that has one image."""
    p.image(_MADE)
    return pushing(tmp_path, index=p.index, read_only=True)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "blobs/uploads/", None),
        ("POST", f"blobs/uploads/?mount={_LAYER}&from=team/other", None),
        ("POST", f"blobs/uploads/?digest={Digest.of(b'x')}", b"x"),
        ("PATCH", "blobs/uploads/{upload}", b"more"),
        ("PUT", f"blobs/uploads/{{upload}}?digest={Digest.of(b'')}", None),
        ("DELETE", "blobs/uploads/{upload}", None),
        ("PUT", "manifests/v2", _MADE.manifest),
        ("DELETE", "manifests/v1", None),
        ("DELETE", f"manifests/{_MADE.digest}", None),
        ("DELETE", f"blobs/{_LAYER}", None),
    ],
)
def test_every_change_is_405_and_changes_nothing(
    p: Pushing, frozen: Pushing, method: str, path: str, body: bytes | None
) -> None:
    """In read-only mode, a request that changes content gets 405, as in docker distribution.

    No file changes.
    """
    upload = p.begin().rpartition("/")[2]
    before = sorted(each for each in p.root.rglob("*") if each.is_file())

    refused = frozen.ask(method, path.format(upload=upload), body)

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert refused.headers["allow"] == "GET, HEAD"
    assert "read-only" in refused.text
    assert sorted(each for each in p.root.rglob("*") if each.is_file()) == before
    assert p.tags() == ["v1"]


def test_pulls_and_the_state_of_an_upload_are_served(p: Pushing, frozen: Pushing) -> None:
    """In read-only mode, clients can pull stored content and read the state of an upload."""
    upload = p.begin().rpartition("/")[2]

    statuses = [
        frozen.ask("GET", path).status_code
        for path in (
            "manifests/v1",
            f"manifests/{_MADE.digest}",
            f"blobs/{_LAYER}",
            "tags/list",
            f"blobs/uploads/{upload}",
        )
    ]

    assert statuses == [200, 200, 200, 200, 204]
