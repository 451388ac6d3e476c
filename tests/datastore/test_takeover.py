"""What another program's proxy fetched is told from what was pushed; never by a guess."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories
from entrepot.datastore.takeover import Takeover, take_over, taken_at

FETCHED, OTHER, OURS = Repository("library/app"), Repository("team/app"), Repository("q.io/x/app")
LAYER, MANIFEST, PUSHED = Digest.of(b"layer"), Digest.of(b"manifest"), Digest.of(b"pushed")
_THEN = 1_700_000_000.0


class Volume:
    """A data directory that docker distribution has written."""

    def __init__(self, root: Path) -> None:
        self.storage = Filesystem(root)
        self.repositories = Repositories(self.storage)

    def link(self, name: Repository, *, at: float, manifest: Digest = MANIFEST) -> None:
        """Link a layer and a tagged manifest, as both a proxy and a push do, then."""
        self.repositories.link_blob(name, LAYER)
        self.repositories.link_manifest(name, manifest)
        self.repositories.set_tag(name, Tag("v1"), manifest)
        self.storage.stamp(layout.layer_link(name, LAYER), at)
        self.storage.stamp(layout.revision_link(name, manifest), at)

    def list_as_fetched(self, *entries: object, at: float = _THEN + 5) -> None:
        """Write the list of a proxy, then."""
        self.write_list(json.dumps({str(each): {"Key": str(each)} for each in entries}), at)

    def write_list(self, text: str, at: float = _THEN + 5) -> None:
        """Write anything in its place."""
        self.storage.write(layout.FETCHED_LIST, text.encode())
        self.storage.stamp(layout.FETCHED_LIST, at)

    def origin(self, name: Repository) -> str | None:
        """Return a repository's origin."""
        return self.repositories.origin(name)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """Return an empty one."""
    return Volume(tmp_path)


def _whole(name: Repository) -> list[str]:
    return [f"{name}@{LAYER}", f"{name}@{MANIFEST}"]


def test_a_repository_whose_every_link_is_listed_was_fetched(volume: Volume) -> None:
    """And one that is not listed stays hosted."""
    volume.link(FETCHED, at=_THEN)
    volume.link(OTHER, at=_THEN)
    volume.list_as_fetched(*_whole(FETCHED))

    assert take_over(volume.storage, "auto").marked == 1

    assert volume.origin(FETCHED) == UNKNOWN_ORIGIN
    assert volume.origin(OTHER) is None


def test_what_may_have_been_fetched_is_counted(volume: Volume) -> None:
    """Registries that share a data directory overwrite each other's list: the operator decides."""
    volume.link(FETCHED, at=_THEN)
    volume.link(OTHER, at=_THEN)
    volume.link(OURS, at=_THEN)
    volume.repositories.keep_origin(OURS, "q.io")
    volume.list_as_fetched(*_whole(FETCHED))

    assert take_over(volume.storage, "auto") == Takeover(marked=1, unproven=1)
    assert take_over(volume.storage, "auto") == Takeover()
    assert take_over(volume.storage, "evict") == Takeover(marked=1, unproven=0)


def test_a_repository_that_somebody_pushed_to_as_well_stays_hosted(volume: Volume) -> None:
    """Before the volume was a proxy's: a manifest that it does not list."""
    volume.link(FETCHED, at=_THEN)
    volume.link(FETCHED, at=_THEN - 1000, manifest=PUSHED)
    volume.list_as_fetched(*_whole(FETCHED))

    assert take_over(volume.storage, "auto").marked == 0

    assert volume.origin(FETCHED) is None


@pytest.mark.parametrize("pushed", ["layer", "manifest"])
def test_a_link_that_is_younger_than_the_list_was_pushed(volume: Volume, pushed: str) -> None:
    """Although the same content was fetched before: a push writes its links anew."""
    volume.link(FETCHED, at=_THEN)
    link = layout.layer_link(FETCHED, LAYER)
    key = link if pushed == "layer" else layout.revision_link(FETCHED, MANIFEST)
    volume.storage.stamp(key, _THEN + 6)
    volume.list_as_fetched(*_whole(FETCHED))

    assert take_over(volume.storage, "auto").marked == 0

    assert volume.origin(FETCHED) is None


