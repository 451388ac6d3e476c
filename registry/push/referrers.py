"""List referrers of manifests in hosted repositories, such as signatures and SBOMs.

The descriptor of each referrer is stored when the referrer is pushed.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from entrepot.datastore.content import ContentStore, StoredManifest
from entrepot.datastore.errors import Malformed, NotFound
from entrepot.datastore.manifest import LARGEST, OCI_INDEX
from entrepot.datastore.refs import Digest, Repository, Tag

log = logging.getLogger(__name__)

Entry = dict[str, Any]
"""An `Entry` is a descriptor in the JSON form of the OCI image-spec."""


@dataclass(frozen=True, slots=True)
class Page:
    """A `Page` is a page of the list of referrers, as an OCI index.

    `last` is the last referrer of the page if another page follows, else None.
    """

    body: bytes
    last: Digest | None = None


@dataclass(frozen=True, slots=True)
class Referrers:
    """A `Referrers` lists the referrers in hosted repositories."""

    store: ContentStore

    def page(
        self,
        name: Repository,
        subject_digest: Digest,
        *,
        artifact_type: str | None = None,
        after: Digest | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return a manifest's referrers after *after*: at most *limit* entries and 4 MiB.

        The manifest itself need not be stored.
        """
        listed_entries: list[Entry] = []
        size = 0
        last: Digest | None = None
        for digest, entry in self._entries(name, subject_digest, after):
            if artifact_type is not None and entry.get("artifactType") != artifact_type:
                continue
            size += len(json.dumps(entry))
            if len(listed_entries) == limit or (listed_entries and size > LARGEST):
                return Page(_index(listed_entries), last)
            listed_entries.append(entry)
            last = digest
        return Page(_index(listed_entries))

    def _entries(
        self, name: Repository, subject_digest: Digest, after: Digest | None
    ) -> Iterator[tuple[Digest, Entry]]:
        """Yield the linked referrers of a manifest, sorted by digest.

        These are the referrers that were recorded when they were pushed, and the referrers that a
        client listed in the referrers tag.
        """
        tagged = self._tagged(name, subject_digest)
        recorded = set(self.store.repositories.referrers(name, subject_digest))
        for digest in sorted(recorded | tagged):
            if after is not None and digest <= after:
                continue
            if not self.store.repositories.links_manifest(name, digest):
                continue
            entry = (
                self._recorded(name, subject_digest, digest)
                if digest in recorded
                else self._read(name, digest)
            )
            if entry:
                yield digest, entry

    def _read(self, name: Repository, digest: Digest) -> Entry | None:
        stored = self.store.manifest(name, digest)
        return describe(stored) if stored else None

    def _recorded(self, name: Repository, subject_digest: Digest, digest: Digest) -> Entry | None:
        try:
            return dict(json.loads(self.store.repositories.referrer(name, subject_digest, digest)))
        except (NotFound, ValueError):
            return None

    def _tagged(self, name: Repository, subject_digest: Digest) -> set[Digest]:
        """Return the referrers that a client listed in the referrers tag.

        OCI distribution-spec 1.1, "Enabling the Referrers API", requires that these referrers are
        listed. Only digests are returned, because the tag may list thousands of manifests with
        megabytes of annotations each.
        """
        state = self.store.repositories.tag(
            name, Tag(f"{subject_digest.algorithm}-{subject_digest.hex[:64]}")
        )
        index = self.store.manifest(name, state.digest) if state else None
        listed = index.manifest.parts() if index else ()
        found = ((digest, self.store.manifest(name, digest)) for digest in listed)
        return {digest for digest, stored in found if stored and subject(stored) == subject_digest}


def subject(stored: StoredManifest) -> Digest | None:
    """Return the digest in a manifest's field `subject`, or None without that field."""
    return stored.manifest.subject.digest if stored.manifest.subject else None


def describe(stored: StoredManifest) -> Entry:
    """Return the descriptor of a manifest for the list of referrers."""
    entry: Entry = {
        "mediaType": stored.media_type,
        "digest": str(stored.digest),
        "size": len(stored.body),
    }
    if stored.manifest.artifact_type:
        entry["artifactType"] = stored.manifest.artifact_type
    annotations = _texts(stored.manifest.annotations)
    if annotations:
        entry["annotations"] = annotations
    return entry


def _texts(annotations: Mapping[str, Any]) -> dict[str, str]:
    """Return only the annotations that are strings, because many clients cannot parse others."""
    return {name: text for name, text in annotations.items() if isinstance(text, str)}


def _index(entries: list[Entry]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def parse_after(text: str | None) -> Digest | None:
    """Return the digest after which a page begins, or None for the first page."""
    try:
        return Digest.parse(text) if text else None
    except Malformed:
        return None
