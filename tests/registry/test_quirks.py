"""Real registries deviate from the specification, and pulls through them still work.

The test goes through a table of deviations. To add a deviation, add a row and make the fake
upstream deviate with `tests.quirks` or `tests.wire`.
"""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.manifest import OCI_INDEX
from entrepot.datastore.refs import Digest
from tests.images import Image, artifact, descriptor, filler
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

_LAYER = filler(70_000)
_SIGNATURE_TYPE = "application/x.signature"
_OTHER = "other/app"


@dataclass(frozen=True, slots=True)
class Quirk:
    """One deviation of a registry; `source` names the report of the deviation.

    `given` changes the fake upstream, which has the image `v1`, so that it deviates. `check`
    asserts the expected behaviour. `settings` are fields of `UpstreamConfig`.
    """

    what: str
    source: str
    given: Callable[[FakeUpstream, Image], None]
    check: Callable[[Pulling, Image], None]
    settings: dict[str, Any] = field(default_factory=dict)


# ---- functions that check pulls


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


def _heads(p: Pulling, image: Image) -> None:
    """Request the length of a layer that is not yet stored, then pull the image."""
    p.get("manifests/v1")
    got = p.head(f"blobs/{Digest.of(_LAYER)}")
    assert (200, str(len(_LAYER))) == (got.status_code, got.headers["content-length"])
    _pulls(p, image)


def _pulls_after_the_tag_moved(p: Pulling, image: Image) -> None:
    """Pull the image, move the tag at the upstream, and pull again."""
    _pulls(p, image)
    moved = p.u.add_image(NAME, "v1", [filler(100, 2)])

    assert moved.manifest == p.get("manifests/v1").content
    assert image.manifest == p.get(f"manifests/{image.digest}").content


def _pulls_a_compressed_layer(p: Pulling, _image: Image) -> None:
    """Pull a layer that is a gzip file; the first attempt can fail, the second must succeed."""
    layer = gzip.compress(filler(50_000, 7))
    made = p.u.add_image(NAME, "gz", [layer])
    assert made.manifest == p.get("manifests/gz").content
    path = f"blobs/{Digest.of(layer)}"
    try:
        got = p.get(path).content
    except ConnectionError:
        got = b""
    assert got != gzip.decompress(layer)
    assert layer == p.get(path).content


def _lists(*tags: str) -> Callable[[Pulling, Image], None]:
    def check(p: Pulling, _image: Image) -> None:
        got = p.get("tags/list")
        assert got.status_code == 200
        assert list(tags) == got.json["tags"]

    return check


def _lists_by_pages(*tags: str, n: int = 2) -> Callable[[Pulling, Image], None]:
    """Return a check that lists all tags, once in one page and once in pages of 1 to *n* tags."""

    def check(p: Pulling, image: Image) -> None:
        _lists(*tags)(p, image)
        found: list[str] = []
        query = f"tags/list?n={n}"
        while query:
            got = p.get(query)
            assert got.status_code == 200
            assert 0 < len(got.json["tags"]) <= n
            found += got.json["tags"]
            assert len(found) <= len(tags)
            link = got.headers.get("link")
            query = link[link.index("tags/list") : link.index(">")] if link else ""
        assert list(tags) == found

    return check


def _pulls_under_two_names(p: Pulling, image: Image) -> None:
    """Pull the image, then its manifest and layer in a second repository.

    The manifest and the layer are each requested with HEAD, GET and HEAD.
    """
    _heads(p, image)
    _pulls(p, image)
    other = f"/v2/{p.prefix}/{_OTHER}"
    for path in (f"manifests/{image.digest}", f"blobs/{Digest.of(_LAYER)}"):
        got = [p.ask(method, f"{other}/{path}") for method in ("HEAD", "GET", "HEAD")]
        assert [each.status_code for each in got] == [200, 200, 200]
        assert got[0].headers["content-length"] == str(len(got[1].content))
        assert Digest.of(got[1].content) == Digest.parse(path.partition("/")[2])


def _resumes(p: Pulling, image: Image) -> None:
    """Pull a layer whose body the upstream cuts off in the middle."""
    p.u.misbehave("/blobs/", method="GET", times=1, cut=30_000)
    assert p.get(f"blobs/{Digest.of(_LAYER)}").content == _LAYER
    _pulls(p, image)


def _lists_the_referrer(p: Pulling, image: Image) -> None:
    """Assert that the list of referrers contains the artifact that refers to the image."""
    got = p.get(f"referrers/{image.digest}")
    assert (got.status_code, got.headers["content-type"]) == (200, OCI_INDEX)
    assert [each["artifactType"] for each in got.json["manifests"]] == [_SIGNATURE_TYPE]


