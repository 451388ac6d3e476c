"""After any pushes, pulls and kills of the cleaner, the remaining images are complete."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from entrepot.cleaner.hosted.repositories import HostedRepositories
from entrepot.cleaner.hosted.retention import RetentionRule, RetentionRules
from entrepot.cleaner.hosted.snapshot import HostedSnapshot
from entrepot.cleaner.hosted.unlink import Unlinker
from entrepot.cleaner.maintenance.collect import Collector
from entrepot.cleaner.maintenance.garbage import Garbage
from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import manifest
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.drivers.memory import MemoryIndex, MemoryStorage
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest, Repository, Tag
from tests import images
from tests.cleaner.stock import UPSTREAM
from tests.clock import Clock
from tests.sizes import scaled
from tests.timed_storage import TimedMemoryStorage

_TTL = 10.0
_NAMES = [Repository("team/a"), Repository("team/b")]
_CACHED = Repository("quay.io/c")
_MADE = [
    images.image([f"layer {n}".encode() for n in layers], command=(str(layers),))
    for layers in ((0,), (0, 1), (1, 2), (2,))
]
_SIGNED = [images.artifact(each, b"signature", "application/example") for each in _MADE]
_INDEXES = [images.index(_MADE[:2]), images.index(_MADE[1:3])]
_TAGS = [Tag("v1"), Tag("v2"), Tag("v3")]

# The machine may be busy, so an example has no deadline.
unhurried = settings(
    deadline=None,
    max_examples=scaled(25, 100),
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture],
)


class _Died(Exception):  # noqa: N818 - it simulates a kill
    """The cleaner was killed."""


class MortalStorage(MemoryStorage):
    """A storage without times of values, which raises `_Died` after `left` deletions."""

    left: int | None = None

    def delete(self, key: str) -> bool:
        """Delete a value, or raise `_Died`."""
        if self.left is not None:
            if not self.left:
                raise _Died
            self.left -= 1
        return super().delete(key)


class MortalTimedStorage(MortalStorage, TimedMemoryStorage):
    """A `MortalStorage` that stores times of values, as a disk does."""


@dataclass(frozen=True)
class Push:
    """A step of a test: a push of an image, a referrer or an index, or a DELETE of an image."""

    what: int
    kind: str
    name: Repository
    tag: Tag | None
    at: float


@dataclass(frozen=True)
class History:
    """A sequence of pushes, and whether the storage stores times of values."""

    pushes: Sequence[Push]
    is_timed: bool


@dataclass
class World:
    """A data directory, with methods for pushes, pulls and deletions by clients."""

    folder: Path
    is_timed: bool
    clock: Clock = field(default_factory=lambda: Clock(1000.0))

    def __post_init__(self) -> None:
        self.storage = MortalTimedStorage(self.clock) if self.is_timed else MortalStorage()
        index = MemoryIndex(clock=self.clock)
        self.store = DataDirectory(self.storage, index, self.folder / "spool")

    def do(self, push: Push) -> None:
        """Push, pull or delete as the registry does, which stores parts before their manifests."""
        self.clock.now = push.at
        if push.kind == "delete":  # The registry refuses a DELETE of a proxied image.
            if push.name != _CACHED:
                self._delete(push.name, _MADE[push.what].digest)
        elif push.kind == "index":
            body, media_type = _INDEXES[push.what % 2]
            for made in _MADE[push.what % 2 :][:2]:
                self._image(made, push.name, None)
            self._manifest(body, media_type, push.name, push.tag)
        else:
            made = _MADE[push.what] if push.kind == "image" else _SIGNED[push.what]
            self._image(made, push.name, push.tag)

    def _delete(self, name: Repository, digest: Digest) -> None:
        for each, tag, meant in list(self.tags()):
            if (each, meant) == (name, digest):
                self.store.repositories.remove_tag(each, tag)
        if not any(digest in self.store.index.children(each) for each in self._linked(name)):
            self.store.repositories.unlink_manifest(name, digest)

    def _linked(self, name: Repository) -> Iterator[Digest]:
        return self.store.repositories.manifests(name)

    def _image(self, made: images.Image, name: Repository, tag: Tag | None) -> None:
        for blob in made.blobs:
            digest = Digest.of(blob)
            self.store.blobs.write(digest, blob)
            self.store.index.record(digest, len(blob), ContentKind.BLOB, self.clock.now)
            self.store.repositories.link_blob(name, digest)
        self._manifest(made.manifest, made.media_type, name, tag)

    def _manifest(self, body: bytes, media_type: str, name: Repository, tag: Tag | None) -> None:
        digest, read = Digest.of(body), manifest.parse(body, media_type)
        links = self.store.repositories
        if name == _CACHED:
            links.set_origin(name, UPSTREAM)
        self.store.blobs.write(digest, body)
        parts = read.parts()
        self.store.index.record(digest, len(body), read.kind, self.clock.now, children=parts)
        links.link_manifest(name, digest, media_type)
        if tag:
            links.set_tag(name, tag, digest)

    # ---- the cleaner in this world

    def clean(self, rules: RetentionRules, bounds: StoreLimits) -> None:
        """Run one round of the cleaner, whose log barrier succeeds, then collect garbage."""
        sweep = Sweep(self.store, lambda _: None, self.clock)
        tools = RoundTools(
            self.store, Spool(self.store, self.clock), sweep, self, self.clock, lambda: False
        )
        assert Rounds(tools, bounds, rules).run(0)
        hosted = HostedRepositories(self.store)
        collector = Collector(self.store, sweep, Unlinker(self.store, hosted), lambda: False)
        collector.run(
            Garbage(self.store, _TTL, self.clock),
            HostedSnapshot(hosted, RetentionRules(), self.clock),
        )

    blind = 0.0

    def fetch(self) -> str:
        """Return an empty text, because the index has every use."""
        return ""

    # ---- the content that is left

    def tags(self) -> Iterator[tuple[Repository, Tag, Digest]]:
        """Yield each tag of the hosted repositories with its repository and digest."""
        for name in _NAMES:
            for tag in map(Tag, self.store.repositories.tags(name)):
                state = self.store.repositories.tag(name, tag)
                if state:
                    yield name, tag, state.digest

    def is_complete(self, name: Repository, digest: Digest) -> bool:
        """Return whether a client that pulls the manifest gets it and all its parts."""
        links = self.store.repositories
        if links.linked_manifest(name, digest) is None or not self.store.blobs.stat(digest):
            return False
        read = links.read_manifest(name, digest, self.store.blobs.read(digest))
        if read.kind is ContentKind.INDEX:
            return all(self.is_complete(name, part) for part in read.parts())
        return all(
            self.store.blobs.stat(part) and links.links_blob(name, part) for part in read.parts()
        )

    def stored(self) -> set[Digest]:
        """Return the digests that have a row and whose content is stored."""
        rows = self.store.index.oldest(None, 1000)
        return {row.digest for row in rows if self.store.blobs.stat(row.digest)}


_pushes = st.builds(
    Push,
    what=st.integers(0, len(_MADE) - 1),
    kind=st.sampled_from(["image", "image", "signature", "index", "delete"]),
    name=st.sampled_from([*_NAMES, _CACHED]),
    tag=st.sampled_from([*_TAGS, None]),
    at=st.integers(960, 999).map(float),
)
_histories = st.builds(
    History,
    st.lists(_pushes, max_size=12).map(lambda each: sorted(each, key=lambda p: p.at)),
    is_timed=st.booleans(),
)
_rules = st.builds(
    RetentionRule,
    ttl=st.sampled_from([0.0, _TTL, 25.0]),
    keep=st.integers(0, 2),
    untagged=st.sampled_from([0.0, _TTL]),
    is_evictable=st.booleans(),
)
_bounds = st.builds(
    lambda ttl, images: StoreLimits(ttl, *[images * (2 * OVERHEAD + 500)] * 3),
    ttl=st.sampled_from([0.0, _TTL]),
    images=st.integers(0, 6),
)
_deaths = st.one_of(st.none(), st.integers(0, 25))


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Return the folder of the lock files."""
    return tmp_path


