"""Tests that only one appliance at a time owns a bucket, and that only the owner writes."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.owner import KEY, Claim, Lease
from entrepot.datastore.drivers.objects.setup import BucketParts, parts_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.errors import NotFound, StorageBroken
from tests.clock import Clock
from tests.s3_front import LoseAnswer, S3Front, SlowDown
from tests.s3_storage import owned, parameters

pytestmark = pytest.mark.slow


@dataclass
class Appliance:
    """An appliance with its own state directory; all appliances of a test use the same bucket."""

    parts: BucketParts
    uptime: Clock
    taken: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.claim = self.new_claim()
        path = self.parts.state / layout.BUCKET_OWNER
        self.storage = ObjectStorage(
            self.parts.client, self.parts.journal, Lease(path, self.uptime)
        )

    def new_claim(self) -> Claim:
        """Return the claim that another process of this appliance would have after a restart."""
        path = self.parts.state / layout.BUCKET_OWNER
        return Claim(self.parts.client, path, lambda: self.taken.append("taken"), self.uptime)


@pytest.fixture
def uptime() -> Clock:
    """Return the monotonic clock that all appliances of a test use."""
    return Clock(1000.0)


@pytest.fixture
def first(s3: S3Front, tmp_path: Path, uptime: Clock) -> Appliance:
    """Return an appliance."""
    return _appliance(s3, tmp_path / "first", uptime)


@pytest.fixture
def second(s3: S3Front, tmp_path: Path, uptime: Clock) -> Appliance:
    """Return another appliance on the same bucket."""
    return _appliance(s3, tmp_path / "second", uptime)


def _appliance(s3: S3Front, state: Path, uptime: Clock) -> Appliance:
    state.mkdir()
    return Appliance(parts_of("s3", parameters(s3, state), uptime), uptime)


def test_the_owner_writes_and_another_appliance_only_reads(
    first: Appliance, second: Appliance
) -> None:
    """The owner of a bucket can write to it; another appliance can only read from it."""
    assert first.claim.renew()
    assert not second.claim.renew()
    first.storage.write("key", b"content")

    assert second.storage.read("key") == b"content"
    for act in (
        lambda: second.storage.write("key", b"other"),
        lambda: second.storage.delete("key"),
    ):
        with pytest.raises(StorageBroken, match="owns the bucket"):
            act()
    assert first.storage.read("key") == b"content"


def test_another_appliance_sees_each_change_of_the_owner(
    first: Appliance, second: Appliance
) -> None:
    """An appliance that does not own the bucket reads each change of the owner from the bucket."""
    first.claim.renew()
    second.claim.renew()
    first.storage.write("key", b"one")
    assert second.storage.read("key") == b"one"
    first.storage.write("key", b"two")
    assert second.storage.read("key") == b"two"
    first.storage.delete("key")

    with pytest.raises(NotFound):
        second.storage.read("key")
    assert second.storage.stat("key") is None


def test_without_a_renewal_for_45_s_nothing_is_written(first: Appliance, uptime: Clock) -> None:
    """If an owner has not renewed its claim for 45 s, it writes nothing until the next renewal."""
    first.claim.renew()
    uptime.now += 44.0
    first.storage.write("key", b"content")
    uptime.now += 2.0

    with pytest.raises(StorageBroken):
        first.storage.write("key", b"late")
    assert first.claim.renew()
    uptime.now += 1.0
    first.storage.write("key", b"again")


def test_an_abandoned_bucket_is_taken_over_after_90_s(
    first: Appliance, second: Appliance, uptime: Clock
) -> None:
    """If an owner does not renew its claim for 90 s, another appliance becomes the owner.

    The former owner can read the bucket, but not write to it.
    """
    first.claim.renew()
    for _ in range(6):
        assert not second.claim.renew()
        uptime.now += 15.0
    assert second.claim.renew()
    second.storage.write("key", b"of the second")

    assert second.taken == ["taken"]
    assert not first.claim.renew()
    uptime.now += 1.0
    with pytest.raises(StorageBroken):
        first.storage.write("key", b"of the first")
    assert first.storage.read("key") == b"of the second"


def test_an_owner_that_renews_is_never_taken_over(
    first: Appliance, second: Appliance, uptime: Clock
) -> None:
    """While an owner renews its claim every 15 s, no other appliance becomes the owner."""
    for _ in range(20):
        assert first.claim.renew()
        assert not second.claim.renew()
        uptime.now += 15.0


def test_after_a_clean_end_another_appliance_owns_the_bucket_at_once(
    first: Appliance, second: Appliance, s3: S3Front
) -> None:
    """After the owner has released its claim, another appliance becomes the owner immediately.

    If an appliance is not the owner, its release does not remove the owner's claim.
    """
    first.claim.renew()
    second.claim.release()
    assert s3.get(KEY) is not None
    first.claim.release()
    assert s3.get(KEY) is None

    assert second.claim.renew()


def test_the_next_process_continues_the_claim(first: Appliance) -> None:
    """If the process with the claim was killed, the next process continues the claim.

    `taken_over`, which would empty the journal, is not called.
    """
    first.claim.renew()
    first.taken.clear()

    assert first.new_claim().renew()
    assert first.taken == []


@pytest.mark.parametrize("fault", [LoseAnswer(), SlowDown()], ids=["applied", "not applied"])
def test_a_failed_renewal_is_repeated(
    first: Appliance, s3: S3Front, uptime: Clock, fault: LoseAnswer | SlowDown
) -> None:
    """After a failed renewal, the next one succeeds, even if the service applied the failed one."""
    first.claim.renew()
    s3.fault("PUT", KEY, fault, times=1)
    with pytest.raises(StorageBroken):
        first.claim.renew()
    uptime.now += 15.0

    assert first.claim.renew()


def test_a_damaged_entry_is_taken_over_as_an_abandoned_one(
    first: Appliance, s3: S3Front, uptime: Clock
) -> None:
    """If the object with the claim is damaged, an appliance becomes the owner after 90 s."""
    s3.put(KEY, b"[1")
    assert not first.claim.renew()
    uptime.now += 90.0

    assert first.claim.renew()


def test_a_process_that_was_stopped_before_its_request_sends_nothing(
    s3: S3Front, tmp_path: Path
) -> None:
    """A process checks the ownership a second time immediately before it sends a request.

    The process may have been suspended since the first check. Without the second check, the process
    could change a value that the next owner has stored.
    """
    parts = owned(s3, tmp_path)

    class Stopped:
        """An `Ownership` that is lost after its first check, as if the process was suspended."""

        checks = 0

        def holds(self) -> bool:
            self.checks += 1
            return self.checks < 2

    for act in ("write", "delete"):
        s3.put("key", b"of the next owner")
        storage = ObjectStorage(parts.client, parts.journal, Stopped())
        with pytest.raises(StorageBroken, match="another appliance"):
            storage.write("key", b"x") if act == "write" else storage.delete("key")
        assert s3.get("key") == b"of the next owner"


def test_a_foreign_object_in_place_of_the_owner_is_another_owner(
    first: Appliance, uptime: Clock
) -> None:
    """An object of another program in place of the claim counts as another appliance's claim.

    This object does not change, so after 90 s the appliance becomes the owner.
    """
    first.parts.client.put(KEY, b"[" * 4000)

    assert not first.claim.renew()
    uptime.now += 90.0

    assert first.claim.renew()


def test_an_owners_object_of_any_length_is_not_read(first: Appliance, s3: S3Front) -> None:
    """An object that is too long is not read, and counts as the claim of another appliance."""
    assert first.claim.renew()
    first.parts.client.put(KEY, (s3.get(KEY) or b"") + b" " * 5000)

    assert not first.new_claim().renew()
