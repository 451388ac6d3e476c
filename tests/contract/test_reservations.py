"""The reservations of an index promise disk space within a cap, with every driver."""

from __future__ import annotations

import threading

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import Reservation, ReservationStore
from entrepot.datastore.refs import Digest

A, B, C = (Digest.of(letter) for letter in (b"a", b"b", b"c"))


def test_bytes_can_be_reserved_up_to_the_cap(reservations: ReservationStore) -> None:
    """Bytes can be reserved up to the cap (inclusive); a reservation also counts its overhead."""
    cap = 100 + OVERHEAD

    assert reservations.reserve(A, 101, cap, 1.0) is False
    assert reservations.used_bytes() == 0
    assert reservations.reserve(A, 100, cap, 1.0) is True
    assert reservations.used_bytes() == cap


def test_without_a_cap_every_reservation_is_granted(reservations: ReservationStore) -> None:
    """If there is no cap (None), every reservation is granted."""
    assert reservations.reserve(A, 10**15, None, 1.0) is True


def test_a_second_reservation_replaces_the_first(reservations: ReservationStore) -> None:
    """A second reservation of a digest replaces the first.

    A download whose expected length grows reserves the new length in this way.
    """
    reservations.reserve(A, 100, None, 1.0)

    assert reservations.reserve(A, 300, 300 + OVERHEAD, 2.0) is True
    assert reservations.all() == [Reservation(A, 300, 2.0)]
    assert reservations.used_bytes() == 300 + OVERHEAD


def test_a_refused_reservation_leaves_the_first_unchanged(reservations: ReservationStore) -> None:
    """If a larger reservation is rejected, the existing reservation is unchanged."""
    reservations.reserve(A, 100, None, 1.0)

    assert reservations.reserve(A, 301, 300 + OVERHEAD, 2.0) is False
    assert reservations.all() == [Reservation(A, 100, 1.0)]


def test_a_released_reservation_frees_its_bytes(reservations: ReservationStore) -> None:
    """The bytes of a released reservation no longer count; a second release has no effect."""
    reservations.reserve(A, 100, None, 1.0)

    reservations.release(A)
    reservations.release(A)

    assert (reservations.used_bytes(), reservations.all()) == (0, [])


def test_reservations_are_listed_the_oldest_first(reservations: ReservationStore) -> None:
    """Reservations are listed with the oldest first.

    The processes that made the oldest reservations are most likely dead, so the cleaner checks
    these reservations first.
    """
    for digest, at in ((A, 3.0), (B, 1.0), (C, 2.0)):
        reservations.reserve(digest, 1, None, at)

    assert [each.digest for each in reservations.all()] == [B, C, A]


def test_concurrent_reservations_never_exceed_the_cap(reservations: ReservationStore) -> None:
    """If four threads reserve space at the same time, the total never exceeds the cap."""
    cap = 10 * (100 + OVERHEAD)
    digests = [Digest.of(bytes([number])) for number in range(40)]
    granted: list[bool] = []

    def reserve_all(share: list[Digest]) -> None:
        granted.extend(reservations.reserve(digest, 100, cap, 1.0) for digest in share)

    threads = [threading.Thread(target=reserve_all, args=(digests[n::4],)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert (granted.count(True), reservations.used_bytes()) == (10, cap)


def test_all_reservations_together_can_be_limited(reservations: ReservationStore) -> None:
    """The sum of all reservations can have its own limit (inclusive).

    That sum includes neither the overhead nor the reservation that is being replaced.
    """
    assert reservations.reserve(A, 60, None, 1.0, 100) is True
    assert reservations.reserve(B, 41, None, 1.0, 100) is False
    assert reservations.reserve(B, 40, None, 1.0, 100) is True
    assert reservations.reserve(A, 61, None, 1.0, 100) is False
    assert reservations.reserve(A, 60, None, 2.0, 100) is True
    assert reservations.all() == [Reservation(B, 40, 1.0), Reservation(A, 60, 2.0)]
