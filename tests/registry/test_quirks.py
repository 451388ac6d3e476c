"""Ways of real registries, each with its source: none of them costs a client its pull.

The test is a table. A new quirk is a row here, with its knob in `tests.quirks` or `tests.wire`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from datastore.refs import Digest
from tests.images import Image, filler
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

_LAYER = filler(70_000)


@dataclass(frozen=True, slots=True)
class Quirk:
    """One way of a registry: `source` is where it was reported or documented.

    `given` makes the fake upstream so, once the image `v1` is there; `check` is what must hold.
    `said` are fields of the upstream's settings.
    """

    what: str
    source: str
    given: Callable[[FakeUpstream, Image], None]
    check: Callable[[Pulling, Image], None]
    said: dict[str, Any] = field(default_factory=dict)


# ---- what must hold


def _pulls(p: Pulling, image: Image) -> None:
    """Pull the image by tag and by digest, then once more from the cache."""
    for reference in ("v1", str(image.digest), "v1"):
        got = p.get(f"manifests/{reference}")
        assert (200, image.manifest) == (got.status_code, got.content)
        assert str(image.digest) == got.headers["docker-content-digest"]
        assert image.media_type == got.headers["content-type"]
    for blob in image.blobs:
        for _ in range(2):
            assert blob == p.get(f"blobs/{Digest.of(blob)}").content


def _pulls_what_moved(p: Pulling, image: Image) -> None:
    """Pull, move the tag, pull again."""
    _pulls(p, image)
    moved = p.u.add_image(NAME, "v1", [filler(100, 2)])

    assert moved.manifest == p.get("manifests/v1").content
    assert image.manifest == p.get(f"manifests/{image.digest}").content


def _lists(*tags: str) -> Callable[[Pulling, Image], None]:
    def check(p: Pulling, _image: Image) -> None:
        got = p.get("tags/list")
        assert got.status_code == 200
        assert list(tags) == got.json["tags"]

    return check


def _answers(status: int, path: str, **headers: str) -> Callable[[Pulling, Image], None]:
    def check(p: Pulling, _image: Image) -> None:
        got = p.get(path)
        assert status == got.status_code
        assert headers == {name: got.headers[name.replace("_", "-")] for name in headers}

    return check


# ---- the ways


def _quirks(**knobs: Any) -> Callable[[FakeUpstream, Image], None]:
    def given(u: FakeUpstream, _image: Image) -> None:
        for name, knob in knobs.items():
            setattr(u.quirks, name, knob)

    return given


def _misbehaves(pattern: str, **knobs: Any) -> Callable[[FakeUpstream, Image], None]:
    return lambda u, _: u.misbehave(pattern, **knobs)


_OTHER_DIGEST = str(Digest.of(b"another"))

QUIRKS = (
    Quirk(
        "Docker-Content-Digest of a tag is another manifest's",
        "GoogleContainerTools/kaniko#298",
        _quirks(tag_digest=_OTHER_DIGEST),
        _pulls_what_moved,
        {"freshness": 0.0},
    ),
    Quirk(
        "406 to a blob whose Accept lists manifests",
        "renovatebot/renovate#3078",
        _quirks(strict_accept=True),
        _pulls,
    ),
    Quirk(
        "406 to a tag list whose Accept lists manifests",
        "renovatebot/renovate#3078",
        _quirks(strict_accept=True),
        _lists("v1"),
    ),
    Quirk(
        "503 with Retry-After while it is maintained",
        "quay.io in read-only mode; RFC 9110, 15.6.4",
        _misbehaves("/manifests/", status=503, headers={"Retry-After": "3600"}),
        _answers(503, "manifests/v1", Retry_After="3600"),
    ),
    Quirk(
        "a manifest comes as a file of no type",
        "static registries on object storage: binary/octet-stream is S3's default",
        _misbehaves("/manifests/", media_type="binary/octet-stream"),
        _pulls,
    ),
)


@pytest.fixture
def upstream() -> FakeUpstream:
    """Make an upstream that is started by the test."""
    return FakeUpstream()


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda each: each.what)
def test_a_quirk_of_a_registry_costs_no_pull(
    quirk: Quirk, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Each row is one that was reported or documented."""
    with upstream:
        image = upstream.add_image(NAME, "v1", [_LAYER])
        quirk.given(upstream, image)
        quirk.check(pulling(upstream, tmp_path, **quirk.said), image)
