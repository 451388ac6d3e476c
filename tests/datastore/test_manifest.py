"""What a manifest refers to, read from bytes that anybody may have made."""

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


def _named(part: Digest, **more: Any) -> dict[str, Any]:
    return {"mediaType": "application/x-part", "digest": str(part), "size": 7, **more}


def _bytes(document: dict[str, Any]) -> bytes:
    return json.dumps(document).encode()


def _manifest(**more: Any) -> bytes:
    document = {"schemaVersion": 2, "config": _named(CONFIG), "layers": [_named(LAYER)]}
    return _bytes(document | more)


def _index(**more: Any) -> bytes:
    return _bytes({"schemaVersion": 2, "manifests": [_named(CHILD)]} | more)


class TestMediaType:
    """Which of the known types it is."""

    @pytest.mark.parametrize("media_type", [OCI_MANIFEST, DOCKER_MANIFEST])
    def test_an_image_is_a_manifest(self, media_type: str) -> None:
        """Both worlds' images are one kind."""
        manifest = parse(_manifest(mediaType=media_type))

        assert (manifest.media_type, manifest.kind) == (media_type, ContentKind.MANIFEST)

    @pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
    def test_a_list_of_images_is_an_index(self, media_type: str) -> None:
        """Both worlds' lists are one kind."""
        manifest = parse(_index(mediaType=media_type))

        assert (manifest.media_type, manifest.kind) == (media_type, ContentKind.INDEX)

    def test_what_it_states_wins_over_what_came_with_it(self) -> None:
        """A header, with or without parameters, counts for one that states no type."""
        came_with = f"{DOCKER_MANIFEST}; charset=utf-8"
        stated, bare = (
            parse(_manifest(**more), came_with) for more in ({"mediaType": OCI_MANIFEST}, {})
        )

        assert (stated.media_type, stated.states_type) == (OCI_MANIFEST, True)
        assert (bare.media_type, bare.states_type) == (DOCKER_MANIFEST, False)

    def test_a_stated_type_that_is_unknown_here_leaves_the_word_to_what_came(self) -> None:
        """It is then no type that others could be shown."""
        unknown = _manifest(mediaType="application/vnd.example")

        assert parse(unknown, OCI_MANIFEST).media_type == OCI_MANIFEST
        with pytest.raises(InvalidManifest):
            parse(unknown)

    @pytest.mark.parametrize("media_type", [None, OCI_MANIFEST, OCI_INDEX, DOCKER_MANIFEST])
    def test_an_image_and_an_index_at_once_is_neither(self, media_type: str | None) -> None:
        """CVE-2021-41190: else it would name one thing or another, as a header wants it."""
        with pytest.raises(InvalidManifest):
            parse(_manifest(manifests=[]), media_type)

    @pytest.mark.parametrize(
        ("content", "expected"), [(_manifest(), OCI_MANIFEST), (_index(), OCI_INDEX)]
    )
    def test_one_that_says_nothing_is_told_by_its_shape(
        self, content: bytes, expected: str
    ) -> None:
        """OCI image-spec 1.0 made `mediaType` optional."""
        assert media_type_of(content) == expected

    def test_every_type_that_is_asked_for_can_be_read(self) -> None:
        """An upstream answers with one of what `Accept` named."""
        for media_type in ACCEPT:
            content = _index() if "index" in media_type or "list" in media_type else _manifest()

            assert parse(content, media_type).media_type == media_type


class TestParts:
    """What a registry must hold for it to be whole."""

    def test_an_images_parts_are_its_config_and_layers_in_order(self) -> None:
        """The first that a client asks for comes first."""
        manifest = parse(_manifest(layers=[_named(LAYER), _named(OTHER)]))

        assert manifest.parts() == (CONFIG, LAYER, OTHER)
        assert manifest.names[0] == Descriptor("application/x-part", CONFIG, 7)

    def test_an_indexs_parts_are_its_children(self) -> None:
        """Each is a manifest with parts of its own."""
        assert parse(_index()).parts() == (CHILD,)

    def test_a_layer_that_stands_twice_is_one_part(self) -> None:
        """Empty layers repeat."""
        assert parse(_manifest(layers=[_named(LAYER)] * 3)).parts() == (CONFIG, LAYER)

    @pytest.mark.parametrize(
        "layer",
        [_named(OTHER, mediaType=FOREIGN), _named(OTHER, urls=["https://example.org/layer"])],
        ids=["type", "urls"],
    )
    def test_what_lies_elsewhere_is_no_part(self, layer: dict[str, Any]) -> None:
        """Nobody may redistribute it, so no registry need hold it."""
        manifest = parse(_manifest(layers=[_named(LAYER), layer]))

        assert manifest.parts() == (CONFIG, LAYER)
        assert manifest.names[-1].is_elsewhere

    def test_an_artifact_needs_no_layers(self) -> None:
        """The list may be empty, null or missing."""
        for content in (
            _manifest(layers=[]),
            _manifest(layers=None),
            _bytes({"config": _named(CONFIG)}),
        ):
            assert parse(content).parts() == (CONFIG,)

    def test_a_subject_is_known_and_no_part(self) -> None:
        """A signature may come before what it signs."""
        manifest = parse(_manifest(subject=_named(OTHER)))

        assert manifest.subject == Descriptor("application/x-part", OTHER, 7)
        assert OTHER not in manifest.parts()

    def test_they_are_worked_out_once(self) -> None:
        """A manifest that is remembered as it was read is asked for them with every hit."""
        manifest = parse(_manifest())

        assert manifest.parts() is manifest.parts()


