"""Tests of `parse`, which parses manifests from untrusted bytes."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.errors import InvalidManifest
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import (
    ACCEPT,
    DOCKER_LIST,
    DOCKER_MANIFEST,
    LARGEST,
    MOST_DESCRIPTORS,
    OCI_INDEX,
    OCI_MANIFEST,
    Descriptor,
    media_type_of,
    parse,
)
from entrepot.datastore.refs import Digest

CONFIG, LAYER, OTHER, CHILD = (
    Digest.of(text) for text in (b"config", b"layer", b"other", b"child")
)
FOREIGN = "application/vnd.docker.image.rootfs.foreign.diff.tar.gzip"


def _descriptor(part: Digest, **more: Any) -> dict[str, Any]:
    return {"mediaType": "application/x-part", "digest": str(part), "size": 7, **more}


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _manifest(**more: Any) -> bytes:
    document = {"schemaVersion": 2, "config": _descriptor(CONFIG), "layers": [_descriptor(LAYER)]}
    return _bytes(document | more)


def _index(**more: Any) -> bytes:
    return _bytes({"schemaVersion": 2, "manifests": [_descriptor(CHILD)]} | more)


class TestMediaType:
    """A manifest has a media type and a kind."""

    @pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
    def test_an_image_is_a_manifest(self, media_type: str) -> None:
        """An OCI image and a Docker image have the kind MANIFEST."""
        manifest = parse(_manifest(mediaType=media_type))

        assert (manifest.media_type, manifest.kind) == (media_type, ContentKind.MANIFEST)

    @pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
    def test_a_list_of_images_is_an_index(self, media_type: str) -> None:
        """An OCI index and a Docker list have the kind INDEX."""
        manifest = parse(_index(mediaType=media_type))

        assert (manifest.media_type, manifest.kind) == (media_type, ContentKind.INDEX)

    def test_the_stated_type_wins_over_the_received_one(self) -> None:
        """The media type in the bytes of a manifest has precedence over the received header."""
        received = f"{DOCKER_MANIFEST}; charset=utf-8"
        stated, bare = (
            parse(_manifest(**more), received) for more in ({"mediaType": OCI_MANIFEST}, {})
        )

        assert (stated.media_type, stated.states_type) == (OCI_MANIFEST, True)
        assert (bare.media_type, bare.states_type) == (DOCKER_MANIFEST, False)

    def test_an_unsupported_stated_type_yields_to_the_received_one(self) -> None:
        """If a manifest states an unsupported type, the type in the header Content-Type is used.

        If the header is absent too, the manifest is rejected.
        """
        unknown = _manifest(mediaType="application/vnd.example")

        assert parse(unknown, OCI_MANIFEST).media_type == OCI_MANIFEST
        with pytest.raises(InvalidManifest):
            parse(unknown)

    @pytest.mark.parametrize("media_type", [None, OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST])
    def test_a_manifest_that_is_image_and_index_at_once_is_rejected(
        self, media_type: str | None
    ) -> None:
        """A manifest that is an image and an index at the same time is rejected (CVE-2021-41190).

        If it were accepted, the header Content-Type would decide whether it is an image or an
        index.
        """
        with pytest.raises(InvalidManifest):
            parse(_manifest(manifests=[]), media_type)

    @pytest.mark.parametrize(
        ("content", "expected"), [(_manifest(), OCI_MANIFEST), (_index(), OCI_INDEX)]
    )
    def test_a_manifest_without_a_type_has_the_type_of_its_keys(
        self, content: bytes, expected: str
    ) -> None:
        """If no media type is stated or received, the keys of the manifest determine its type."""
        assert media_type_of(content) == expected

    def test_every_type_in_the_accept_header_can_be_parsed(self) -> None:
        """A manifest of any type that the header Accept lists can be parsed."""
        for media_type in ACCEPT:
            content = _index() if "index" in media_type or "list" in media_type else _manifest()

            assert parse(content, media_type).media_type == media_type


class TestParts:
    """The parts of a manifest are the content that a complete image needs."""

    def test_an_images_parts_are_its_config_and_layers_in_order(self) -> None:
        """The parts of an image are its config and its layers, in this order."""
        manifest = parse(_manifest(layers=[_descriptor(LAYER), _descriptor(OTHER)]))

        assert manifest.parts() == (CONFIG, LAYER, OTHER)
        assert manifest.descriptors[0] == Descriptor("application/x-part", CONFIG, 7)

    def test_an_indexs_parts_are_its_children(self) -> None:
        """The parts of an index are the manifests that it lists, but not their parts."""
        assert parse(_index()).parts() == (CHILD,)

    def test_a_repeated_layer_is_one_part(self) -> None:
        """If a manifest lists the same layer several times, the layer is one part."""
        assert parse(_manifest(layers=[_descriptor(LAYER)] * 3)).parts() == (CONFIG, LAYER)

    @pytest.mark.parametrize(
        "layer",
        [
            _descriptor(OTHER, mediaType=FOREIGN),
            _descriptor(OTHER, urls=["https://example.org/layer"]),
        ],
        ids=["type", "urls"],
    )
    def test_a_non_distributable_layer_is_not_a_part(self, layer: dict[str, Any]) -> None:
        """A non-distributable layer is not a part, because a registry does not need to store it.

        The licence of such a layer forbids its redistribution.
        """
        manifest = parse(_manifest(layers=[_descriptor(LAYER), layer]))

        assert manifest.parts() == (CONFIG, LAYER)
        assert manifest.descriptors[-1].is_elsewhere

    def test_an_artifact_needs_no_layers(self) -> None:
        """The list of layers of an artifact can be empty, null or absent."""
        for content in (
            _manifest(layers=[]),
            _manifest(layers=None),
            _bytes({"config": _descriptor(CONFIG)}),
        ):
            assert parse(content).parts() == (CONFIG,)

    def test_a_subject_is_not_a_part(self) -> None:
        """A subject is not a part: a signature can be pushed before the image that it signs."""
        manifest = parse(_manifest(subject=_descriptor(OTHER)))

        assert manifest.subject == Descriptor("application/x-part", OTHER, 7)
        assert OTHER not in manifest.parts()

    def test_parts_are_computed_once(self) -> None:
        """The parts of a parsed manifest are computed only once, because every hit needs them."""
        manifest = parse(_manifest())

        assert manifest.parts() is manifest.parts()


class TestArtifacts:
    """A parsed manifest has the fields that a list of referrers needs."""

    def test_the_artifact_type_is_that_of_the_manifest_or_of_its_config(self) -> None:
        """If a manifest has no artifact type, the media type of its config is the artifact type.

        OCI distribution-spec 1.1 defines this in "Listing Referrers".
        """
        assert parse(_manifest(artifactType="application/x-sbom")).artifact_type == (
            "application/x-sbom"
        )
        assert parse(_manifest()).artifact_type == "application/x-part"
        assert parse(_index()).artifact_type is None

    def test_annotations_are_kept(self) -> None:
        """A parsed manifest has the annotations of the manifest and of its parts."""
        manifest = parse(
            _manifest(annotations={"a": "1"}, layers=[_descriptor(LAYER, annotations={})])
        )

        assert manifest.annotations == {"a": "1"}


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\xff\xfe",
        b"[]",
        b"null",
        b'"text"',
        b"[" * 100_000,
        b"{}",
        b'{"mediaType": 5}',
        b'{"mediaType": "application/vnd.docker.distribution.manifest.v1+prettyjws"}',
        _manifest(config=None),
        _manifest(config="text"),
        _manifest(config={}),
        _manifest(layers="text"),
        _manifest(layers=5),
        _manifest(layers=[None]),
        _manifest(layers=[_descriptor(LAYER, digest="sha256:short")]),
        _manifest(layers=[_descriptor(LAYER, digest=5)]),
        _manifest(layers=[_descriptor(LAYER, size=-1)]),
        _manifest(layers=[_descriptor(LAYER, size=True)]),
        _manifest(layers=[_descriptor(LAYER, size="7")]),
        _manifest(layers=[_descriptor(LAYER, urls=5)]),
        _manifest(layers=[_descriptor(LAYER, annotations=[5])]),
        _manifest(subject="text"),
        _manifest(annotations="text"),
        _index(manifests=None),
        _index(manifests=[[]]),
    ],
)
def test_a_malformed_manifest_raises_invalid_manifest(content: bytes) -> None:
    """A malformed manifest raises InvalidManifest and no other exception."""
    with pytest.raises(InvalidManifest):
        parse(content)


_JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=5),
    lambda below: (
        st.lists(below, max_size=3)
        | st.dictionaries(
            st.sampled_from(
                ["config", "layers", "manifests", "digest", "size", "mediaType", "subject"]
            ),
            below,
            max_size=4,
        )
    ),
    max_leaves=12,
)


@given(_JSON, st.sampled_from([None, *ACCEPT]))
def test_any_json_document_is_parsed_or_raises_invalid_manifest(
    document: Any, media_type: str | None
) -> None:
    """Any JSON document either is parsed as a manifest or raises InvalidManifest."""
    try:
        manifest = parse(json.dumps(document).encode(), media_type)
    except InvalidManifest:
        return

    assert all(isinstance(named, Descriptor) for named in manifest.descriptors)


class TestBounds:
    """The size of a manifest is limited, because any user of a public registry can push one."""

    def test_the_largest_number_of_descriptors_is_accepted(self) -> None:
        """An image can have the largest permitted number of layers and also a config."""
        parts = [_descriptor(LAYER) for _ in range(MOST_DESCRIPTORS)]

        assert len(parse(_manifest(layers=parts)).descriptors) == MOST_DESCRIPTORS + 1
        assert len(parse(_index(manifests=parts)).descriptors) == MOST_DESCRIPTORS

    @pytest.mark.parametrize("family", ["layers", "manifests"])
    def test_more_descriptors_than_the_limit_are_rejected(self, family: str) -> None:
        """A manifest with more layers or children than the limit is rejected.

        A pull calls stat for each of them.
        """
        parts = [_descriptor(LAYER) for _ in range(MOST_DESCRIPTORS + 1)]
        data = _manifest(layers=parts) if family == "layers" else _index(manifests=parts)

        with pytest.raises(InvalidManifest):
            parse(data)

    @pytest.mark.parametrize("size", [-1, 2**63, 10**400, 1.5, True, "7", None, [7]])
    def test_a_size_is_an_int64(self, size: Any) -> None:
        """A descriptor is rejected if its size is negative or not an int64 (OCI image-spec 1.1)."""
        with pytest.raises(InvalidManifest) as raised:
            parse(_manifest(layers=[_descriptor(LAYER) | {"size": size}]))

        assert len(str(raised.value)) < 300

    @pytest.mark.parametrize(
        "more", [{"urls": "x" * 1000}, {"urls": [1]}, {"urls": {"a": 1}}, {"annotations": "ab"}]
    )
    def test_a_malformed_descriptor_is_rejected(self, more: dict[str, Any]) -> None:
        """A descriptor is rejected if its `urls` or `annotations` have a wrong type."""
        with pytest.raises(InvalidManifest):
            parse(_manifest(layers=[_descriptor(LAYER) | more]))

    @pytest.mark.parametrize("given", [[1], 7, {"a": 1}])
    def test_an_artifact_type_is_a_string(self, given: Any) -> None:
        """A manifest is rejected if its artifact type is not a string."""
        with pytest.raises(InvalidManifest):
            parse(_manifest(artifactType=given))

    def test_more_than_four_mebibytes_are_rejected(self) -> None:
        """A manifest of more than 4 MiB is rejected."""
        with pytest.raises(InvalidManifest):
            parse(b" " * LARGEST + _manifest())


@pytest.mark.parametrize(
    "key",
    ["Layers", "LAYERS", "layer\u017f", "Manifests", "MediaType", "Config", "Subject"],
)
def test_a_key_in_another_case_is_rejected(key: str) -> None:
    """A manifest is rejected if a key has another case than in the specification.

    Clients in Go ignore the case of keys, so they would accept the key.
    """
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}
    with pytest.raises(InvalidManifest):
        parse(json.dumps(document | {key: []}).encode())


@pytest.mark.parametrize("key", ["Digest", "DIGEST", "\u017fize", "MediaType", "URLs", "Platform"])
def test_a_descriptor_key_in_another_case_is_rejected(key: str) -> None:
    """A descriptor is rejected if a key has another case than in the specification.

    A client in Go would read the key `Digest` as the digest.
    """
    with pytest.raises(InvalidManifest):
        parse(_manifest(layers=[_descriptor(LAYER) | {key: _descriptor(LAYER)["digest"]}]))
    assert parse(_manifest(layers=[_descriptor(LAYER) | {"x-own": 1, "Own": 2}])).descriptors


@pytest.mark.parametrize(
    "repeated",
    [
        '"layers":[],"layers":[]',
        '"a":{"b":1,"b":2}',
        '"layers":[{"size":1,"size":2}]',
        '"x":1,"x":1',
    ],
)
def test_a_repeated_key_is_rejected(repeated: str) -> None:
    """A repeated key is rejected, because some parsers use its first value and others its last."""
    plain = _manifest().decode().rstrip().removesuffix("}")
    with pytest.raises(InvalidManifest, match="JSON"):
        parse(f"{plain},{repeated}}}".encode())
