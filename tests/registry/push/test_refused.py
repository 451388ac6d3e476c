"""The registry rejects invalid manifests and records all stored manifests in the index."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import DOCKER_LIST, LARGEST, OCI_INDEX, OCI_MANIFEST
from entrepot.datastore.refs import Digest, Repository
from tests import images
from tests.images import Image, filler, image
from tests.registry.push.pushing import NAME, Pushing, RecordingPins, code, document, pushing


def _image() -> Image:
    return image([filler(1000, 1)])


# ---- rejected manifests


def test_a_manifest_with_missing_parts_is_404(p: Pushing) -> None:
    """A push of a manifest with missing parts gets 404, with one error for each missing part.

    The code of each error is MANIFEST_BLOB_UNKNOWN. A blob that only another repository has is
    treated as missing.
    """
    made = image([filler(1000, 1), filler(1000, 2), filler(1000, 2)])
    p.blob(made.config)
    p.blob(made.layers[0], name="team/other")

    refused = p.manifest(made.manifest, made.media_type, "v1")

    assert refused.status_code == 404
    errors = refused.json["errors"]
    assert {each["code"] for each in errors} == {"MANIFEST_BLOB_UNKNOWN"}
    missing = [str(Digest.of(layer)) for layer in made.layers[:2]]
    assert [each["detail"]["digest"] for each in errors] == missing
    assert p.ask("GET", f"manifests/{made.digest}").status_code == 404
    assert p.content(made.digest) is None
    assert p.tags() == []


def test_a_link_without_content_is_a_missing_part(p: Pushing) -> None:
    """If the file of a linked blob is missing, a manifest with that blob gets 404."""
    made = _image()
    p.image(made)
    digest = Digest.of(made.layers[0])
    (p.root / "docker/registry/v2/blobs/sha256" / digest.hex[:2] / digest.hex / "data").unlink()

    assert p.manifest(made.manifest, made.media_type, "v2").status_code == 404


def test_a_manifest_with_a_wrong_digest_is_400(p: Pushing) -> None:
    """If the digest in the URL does not match the manifest, the push gets 400 DIGEST_INVALID."""
    made = _image()
    p.image(made)

    for algorithm in ("sha256", "sha512"):
        wanted = Digest.of(b"another", algorithm)
        refused = p.manifest(made.manifest + b"  ", made.media_type, wanted)
        assert (refused.status_code, code(refused)) == (400, "DIGEST_INVALID")


@pytest.mark.parametrize("reference", ["sha256:baddigest", "sha256:", "md5:0123", "a:b"])
def test_a_malformed_digest_is_400(p: Pushing, reference: str) -> None:
    """A push or pull of a manifest by a malformed digest gets 400."""
    made = _image()

    pushed = p.manifest(made.manifest, made.media_type, reference)
    pulled = p.ask("GET", f"manifests/{reference}")

    assert (pushed.status_code, code(pushed)) == (400, "DIGEST_INVALID")
    assert pulled.status_code == 400


_WRONG = {
    "not JSON": (b"blablabla", OCI_MANIFEST),
    "no object": (b"[]", OCI_MANIFEST),
    "nothing": (b"", OCI_MANIFEST),
    "no type": (b"{}", "application/octet-stream"),
    "an old type": (b"{}", "application/vnd.docker.distribution.manifest.v1+prettyjws"),
    "no config": (b'{"schemaVersion": 2}', OCI_MANIFEST),
    "no list": (b'{"schemaVersion": 2}', OCI_INDEX),
    "another type": (images.index([])[0], DOCKER_LIST),
    "two meanings": (document(_image().manifest, manifests=[]), OCI_MANIFEST),
    "two meanings again": (document(images.index([])[0], layers=[]), OCI_INDEX),
}


@pytest.mark.parametrize(("body", "media_type"), _WRONG.values(), ids=_WRONG)
def test_an_invalid_manifest_is_400(p: Pushing, body: bytes, media_type: str) -> None:
    """A push of an invalid manifest gets 400 MANIFEST_INVALID.

    A document is also invalid if one client could interpret it as an image and another as an index.
    """
    for blob in _image().blobs:
        p.blob(blob)

    refused = p.manifest(body, media_type, "v1")

    assert (refused.status_code, code(refused)) == (400, "MANIFEST_INVALID")


def _of_length(made: Image, length: int) -> bytes:
    """Return the manifest of *made*, padded to *length* bytes with an annotation."""
    fill = length - len(document(made.manifest, annotations={"fill": ""}))
    return document(made.manifest, annotations={"fill": "x" * fill})


@pytest.mark.parametrize("streamed", [False, True], ids=["announced", "streamed"])
def test_a_manifest_above_4_mib_is_413(p: Pushing, *, streamed: bool) -> None:
    """A push of a manifest above 4 MiB gets 413, and the worker reads no more than 4 MiB of it."""
    made = _image()
    p.image(made)
    media = {"Content_Type": OCI_MANIFEST}
    largest, more = (_of_length(made, LARGEST + over) for over in (0, 1))
    assert len(largest) == LARGEST

    url = f"/v2/{NAME}/manifests/large"
    refused = p.stream("PUT", url, [more]) if streamed else p.send("PUT", url, more, **media)
    taken = p.send("PUT", url, largest, **media)

    assert (refused.status_code, code(refused)) == (413, "SIZE_INVALID")
    assert taken.status_code == 201
    assert p.ask("GET", "manifests/large").content == largest


@pytest.mark.parametrize("method", ["POST", "PATCH"])
def test_other_methods_on_a_manifest_are_405(p: Pushing, method: str) -> None:
    """POST and PATCH of a manifest get 405, and `Allow` lists the permitted methods."""
    refused = p.ask(method, "manifests/v1", b"{}")

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert refused.headers["allow"] == "GET, HEAD, PUT, DELETE"


# ---- stored manifests


def test_a_pushed_image_is_recorded_with_its_parts(p: Pushing) -> None:
    """The index records a pushed image together with the digests of its parts.

    By these digests, the cleaner finds the parts of the image. It treats a pull of the image as a
    use of the parts, and evicts no part before the image.
    """
    made = _image()
    p.image(made)

    entry = p.index.entry(made.digest)
    assert entry is not None
    assert (entry.size, entry.kind) == (len(made.manifest), ContentKind.MANIFEST)
    assert p.index.children(made.digest) == [Digest.of(blob) for blob in made.blobs]
    assert p.index.reservations.all() == []
    assert p.repositories.origin(Repository(NAME)) is None


def test_all_parts_are_pinned_during_a_push(tmp_path: Path) -> None:
    """While a client pushes an OCI index, its manifests and all their parts are pinned."""
    pins = RecordingPins()
    p = pushing(tmp_path, index=MemoryIndex(pins=pins))
    child = _image()
    p.image(child, child.digest)
    pins.held_once.clear()
    body, media_type = images.index([child])

    p.manifest(body, media_type, "many")

    assert pins.held_once == {Digest.of(body), child.digest, *map(Digest.of, child.blobs)}
    assert pins.are_removed()


def test_another_repository_cannot_change_a_media_type(p: Pushing) -> None:
    """A manifest keeps its media type if it is pushed to another repository with another type.

    Each repository serves the manifest with the type with which it was pushed there.
    """
    made = _image()
    body = document(made.manifest, mediaType=None)
    for name in (NAME, "team/other"):
        for blob in made.blobs:
            p.blob(blob, name)
    p.manifest(body, OCI_MANIFEST, "v1")

    docker = "application/vnd.docker.distribution.manifest.v2+json"
    assert p.manifest(body, docker, "v1", "team/other").status_code == 201

    assert p.ask("GET", "manifests/v1").headers["content-type"] == OCI_MANIFEST


class _Died(BaseException):
    """The error that a storage write raises, as if the process had been killed during the write."""


def _dying(after: int) -> Callable[[Filesystem, str, bytes], None]:
    """Return a storage write method that succeeds for *after* calls and then raises `_Died`."""
    left = iter(range(after))
    write = Filesystem.write

    def dying(storage: Filesystem, key: str, data: bytes) -> None:
        if next(left, None) is None:
            raise _Died
        write(storage, key, data)

    return dying


@pytest.mark.parametrize("writes", range(6))
def test_an_interrupted_push_leaves_no_dangling_tag(
    p: Pushing, monkeypatch: pytest.MonkeyPatch, writes: int
) -> None:
    """If a worker is killed at any write of a push, no tag without its manifest remains.

    The next push of the manifest succeeds.
    """
    subject = _image()
    p.image(subject, subject.digest)
    made = images.artifact(subject, b"a signature", "application/vnd.example.signature")
    for blob in made.blobs:
        p.blob(blob)

    with monkeypatch.context() as patch:
        patch.setattr(Filesystem, "write", _dying(writes))
        try:
            answered = p.manifest(made.manifest, made.media_type, "v1").status_code
        except _Died:
            answered = 0

    listed = p.tags()
    assert listed == ["v1"] if writes == 5 else listed in ([], ["v1"])
    assert answered == (201 if writes == 5 else 0)
    for tag in listed:
        assert p.ask("GET", f"manifests/{tag}").content == made.manifest
    assert p.manifest(made.manifest, made.media_type, "v1").status_code == 201
    assert p.ask("GET", f"referrers/{subject.digest}").json["manifests"]
