"""Tests of `take_over`, which marks repositories of another program as proxied.

In the mode `auto`, it marks a repository only if the list of docker distribution's proxy proves
that the proxy fetched all of the repository's content.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import UNKNOWN_ORIGIN, Repositories
from entrepot.datastore.storage import set_time
from entrepot.datastore.takeover import Takeover, take_over, taken_at
from tests.disk_storage import disk_storage

FETCHED, OTHER, OURS = Repository("library/app"), Repository("team/app"), Repository("q.io/x/app")
LAYER, MANIFEST, PUSHED = Digest.of(b"layer"), Digest.of(b"manifest"), Digest.of(b"pushed")
_LINKED_AT = 1_700_000_000.0


class Volume:
    """A data directory that docker distribution has written."""

    def __init__(self, root: Path) -> None:
        self.storage = disk_storage(root)
        self.repositories = Repositories(self.storage)

    def link(self, name: Repository, *, at: float, manifest: Digest = MANIFEST) -> None:
        """Write the links of a layer and a tagged manifest, with the time *at*.

        The proxy of docker distribution and a push both write these links.
        """
        self.repositories.link_blob(name, LAYER)
        self.repositories.link_manifest(name, manifest)
        self.repositories.set_tag(name, Tag("v1"), manifest)
        set_time(self.storage, layout.layer_link(name, LAYER), at)
        set_time(self.storage, layout.revision_link(name, manifest), at)

    def list_as_fetched(self, *entries: object, at: float = _LINKED_AT + 5) -> None:
        """Write the proxy's list of the content that it has fetched, with the time *at*."""
        self.write_list(json.dumps({str(each): {"Key": str(each)} for each in entries}), at)

    def write_list(self, text: str, at: float = _LINKED_AT + 5) -> None:
        """Write *text* as the proxy's list, with the time *at*."""
        self.storage.write(layout.FETCHED_LIST, text.encode())
        set_time(self.storage, layout.FETCHED_LIST, at)

    def origin(self, name: Repository) -> str | None:
        """Return the origin of a repository."""
        return self.repositories.origin(name)


@pytest.fixture
def volume(tmp_path: Path) -> Volume:
    """Return an empty data directory."""
    return Volume(tmp_path)


def _entries(name: Repository) -> list[str]:
    return [f"{name}@{LAYER}", f"{name}@{MANIFEST}"]


def test_a_repository_with_all_links_listed_becomes_proxied(volume: Volume) -> None:
    """A repository becomes proxied if the proxy's list has all of its links; others stay hosted."""
    volume.link(FETCHED, at=_LINKED_AT)
    volume.link(OTHER, at=_LINKED_AT)
    volume.list_as_fetched(*_entries(FETCHED))

    assert take_over(volume.storage, "auto").marked == 1

    assert volume.origin(FETCHED) == UNKNOWN_ORIGIN
    assert volume.origin(OTHER) is None


def test_unlisted_repositories_without_origin_are_counted(volume: Volume) -> None:
    """Repositories that have no origin and are not in the list are counted, but not marked.

    These repositories may be proxied too: registries that share a data directory overwrite each
    other's list. The operator can mark them with `evict`.
    """
    volume.link(FETCHED, at=_LINKED_AT)
    volume.link(OTHER, at=_LINKED_AT)
    volume.link(OURS, at=_LINKED_AT)
    volume.repositories.set_origin(OURS, "q.io")
    volume.list_as_fetched(*_entries(FETCHED))

    assert take_over(volume.storage, "auto") == Takeover(marked=1, possible=1)
    assert take_over(volume.storage, "auto") == Takeover()
    assert take_over(volume.storage, "evict") == Takeover(marked=1, possible=0)


def test_a_repository_with_an_unlisted_manifest_stays_hosted(volume: Volume) -> None:
    """If a manifest of a repository is not in the list, a client may have pushed the manifest.

    The repository stays hosted.
    """
    volume.link(FETCHED, at=_LINKED_AT)
    volume.link(FETCHED, at=_LINKED_AT - 1000, manifest=PUSHED)
    volume.list_as_fetched(*_entries(FETCHED))

    assert take_over(volume.storage, "auto").marked == 0

    assert volume.origin(FETCHED) is None


