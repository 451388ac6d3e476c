"""Find the images of hosted repositories, because hosted content is removed one image at a time.

An image consists of a root manifest and its parts. If the root is an index, the manifests that it
lists are parts. A manifest whose `subject` belongs to the image, such as a signature, is a part
too, and so are the blobs of all these manifests. A manifest is a root if it has a tag or no index
lists it, unless the repository has its subject. So if a child of an index has a tag, it is also the
root of a separate image. Two images of one repository can share parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.index import ContentKind
from entrepot.datastore.links import UNKNOWN
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import TagState


@dataclass(frozen=True, slots=True)
class HostedImage:
    """A `HostedImage` is an image of a repository.

    `used` is the time of the last pull or push (seconds since the UTC epoch). `own` has the root
    and the manifests that it lists. `manifests` has the manifests in `own`, and the manifests whose
    `subject` belongs to the image. `place` is the position of the image's newest tag among all tags
    of roots, sorted from the newest to the oldest. The first position is 0. `place` is None for an
    image without a tag.
    """

    name: Repository
    root: Digest
    tags: Mapping[Tag, TagState]
    own: tuple[Digest, ...]
    manifests: tuple[Digest, ...]
    blobs: tuple[Digest, ...]
    used: float
    place: int | None = None

    @property
    def parts(self) -> tuple[Digest, ...]:
        """Return the digests of the image's manifests and blobs, each once."""
        return tuple(dict.fromkeys((*self.manifests, *self.blobs)))

    def __str__(self) -> str:
        if self.tags:
            return f"{self.name}:{min(self.tags)}"
        return f"{self.name}@{self.root.algorithm}:{self.root.hex[:12]}"


@dataclass(frozen=True, slots=True)
class HostedRepository:
    """A `HostedRepository` has the images, tags and links of one hosted repository.

    `links` has the linked manifests with the time of each link (seconds since the UTC epoch);
    `layers` has the linked blobs. `is_readable` is False if a linked manifest is absent or has an
    unknown type. Any of the blobs could then belong to that manifest.
    """

    name: Repository
    images: tuple[HostedImage, ...]
    tags: Mapping[Tag, TagState]
    links: Mapping[Digest, float]
    layers: frozenset[Digest]
    is_readable: bool

    def loose(self) -> frozenset[Digest]:
        """Return the linked blobs that no manifest references.

        Return no blob if a manifest is unreadable.
        """
        named = {digest for image in self.images for digest in image.blobs}
        return self.layers - named if self.is_readable else frozenset()

    def bound(self) -> frozenset[Digest]:
        """Return the linked blobs whose links would stay if all images were removed."""
        return self.loose() if self.is_readable else self.layers


