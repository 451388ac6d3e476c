"""Store images in a data directory as pulls and pushes do."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.store import DataDirectory
from entrepot.datastore import layout
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import parse
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.storage import set_time
from tests.images import Image, filler, image, index

PROXIED = Repository("quay.io/podman/hello")
HOSTED = Repository("team/app")
UPSTREAM = "quay.io"


def _made(seed: int) -> Image:
    return image([filler(20_000, seed)], command=(str(seed),))


def cost(seed: int = 0) -> int:
    """Return the used bytes of an image from `pull` or `push`, with the overhead of its rows.

    For all seeds below ten, the images have the same size.
    """
    made = _made(seed)
    return sum(len(each) + OVERHEAD for each in (made.manifest, *made.blobs))


def put_blob(store: DataDirectory, content: bytes, used: float) -> Digest:
    """Store a blob whose last use is *used* (seconds since the UTC epoch)."""
    digest = Digest.of(content)
    store.blobs.write(digest, content)
    store.index.record(digest, len(content), ContentKind.BLOB, used)
    return digest


def put_manifest(store: DataDirectory, content: bytes, media_type: str, used: float) -> Digest:
    """Store a manifest or an index whose last use is *used* (seconds since the UTC epoch)."""
    digest, read = Digest.of(content), parse(content, media_type)
    store.blobs.write(digest, content)
    store.index.record(digest, len(content), read.kind, used, children=read.parts())
    return digest


def put_image(store: DataDirectory, made: Image, used: float) -> list[Digest]:
    """Store an image whose last use is *used* (seconds since the UTC epoch).

    Return the digests of the manifest, the config and the layers.
    """
    manifest = put_manifest(store, made.manifest, made.media_type, used)
    return [manifest, *(put_blob(store, blob, used) for blob in made.blobs)]


@dataclass(frozen=True)
class Pulled:
    """A stored image: its repository, and the digests of its manifest, config and layers."""

    name: Repository
    digests: list[Digest]

    def is_here(self, store: DataDirectory) -> list[bool]:
        """Return for each digest of the image whether its content is stored."""
        return [store.blobs.stat(digest) is not None for digest in self.digests]


def pull(store: DataDirectory, seed: int, used: float, name: Repository = PROXIED) -> Pulled:
    """Store an image with a layer of 20 kB and the tag `v<seed>`, as a pull does."""
    store.repositories.set_origin(name, UPSTREAM)
    return push(store, seed, used, name)


def push(store: DataDirectory, seed: int, used: float, name: Repository = HOSTED) -> Pulled:
    """Store an image with a layer of 20 kB and the tag `v<seed>`, as a push does."""
    made = _made(seed)
    digests = put_image(store, made, used)
    for blob in digests[1:]:
        store.repositories.link_blob(name, blob)
    store.repositories.link_manifest(name, digests[0])
    store.repositories.set_tag(name, Tag(f"v{seed}"), digests[0])
    return Pulled(name, digests)


def push_image(
    store: DataDirectory, made: Image, tag: str, at: float, name: Repository = HOSTED
) -> Pulled:
    """Store the image *made* like a push at the time *at* (seconds since the UTC epoch).

    If *tag* is empty, the image gets no tag.
    """
    digests = put_image(store, made, at)
    for blob in digests[1:]:
        store.repositories.link_blob(name, blob)
        set_time(store.storage, layout.layer_link(name, blob), at)
    return Pulled(name, [_link(store, digests[0], tag, at, name), *digests[1:]])


def push_index(store: DataDirectory, children: Sequence[Image], tag: str, at: float) -> Digest:
    """Store an index of images that are already stored, like a push at the time *at*."""
    body, media_type = index(children)
    return _link(store, put_manifest(store, body, media_type, at), tag, at, HOSTED)


def _link(store: DataDirectory, manifest: Digest, tag: str, at: float, name: Repository) -> Digest:
    about = HostedRepositories(store).subject(name, manifest)
    if about:
        store.repositories.add_referrer(name, about, manifest, b"{}")
    store.repositories.link_manifest(name, manifest)
    set_time(store.storage, layout.revision_link(name, manifest), at)
    if tag:
        store.repositories.set_tag(name, Tag(tag), manifest)
        set_time(store.storage, layout.tag_current(name, Tag(tag)), at)
    return manifest