class TestArtifacts:
    """What referrers are listed by."""

    def test_the_artifact_type_is_its_own_or_its_configs(self) -> None:
        """OCI distribution-spec 1.1, "Listing Referrers"."""
        assert parse(_manifest(artifactType="application/x-sbom")).artifact_type == (
            "application/x-sbom"
        )
        assert parse(_manifest()).artifact_type == "application/x-part"
        assert parse(_index()).artifact_type is None

    def test_annotations_are_kept(self) -> None:
        """Its own and those of its parts."""
        manifest = parse(_manifest(annotations={"a": "1"}, layers=[_named(LAYER, annotations={})]))

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
        _manifest(layers=[_named(LAYER, digest="sha256:short")]),
        _manifest(layers=[_named(LAYER, digest=5)]),
        _manifest(layers=[_named(LAYER, size=-1)]),
        _manifest(layers=[_named(LAYER, size=True)]),
        _manifest(layers=[_named(LAYER, size="7")]),
        _manifest(layers=[_named(LAYER, urls=5)]),
        _manifest(layers=[_named(LAYER, annotations=[5])]),
        _manifest(subject="text"),
        _manifest(annotations="text"),
        _index(manifests=None),
        _index(manifests=[[]]),
    ],
)
def test_what_is_no_manifest_is_refused_in_one_way(content: bytes) -> None:
    """Whatever an upstream or a client sends, it is InvalidManifest and nothing else."""
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
def test_no_document_gets_another_error_out_of_it(document: Any, media_type: str | None) -> None:
    """JSON of any shape is a manifest or is refused."""
    try:
        manifest = parse(json.dumps(document).encode(), media_type)
    except InvalidManifest:
        return

    assert all(isinstance(named, Descriptor) for named in manifest.names)


class TestBounds:
    """A manifest may come from anyone who can push to a public registry."""

    def test_the_largest_number_of_descriptors_is_read(self) -> None:
        """With the config there is one more."""
        parts = [_named(LAYER) for _ in range(MOST_DESCRIPTORS)]

        assert len(parse(_manifest(layers=parts)).names) == MOST_DESCRIPTORS + 1
        assert len(parse(_index(manifests=parts)).names) == MOST_DESCRIPTORS

    @pytest.mark.parametrize("family", ["layers", "manifests"])
    def test_one_more_is_refused(self, family: str) -> None:
        """Each costs a look at the disk whenever the image is pulled."""
        parts = [_named(LAYER) for _ in range(MOST_DESCRIPTORS + 1)]
        data = _manifest(layers=parts) if family == "layers" else _index(manifests=parts)

        with pytest.raises(InvalidManifest):
            parse(data)

    @pytest.mark.parametrize("size", [-1, 2**63, 10**400, 1.5, True, "7", None, [7]])
    def test_a_size_is_an_int64(self, size: Any) -> None:
        """OCI image-spec 1.1, descriptor.md."""
        with pytest.raises(InvalidManifest) as raised:
            parse(_manifest(layers=[_named(LAYER) | {"size": size}]))

        assert len(str(raised.value)) < 300

    @pytest.mark.parametrize(
        "more", [{"urls": "x" * 1000}, {"urls": [1]}, {"urls": {"a": 1}}, {"annotations": "ab"}]
    )
    def test_what_is_no_descriptor_is_refused(self, more: dict[str, Any]) -> None:
        """A text of megabytes in place of a list would be a million texts."""
        with pytest.raises(InvalidManifest):
            parse(_manifest(layers=[_named(LAYER) | more]))

    @pytest.mark.parametrize("given", [[1], 7, {"a": 1}])
    def test_an_artifact_type_is_a_text(self, given: Any) -> None:
        """It is compared, stored and sent."""
        with pytest.raises(InvalidManifest):
            parse(_manifest(artifactType=given))

    def test_more_than_four_mebibytes_are_not_read(self) -> None:
        """Whoever calls: a push, a pull, the cleaner."""
        with pytest.raises(InvalidManifest):
            parse(b" " * LARGEST + _manifest())


@pytest.mark.parametrize(
    "key",
    ["Layers", "LAYERS", "layer\u017f", "Manifests", "MediaType", "Config", "Subject"],
)
def test_a_key_in_another_case_is_refused(key: str) -> None:
    """Go's clients read it as the key of the specification, and would see another document."""
    document = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": {}, "layers": []}
    with pytest.raises(InvalidManifest):
        parse(json.dumps(document | {key: []}).encode())


@pytest.mark.parametrize("key", ["Digest", "DIGEST", "\u017fize", "MediaType", "URLs", "Platform"])
def test_a_descriptors_key_in_another_case_is_refused(key: str) -> None:
    """It would name other content to Go's clients."""
    with pytest.raises(InvalidManifest):
        parse(_manifest(layers=[_named(LAYER) | {key: _named(LAYER)["digest"]}]))
    assert parse(_manifest(layers=[_named(LAYER) | {"x-own": 1, "Own": 2}])).names


@pytest.mark.parametrize(
    "twice",
    [
        '"layers":[],"layers":[]',
        '"a":{"b":1,"b":2}',
        '"layers":[{"size":1,"size":2}]',
        '"x":1,"x":1',
    ],
)
def test_a_key_that_stands_twice_is_refused(twice: str) -> None:
    """One reader takes the first, another the last, and Go's clients mix both."""
    plain = _manifest().decode().rstrip().removesuffix("}")
    with pytest.raises(InvalidManifest, match="JSON"):
        parse(f"{plain},{twice}}}".encode())
