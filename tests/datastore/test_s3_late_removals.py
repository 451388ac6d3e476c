"""Tests that a late removal does not delete a value that was written in the meantime."""

from __future__ import annotations

import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.setup import BucketParts, parts_of
from entrepot.datastore.drivers.objects.storage import ObjectStorage
from entrepot.datastore.errors import NotFound, StorageBroken
from tests.clock import Clock
from tests.images import filler
from tests.s3_front import ApplyLater, Refused, S3Front
from tests.s3_signatures import Refusal
from tests.s3_storage import parameters
from tests.system.waiting import eventually

pytestmark = pytest.mark.slow

KB = 1024
LONG = filler(300 * KB, 1)


class _Held:
    def holds(self) -> bool:
        return True


@dataclass
class Appliance:
    """An appliance that removed `key` and got no response; `late` applies the removal later."""

    s3: S3Front
    state: Path
    clock: Clock
    late: ApplyLater

    def __post_init__(self) -> None:
        self.restart()

    def restart(self) -> None:
        """Create the appliance's Python objects again, as after a kill of all processes."""
        self.parts: BucketParts = parts_of(
            "s3", parameters(self.s3, self.state, chunksize=64 * KB), self.clock
        )
        self.parts.forget()
        self.storage = ObjectStorage(self.parts.client, self.parts.journal, _Held())

    def push(self, content: bytes) -> None:
        """Store a value as a push does: a long value from a file, and a short one from memory."""
        if len(content) <= 64 * KB:
            self.storage.write("key", content)
            return
        path = self.state / "upload"
        path.write_bytes(content)
        self.storage.commit_file(path, "key")
        assert not path.exists()

    def apply_removal(self) -> None:
        """Make the service apply the removal that it received earlier."""
        self.late.when.set()
        assert self.late.applied.wait(60)
        assert self.s3.get("key") is None

    def copies(self) -> list[bytes]:
        """Return the contents of all local copies."""
        folder = self.state / layout.KEPT
        found: list[bytes] = []
        for each in folder.iterdir() if folder.exists() else ():
            with suppress(FileNotFoundError):  # Another thread may remove the copy meanwhile.
                found.append(each.read_bytes())
        return found


@pytest.fixture
def appliance(s3: S3Front, tmp_path: Path) -> Appliance:
    """Return an appliance that sent a request to remove a value 20 s ago, without a response."""
    made = Appliance(s3, tmp_path, Clock(1000.0), ApplyLater(threading.Event()))
    made.storage.write("key", b"old")
    s3.fault("DELETE", "key", made.late, times=1)
    with pytest.raises(StorageBroken):
        made.storage.delete("key")
    made.clock.now += 20.0
    return made


@pytest.mark.parametrize("content", [b"short", LONG], ids=["short", "long"])
@pytest.mark.parametrize("restarts", [False, True])
def test_a_push_survives_a_late_removal(
    appliance: Appliance, content: bytes, *, restarts: bool
) -> None:
    """After a removal without a response, a push of the same key is accepted.

    If the service then applies the removal, the value is read from its local copy, even after a
    restart. After 16 minutes, `repair` writes the value to the bucket again.
    """
    appliance.push(content)
    appliance.apply_removal()
    if restarts:
        appliance.restart()

    stat = appliance.storage.stat("key")
    assert stat is not None
    assert stat.size == len(content)
    assert appliance.storage.read("key") == content
    appliance.parts.copies().repair()
    assert appliance.s3.get("key") is None
    appliance.clock.now += 16 * 60
    appliance.parts.copies().repair()

    assert appliance.s3.get("key") == content
    assert appliance.copies() == []
    assert appliance.storage.read("key") == content


def test_a_value_that_was_not_removed_is_not_written_again(appliance: Appliance) -> None:
    """If the service never applied the removal, the value is not written again.

    One HEAD shows that the bucket still has the value.
    """
    appliance.push(LONG)
    appliance.clock.now += 16 * 60
    appliance.s3.forget()

    appliance.parts.copies().begin_repair()

    eventually(lambda: appliance.copies() == [], what="the copy was removed", within=60)
    assert appliance.s3.counts() == {"HEAD": 1}
    appliance.parts.copies().begin_repair()
    assert appliance.storage.read("key") == LONG


def test_the_last_value_of_several_is_kept(appliance: Appliance) -> None:
    """If several values are written to a key, only the latest has a local copy."""
    for content in (b"first", b"second", b"third"):
        appliance.push(content)
    appliance.apply_removal()
    assert appliance.copies() == [b"third"]
    appliance.clock.now += 16 * 60
    appliance.push(b"forth")

    appliance.parts.copies().repair()

    assert appliance.storage.read("key") == b"forth"
    assert appliance.s3.get("key") == b"forth"
    assert appliance.copies() == []


def test_a_failed_push_does_not_replace_the_copy(appliance: Appliance) -> None:
    """If a push fails, its value does not replace the local copy, and is not written later."""
    appliance.push(b"first")
    appliance.s3.fault("PUT", "key", Refused(Refusal(403, "AccessDenied")), times=1)
    with pytest.raises(StorageBroken):
        appliance.push(b"second")
    appliance.apply_removal()

    assert appliance.copies() == [b"first"]
    assert appliance.storage.read("key") == b"first"
    appliance.clock.now += 16 * 60
    appliance.parts.copies().repair()
    assert appliance.s3.get("key") == b"first"


def test_a_removal_after_that_time_removes_the_copy_too(appliance: Appliance) -> None:
    """If a client deletes the value after 16 minutes, its local copy is removed too."""
    appliance.push(b"new")
    with pytest.raises(StorageBroken, match="got no response"):
        appliance.storage.delete("key")
    appliance.clock.now += 16 * 60

    assert appliance.storage.delete("key")
    appliance.parts.copies().repair()

    assert appliance.copies() == []
    with pytest.raises(NotFound):
        appliance.storage.read("key")
    assert appliance.s3.get("key") is None


def test_no_client_is_redirected_to_a_value_that_may_be_lost(appliance: Appliance) -> None:
    """While the bucket may still apply the removal, no client is redirected to the object."""
    appliance.push(LONG)
    assert appliance.storage.look("key") is None

    appliance.clock.now += 16 * 60
    appliance.parts.copies().repair()

    assert appliance.storage.look("key") is not None


def test_a_write_that_is_applied_late_reverts_no_later_value(s3: S3Front, tmp_path: Path) -> None:
    """If a write is repeated, the service may apply its first request late, after a later write.

    That would revert the later write. So the later value has a local copy until the service can no
    longer apply the first request; then the later value is written to the bucket again.
    """
    clock = Clock(1000.0)
    parts = parts_of("s3", parameters(s3, tmp_path, chunksize=64 * KB), clock)
    storage = ObjectStorage(parts.client, parts.journal, _Held())
    late = ApplyLater(threading.Event())
    s3.fault("PUT", "key", late, times=1)
    storage.write("key", b"old")
    storage.write("key", b"new")
    late.when.set()
    assert late.applied.wait(60)
    assert s3.get("key") == b"old"

    assert storage.read("key") == b"new"
    parts.forget()
    assert storage.read("key") == b"new"
    with pytest.raises(StorageBroken, match="an earlier request"):
        storage.delete("key")
    clock.now += 2 * 17 * 60
    parts.copies().repair()
    assert s3.get("key") == b"new"
    assert storage.delete("key")