def _lived(folder: Path, history: History) -> World:
    world = World(folder, history.is_timed)
    for push in history.pushes:
        world.do(push)
    world.clock.now = 1000.0
    return world


@unhurried
@given(_histories, st.lists(_rules, min_size=2, max_size=2), _bounds, _deaths)
def test_the_remaining_content_is_complete(
    folder: Path,
    history: History,
    chosen: list[RetentionRule],
    bounds: StoreLimits,
    death: int | None,
) -> None:
    """After any history, tags and hosted links lead to complete images.

    No remaining manifest needs content that the cleaner removed, even if the cleaner was killed
    during a deletion.
    """
    world = _lived(folder, history)
    rules = RetentionRules([(name.name, rule) for name, rule in zip(_NAMES, chosen, strict=True)])
    world.storage.left = death

    with suppress(_Died):
        world.clean(rules, bounds)

    for name, _, digest in world.tags():
        assert world.is_complete(name, digest)
    _nothing_dangles(world)
    world.storage.left = None
    world.clean(rules, bounds)
    _nothing_dangles(world)
    for name in _NAMES:
        for digest in world.store.repositories.manifests(name):
            assert world.is_complete(name, digest)


@unhurried
@given(_histories, _rules, _deaths)
def test_exactly_the_expired_images_are_removed(
    folder: Path,
    history: History,
    rule: RetentionRule,
    death: int | None,
) -> None:
    """Exactly the images that expire by the retention rule are removed.

    If the cleaner was killed during the removal, all images that do not expire still exist.
    """
    world = _lived(folder, history)
    rules = RetentionRules(otherwise=rule)
    expected = {
        (image.name, image.root)
        for name in _NAMES
        for image in HostedRepositories(world.store).holding(name).images
        if _is_kept(image.place, 1000.0 - image.used, rule)
    }
    world.storage.left = death
    with suppress(_Died):
        world.clean(rules, StoreLimits())
    world.storage.left = None

    world.clean(rules, StoreLimits())

    roots = {
        (image.name, image.root)
        for name in _NAMES
        for image in HostedRepositories(world.store).holding(name).images
    }
    assert expected <= roots
    if death is None:
        assert expected == roots
    for name, root in expected:
        assert world.is_complete(name, root)


