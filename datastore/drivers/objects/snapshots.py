"""Read and write the objects of the snapshot of the index (`datastore/snapshot.py`).

The journal of the bucket does not remember these objects, because they are read only once, after
the index was lost. The journal is limited to 256 MiB, and this space is needed for objects that
clients request. From a snapshot, the journal gets only the origin of each repository.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial

from entrepot.datastore.drivers.objects.client import ObjectClient
from entrepot.datastore.drivers.objects.file import ObjectFile
from entrepot.datastore.drivers.objects.journal import BucketJournal, Known
from entrepot.datastore.drivers.objects.storage import Ownership
from entrepot.datastore.errors import StorageBroken, storage_error


@dataclass(frozen=True, slots=True)
class BucketSnapshots:
    """A `BucketSnapshots` reads and writes the snapshot in one bucket."""

    client: ObjectClient
    journal: BucketJournal
    owner: Ownership

    def holds(self) -> bool:
        """Return whether this appliance owns the bucket, and so is permitted to write to it."""
        return self.owner.holds()

    def tags(self, key: str) -> Mapping[str, str]:
        """Return the entity tag of each object below *key*.

        One request returns up to 1,000 tags.
        """
        return dict(self.client.entity_tags(key))

    def read(self, key: str, max_bytes: int) -> bytes | None:
        """Return an object; None if it is absent or has more than *max_bytes* bytes."""
        found = self.client.get(key)
        if found is None or found.meta["size"] > max_bytes:
            return None
        try:
            received = self.client.requests.received
            open_at = partial(self.client.get, key)
            with ObjectFile(key, found, open_at, received) as file:
                return file.read()
        except OSError as error:
            raise storage_error(error) from error

    def write(self, key: str, content: bytes) -> str:
        """Write an object, and return its entity tag.

        Raises: StorageBroken, also if this appliance does not own the bucket.
        """
        if not self.holds():
            raise StorageBroken("another appliance owns the bucket, or its owner is not confirmed")
        return self.client.put(key, content)

    def remember(self, root: str, values: Mapping[str, tuple[bytes, str]]) -> None:
        """Record in the journal those objects below *root* that still have the given entity tag.

        *values* has the content and the entity tag of each key. A process may change an object
        while this method lists the entity tags. So the method reads the generation of each key in
        the journal first: after such a change, the journal does not remember the old content.
        """
        generations = {key: self.journal.generation(key) for key in values}
        for key, entity_tag in self.client.entity_tags(root):
            content, expected = values.get(key, (b"", ""))
            if expected and expected == entity_tag:
                self.journal.learn(key, Known(len(content), content), generations[key])