@pytest.mark.parametrize("missing", [0, 1])
def test_what_the_proxy_has_forgotten_proves_nothing(volume: Volume, missing: int) -> None:
    """It forgets what has expired, whether or not it could be removed."""
    volume.link(FETCHED, at=_THEN)
    volume.list_as_fetched(*_whole(FETCHED)[missing : missing + 1])

    assert take_over(volume.storage, "auto").marked == 0


def test_what_the_configuration_calls_hosted_stays_hosted(volume: Volume) -> None:
    """Whatever the list says, and whatever else is evicted."""
    volume.link(FETCHED, at=_THEN)
    volume.list_as_fetched(*_whole(FETCHED))

    assert take_over(volume.storage, "auto", lambda name: name == FETCHED) == Takeover()
    assert take_over(volume.storage, "evict", lambda name: name == FETCHED) == Takeover()


def test_what_has_an_origin_keeps_it(volume: Volume) -> None:
    """We fetched it."""
    volume.link(OURS, at=_THEN)
    volume.repositories.keep_origin(OURS, "q.io")
    volume.list_as_fetched(*_whole(OURS))

    for how in ("auto", "evict", "keep"):
        assert take_over(volume.storage, how) == Takeover()
        assert volume.origin(OURS) == "q.io"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        '"library/app"',
        '{"nonsense": 1}',
        '{"@": 1, "a@b": 1}',
        '{"../../x@sha256:' + "0" * 64 + '": 1}',
        "[" * 100_000,
        "\x00\xff",
    ],
)
def test_a_list_that_cannot_be_read_takes_nothing_over(volume: Volume, text: str) -> None:
    """Nor does it stop a start."""
    volume.link(FETCHED, at=_THEN)
    volume.write_list(text)

    assert take_over(volume.storage, "auto").marked == 0
    assert volume.origin(FETCHED) is None


def test_without_a_list_nothing_is_looked_at_or_written(volume: Volume) -> None:
    """The usual data directory."""
    volume.link(FETCHED, at=_THEN)

    assert take_over(volume.storage, "auto").marked == 0

    assert taken_at(volume.storage) == 0
    assert volume.origin(FETCHED) is None


def test_it_is_done_once_and_again_when_the_proxy_ran_again(volume: Volume) -> None:
    """A repository that was made hosted meanwhile stays so."""
    volume.link(FETCHED, at=_THEN)
    volume.list_as_fetched(*_whole(FETCHED))
    assert take_over(volume.storage, "auto").marked == 1
    assert taken_at(volume.storage) > _THEN
    volume.repositories.forget_origin(FETCHED)

    assert take_over(volume.storage, "auto").marked == 0

    assert volume.origin(FETCHED) is None
    volume.link(OTHER, at=_THEN + 50)
    volume.list_as_fetched(*_whole(OTHER), at=_THEN + 60)
    assert take_over(volume.storage, "auto").marked == 1
    assert volume.origin(OTHER) == UNKNOWN_ORIGIN


def test_the_operator_may_say_that_all_of_it_was_fetched(volume: Volume) -> None:
    """Once: what is pushed afterwards stays hosted."""
    volume.link(FETCHED, at=_THEN)
    assert take_over(volume.storage, "evict").marked == 1
    assert volume.origin(FETCHED) == UNKNOWN_ORIGIN
    volume.link(OTHER, at=_THEN)

    assert take_over(volume.storage, "evict").marked == 0

    assert volume.origin(OTHER) is None


def test_the_operator_may_say_that_none_of_it_was_fetched(volume: Volume) -> None:
    """Also afterwards."""
    volume.link(FETCHED, at=_THEN)
    volume.list_as_fetched(*_whole(FETCHED))
    take_over(volume.storage, "auto")

    assert take_over(volume.storage, "keep") == Takeover()

    assert volume.origin(FETCHED) is None
