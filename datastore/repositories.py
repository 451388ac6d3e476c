"""Links, tags and origins: what each repository may show. A link is permission, data is content."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass

from entrepot.datastore import layout
from entrepot.datastore.errors import InvalidDigest, InvalidManifest, Malformed, NotFound
from entrepot.datastore.manifest import Manifest, parse
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.storage import Storage

Parse = Callable[[bytes, str | None], Manifest]
"""Reads a manifest, as `datastore.manifest.parse` does."""

UNKNOWN_ORIGIN = ""
"""The origin of what another program fetched from an upstream without keeping which one."""

_MARKERS = ("_layers", "_manifests", "_uploads")

_LONGEST_LINE = 4096
"""Bytes of a link, a media type or a host's name: a file of more is none of ours."""


@dataclass(frozen=True, slots=True)
class TagState:
    """What a tag means, and when that was last `confirmed` (s, UTC epoch)."""

    digest: Digest
    confirmed: float


class Repositories:
    """The repositories of one data directory, in docker distribution's layout."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    # ---- blobs

    def links_blob(self, name: Repository, digest: Digest) -> bool:
        """Whether a blob may be read under this name."""
        return self._storage.stat(layout.layer_link(name, digest)) is not None

    def link_blob(self, name: Repository, digest: Digest) -> None:
        """Permit a blob to be read under this name."""
        self._storage.write(layout.layer_link(name, digest), str(digest).encode())

    def unlink_blob(self, name: Repository, digest: Digest) -> bool:
        """Take the permission back; False when there was none."""
        return self._storage.delete(layout.layer_link(name, digest))

    def blobs(self, name: Repository) -> Iterator[Digest]:
        """Yield the digests of the blobs that may be read under this name."""
        return self._below(layout.layers(name))

    # ---- manifests

    def linked_manifest(self, name: Repository, digest: Digest) -> float | None:
        """Return when a manifest was last confirmed under this name (s, UTC epoch), or None."""
        stat = self._storage.stat(layout.revision_link(name, digest))
        return stat.modified if stat else None

    def link_manifest(
        self, name: Repository, digest: Digest, media_type: str | None = None
    ) -> None:
        """Permit a manifest to be read under this name; repeated, confirm that it still may be.

        *media_type* is what came with one that states none; it holds under this name only.
        """
        if media_type is not None and self.media_type(name, digest) != media_type:
            self._storage.write(layout.media_type(name, digest), media_type.encode())
        self._storage.write(layout.revision_link(name, digest), str(digest).encode())

    def unlink_manifest(self, name: Repository, digest: Digest) -> bool:
        """Take the permission back; False when there was none."""
        return self._storage.delete(layout.revision_link(name, digest))

    def manifests(self, name: Repository) -> Iterator[Digest]:
        """Yield the digests of the manifests that may be read under this name."""
        return self._below(layout.revisions(name))

    # ---- referrers

    def keep_referrer(
        self, name: Repository, about: Digest, digest: Digest, descriptor: bytes
    ) -> None:
        """Keep how to describe a pushed manifest to whoever asks what refers to its subject."""
        self._storage.write(layout.referrer(name, about, digest), descriptor)

    def referrers(self, name: Repository, about: Digest) -> Iterator[Digest]:
        """Yield the digests of the manifests that were pushed about one, in order."""
        return self._below(layout.subject(name, about))

    def referrer(self, name: Repository, about: Digest, digest: Digest) -> bytes:
        """Return the descriptor that was kept of a manifest. Raises: NotFound."""
        return self._storage.read(layout.referrer(name, about, digest))

    def forget_referrer(self, name: Repository, about: Digest, digest: Digest) -> bool:
        """Remove it; False when none was kept."""
        return self._storage.delete(layout.referrer(name, about, digest))

    # ---- media types

    def read_manifest(
        self, name: Repository | None, digest: Digest, data: bytes, read: Parse = parse
    ) -> Manifest:
        """Read a manifest as *name* shows it; None: by its bytes. Raises: InvalidManifest.

        One that does not state its type has the one that came with it under that name: what other
        repositories say of the same bytes means nothing here.
        """
        try:
            found = read(data, None)
        except InvalidManifest:  # of a type that is unknown here, but came with one that is not
            return read(data, self.media_type(name, digest))
        kept = None if found.states_type else self.media_type(name, digest)
        if kept is None:
            return found
        try:
            return read(data, kept)
        except InvalidManifest:
            return found

    def media_type(self, name: Repository | None, digest: Digest) -> str | None:
        """Return the media type that came with a manifest under this name, if one was kept.

        Without one, what 0.1.0 kept for all repositories: it is never written any more.
        """
        own = self._line(layout.media_type(name, digest)) if name else None
        return own or self._line(layout.shared_media_type(digest))

    def forget_shared_media_type(self, digest: Digest) -> bool:
        """Remove what 0.1.0 kept of a manifest that is gone; False when there was nothing."""
        return self._storage.delete(layout.shared_media_type(digest))

    def _line(self, key: str) -> str | None:
        try:
            return self._storage.read(key, _LONGEST_LINE).decode()
        except (NotFound, UnicodeDecodeError):
            return None

    # ---- tags

    def tag(self, name: Repository, tag: Tag) -> TagState | None:
        """Return what a tag means now; None when it means nothing or its link is unreadable."""
        key = layout.tag_current(name, tag)
        stat = self._storage.stat(key)
        if stat is None:
            return None
        try:
            digest = Digest.parse(self._storage.read(key, _LONGEST_LINE).decode("ascii", "replace"))
        except (Malformed, NotFound):
            return None
        return TagState(digest, stat.modified)

    def set_tag(self, name: Repository, tag: Tag, digest: Digest) -> None:
        """Move a tag, or confirm where it stands; the manifest must be linked before."""
        self._storage.write(layout.tag_past(name, tag, digest), str(digest).encode())
        self._storage.write(layout.tag_current(name, tag), str(digest).encode())

    def remove_tag(self, name: Repository, tag: Tag) -> bool:
        """Remove a tag and its past; False when there was none."""
        was_there = self._storage.delete(layout.tag_current(name, tag))
        for stat in list(self._storage.walk(f"{layout.tags(name)}/{tag}")):
            self._storage.delete(stat.key)
        return was_there

    def tags(self, name: Repository) -> list[str]:
        """Return the names of all tags, in order."""
        return list(self._storage.list(layout.tags(name)))

    def tags_after(self, name: Repository, after: str = "") -> Iterator[str]:
        """Yield the names of tags behind *after*, in order, each looked at as it is read.

        What is left of one whose removal was cut short is no tag.
        """
        names = list(self._storage.list(layout.tags(name)))
        for tag in names[bisect_right(names, after) :]:
            if self._storage.stat(layout.tag_current(name, Tag(tag))):
                yield tag

    # ---- the repository itself

    def exists(self, name: Repository) -> bool:
        """Whether anything was ever kept under this name."""
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
        """Return the upstream that a repository came from; None when it is hosted.

        UNKNOWN_ORIGIN, which is empty: another program fetched it (datastore/takeover.py). It is
        served by its name, unless that leads to an upstream, and evicted as what was fetched.
        """
        try:
            return self._storage.read(layout.origin(name), _LONGEST_LINE).decode()
        except NotFound:
            return None

    def keep_origin(self, name: Repository, upstream: str) -> None:
        """Keep where a repository comes from, before its first link is written."""
        self._storage.write(layout.origin(name), upstream.encode())

    def forget_origin(self, name: Repository) -> bool:
        """Make a repository hosted; False when it was."""
        return self._storage.delete(layout.origin(name))

    def _below(self, root: str) -> Iterator[Digest]:
        """Yield the digests that links below *root* are about; others' files there are nothing."""
        for algorithm in self._storage.list(root):
            for encoded in self._storage.list(f"{root}/{algorithm}"):
                with suppress(InvalidDigest):
                    yield Digest.parse(f"{algorithm}:{encoded}")