class ManifestFamily:
    """A `ManifestFamily` finds which manifests of a repository list or refer to each other.

    *links* has the manifests that the repository links. *read* maps these manifests, and the
    manifests that their indexes list, to their parsed form; the value is None for an unreadable
    manifest.
    """

    def __init__(
        self,
        links: Iterable[Digest],
        tags: Mapping[Tag, TagState],
        read: Mapping[Digest, Manifest | None],
    ) -> None:
        self._links = tuple(links)
        self._read = read
        self._states = tags
        self.tags: dict[Digest, dict[Tag, TagState]] = {}
        for tag, state in tags.items():
            self.tags.setdefault(state.digest, {})[tag] = state

    @cached_property
    def roots(self) -> list[Digest]:
        """Return the root manifest of each image.

        Every linked manifest belongs to at least one image.
        """
        subjects, below = self._subjects, set[Digest]()
        for digest in self._links:
            below.update(self.children(digest))
        free = [each for each in self._links if each not in subjects]
        roots = [each for each in free if each in self.tags or each not in below]
        reached = {digest for root in roots for digest in self.whole(root)}
        # If manifests refer to each other in a cycle, none of them is a root by the rules above. In
        # this case the first manifest of the cycle becomes the root.
        for digest in self._links:
            if digest not in reached:
                roots.append(digest)
                reached.update(self.whole(digest))
        return roots

    def own(self, root: Digest) -> tuple[Digest, ...]:
        """Return a manifest and, recursively, the manifests that it lists."""
        return tuple(_reached(root, self.children))

    def whole(self, root: Digest) -> tuple[Digest, ...]:
        """Return a manifest and, recursively, the manifests that it lists or that refer to it."""
        return tuple(
            _reached(root, lambda digest: (*self.children(digest), *self._about.get(digest, ())))
        )

    def children(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the stored manifests that an index lists."""
        read = self._read.get(digest)
        if read is None or read.kind is not ContentKind.INDEX:
            return ()
        return tuple(part for part in read.parts() if part in self._read)

    def blobs(self, manifests: Iterable[Digest]) -> tuple[Digest, ...]:
        """Return the digests of the blobs that *manifests* reference, each once."""
        read = [self._read.get(digest) for digest in manifests]
        parts = (part for each in read if each for part in each.parts())
        return tuple(dict.fromkeys(part for part in parts if part not in self._read))

    def places(self) -> dict[Digest, int]:
        """Return the position of each root's newest tag among the tags of all roots.

        The tags are sorted from the newest to the oldest. If the time of a tag is unknown, the root
        gets position 0, because the tag may be the newest. A rule must not remove an image because
        of a guess.
        """
        roots = set(self.roots)
        found = {state.digest: 0 for state in self._states.values() if state.confirmed == UNKNOWN}
        newest = sorted(self._states.items(), key=lambda item: (-item[1].confirmed, item[0].name))
        counted = (state.digest for _, state in newest if state.digest in roots)
        for place, digest in enumerate(counted):
            found.setdefault(digest, place)
        return found

    @cached_property
    def _subjects(self) -> dict[Digest, Digest]:
        """Return the subject of each linked manifest whose subject is linked too."""
        found: dict[Digest, Digest] = {}
        for tag, state in self._states.items():
            about = subject_of(tag)
            if about:
                found[state.digest] = about
        for digest in self._links:
            read = self._read.get(digest)
            if read and read.subject:
                found[digest] = read.subject.digest
        here = set(self._links)
        return {
            each: about
            for each, about in found.items()
            if each in here and about in here and each != about
        }

    @cached_property
    def _about(self) -> dict[Digest, list[Digest]]:
        about: dict[Digest, list[Digest]] = {}
        for digest, subject in self._subjects.items():
            about.setdefault(subject, []).append(digest)
        return about


def subject_of(tag: Tag) -> Digest | None:
    """Return the digest in a tag such as `sha256-<hex>.sig` of cosign; None for other tags.

    OCI distribution-spec 1.1 defines the form of such tags ("Referrers Tag Schema").
    """
    algorithm, dash, rest = tag.name.partition("-")
    try:
        return Digest.parse(f"{algorithm}:{rest.partition('.')[0]}") if dash else None
    except InvalidDigest:
        return None


def images(
    name: Repository, family: ManifestFamily, last_use: Callable[[tuple[Digest, ...]], float]
) -> tuple[HostedImage, ...]:
    """Return the images of a repository.

    *last_use* takes manifests, and returns when any of them was last used (seconds since the UTC
    epoch).
    """
    places = family.places()
    found = []
    for root in family.roots:
        own, whole, tags = family.own(root), family.whole(root), family.tags.get(root, {})
        used = max([last_use(own), *(state.confirmed for state in tags.values())])
        blobs, place = family.blobs(whole), places.get(root)
        found.append(HostedImage(name, root, tags, own, whole, blobs, used, place))
    return tuple(found)


def _reached(root: Digest, step: Callable[[Digest], Iterable[Digest]]) -> list[Digest]:
    """Return *root* and, recursively, the digests that *step* returns for each digest.

    Each digest precedes the digests that *step* returns for it.
    """
    seen, ended = {root}, list[Digest]()
    path = [(root, _backwards(step(root)))]
    while path:
        digest, rest = path[-1]
        fresh = next((each for each in rest if each not in seen), None)
        if fresh is None:
            ended.append(digest)
            path.pop()
        else:
            seen.add(fresh)
            path.append((fresh, _backwards(step(fresh))))
    return ended[::-1]


def _backwards(digests: Iterable[Digest]) -> Iterator[Digest]:
    return reversed(tuple(dict.fromkeys(digests)))
