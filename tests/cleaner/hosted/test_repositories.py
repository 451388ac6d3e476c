"""`HostedRepositories` finds all hosted images, and a plan keeps all their content."""

from __future__ import annotations

from dataclasses import replace

import pytest

from entrepot.cleaner.hosted.images import HostedImage, HostedRepository
from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot, SnapshotPlan
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore.errors import StorageBroken
from entrepot.datastore.refs import Digest, Repository, Tag
from tests import images
from tests.cleaner.stock import HOSTED, pull, push, put_blob, put_image, put_manifest


def _open(store: DataDirectory, hosted: HostedRepositories | None = None) -> SnapshotPlan:
    return HostedSnapshot(hosted or HostedRepositories(store), RetentionRules(), lambda: 0.0).open()


def _referenced(store: DataDirectory, *among: Digest) -> set[Digest]:
    """Return the digests in *among* that a plan keeps for hosted repositories."""
    account = _open(store)
    return {digest for digest in among if account.spares(digest)}


def _images(store: DataDirectory) -> dict[str, HostedImage]:
    return {str(image): image for image in HostedRepositories(store).holding(HOSTED).images}


def test_a_hosted_image_is_kept_completely(store: DataDirectory) -> None:
    """A plan keeps the manifest, the config and the layers of a hosted image."""
    pushed = push(store, 1, used=0)

    assert _referenced(store, *pushed.digests) == set(pushed.digests)


def test_a_proxied_image_is_not_kept(store: DataDirectory) -> None:
    """A plan does not keep a proxied image, because it can be fetched again from its upstream."""
    pulled = pull(store, 1, used=0)

    assert _referenced(store, *pulled.digests) == set()


def test_content_of_a_hosted_and_a_proxied_repository_is_kept(store: DataDirectory) -> None:
    """If a hosted and a proxied repository link the same content, a plan keeps this content."""
    pulled = pull(store, 1, used=0)
    store.repositories.link_blob(HOSTED, pulled.digests[-1])

    assert _referenced(store, *pulled.digests) == {pulled.digests[-1]}


def test_a_hosted_repository_below_a_proxied_one_is_kept(store: DataDirectory) -> None:
    """A repository without an origin is hosted, even below the name of a proxied repository."""
    pulled = pull(store, 1, used=0, name=Repository("quay.io/podman"))
    pushed = push(store, 2, used=0, name=Repository("quay.io/podman/own"))

    assert _referenced(store, *pulled.digests, *pushed.digests) == set(pushed.digests)


def test_an_index_keeps_its_children_and_their_parts(store: DataDirectory) -> None:
    """A plan keeps the children of a hosted index and their parts.

    The plan keeps them even if the children are not linked, or if one child is not stored.
    """
    here, away = images.image([b"here"]), images.image([b"away"], architecture="arm64")
    parts = put_image(store, here, used=0)
    body, media_type = images.index([here, away])
    index = put_manifest(store, body, media_type, used=0)
    store.repositories.link_manifest(HOSTED, index)

    assert _referenced(store, index, *parts, away.digest) == {index, *parts, away.digest}


def test_a_manifest_of_an_unknown_type_keeps_all_linked_blobs(
    store: DataDirectory,
) -> None:
    """If a repository has a manifest of an unknown type, a plan keeps all blobs that it links.

    An old data directory can have manifests of types that the appliance cannot parse.
    """
    body = b'{"schemaVersion": 1}'
    old, layer = Digest.of(body), Digest.of(b"layer")
    store.blobs.write(old, body)
    store.repositories.link_manifest(HOSTED, old)
    store.repositories.link_blob(HOSTED, layer)

    assert _referenced(store, old, layer) == {old, layer}
    assert HostedRepositories(store).holding(HOSTED).loose() == set()


def test_a_manifest_that_comes_back_is_read(store: DataDirectory) -> None:
    """If a linked manifest is absent, its absence is not remembered.

    If a push stores the manifest later, the next read finds it.
    """
    made, hosted = images.image([b"layer"]), HostedRepositories(store)
    store.repositories.link_manifest(HOSTED, made.digest)
    (before,) = hosted.holding(HOSTED).images
    assert before.parts == (made.digest,)

    put_image(store, made, used=0)

    (after,) = hosted.holding(HOSTED).images
    assert after.parts == (made.digest, *map(Digest.of, made.blobs))


def test_an_index_and_its_children_are_one_image(store: DataDirectory) -> None:
    """An index and its children are one image; a child with a tag is also a separate image."""
    first, second = push(store, 1, used=0), push(store, 2, used=0)
    store.repositories.remove_tag(HOSTED, Tag("v1"))
    made = images.image([b"away"])
    children = [
        replace(made, manifest=store.blobs.read(each.digests[0])) for each in (first, second)
    ]
    body, media_type = images.index(children)
    index = put_manifest(store, body, media_type, used=0)
    store.repositories.link_manifest(HOSTED, index)
    store.repositories.set_tag(HOSTED, Tag("all"), index)

    found = _images(store)

    assert set(found) == {f"{HOSTED}:all", f"{HOSTED}:v2"}
    assert set(found[f"{HOSTED}:all"].parts) == {index, *first.digests, *second.digests}
    assert set(found[f"{HOSTED}:v2"].parts) == set(second.digests)


