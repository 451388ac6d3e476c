"""What was pushed to a repository, seen as images: what goes goes as one of these.

An image is a manifest that nothing else stands for, and all that lives with it: an index's
children, the blobs, and what refers to any of its manifests, such as a signature. Two images of
one repository may share parts.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property

from entrepot.datastore.errors import InvalidDigest
from entrepot.datastore.index import ContentKind
from entrepot.datastore.manifest import Manifest
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import TagState


@dataclass(frozen=True, slots=True)
class HostedImage:
    """One of a repository's images; `used` is its last pull or push (s, UTC epoch).

    `own` are its manifests without what refers to them. `place` counts the repository's tags
    from the newest, 0, to the newest of this image; None where it has none.
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
        """Return all that it needs, each once."""
        return tuple(dict.fromkeys((*self.manifests, *self.blobs)))

    def __str__(self) -> str:
        if self.tags:
            return f"{self.name}:{min(self.tags)}"
        return f"{self.name}@{self.root.algorithm}:{self.root.hex[:12]}"


@dataclass(frozen=True, slots=True)
class HostedRepository:
    """What a hosted repository holds: its images, and every link by which it holds them.

    `links` are its manifests and when each was linked (s, UTC epoch); `layers` the blobs that it
    links. A manifest that is not here or not of a type that is known may need any of those.
    """

    name: Repository
    images: tuple[HostedImage, ...]
    tags: Mapping[Tag, TagState]
    links: Mapping[Digest, float]
    layers: frozenset[Digest]
    is_readable: bool

    def loose(self) -> frozenset[Digest]:
        """Return the blobs that it links and that no manifest of it names."""
        named = {digest for image in self.images for digest in image.blobs}
        return self.layers - named if self.is_readable else frozenset()

    def bound(self) -> frozenset[Digest]:
        """Return the blobs that it holds whatever becomes of its images."""
        return self.loose() if self.is_readable else self.layers


class ManifestFamily:
    """Who belongs to whom among the manifests that a repository links.

    *read* are those and what their indexes list, None for one that can't be read.
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
        """The manifests that stand for an image, so that every manifest is in one."""
        subjects, below = self._subjects, set[Digest]()
        for digest in self._links:
            below.update(self.children(digest))
        free = [each for each in self._links if each not in subjects]
        roots = [each for each in free if each in self.tags or each not in below]
        reached = {digest for root in roots for digest in self.whole(root)}
        for digest in self._links:  # tags may tie a ring of what refers to each other
            if digest not in reached:
                roots.append(digest)
                reached.update(self.whole(digest))
        return roots

    def own(self, root: Digest) -> tuple[Digest, ...]:
        """Return a manifest, its children, and theirs."""
        return tuple(_reached(root, self.children))

    def whole(self, root: Digest) -> tuple[Digest, ...]:
        """Return a manifest with all manifests that live with it."""
        return tuple(
            _reached(root, lambda digest: (*self.children(digest), *self._about.get(digest, ())))
        )

    def children(self, digest: Digest) -> tuple[Digest, ...]:
        """Return the manifests that an index lists, those that are known here."""
        read = self._read.get(digest)
        if read is None or read.kind is not ContentKind.INDEX:
            return ()
        return tuple(part for part in read.parts() if part in self._read)

    def blobs(self, manifests: Iterable[Digest]) -> tuple[Digest, ...]:
        """Return the blobs that *manifests* name, each once."""
        read = [self._read.get(digest) for digest in manifests]
        parts = (part for each in read if each for part in each.parts())
        return tuple(dict.fromkeys(part for part in parts if part not in self._read))

    def places(self) -> dict[Digest, int]:
        """Count the tags of images from the newest, 0: the place of each root's newest."""
        wanted = set(self.roots)
        newest = sorted(self._states.items(), key=lambda item: (-item[1].confirmed, item[0].name))
        counted = (state.digest for _, state in newest if state.digest in wanted)
        found: dict[Digest, int] = {}
        for place, digest in enumerate(counted):
            found.setdefault(digest, place)
        return found

    @cached_property
    def _subjects(self) -> dict[Digest, Digest]:
        """What each manifest refers to, if that is linked here."""
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
    """Return what a tag of the referrers tag schema is about, as cosign's `sha256-<hex>.sig` is.

    OCI distribution-spec 1.1, "Referrers Tag Schema".
    """
    algorithm, dash, rest = tag.name.partition("-")
    try:
        return Digest.parse(f"{algorithm}:{rest.partition('.')[0]}") if dash else None
    except InvalidDigest:
        return None


def images(
    name: Repository, family: ManifestFamily, last_use: Callable[[tuple[Digest, ...]], float]
) -> tuple[HostedImage, ...]:
    """Return a repository's images; *last_use* tells when manifests were used (s, UTC epoch)."""
    places = family.places()
    found = []
    for root in family.roots:
        own, whole, tags = family.own(root), family.whole(root), family.tags.get(root, {})
        used = max([last_use(own), *(state.confirmed for state in tags.values())])
        blobs, place = family.blobs(whole), places.get(root)
        found.append(HostedImage(name, root, tags, own, whole, blobs, used, place))
    return tuple(found)


def _reached(root: Digest, step: Callable[[Digest], Iterable[Digest]]) -> list[Digest]:
    """Return all that is reached, each after everything that leads to it."""
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
