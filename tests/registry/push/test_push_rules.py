"""The settings `validation:` and `policy:` determine which manifests clients can push."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from entrepot.config.schema import Settings
from entrepot.datastore.manifest import DOCKER_MANIFEST, OCI_INDEX, OCI_MANIFEST
from entrepot.registry.push_settings import push_rules
from tests import images
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, code, document, pushing

_FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"
_ALLOWED, _DENIED = "https://a.example.com/layer", "https://www.example.com/layer"
_PLUGIN = "application/vnd.docker.plugin.v1+json"
Start = Callable[..., Pushing]


@pytest.fixture
def start(tmp_path: Path) -> Start:
    """Return a function that starts a worker with settings of `validation:` and `policy:`."""

    def run(**sections: Any) -> Pushing:
        return pushing(tmp_path, push_rules=push_rules(Settings.from_tree(sections)))

    return run


def _urls(**urls: list[str]) -> dict[str, object]:
    return {"manifests": {"urls": urls}}


def _push_foreign(p: Pushing, *urls: str) -> tuple[int, str]:
    """Push an image whose layer is at the given URLs; return the status and the error code."""
    made = image([filler(100, 1)])
    p.blob(made.config)
    layer = images.descriptor(b"not ours", _FOREIGN) | {"urls": list(urls)}
    answer = p.manifest(document(made.manifest, layers=[layer]), OCI_MANIFEST, "v1")
    return answer.status_code, "" if answer.status_code == 201 else code(answer)


_REFUSED, _STORED = (400, "MANIFEST_INVALID"), (201, "")


@pytest.mark.parametrize(
    ("validation", "url", "expected"),
    [
        (None, _ALLOWED, _STORED),
        ({"disabled": "false"}, _ALLOWED, _REFUSED),
        ({"enabled": "true"}, _ALLOWED, _REFUSED),
        ({"disabled": "true"}, _ALLOWED, _STORED),
        ({"disabled": "true"}, "ftp://a.example.com/", _REFUSED),
        (_urls(allow=[r"example\.com/"]), _ALLOWED, _STORED),
        (_urls(allow=[r"example\.com/"]), "https://b.test/", _REFUSED),
        (_urls(allow=[r"example\.com/"], deny=["//www[.]"]), _ALLOWED, _STORED),
        (_urls(allow=[r"example\.com/"], deny=["//www[.]"]), _DENIED, _REFUSED),
        (_urls(deny=["//www[.]"]), "https://b.test/", _STORED),
        (_urls(deny=["//www[.]"]), _DENIED, _REFUSED),
        (_urls(allow=["."]), "https://a.test/#part", _REFUSED),
        (_urls(allow=["."]), "file:///etc/passwd", _REFUSED),
        (_urls(allow=["."]), f"https://a.test/{'x' * 4096}", _REFUSED),
        (_urls(allow=["."]), "https://[/", _REFUSED),
    ],
)
def test_the_urls_of_layers_are_restricted_as_in_docker_distribution(
    start: Start, validation: dict[str, object] | None, url: str, expected: tuple[int, str]
) -> None:
    """A layer's URL must be http or https and match the patterns in `validation:`.

    Other URLs get 400, as in docker distribution.
    """
    p = start(**({} if validation is None else {"validation": validation}))

    assert _push_foreign(p, url) == expected


def test_one_refused_url_is_enough(start: Start) -> None:
    """If one of a layer's URLs is not permitted, the worker rejects the manifest.

    A client that pulls the image can use any of the URLs.
    """
    p = start(validation=_urls(allow=[r"example\.com/"]))

    assert _push_foreign(p, _ALLOWED, "https://b.test/") == _REFUSED
    assert p.tags() == []


def _index(*platforms: tuple[str, str] | None) -> bytes:
    """Return an OCI index of images with the given platforms; none of the images is stored."""
    children = []
    for number, each in enumerate(platforms):
        child = images.descriptor(f"child {number}".encode(), OCI_MANIFEST)
        os_and_architecture = each and {"os": each[0], "architecture": each[1]}
        children.append(child | ({"platform": os_and_architecture} if each else {}))
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": children}).encode()


_AMD64, _ARM64 = ("linux", "amd64"), ("linux", "arm64")


def _only(*platforms: tuple[str, str]) -> dict[str, object]:
    listed = [{"os": each[0], "architecture": each[1]} for each in platforms]
    return {"manifests": {"indexes": {"platforms": "list", "platformlist": listed}}}


@pytest.mark.parametrize(
    ("validation", "index", "status"),
    [
        (None, _index(_AMD64), 404),
        ({"disabled": "false"}, _index(_AMD64), 404),
        ({"disabled": "true"}, _index(_AMD64), 201),
        ({"manifests": {"indexes": {"platforms": "all"}}}, _index(_AMD64), 404),
        ({"manifests": {"indexes": {"platforms": "none"}}}, _index(_AMD64, None), 201),
        (_only(_AMD64), _index(_AMD64, _ARM64), 404),
        (_only(_AMD64), _index(_ARM64, None), 201),
        (_only(), _index(_ARM64), 404),
    ],
)
def test_the_images_of_an_index_must_be_stored_by_platform(
    start: Start, validation: dict[str, object] | None, index: bytes, status: int
) -> None:
    """The settings in `validation:` determine which images of an OCI index must already be stored.

    They can require all images, no image, or only the images for listed platforms.
    """
    p = start(**({} if validation is None else {"validation": validation}))

    assert p.manifest(index, OCI_INDEX, "v1").status_code == status
    if status == 201:
        assert p.ask("GET", "manifests/v1").content == index


def test_the_blobs_of_an_image_must_always_be_stored(start: Start) -> None:
    """The blobs of an image must be stored before its manifest, whatever `validation:` contains."""
    p = start(validation={"disabled": "true"})
    made = image([filler(100, 1)])

    assert p.manifest(made.manifest, made.media_type, "v1").status_code == 404


def _of_config(p: Pushing, media_type: str, manifest_type: str) -> tuple[int, str]:
    made = image([filler(100, 1)])
    for blob in made.blobs:
        p.blob(blob)
    config = json.loads(made.manifest)["config"] | {"mediaType": media_type}
    body = document(made.manifest, config=config, mediaType=manifest_type)
    answer = p.manifest(body, manifest_type, "v1")
    return answer.status_code, "" if answer.status_code == 201 else code(answer)


@pytest.mark.parametrize(
    ("classes", "media_type", "manifest_type", "expected"),
    [
        ("image", "application/vnd.oci.image.config.v1+json", OCI_MANIFEST, _STORED),
        (
            "image",
            "application/vnd.docker.container.image.v1+json",
            DOCKER_MANIFEST,
            _STORED,
        ),
        ("image", _PLUGIN, DOCKER_MANIFEST, (403, "DENIED")),
        ("plugin", _PLUGIN, DOCKER_MANIFEST, _STORED),
        (
            "plugin",
            "application/vnd.oci.image.config.v1+json",
            OCI_MANIFEST,
            (403, "DENIED"),
        ),
        ("image,plugin", "application/vnd.example", OCI_MANIFEST, (403, "DENIED")),
        ("", "application/vnd.example", OCI_MANIFEST, _STORED),
    ],
)
def test_only_the_configured_classes_may_be_pushed(
    start: Start, classes: str, media_type: str, manifest_type: str, expected: tuple[int, str]
) -> None:
    """If `policy:` lists classes, images of other classes get 403.

    The media type of an image's config determines its class.
    """
    p = start(policy={"repository": {"classes": classes}})

    assert _of_config(p, media_type, manifest_type) == expected


def test_an_index_has_no_class(start: Start) -> None:
    """An OCI index can be pushed whatever classes `policy:` lists, as in docker distribution."""
    p = start(policy={"repository": {"classes": "plugin"}})

    assert p.manifest(_index(), OCI_INDEX, "v1").status_code == 201
    assert p.send("GET", f"/v2/{NAME}/manifests/v1").status_code == 200


def test_without_settings_there_are_no_rules() -> None:
    """Without the settings `validation:` and `policy:`, a push is not checked against any rule."""
    assert push_rules(Settings()) is None