def test_an_index_may_list_blobs(store: DataDirectory) -> None:
    """A blob that an index lists, as in build caches, does not count as an unreadable manifest."""
    layer = b"a layer of a build cache"
    made = replace(images.image([]), manifest=layer)
    body, media_type = images.index([made])
    index, blob = put_manifest(store, body, media_type, used=0), put_blob(store, layer, used=0)
    store.repositories.link_manifest(HOSTED, index)
    store.repositories.link_blob(HOSTED, blob)

    holding = HostedRepositories(store).holding(HOSTED)

    assert holding.is_readable
    assert [image.blobs for image in holding.images] == [(blob,)]


@pytest.mark.parametrize("tag", ["", "signed"])
def test_a_referrer_belongs_to_the_image_of_its_subject(store: DataDirectory, tag: str) -> None:
    """A referrer belongs to the image of its subject, and so does a referrer of the referrer."""
    pushed = push(store, 1, used=0)
    subject = replace(images.image([]), manifest=store.blobs.read(pushed.digests[0]))
    signature = images.artifact(subject, b"signature", "application/example")
    about = images.artifact(signature, b"countersigned", "application/example")
    for made in (signature, about):
        put_image(store, made, used=9)
        store.repositories.link_manifest(HOSTED, made.digest)
    if tag:
        store.repositories.set_tag(HOSTED, Tag(tag), signature.digest)

    (image,) = HostedRepositories(store).holding(HOSTED).images

    assert image.own == (pushed.digests[0],)
    assert image.manifests == (pushed.digests[0], signature.digest, about.digest)
    assert image.place == 0


def test_a_tag_of_the_referrers_schema_makes_a_referrer(store: DataDirectory) -> None:
    """A manifest with a tag such as `sha256-HEX.sig` is a referrer of the manifest of this digest.

    Cosign uses such tags for signatures, and so do clients of a registry without the referrers API.
    """
    pushed = push(store, 1, used=0)
    signature = images.image([b"signature"])
    put_image(store, signature, used=0)
    store.repositories.link_manifest(HOSTED, signature.digest)
    store.repositories.set_tag(HOSTED, Tag(f"sha256-{pushed.digests[0].hex}.sig"), signature.digest)

    (image,) = HostedRepositories(store).holding(HOSTED).images

    assert image.manifests == (pushed.digests[0], signature.digest)


def test_a_referrer_without_its_subject_is_an_image(store: DataDirectory) -> None:
    """If the subject of a referrer is not stored, the referrer is an image without a tag."""
    signature = images.artifact(images.image([b"away"]), b"signature", "application/example")
    put_image(store, signature, used=0)
    store.repositories.link_manifest(HOSTED, signature.digest)

    (image,) = HostedRepositories(store).holding(HOSTED).images

    assert (image.root, image.place) == (signature.digest, None)


def test_referrer_tags_in_a_ring_hide_no_image(store: DataDirectory) -> None:
    """If two manifests are tagged as referrers of each other, they are found as one image."""
    first, second = push(store, 1, used=0).digests[0], push(store, 2, used=0).digests[0]
    for tag in ("v1", "v2"):
        store.repositories.remove_tag(HOSTED, Tag(tag))
    store.repositories.set_tag(HOSTED, Tag(f"sha256-{first.hex}"), second)
    store.repositories.set_tag(HOSTED, Tag(f"sha256-{second.hex}"), first)

    (image,) = HostedRepositories(store).holding(HOSTED).images

    assert set(image.manifests) == {first, second}


def test_repositories_are_read_only_if_a_removal_needs_it(store: DataDirectory) -> None:
    """A plan reads the hosted repositories only when it needs them, and only once."""
    hosted = _Counting(store)
    account = _open(store, hosted)
    assert (account.images, hosted.walks) == ([], 0)

    assert not account.spares(Digest.of(b"one"))
    assert not account.spares(Digest.of(b"two"))

    assert hosted.walks == 1


def test_a_read_error_is_raised(store: DataDirectory) -> None:
    """If a repository cannot be read, the plan raises an exception.

    If the plan skipped the repository, the cleaner could remove the repository's content.
    """
    account = _open(store, _Failing(store))

    with pytest.raises(StorageBroken):
        account.spares(Digest.of(b"one"))


class _Counting(HostedRepositories):
    walks = 0

    def holdings(self) -> list[HostedRepository]:
        self.walks += 1
        return super().holdings()


class _Failing(HostedRepositories):
    def holdings(self) -> list[HostedRepository]:
        raise StorageBroken("input/output error")
