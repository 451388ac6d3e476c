"""After the index was lost, `promise_again` restores the reservations of running transfers."""

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
    """Return the digest of a transfer's reservation, and the transfer's file with 100 bytes."""
    if request.param == "download":
        digest, path = _DIGEST, store.spool / layout.spool(_DIGEST)
    else:
        digest, path = layout.upload_reservation(_UPLOAD), store.state / layout.UPLOADS / _UPLOAD
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(bytes(100))
    return digest, path


def _announce(path: Path, text: str) -> None:
    path.with_name(f"{path.name}.size").write_text(text)


def _reserved(store: DataDirectory) -> dict[Digest, int]:
    return {each.digest: each.size for each in store.index.reservations.all()}


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
def test_the_announced_size_of_a_running_transfer_is_reserved(
    store: DataDirectory, growing: tuple[Digest, Path], text: str | None, size: int
) -> None:
    """For a running transfer, its announced size is reserved.

    If no valid size is announced, the current length of the file plus `STEP` is reserved.
    """
    digest, path = growing
    if text is not None:
        _announce(path, text)

    with try_lock(path) or pytest.fail("locked"):
        promise_again(store, _ROOM, 7.0)

    assert store.index.reservations.all() == [Reservation(digest, size, 7.0)]


def test_a_file_without_a_writer_reserves_its_length(
    store: DataDirectory, growing: tuple[Digest, Path]
) -> None:
    """If no process writes to the file of a transfer, only the length of the file is reserved."""
    digest, path = growing
    _announce(path, "5000")

    promise_again(store, _ROOM, 7.0)

    assert _reserved(store) == {digest: 100}


def test_a_larger_reservation_stays(store: DataDirectory, growing: tuple[Digest, Path]) -> None:
    """If a download or upload already has a larger reservation, this reservation stays."""
    digest, path = growing
    store.index.reservations.reserve(digest, 6000, None, 1.0)
    _announce(path, "5000")

    with try_lock(path) or pytest.fail("locked"):
        promise_again(store, _ROOM, 7.0)

    assert _reserved(store) == {digest: 6000}


def test_a_new_index_never_grants_reserved_space_again(
    store: DataDirectory, clock: Clock, growing: tuple[Digest, Path]
) -> None:
    """After the index was replaced, no reservation gets space that a running transfer needs."""
    digest, path = growing
    pull(store, 1, used=clock() - 5000)
    room = store.index.reservations.used_bytes() + 6000
    _announce(path, "5000")
    with try_lock(path) or pytest.fail("locked"):
        state = store.state / layout.INDEX
        store.index.close()
        for file in state.parent.glob("index.sqlite*"):
            file.unlink()
        spool, sweep = Spool(store, clock), Sweep(store, lambda _: None, clock)
        tools = Tools(store, spool, sweep, clock, lambda: False, lambda: None, room)
        Maintenance(tools, 1.0, 60.0).settle()
        spool.settle()

        assert _reserved(store) == {digest: 5000}
        assert not store.index.reservations.reserve(Digest.of(b"another"), 1000, room, clock())
