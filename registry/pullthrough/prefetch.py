"""A manifest's layers, ahead of the client: who asks for the first will ask for the others.

A client fetches a few layers at a time and waits for each; what it has not come to yet is fetched
meanwhile. Not on a manifest alone: update bots read manifests and want no layers.
"""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from entrepot.datastore.content import ContentStore
from entrepot.datastore.errors import DatastoreError
from entrepot.datastore.locks import LockedFile, holding, try_lock
from entrepot.datastore.refs import Digest, Repository
from entrepot.registry.download.singleflight import SingleFlight
from entrepot.registry.download.writer import Task
from entrepot.registry.errors import RegistryError

log = logging.getLogger(__name__)

_HEAD_START_S = 0.1
"""A client asks for several layers at once: those are its own."""
_POLL_S = 0.05
_PATIENCE_S = 60.0


@dataclass(frozen=True, slots=True)
class PrefetchRequest:
    """A blob was asked for under `repository`; `task` tells how to ask for any other there."""

    repository: Repository
    digest: Digest
    host: str
    task: Callable[[Digest], Task]


class Prefetch:
    """Fetches ahead, `lanes` blobs at a time from each upstream, over all workers.

    `folder` holds the lock files of lanes and of manifests that somebody is at.
    """

    def __init__(
        self, store: ContentStore, downloads: SingleFlight, folder: Path, lanes: int
    ) -> None:
        self._store = store
        self._downloads = downloads
        self._folder = folder
        self._lanes = lanes

    def follow(self, asked: PrefetchRequest) -> None:
        """Fetch what the manifest of a wanted blob names besides; nobody waits for that."""
        if self._lanes:
            thread = threading.Thread(
                target=self._quietly, args=(asked,), name="ahead", daemon=True
            )
            with contextlib.suppress(RuntimeError):  # no thread is left
                thread.start()

    def _quietly(self, asked: PrefetchRequest) -> None:
        try:
            time.sleep(_HEAD_START_S)
            self._fetch_others(asked)
        except (RegistryError, DatastoreError) as error:
            log.info("nothing fetched ahead", extra={"digest": asked.digest, "error": error})

    def _fetch_others(self, asked: PrefetchRequest) -> None:
        held = self._store.manifest_listing(asked.repository, asked.digest)
        if held is None:
            return
        path = self._folder / f"ahead-{asked.host.replace(':', '_')}-{held.digest.hex}"
        with holding(path, 0) as turn:
            if turn:
                self._fetch_in_lanes(asked, deque(held.manifest.parts()))

    def _fetch_in_lanes(self, asked: PrefetchRequest, wanted: deque[Digest]) -> None:
        lanes = [
            threading.Thread(target=self._lane, args=(asked, wanted), daemon=True)
            for _ in range(min(self._lanes, len(wanted)))
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def _lane(self, asked: PrefetchRequest, wanted: deque[Digest]) -> None:
        """Fetch one after the other; the first that fails, or finds no room, ends it for all."""
        try:
            resolved = self._place(asked.host)
            if resolved is None:
                return
            with resolved:
                while wanted:
                    if not self._fetch(asked, wanted.popleft()):
                        wanted.clear()
        except (IndexError, RegistryError, DatastoreError):
            wanted.clear()

    def _fetch(self, asked: PrefetchRequest, digest: Digest) -> bool:
        """Download one blob that nobody is at; False when it did not come to be stored."""
        task = replace(asked.task(digest), is_ahead=True)
        if self._downloads.stored_size(task) is not None or self._downloads.is_running(task):
            return True
        download, is_ours = self._downloads.begin(task)
        if download is None or not is_ours:
            return True
        download.wait_opened()
        download.wait_done()
        return download.error is None

    def _place(self, host: str) -> LockedFile | None:
        """Wait for one of the upstream's lanes, which all workers share."""
        deadline = time.monotonic() + _PATIENCE_S
        while time.monotonic() < deadline:
            for lane in range(self._lanes):
                held = try_lock(self._folder / f"lane-{host.replace(':', '_')}-{lane}")
                if held:
                    return held
            time.sleep(_POLL_S)
        return None
