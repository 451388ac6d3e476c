"""Test how a migration detects that an appliance on another machine uses the source."""

from __future__ import annotations

import pytest

from entrepot.appliance.migrate.migration import Side
from entrepot.appliance.migrate.places import OWNER, OpenedSource, refuse_renewed_owner
from entrepot.config.errors import ConfigError
from entrepot.datastore.drivers.memory import MemoryStorage


def test_a_source_without_an_owner_is_not_awaited() -> None:
    """A source whose owner has released it is read at once, without waiting for a renewal."""
    refuse_renewed_owner("s3://images", MemoryStorage(), _unexpected)


def _unexpected(_: float) -> bool:
    raise AssertionError("nothing needs to be awaited")


def test_an_owner_that_renews_its_claim_is_refused() -> None:
    """If the owner of the source renews its claim, the migration is refused.

    A renewed claim shows that an appliance is running, which could change the source.
    """
    storage = MemoryStorage()
    storage.write(OWNER, b'{"id": "a", "renewals": 1}')

    def renewed(_: float) -> bool:
        storage.write(OWNER, b'{"id": "a", "renewals": 2}')
        return False

    with pytest.raises(ConfigError, match="an appliance owns the source; stop that appliance"):
        refuse_renewed_owner("s3://images", storage, renewed)


def test_an_owner_that_is_gone_is_accepted_after_a_while() -> None:
    """If the claim of the source's owner is not renewed for a while, the source is read.

    A claim that is not renewed shows that no running appliance could change the source.
    """
    storage, now = MemoryStorage(), [0.0]
    storage.write(OWNER, b'{"id": "a", "renewals": 1}')

    def wait(pause: float) -> bool:
        now[0] += pause
        return False

    refuse_renewed_owner("s3://images", storage, wait, lambda: now[0])

    assert now[0] >= 30


def test_an_owner_that_ends_meanwhile_is_accepted() -> None:
    """If the owner releases the source while the migration waits, the source is read."""
    storage = MemoryStorage()
    storage.write(OWNER, b'{"id": "a", "renewals": 1}')

    def released(_: float) -> bool:
        storage.delete(OWNER)
        return False

    refuse_renewed_owner("s3://images", storage, released)

    assert storage.stat(OWNER) is None


@pytest.mark.parametrize(("is_served", "expected"), [(False, True), (True, False)])
def test_a_source_that_an_appliance_began_to_use_may_have_changed(
    *, is_served: bool, expected: bool
) -> None:
    """The source counts as used if its owner's claim changed during the migration.

    If a read-only appliance serves the source, a changed claim does not count as use, because that
    appliance renews its claim.
    """
    storage = MemoryStorage()
    source = OpenedSource(Side("s3://images", storage, None), None, is_served)
    assert source.was_used() is False

    storage.write(OWNER, b'{"id": "a", "renewals": 1}')

    assert source.was_used() is expected
