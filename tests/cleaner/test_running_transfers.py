"""A new index learns what running downloads and uploads were promised before it grants more."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot.cleaner.maintenance.schedule import Maintenance, Tools
from entrepot.cleaner.running_transfers import promise_again
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.budget import STEP
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.index import Reservation
from entrepot.datastore.locks import try_lock
from entrepot.datastore.refs import Digest
from tests.cleaner.stock import HOSTED, pull
from tests.clock import Clock

_ROOM = 10**9
_DIGEST = Digest.of(b"a download")
_UPLOAD = layout.upload(HOSTED, "0" * 8)


@pytest.fixture(params=["download", "upload"])
def growing(request: pytest.FixtureRequest, store: DataDirectory) -> tuple[Digest, Path]:
    """Return a file that grows, of 100 bytes now, and what its reservation goes by."""
    if request.param == "download":
        digest, path = _DIGEST, store.spool / layout.spool(_DIGEST)
    else:
        digest, path = layout.upload_promise(_UPLOAD), store.state / layout.UPLOADS / _UPLOAD
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(100))
    return digest, path


def _announce(path: Path, text: str) -> None:
    path.with_name(f"{path.name}.size").write_text(text)


def _promised(store: DataDirectory) -> dict[Digest, int]:
    return {each.digest: each.size for each in store.index.reservations()}


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("5000", 5000),
        ("?", 100 + STEP),
        (None, 100 + STEP),
        ("", 100 + STEP),
        ("5", 100),
        (str(2**60), 100 + STEP),
        ("9" * 100, 100 + STEP),
        ("-5", 100 + STEP),
    ],
    ids=str,
)
def test_a_writer_has_all_that_it_was_promised(
    store: DataDirectory, growing: tuple[Digest, Path], text: str | None, size: int
) -> None:
    """As its file says; where that cannot be, a step more than it has: what it was granted."""
    digest, path = growing
    if text is not None:
        _announce(path, text)

    with try_lock(path) or pytest.fail("locked"):
        promise_again(store, _ROOM, 7.0)

    assert store.index.reservations() == [Reservation(digest, size, 7.0)]


def test_what_a_dead_writer_left_counts_as_it_is(
    store: DataDirectory, growing: tuple[Digest, Path]
) -> None:
    """Nobody goes on with it unless it is promised anew."""
    digest, path = growing
    _announce(path, "5000")

    promise_again(store, _ROOM, 7.0)

    assert _promised(store) == {digest: 100}


def test_a_larger_reservation_stays(store: DataDirectory, growing: tuple[Digest, Path]) -> None:
    """The index was not lost, or the writer was quicker."""
    digest, path = growing
    store.index.reserve(digest, 6000, None, 1.0)
    _announce(path, "5000")

    with try_lock(path) or pytest.fail("locked"):
        promise_again(store, _ROOM, 7.0)

    assert _promised(store) == {digest: 6000}


def test_a_lost_index_grants_nothing_that_is_promised_already(
    store: DataDirectory, clock: Clock, growing: tuple[Digest, Path]
) -> None:
    """What is stored, what is promised and what is granted never exceed the room together."""
    digest, path = growing
    pull(store, 1, used=clock() - 5000)
    room = store.index.used_bytes() + 6000
    _announce(path, "5000")
    with try_lock(path) or pytest.fail("locked"):
        state = store.state / layout.INDEX
        assert isinstance(store.index, SqliteIndex)
        store.index.close()
        for file in state.parent.glob("index.sqlite*"):
            file.unlink()
        spool, sweep = Spool(store, clock), Sweep(store, lambda _: None, clock)
        tools = Tools(store, spool, sweep, clock, lambda: False, lambda: None, room)
        Maintenance(tools, 1.0, 60.0).settle()
        spool.settle()

        assert _promised(store) == {digest: 5000}
        assert not store.index.reserve(Digest.of(b"another"), 1000, room, clock())
