"""Prefetch the other layers of an image when a client requests the first layer.

A client fetches a few layers at a time and waits for each layer. Meanwhile the prefetch downloads
the layers that the client has not requested yet. A request for a manifest alone starts no prefetch,
because update bots read manifests and need no layers.
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
from entrepot.runtime.polling import poll
from entrepot.runtime.reused_threads import ReusedThreads

log = logging.getLogger(__name__)

_HEAD_START_S = 0.1
"""The prefetch waits this many seconds, because a client may request several layers at once.

Layers that the client has requested need no prefetch.
"""
_POLL_S = 0.05
_PERMIT_WAIT_S = 60.0


@dataclass(frozen=True, slots=True)
class PrefetchRequest:
    """A `PrefetchRequest` reports that a client requested the blob `digest` in `repository`.

    `task` makes the task that downloads another blob of the repository.
    """

    repository: Repository
    digest: Digest
    host: str
    task: Callable[[Digest], Task]


class Prefetch:
    """A `Prefetch` fetches blobs before a client requests these blobs.

    All workers together prefetch at most *concurrency* blobs of an upstream at a time. *folder*
    contains *concurrency* lock files for each upstream, and one for each manifest whose prefetch is
    running.
    """

    def __init__(
        self, store: ContentStore, downloads: SingleFlight, folder: Path, concurrency: int
    ) -> None:
        self._store = store
        self._downloads = downloads
        self._folder = folder
        self._concurrency = concurrency
        self._threads = ReusedThreads()

    def follow(self, request: PrefetchRequest) -> None:
        """Start threads that fetch the other parts of the manifest that names a requested blob.

        This call returns at once.
        """
        if self._concurrency:
            # If the process cannot start another thread, the layers are not prefetched.
            with contextlib.suppress(RuntimeError):
                self._threads.start(lambda: self._run(request), "ahead")

    def _run(self, request: PrefetchRequest) -> None:
        try:
            time.sleep(_HEAD_START_S)
            self._fetch_others(request)
        except (RegistryError, DatastoreError) as error:
            log.info("prefetch failed", extra={"digest": request.digest, "error": error})

    def _fetch_others(self, request: PrefetchRequest) -> None:
        stored = self._store.manifest_listing(request.repository, request.digest)
        if stored is None:
            return
        path = self._folder / f"ahead-{request.host.replace(':', '_')}-{stored.digest.hex}"
        with holding(path, 0) as lock:
            if lock:
                self._fetch_in_threads(request, deque(stored.manifest.parts()))

    def _fetch_in_threads(self, request: PrefetchRequest, digests: deque[Digest]) -> None:
        threads = [
            threading.Thread(target=self._run_thread, args=(request, digests), daemon=True)
            for _ in range(min(self._concurrency, len(digests)))
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _run_thread(self, request: PrefetchRequest, digests: deque[Digest]) -> None:
        """Fetch the blobs of the image one after the other.

        The first failed download, or a lack of space, ends all prefetch threads of the image.
        """
        try:
            permit = self._permit(request.host)
            if permit is None:
                return
            with permit:
                while digests:
                    if not self._fetch(request, digests.popleft()):
                        digests.clear()
        except (IndexError, RegistryError, DatastoreError):
            digests.clear()

    def _fetch(self, request: PrefetchRequest, digest: Digest) -> bool:
        """Download a blob unless it is stored or being downloaded.

        Return False if the download failed.
        """
        task = replace(request.task(digest), is_ahead=True)
        if self._downloads.stored_size(task) is not None or self._downloads.is_running(task):
            return True
        download, is_ours = self._downloads.begin(task)
        if download is None or not is_ours:
            return True
        download.wait_opened()
        download.wait_done()
        return download.error is None

    def _permit(self, host: str) -> LockedFile | None:
        """Wait for a free prefetch lock of the upstream; all workers share these locks.

        Return None after a minute without a free lock.
        """
        paths = [
            self._folder / f"lane-{host.replace(':', '_')}-{number}"
            for number in range(self._concurrency)
        ]
        return poll(lambda: next(filter(None, map(try_lock, paths)), None), _PERMIT_WAIT_S, _POLL_S)
