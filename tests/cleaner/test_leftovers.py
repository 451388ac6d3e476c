"""Uploads that nobody goes on with, and files that never became values."""

from __future__ import annotations

from pathlib import Path

import pytest

from cleaner.leftovers import Leftovers
from cleaner.store import Store
from datastore import layout
from tests.cleaner.stock import HOSTED, PROXIED, pull, push
from tests.clock import Clock

_HOUR = 3600.0
_UPLOAD = f"{layout.uploads(HOSTED)}/0b4d"


@pytest.fixture
def leftovers(store: Store, clock: Clock) -> Leftovers:
    """Return the purger of *store*."""
    return Leftovers(store, clock, stopped=lambda: False)


def _upload(store: Store) -> None:
    store.storage.write(f"{_UPLOAD}/startedat", b"2020-01-01T00:00:00Z")
    store.storage.write(f"{_UPLOAD}/data", b"the first chunk")
    store.storage.write(f"{_UPLOAD}/hashstates/sha256/0", b"state")


def test_an_upload_goes_a_week_after_its_last_chunk(
    store: Store, leftovers: Leftovers, clock: Clock
) -> None:
    """All of it, an hour late and not an hour early; what was pushed stays."""
    pushed = push(store, 1, used=0)
    _upload(store)
    clock.now += 167 * _HOUR
    leftovers.purge_uploads()
    assert len(list(store.storage.walk(_UPLOAD))) == 3
    clock.now += 2 * _HOUR

    leftovers.purge_uploads()

    assert list(store.storage.list(layout.uploads(HOSTED))) == []
    assert pushed.is_here(store) == [True, True, True]


def test_an_old_upload_to_which_something_was_added_stays(
    store: Store, leftovers: Leftovers, clock: Clock
) -> None:
    """Its age is that of its last chunk."""
    _upload(store)
    clock.now += 169 * _HOUR
    store.storage.stamp(f"{_UPLOAD}/data", clock.now - _HOUR)

    leftovers.purge_uploads()

    assert len(list(store.storage.walk(_UPLOAD))) == 3


def test_what_never_became_a_value_goes_after_a_day(
    store: Store, leftovers: Leftovers, clock: Clock, tmp_path: Path
) -> None:
    """Beside content, links, tags, uploads, media types and origins."""
    pull(store, 1, used=0)
    push(store, 2, used=0)
    values = [stat.key for stat in store.storage.walk("")]
    for key in values:
        (tmp_path / "data" / f"{key}~unfinished").touch()
    clock.now += 23 * _HOUR
    leftovers.purge_unfinished()
    assert len(_unfinished(tmp_path)) == len(values)
    clock.now += 2 * _HOUR

    leftovers.purge_unfinished()

    assert _unfinished(tmp_path) == []
    assert [stat.key for stat in store.storage.walk("")] == values


def test_both_end_when_they_are_told_to(store: Store, clock: Clock, tmp_path: Path) -> None:
    """Between two folders."""
    pull(store, 1, used=0, name=PROXIED)
    _upload(store)
    (tmp_path / "data" / f"{layout.origin(PROXIED)}~unfinished").touch()
    clock.now += 1000 * _HOUR
    leftovers = Leftovers(store, clock, stopped=lambda: True)

    leftovers.purge_uploads()
    leftovers.purge_unfinished()

    assert len(list(store.storage.walk(_UPLOAD))) == 3
    assert len(_unfinished(tmp_path)) == 1


def _unfinished(folder: Path) -> list[Path]:
    return list(folder.rglob("*~unfinished"))