@pytest.mark.parametrize("pushed", ["layer", "manifest"])
def test_a_repository_with_a_link_newer_than_the_list_stays_hosted(
    volume: Volume, pushed: str
) -> None:
    """If a link of a repository is newer than the proxy's list, the repository stays hosted.

    A push may have written the link even if the list has the content, because a push writes links
    to content that the proxy has already fetched.
    """
    volume.link(FETCHED, at=_LINKED_AT)
    link = layout.layer_link(FETCHED, LAYER)
    key = link if pushed == "layer" else layout.revision_link(FETCHED, MANIFEST)
    set_time(volume.storage, key, _LINKED_AT + 6)
    volume.list_as_fetched(*_entries(FETCHED))

    assert take_over(volume.storage, "auto").marked == 0

    assert volume.origin(FETCHED) is None


@pytest.mark.parametrize("missing", [0, 1])
def test_a_link_that_the_list_lacks_proves_nothing(volume: Volume, missing: int) -> None:
    """If the proxy's list lacks a link of a repository, the repository stays hosted.

    docker distribution's proxy removes expired entries from its list even if it could not remove
    the content, so the content may have been fetched or pushed.
    """
    volume.link(FETCHED, at=_LINKED_AT)
    volume.list_as_fetched(*_entries(FETCHED)[missing : missing + 1])

    assert take_over(volume.storage, "auto").marked == 0


def test_a_repository_that_the_configuration_names_stays_hosted(volume: Volume) -> None:
    """If the configuration has a rule for a repository, it stays hosted even if the list has it."""
    volume.link(FETCHED, at=_LINKED_AT)
    volume.list_as_fetched(*_entries(FETCHED))

    assert take_over(volume.storage, "auto", lambda name: name == FETCHED) == Takeover()
    assert take_over(volume.storage, "evict", lambda name: name == FETCHED) == Takeover()


def test_an_existing_origin_is_kept(volume: Volume) -> None:
    """If the appliance itself fetched a repository, a takeover does not change its origin."""
    volume.link(OURS, at=_LINKED_AT)
    volume.repositories.set_origin(OURS, "q.io")
    volume.list_as_fetched(*_entries(OURS))

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
def test_an_unreadable_list_marks_no_repository(volume: Volume, text: str) -> None:
    """If the proxy's list is malformed, no repository becomes proxied, and no error is raised."""
    volume.link(FETCHED, at=_LINKED_AT)
    volume.write_list(text)

    assert take_over(volume.storage, "auto").marked == 0
    assert volume.origin(FETCHED) is None


def test_without_a_list_nothing_is_written(volume: Volume) -> None:
    """If there is no list, as in most data directories, a takeover writes nothing."""
    volume.link(FETCHED, at=_LINKED_AT)

    assert take_over(volume.storage, "auto").marked == 0

    assert taken_at(volume.storage) == 0
    assert volume.origin(FETCHED) is None


def test_a_takeover_is_repeated_only_if_the_proxy_wrote_a_new_list(volume: Volume) -> None:
    """A takeover is repeated only after the proxy has written a new list.

    After a takeover, a push can make a repository hosted. A repeated takeover would mark this
    repository as proxied again.
    """
    volume.link(FETCHED, at=_LINKED_AT)
    volume.list_as_fetched(*_entries(FETCHED))
    assert take_over(volume.storage, "auto").marked == 1
    assert taken_at(volume.storage) > _LINKED_AT
    volume.repositories.remove_origin(FETCHED)

    assert take_over(volume.storage, "auto").marked == 0

    assert volume.origin(FETCHED) is None
    volume.link(OTHER, at=_LINKED_AT + 50)
    volume.list_as_fetched(*_entries(OTHER), at=_LINKED_AT + 60)
    assert take_over(volume.storage, "auto").marked == 1
    assert volume.origin(OTHER) == UNKNOWN_ORIGIN


def test_evict_marks_all_repositories_once(volume: Volume) -> None:
    """`evict` marks all existing repositories as proxied, but none that is pushed later."""
    volume.link(FETCHED, at=_LINKED_AT)
    assert take_over(volume.storage, "evict").marked == 1
    assert volume.origin(FETCHED) == UNKNOWN_ORIGIN
    volume.link(OTHER, at=_LINKED_AT)

    assert take_over(volume.storage, "evict").marked == 0

    assert volume.origin(OTHER) is None


def test_keep_removes_earlier_marks(volume: Volume) -> None:
    """If an earlier takeover marked repositories as proxied, `keep` makes them hosted again."""
    volume.link(FETCHED, at=_LINKED_AT)
    volume.list_as_fetched(*_entries(FETCHED))
    take_over(volume.storage, "auto")

    assert take_over(volume.storage, "keep") == Takeover()

    assert volume.origin(FETCHED) is None
