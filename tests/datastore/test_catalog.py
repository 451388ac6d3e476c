"""The names of all repositories, a page at a time."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import islice

from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore import catalog
from entrepot.datastore.drivers.memory import MemoryStorage
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories

_COMPONENTS = st.sampled_from(["a", "b", "a-b", "a.b", "a--b", "a0", "aa", "quay.io"])
_NAMES = st.lists(_COMPONENTS, min_size=1, max_size=3).map("/".join)


class Counting(MemoryStorage):
    """Counts how many folders are listed."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0

    def list(self, key: str) -> Iterator[str]:
        """List, and count."""
        self.listed += 1
        return super().list(key)


def _filled(names: set[str]) -> Counting:
    storage = Counting()
    for name in names:
        Repositories(storage).link_blob(Repository(name), Digest.of(b"x"))
    return storage


def _after(storage: MemoryStorage, last: str, limit: int | None = None) -> list[str]:
    found = catalog.names(storage, last)
    return [str(name) for name in islice(found, limit)]


@given(names=st.sets(_NAMES, max_size=12), last=_NAMES | st.just(""))
def test_names_come_by_their_text_from_any_point_on(names: set[str], last: str) -> None:
    """Whether or not the last name that was seen still exists."""
    assert [name for name in sorted(names) if name > last] == _after(_filled(names), last)


def test_a_page_reads_the_folders_on_its_way_only() -> None:
    """Of a thousand repositories in a hundred folders, a page of three reads about as many."""
    names = {f"team{team:02}/app{app}" for team in range(100) for app in range(10)}
    storage = _filled(names)
    storage.listed = 0

    page = _after(storage, "team50/app8", 3)

    assert page == ["team50/app9", "team51/app0", "team51/app1"]
    assert storage.listed < 12


def test_a_folder_that_is_not_entered_is_not_read() -> None:
    """So what came from an upstream is told from what was pushed without a look at each."""
    names = {f"quay.io/team/app{number}" for number in range(100)} | {"mine", "quay.io"}
    storage = _filled(names)
    storage.listed = 0

    found = catalog.names(storage, without=["quay.io/"])

    assert [str(name) for name in found] == ["mine", "quay.io"]
    assert storage.listed < 6


@given(names=st.sets(_NAMES, max_size=12), last=_NAMES | st.just(""))
def test_the_names_below_a_component_come_likewise(names: set[str], last: str) -> None:
    """But not the one that it is itself."""
    found = catalog.names_below(_filled(names), "a-b", last)

    expected = [name for name in sorted(names) if name > last and name.startswith("a-b/")]
    assert [str(name) for name in found] == expected


def test_an_upload_makes_no_repository() -> None:
    """Nothing was pushed as long as it has not ended."""
    storage = _filled({"a"})
    storage.write("docker/registry/v2/repositories/b/_uploads/x/data", b"")

    assert _after(storage, "") == ["a"]
