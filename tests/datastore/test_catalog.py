"""Tests that `catalog` lists the names of repositories in pages and in lexical order."""

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
    """A storage that counts the calls of `list`."""

    def __init__(self) -> None:
        super().__init__()
        self.listed = 0

    def list(self, key: str) -> Iterator[str]:
        """List a folder, and count the call."""
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
def test_names_are_in_lexical_order_from_any_point(names: set[str], last: str) -> None:
    """A list of the repositories whose names sort after a given text is in lexical order.

    The text does not need to be the name of a repository.
    """
    assert [name for name in sorted(names) if name > last] == _after(_filled(names), last)


def test_a_page_reads_only_the_folders_of_its_names() -> None:
    """A page of the list of repositories reads only the folders of the names on the page.

    In this test, there are a thousand repositories in a hundred folders. A page of three names
    reads fewer than 12 folders.
    """
    names = {f"team{team:02}/app{app}" for team in range(100) for app in range(10)}
    storage = _filled(names)
    storage.listed = 0

    page = _after(storage, "team50/app8", 3)

    assert page == ["team50/app9", "team51/app0", "team51/app1"]
    assert storage.listed < 12


def test_an_excluded_component_is_not_read() -> None:
    """The folders below an excluded component are not read.

    The catalog of hosted repositories excludes the components that are hosts of upstreams.
    """
    names = {f"quay.io/team/app{number}" for number in range(100)} | {"mine", "quay.io"}
    storage = _filled(names)
    storage.listed = 0

    found = catalog.names(storage, without=["quay.io/"])

    assert [str(name) for name in found] == ["mine", "quay.io"]
    assert storage.listed < 6


@given(names=st.sets(_NAMES, max_size=12), last=_NAMES | st.just(""))
def test_names_below_a_component_are_in_lexical_order(names: set[str], last: str) -> None:
    """The names below a component are in lexical order, and do not include the component itself."""
    found = catalog.names_below(_filled(names), "a-b", last)

    expected = [name for name in sorted(names) if name > last and name.startswith("a-b/")]
    assert [str(name) for name in found] == expected


def test_an_upload_makes_no_repository() -> None:
    """A folder that has only an unfinished upload is not listed as a repository."""
    storage = _filled({"a"})
    storage.write("docker/registry/v2/repositories/b/_uploads/x/data", b"")

    assert _after(storage, "") == ["a"]
