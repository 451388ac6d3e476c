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
from entrepot.registry.download.task import Task
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
        self, shelf: ContentStore, inflight: SingleFlight, folder: Path, lanes: int
    ) -> None:
        self._shelf = shelf
        self._inflight = inflight
        self._folder = folder
        self._lanes = lanes

    def follow(self, wish: PrefetchRequest) -> None:
        """Fetch what the manifest of a wanted blob names besides; nobody waits for that."""
        if self._lanes:
            thread = threading.Thread(target=self._quietly, args=(wish,), name="ahead", daemon=True)
            with contextlib.suppress(RuntimeError):  # no thread is left
                thread.start()

    def _quietly(self, wish: PrefetchRequest) -> None:
        try:
            time.sleep(_HEAD_START_S)
            self._fetch_others(wish)
        except (RegistryError, DatastoreError) as error:
            log.info("nothing fetched ahead", extra={"digest": wish.digest, "error": error})

    def _fetch_others(self, wish: PrefetchRequest) -> None:
        held = self._shelf.manifest_naming(wish.repository, wish.digest)
        if held is None:
            return
        path = self._folder / f"ahead-{wish.host.replace(':', '_')}-{held.digest.hex}"
        with holding(path, 0) as turn:
            if turn:
                self._fetch_in_lanes(wish, deque(held.manifest.parts()))

    def _fetch_in_lanes(self, wish: PrefetchRequest, wanted: deque[Digest]) -> None:
        lanes = [
            threading.Thread(target=self._lane, args=(wish, wanted), daemon=True)
            for _ in range(min(self._lanes, len(wanted)))
        ]
        for lane in lanes:
            lane.start()
        for lane in lanes:
            lane.join()

    def _lane(self, wish: PrefetchRequest, wanted: deque[Digest]) -> None:
        """Fetch one after the other; the first that fails, or finds no room, ends it for all."""
        try:
            place = self._place(wish.host)
            if place is None:
                return
            with place:
                while wanted:
                    if not self._fetch(wish, wanted.popleft()):
                        wanted.clear()
        except (IndexError, RegistryError, DatastoreError):
            wanted.clear()

    def _fetch(self, wish: PrefetchRequest, digest: Digest) -> bool:
        """Download one blob that nobody is at; False when it did not come to be stored."""
        task = replace(wish.task(digest), is_ahead=True)
        if self._inflight.stored_size(task) is not None or self._inflight.is_running(task):
            return True
        download, is_ours = self._inflight.begin(task)
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