def _is_kept(place: int | None, idle: float, rule: RetentionRule) -> bool:
    """Return whether *rule* keeps an image; this does not use the code of the cleaner."""
    if place is not None and place < rule.keep:
        return True
    if place is None and rule.untagged and idle > rule.untagged:
        return False
    if rule.ttl:
        return idle <= rule.ttl
    return not rule.keep or place is None


@unhurried
@given(_histories)
def test_after_all_images_expire_no_hosted_content_is_left(
    folder: Path,
    history: History,
) -> None:
    """After all hosted images have expired, no link, blob or row of pushed content remains."""
    world = _lived(folder, history)
    world.clock.now += 1000

    world.clean(RetentionRules(otherwise=RetentionRule(ttl=_TTL, untagged=_TTL)), StoreLimits())

    assert [name for name in _NAMES if world.store.repositories.exists(name)] == []
    cached = _below(world, world.store.repositories.manifests(_CACHED))
    assert world.stored() == cached
    assert world.store.index.count() == len(cached)


def _below(world: World, digests: Iterator[Digest]) -> set[Digest]:
    found: set[Digest] = set()
    waiting = list(digests)
    while waiting:
        digest = waiting.pop()
        found.add(digest)
        waiting.extend(world.store.index.children(digest))
    return found


def _nothing_dangles(world: World) -> None:
    stored = world.stored()
    for digest in stored:
        assert set(world.store.index.children(digest)) <= stored
