"""What was pushed about a manifest: signatures, SBOMs, described as they were when they came."""

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
"""A descriptor as the image-spec's JSON has it."""


@dataclass(frozen=True, slots=True)
class Page:
    """A part of the list, as an OCI index; `last` is what the next page comes after, if any."""

    body: bytes
    last: Digest | None = None


@dataclass(frozen=True, slots=True)
class Referrers:
    """The referrers of hosted repositories."""

    store: ContentStore

    def page(
        self,
        name: Repository,
        about: Digest,
        *,
        artifact_type: str | None = None,
        after: Digest | None = None,
        limit: int | None = None,
    ) -> Page:
        """Return what refers to a manifest, here or not: at most *limit* entries, and 4 MiB."""
        shown: list[Entry] = []
        size = 0
        last: Digest | None = None
        for digest, entry in self._entries(name, about, after):
            if artifact_type is not None and entry.get("artifactType") != artifact_type:
                continue
            size += len(json.dumps(entry))
            if len(shown) == limit or (shown and size > LARGEST):
                return Page(_index(shown), last)
            shown.append(entry)
            last = digest
        return Page(_index(shown))

    def _entries(
        self, name: Repository, about: Digest, after: Digest | None
    ) -> Iterator[tuple[Digest, Entry]]:
        """Yield what is kept and what the tag names, in order, if it is still here."""
        tagged = self._tagged(name, about)
        kept = set(self.store.repositories.referrers(name, about))
        for digest in sorted(kept | tagged):
            if after is not None and digest <= after:
                continue
            if self.store.repositories.linked_manifest(name, digest) is None:
                continue
            entry = self._kept(name, about, digest) if digest in kept else self._read(name, digest)
            if entry:
                yield digest, entry

    def _read(self, name: Repository, digest: Digest) -> Entry | None:
        held = self.store.manifest(name, digest)
        return describe(held) if held else None

    def _kept(self, name: Repository, about: Digest, digest: Digest) -> Entry | None:
        try:
            return dict(json.loads(self.store.repositories.referrer(name, about, digest)))
        except (NotFound, ValueError):
            return None

    def _tagged(self, name: Repository, about: Digest) -> set[Digest]:
        """Return what a client listed by tag, before there was this list.

        OCI distribution-spec 1.1, "Enabling the Referrers API": they must be shown. Only digests:
        thousands of manifests with megabytes of annotations each may be listed.
        """
        state = self.store.repositories.tag(name, Tag(f"{about.algorithm}-{about.hex[:64]}"))
        index = self.store.manifest(name, state.digest) if state else None
        listed = index.manifest.parts() if index else ()
        found = ((digest, self.store.manifest(name, digest)) for digest in listed)
        return {digest for digest, held in found if held and subject(held) == about}


def subject(held: StoredManifest) -> Digest | None:
    """Return what a manifest is about, if anything."""
    return held.manifest.subject.digest if held.manifest.subject else None


def describe(held: StoredManifest) -> Entry:
    """Describe a manifest to whoever asks what refers to its subject."""
    entry: Entry = {
        "mediaType": held.media_type,
        "digest": str(held.digest),
        "size": len(held.body),
    }
    if held.manifest.artifact_type:
        entry["artifactType"] = held.manifest.artifact_type
    annotations = _texts(held.manifest.annotations)
    if annotations:
        entry["annotations"] = annotations
    return entry


def _texts(annotations: Mapping[str, Any]) -> dict[str, str]:
    """Leave out what is no text: many clients then read nothing of the list that it stands in."""
    return {name: text for name, text in annotations.items() if isinstance(text, str)}


def _index(entries: list[Entry]) -> bytes:
    return json.dumps({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}).encode()


def parse_after(text: str | None) -> Digest | None:
    """Read where a page begins; what is no digest begins at the first."""
    try:
        return Digest.parse(text) if text else None
    except Malformed:
        return None