def _has_no_referrers(p: Pulling, image: Image) -> None:
    """Assert a 404 with MANIFEST_UNKNOWN; NAME_UNKNOWN would mean that the repository is absent."""
    got = p.get(f"referrers/{image.digest}")
    assert (got.status_code, got.json["errors"][0]["code"]) == (404, "MANIFEST_UNKNOWN")


def _responds(status: int, path: str, **headers: str) -> Callable[[Pulling, Image], None]:
    def check(p: Pulling, _image: Image) -> None:
        got = p.get(path)
        assert status == got.status_code
        assert headers == {name: got.headers[name.replace("_", "-")] for name in headers}

    return check


# ---- functions that make the fake upstream deviate


def _quirks(**knobs: Any) -> Callable[[FakeUpstream, Image], None]:
    def given(u: FakeUpstream, _image: Image) -> None:
        for name, knob in knobs.items():
            setattr(u.quirks, name, knob)

    return given


def _all(*givens: Callable[[FakeUpstream, Image], None]) -> Callable[[FakeUpstream, Image], None]:
    def given(u: FakeUpstream, image: Image) -> None:
        for each in givens:
            each(u, image)

    return given


def _tags(*tags: str, page: int | None = None, **knobs: Any) -> Callable[..., None]:
    """Return a function that adds *tags* to the image `v1`.

    The upstream lists them in pages of *page* tags.
    """

    def given(u: FakeUpstream, image: Image) -> None:
        for tag in tags:
            u.move_tag(NAME, tag, image.digest)
        u.page = page
        _quirks(**knobs)(u, image)

    return given


def _signed(u: FakeUpstream, image: Image) -> None:
    """Add an artifact that refers to the image.

    An index under the referrers tag lists the artifact.
    """
    signature = artifact(image, b"signature", _SIGNATURE_TYPE)
    u.put_image(NAME, str(signature.digest), signature)
    described = descriptor(signature.manifest, signature.media_type)
    entries = [described | {"artifactType": _SIGNATURE_TYPE}]
    index = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    u.add_manifest(NAME, _fallback(image), json.dumps(index).encode(), OCI_INDEX)


def _fallback(image: Image) -> str:
    return f"{image.digest.algorithm}-{image.digest.hex}"


def _subject_under_its_tag(u: FakeUpstream, image: Image) -> None:
    u.move_tag(NAME, _fallback(image), image.digest)


def _under_two_names(
    *givens: Callable[[FakeUpstream, Image], None],
) -> Callable[[FakeUpstream, Image], None]:
    """Return a function that adds the image to a second repository and then calls *givens*."""

    def given(u: FakeUpstream, image: Image) -> None:
        u.put_image(_OTHER, "v1", image)
        _all(*givens)(u, image)

    return given


def _misbehaves(pattern: str, **knobs: Any) -> Callable[[FakeUpstream, Image], None]:
    return lambda u, _: u.misbehave(pattern, **knobs)


def _blobs_at_a_storage_host(u: FakeUpstream, _image: Image) -> None:
    port = u.host.rpartition(":")[2]
    u.misbehave("/blobs/", status=307, redirect=f"http://localhost:{port}/raw/{{digest}}")


def _heads_refused_with_any_token(u: FakeUpstream, _image: Image) -> None:
    challenge = f'Bearer realm="{u.url}/token",service="public.ecr.aws",scope="aws"'
    headers = {"WWW-Authenticate": challenge}
    u.misbehave("/v2/.*/blobs/", method="HEAD", status=401, headers=headers)
    u.misbehave("/token", status=200, body=b'{"token": "T"}', media_type="application/json")


def _storage_without_head(status: int) -> Callable[[FakeUpstream, Image], None]:
    """Return a function that redirects blobs to a host that responds *status* to a HEAD."""

    def given(u: FakeUpstream, _image: Image) -> None:
        port = u.host.rpartition(":")[2]
        u.misbehave("/blobs/", redirect=f"http://localhost:{port}/raw/{{digest}}")
        u.misbehave("/raw/", method="HEAD", status=status)

    return given


_OTHER_DIGEST = str(Digest.of(b"another"))

