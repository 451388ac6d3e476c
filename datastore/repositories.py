"""Store the links, tags and origins of repositories.

A link permits a repository to serve content. The content itself is stored once for all repositories
(`blobs`).
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from entrepot.datastore import layout
from entrepot.datastore.errors import InvalidDigest, InvalidManifest, NotFound
from entrepot.datastore.index import LinkTimes
from entrepot.datastore.links import LONGEST_LINE, links_of
from entrepot.datastore.manifest import Manifest, parse
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.storage import Storage, may_have

Parse = Callable[[bytes, str | None], Manifest]
"""A `Parse` is the function `datastore.manifest.parse`, or that function with a cache."""

UNKNOWN_ORIGIN = ""
"""A repository that another program fetched has this origin, because its upstream is unknown."""

_MARKERS = ("_layers", "_manifests", "_uploads")


@dataclass(frozen=True, slots=True)
class TagState:
    """A `TagState` is the digest of a tag, and the time at which the tag was last `confirmed`.

    The time is in seconds since the UTC epoch. If it is not recorded, it is `links.UNKNOWN`.
    """

    digest: Digest
    confirmed: float


class Repositories:
    """A `Repositories` reads and writes the repositories of one data directory.

    The files have the layout of docker distribution. If the storage stores no times, the times of
    links are in *times*. If *times* is None too, the time of every link is UNKNOWN.
    """

    def __init__(self, storage: Storage, times: LinkTimes | None = None) -> None:
        self._storage = storage
        self._links = links_of(storage, times)

    # ---- blobs

    def links_blob(self, name: Repository, digest: Digest) -> bool:
        """Return whether the repository has a link that permits it to serve a blob."""
        return self._storage.stat(layout.layer_link(name, digest)) is not None

    def link_blob(self, name: Repository, digest: Digest) -> None:
        """Write the link that permits the repository to serve a blob."""
        self._links.add(layout.layer_link(name, digest), digest)

    def unlink_blob(self, name: Repository, digest: Digest) -> bool:
        """Remove the link that permits the repository to serve a blob.

        Return False if there was no such link.
        """
        return self._links.delete(layout.layer_link(name, digest))

    def linked_blob(self, name: Repository, digest: Digest) -> float | None:
        """Return when the link of a blob was last written; None if there is no link.

        The time is in seconds since the UTC epoch. If it is not recorded, it is `links.UNKNOWN`.
        """
        return self._links.confirmed(layout.layer_link(name, digest))

    def blobs(self, name: Repository) -> Iterator[Digest]:
        """Yield the digests of the blobs to which the repository has links."""
        return self._below(layout.layers(name))

    # ---- manifests

    def links_manifest(self, name: Repository, digest: Digest) -> bool:
        """Return whether the repository has a link that permits it to serve a manifest."""
        return self._storage.stat(layout.revision_link(name, digest)) is not None

    def linked_manifest(self, name: Repository, digest: Digest) -> float | None:
        """Return when the link of a manifest was last confirmed; None if there is no link.

        The time is in seconds since the UTC epoch. If it is not recorded, it is `links.UNKNOWN`.
        """
        return self._links.confirmed(layout.revision_link(name, digest))

    def link_manifest(
        self, name: Repository, digest: Digest, media_type: str | None = None
    ) -> None:
        """Write the link that permits the repository to serve a manifest, or confirm the link.

        If the manifest does not state its media type, *media_type* is the type that was received
        with the manifest. It is stored for this repository only.
        """
        if media_type is not None and self.media_type(name, digest) != media_type:
            self._storage.write(layout.media_type(name, digest), media_type.encode())
        self._links.write(layout.revision_link(name, digest), digest)

    def unlink_manifest(self, name: Repository, digest: Digest) -> bool:
        """Remove the link that permits the repository to serve a manifest.

        Return False if there was no such link.
        """
        return self._links.delete(layout.revision_link(name, digest))

    def manifests(self, name: Repository) -> Iterator[Digest]:
        """Yield the digests of the manifests to which the repository has links."""
        return self._below(layout.revisions(name))

    # ---- referrers

    def add_referrer(
        self, name: Repository, about: Digest, digest: Digest, descriptor: bytes
    ) -> None:
        """Store the descriptor of a pushed manifest, which is a referrer of *about*.

        From then on, the list of the referrers of *about* contains this descriptor.
        """
        self._storage.write(layout.referrer(name, about, digest), descriptor)

    def referrers(self, name: Repository, about: Digest) -> Iterator[Digest]:
        """Yield the digests of the pushed manifests whose subject is *about*, sorted."""
        return self._below(layout.subject(name, about))

    def referrer(self, name: Repository, about: Digest, digest: Digest) -> bytes:
        """Return the stored descriptor of a referrer. Raises: NotFound."""
        return self._storage.read(layout.referrer(name, about, digest))

    def remove_referrer(self, name: Repository, about: Digest, digest: Digest) -> bool:
        """Remove the descriptor of a referrer; return False if there was no descriptor."""
        return self._storage.delete(layout.referrer(name, about, digest))

    # ---- media types

    def read_manifest(
        self, name: Repository | None, digest: Digest, data: bytes, read: Parse = parse
    ) -> Manifest:
        """Parse a manifest of the repository *name*.

        If the bytes do not state the media type, use the type that was received with the manifest
        in this repository, not in another one. If *name* is None, no received type is used. Raises:
        InvalidManifest.
        """
        try:
            found = read(data, None)
        # The bytes state no supported type, but the received type may be supported.
        except InvalidManifest:
            return read(data, self.media_type(name, digest))
        kept = None if found.states_type else self.media_type(name, digest)
        if kept is None:
            return found
        try:
            return read(data, kept)
        except InvalidManifest:
            return found

    def media_type(self, name: Repository | None, digest: Digest) -> str | None:
        """Return the stored media type of a manifest in the repository *name*, or None.

        If no type is stored for *name*, return the type that version 0.1.0 stored for all
        repositories. Later versions do not write that type.
        """
        own = self._line(layout.media_type(name, digest)) if name else None
        return own or self._line(layout.shared_media_type(digest))

    def remove_shared_media_type(self, digest: Digest) -> bool:
        """Remove the media type that version 0.1.0 stored for a manifest.

        Return False if there is none.
        """
        return self._storage.delete(layout.shared_media_type(digest))

    def _line(self, key: str) -> str | None:
        try:
            return self._storage.read(key, LONGEST_LINE).decode()
        except (NotFound, UnicodeDecodeError):
            return None

    # ---- tags

    def tag(self, name: Repository, tag: Tag) -> TagState | None:
        """Return the state of a tag; None if the tag does not exist or its link is invalid."""
        found = self._links.read(layout.tag_current(name, tag))
        return TagState(*found) if found else None

    def set_tag(self, name: Repository, tag: Tag, digest: Digest) -> None:
        """Set or confirm a tag; the manifest must be linked before the call."""
        self._links.keep(layout.tag_past(name, tag, digest), digest)
        self._links.write(layout.tag_current(name, tag), digest)

    def remove_tag(self, name: Repository, tag: Tag) -> bool:
        """Remove a tag and its history; return False if the tag did not exist."""
        was_there = self._links.delete(layout.tag_current(name, tag))
        for stat in list(self._storage.walk(f"{layout.tags(name)}/{tag}")):
            self._storage.delete(stat.key)
        return was_there

    def tags(self, name: Repository) -> list[str]:
        """Return the names of all tags, sorted."""
        return list(self._storage.list(layout.tags(name)))

    def tags_after(self, name: Repository, after: str = "") -> Iterator[str]:
        """Yield the names of the tags that sort after *after*, sorted.

        After an interrupted removal of a tag, a folder without a link remains. Such a folder is
        skipped: the link of each tag is checked immediately before the tag is yielded.
        """
        names = list(self._storage.list(layout.tags(name)))
        for tag in names[bisect_right(names, after) :]:
            if may_have(self._storage, layout.tag_current(name, Tag(tag))):
                yield tag

    def remove_link(self, key: str) -> bool:
        """Remove the link, referrer or media type with the key *key*; return False if absent."""
        return self._links.delete(key)

    # ---- the repository itself

    def exists(self, name: Repository) -> bool:
        """Return whether the repository has folders of links, tags or uploads, even empty ones."""
        root = layout.repository(name)
        return any(child in _MARKERS for child in self._storage.list(root))

    def below(self, prefix: str) -> Iterator[Repository]:
        """Yield every repository whose name is *prefix* or starts with *prefix* and a slash."""
        children = list(self._storage.list(f"{layout.REPOSITORIES}/{prefix}".rstrip("/")))
        if prefix and any(child in _MARKERS for child in children):
            yield Repository(prefix)
        for child in children:
            if not child.startswith("_"):
                yield from self.below(f"{prefix}/{child}".lstrip("/"))

    def origin(self, name: Repository) -> str | None:
        """Return the upstream that a repository came from; None if the repository is hosted.

        Return UNKNOWN_ORIGIN, an empty text, if another program fetched the repository
        (datastore/takeover.py). Such a repository is evicted like proxied content. It is served
        only if its name does not resolve to a repository of an upstream. UNKNOWN_ORIGIN is also
        returned if the stored origin is not UTF-8, which happens only in a damaged storage.
        """
        try:
            return self._storage.read(layout.origin(name), LONGEST_LINE).decode()
        except NotFound:
            return None
        except UnicodeDecodeError:
            return UNKNOWN_ORIGIN

    def set_origin(self, name: Repository, upstream: str) -> None:
        """Store the origin of a repository; call this method before its first link is written."""
        self._storage.write(layout.origin(name), upstream.encode())

    def remove_origin(self, name: Repository) -> bool:
        """Remove the origin, so that the repository is hosted; return False if it had none."""
        return self._storage.delete(layout.origin(name))

    def _below(self, root: str) -> Iterator[Digest]:
        """Yield the digests of the links below *root*; ignore files of other programs."""
        for algorithm in self._storage.list(root):
            for encoded in self._storage.list(f"{root}/{algorithm}"):
                with suppress(InvalidDigest):
                    yield Digest.parse(f"{algorithm}:{encoded}")