QUIRKS = (
    Quirk(
        "Docker-Content-Digest of a tag is another manifest's",
        "GoogleContainerTools/kaniko#298",
        _quirks(tag_digest=_OTHER_DIGEST),
        _pulls_after_the_tag_moved,
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
    *(
        Quirk(
            f"every body is encoded with {coding}", "quay/quay#1310", _quirks(coding=coding), _pulls
        )
        for coding in ("gzip", "x-gzip", "deflate", "raw deflate", "identity", "deflate, gzip")
    ),
    Quirk(
        "tags and referrers are encoded with gzip",
        "nginx before a registry: gzip on for application/json",
        _all(_misbehaves("/referrers/", status=404), _signed, _quirks(coding="gzip")),
        _lists_the_referrer,
    ),
    Quirk(
        "Content-Encoding of bodies is that of their upload",
        "S3 returns the Content-Encoding of an upload that was chunked and signed",
        _quirks(label="aws-chunked"),
        _pulls,
    ),
    Quirk(
        "Content-Encoding of a compressed layer is its own compression",
        "quay/quay#1310, the other interpretation",
        _misbehaves("/blobs/", headers={"Content-Encoding": "gzip"}),
        _pulls_a_compressed_layer,
    ),
    Quirk(
        "blobs have no Content-Length",
        "distribution/distribution#2475; goharbor/harbor#23373",
        _misbehaves("/blobs/", chunked=True),
        _heads,
    ),
    *(
        Quirk(
            f"{status} to a HEAD at the storage, whose URL is signed for GET",
            source,
            _storage_without_head(status),
            _heads,
        )
        for status, source in (
            (400, "distribution/distribution#2055"),
            (403, "pulp/pulp_container#579; containerd/stargz-snapshotter#167"),
        )
    ),
    Quirk(
        "416 to an open-ended range",
        "anchore/stereoscope#695: the registry of go-containerregistry",
        _all(
            _misbehaves("/blobs/", method="GET", times=1, cut=20_000),
            _quirks(closed_ranges=True),
        ),
        _pulls,
    ),
    *(
        Quirk(
            f"{status} to referrers",
            source,
            _all(_misbehaves("/referrers/", status=status), _signed),
            _lists_the_referrer,
        )
        for status, source in (
            (401, "goharbor/harbor#18305: without a challenge"),
            (406, "google/go-containerregistry#1962"),
        )
    ),
    Quirk(
        "the Content-Type of a manifest is schema 1",
        "containerd/containerd#5632",
        _misbehaves(
            "/manifests/", media_type="application/vnd.docker.distribution.manifest.v1+prettyjws"
        ),
        _pulls,
    ),
    Quirk(
        "the Content-Type of a manifest is application/json",
        "moby/moby#19400",
        _misbehaves("/manifests/", media_type="application/json"),
        _pulls,
    ),
    Quirk(
        "a manifest has no Content-Type",
        "rpardini/docker-registry-proxy#84",
        _misbehaves("/manifests/", headers={"Content-Type": None}),
        _pulls,
    ),
    Quirk(
        "406 to a manifest whose Accept has no */*",
        "concourse/docker-image-resource#40",
        _quirks(strict_accept=True),
        _pulls,
    ),
    Quirk(
        "a tag list ignores n and last",
        "distribution 2.x; distribution/distribution#1936",
        _tags("a", "b", "c", "d", ignores=frozenset({"n", "last"})),
        _lists_by_pages("a", "b", "c", "d", "v1"),
    ),
    Quirk(
        "a tag list has its own token for the next page",
        "deitch/docker_registry2#56, regclient/regclient#272: next_page of quay.io",
        _tags("a", "b", "c", "d", ignores=frozenset({"n", "last"}), tag_page=2),
        _lists_by_pages("a", "b", "c", "d", "v1", n=3),
    ),
    Quirk(
        "a tag list is in another order",
        "hub.docker.com lists 10 after 9 in some lists; opencontainers/distribution-spec#461",
        _tags("a", "b", "c", tag_order=lambda tags: tags[::-1]),
        _lists_by_pages("a", "b", "c", "v1"),
    ),
    Quirk(
        "a tag list has duplicate tags, and null",
        "goharbor/harbor: a tag has two artifacts while it is moved",
        _tags("a", "b", tag_order=lambda tags: [*tags, None, *tags]),
        _lists_by_pages("a", "b", "v1"),
    ),
    Quirk(
        "a tag list without tags is null",
        "distribution/distribution#2434",
        _quirks(tag_order=lambda _: None),
        _lists(),
    ),
    Quirk(
        "400 to a page that is too large",
        "Amazon ECR API, ListImages: at most 1000",
        _tags("a", "b", most_n=1000),
        _lists_by_pages("a", "b", "v1", n=9999),
    ),
    Quirk(
        "400 to any page",
        "registries without pagination",
        _tags("a", "b", most_n=0),
        _lists_by_pages("a", "b", "v1", n=1),
    ),
    Quirk(
        "the next page of tags is on an internal host",
        "containers/image uses only the path and query of the link",
        _tags(
            "a",
            "b",
            page=1,
            link='<http://registry.internal:5000{path}?n=1&last={last}>; rel="next"',
        ),
        _lists_by_pages("a", "b", "v1"),
    ),
    Quirk(
        "the link to the next page has no angle brackets",
        "heroku/docker-registry-client#11",
        _tags("a", "b", page=1, link='{path}?n=1&last={last}; rel="next"'),
        _lists_by_pages("a", "b", "v1"),
    ),
    Quirk(
        "no referrers API, but a referrers tag",
        "OCI distribution-spec 1.1, Referrers Tag Schema; quay.io, ghcr.io",
        _all(_misbehaves("/referrers/", status=404), _signed),
        _lists_the_referrer,
    ),
    Quirk(
        "no referrers API, and no referrers tag",
        "oras-project/rust-oci-client#259",
        _misbehaves("/referrers/", status=404),
        _has_no_referrers,
    ),
    Quirk(
        "referrers are an HTML page",
        "registry.k8s.io; oras-project/oras-go#633, google/go-containerregistry#1968",
        _all(
            _misbehaves("/referrers/", status=200, body=b"<!doctype html>", media_type="text/html"),
            _signed,
        ),
        _lists_the_referrer,
    ),
    Quirk(
        "referrers are JSON of another type",
        "sigstore/sigstore-js#1187",
        _all(
            _misbehaves(
                "/referrers/", status=200, body=b'{"manifests": []}', media_type="application/json"
            ),
            _signed,
        ),
        _lists_the_referrer,
    ),
    Quirk(
        "403 to referrers",
        "Google Artifact Registry and JFrog Artifactory for unknown paths",
        _all(_misbehaves("/referrers/", status=403), _signed),
        _lists_the_referrer,
    ),
    Quirk(
        "the referrers tag is the image itself",
        "oras-project/oras-go#1396",
        _all(_misbehaves("/referrers/", status=404), _subject_under_its_tag),
        _has_no_referrers,
    ),
    *(
        Quirk(
            f"{status} to every HEAD of {kind}, with any credentials",
            source,
            _under_two_names(
                _misbehaves(f"/{kind}/", method="HEAD", status=status, headers=headers)
            ),
            _pulls_under_two_names,
        )
        for kind in ("blobs", "manifests")
        for status, headers, source in (
            (400, {}, "goharbor/harbor#22609"),
            (401, {}, "a reverse proxy that checks signatures of GET only"),
            (401, {"WWW-Authenticate": 'Basic realm="r"'}, "aws/containers-roadmap#2671"),
            (403, {}, "distribution/distribution#4383"),
            (404, {}, "artifact-keeper#3605"),
            (405, {}, "static registries on object storage"),
            (500, {}, "goharbor/harbor#22609"),
            (503, {}, "caches that pass on the response of an overloaded origin"),
        )
    ),
    Quirk(
        "public.ecr.aws: 401 to HEAD of a blob with any token, 307 to GET, scope aws",
        "aws/containers-roadmap#2671, distribution/distribution#4383",
        _under_two_names(
            _blobs_at_a_storage_host,
            _heads_refused_with_any_token,
        ),
        _pulls_under_two_names,
    ),
    Quirk(
        "404 to HEAD before the first GET: a cache in front of a registry",
        "distribution/distribution#4747 (Harbor)",
        _under_two_names(_quirks(get_first=True)),
        _pulls_under_two_names,
    ),
    Quirk(
        "416 to every range, even to resume a blob",
        "anchore/stereoscope#695",
        _quirks(no_ranges=True),
        _resumes,
    ),
    Quirk(
        "503 with Retry-After during maintenance",
        "quay.io in read-only mode; RFC 9110, 15.6.4",
        _misbehaves("/manifests/", status=503, headers={"Retry-After": "3600"}),
        _responds(503, "manifests/v1", Retry_After="3600"),
    ),
    Quirk(
        "the Content-Type of a manifest is that of any file",
        "static registries on object storage: binary/octet-stream is S3's default",
        _misbehaves("/manifests/", media_type="binary/octet-stream"),
        _pulls,
    ),
)


@pytest.fixture
def upstream() -> FakeUpstream:
    """Return a fake upstream, which the test configures and starts."""
    return FakeUpstream()


@pytest.mark.parametrize("quirk", QUIRKS, ids=lambda each: each.what)
def test_a_quirk_of_a_registry_does_not_break_pulls(
    quirk: Quirk, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """Pulls work from an upstream with any deviation of the table `QUIRKS`."""
    with upstream:
        image = upstream.add_image(NAME, "v1", [_LAYER])
        quirk.given(upstream, image)
        quirk.check(pulling(upstream, tmp_path, **quirk.settings), image)
