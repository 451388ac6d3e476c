"""Embed the registry in another Python program, which passes settings (docs/library.md).

An embedded registry reads no configuration file and runs without HAProxy. If the program requests
background work, threads of the program do the work of the appliance's logger and cleaner.
"""

from __future__ import annotations

import atexit
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol
from wsgiref.types import StartResponse, WSGIEnvironment

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import on_disk, open_index, open_storage
from entrepot.datastore.globs import Globs
from entrepot.datastore.index import Index
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.app import App, Parts, assemble
from entrepot.registry.auth import basic
from entrepot.registry.auth.basic import Anonymous, Check
from entrepot.registry.auth.identity import Authenticator
from entrepot.registry.auth.rules import AccessGrant, AccessRules
from entrepot.registry.library.access_hook import AccessHook, Use
from entrepot.registry.library.access_tracker import AccessTracker
from entrepot.registry.library.log_bridge import forward_to
from entrepot.registry.server.gunicorn_app import AddressServing, GunicornApplication
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from entrepot.runtime.clock import Clock
from entrepot.runtime.docker_hub import default_url

log = logging.getLogger(__name__)

OnBlobAccess = Callable[[str, int, str], None]
"""An `OnBlobAccess` receives a blob's digest, its size in bytes (0 if unknown), and its repository.
"""

# This many layers are prefetched at a time, as with the default of `proxy.prefetch`.
_PREFETCH = 3
_KEEP_S = 1.0


class BackgroundCleaner(Protocol):
    """A `BackgroundCleaner` runs a thread that keeps a data directory below its size limits.

    The class `cleaner.Cleaner` implements this interface.

    Each process that serves calls `start` after the fork. The function *settle* writes to the index
    all access times that this process has recorded, and returns False if that fails. `wake`
    requests an eviction and passes the number of bytes that are needed.
    """

    @property
    def budget(self) -> Budget:
        """The size limits of the data directory."""
        ...

    def start(self, root: Path, index: Index, settle: Callable[[], bool]) -> None:
        """Start the cleaner's thread in this process."""
        ...

    def wake(self, needs: int) -> None:
        """Request an eviction that makes room for *needs* bytes below the size limits."""
        ...

    def stop(self) -> None:
        """Stop the cleaner's thread after the eviction in progress has ended."""
        ...


class Application:
    """An `Application` is a WSGI application that serves one data directory.

    The application's threads start in each process that serves, at the first request or when
    `begin` is called.
    """

    def __init__(self, app: App, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._app = app
        self._begin = begin
        self._end = end
        self._lock = threading.Lock()
        self._process = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Handle a request."""
        if self._process != os.getpid():
            self.begin()
        return self._app(environ, start_response)

    def begin(self) -> None:
        """Start the threads of this process, if they do not run yet."""
        with self._lock:
            if self._process != os.getpid():
                self._process = os.getpid()
                self._begin()
                atexit.register(self.close)

    def close(self) -> None:
        """Stop the threads of this process and flush all data. `close` may be called repeatedly."""
        with self._lock:
            if self._process == os.getpid():
                self._process = 0
                self._end()
                atexit.unregister(self.close)


def create_app(  # noqa: PLR0913 - keyword arguments, all with a default
    root: str | Path,
    *,
    upstreams: Mapping[str, str | UpstreamConfig] | Iterable[str | UpstreamConfig] = (),
    default_upstream: str | None = None,
    hosted: Iterable[str] = (),
    authenticator: Authenticator | Check | None = None,
    anonymous: Anonymous = "none",
    rules: Iterable[AccessGrant] | None = None,
    delete: bool = False,
    on_blob_access: OnBlobAccess | None = None,
    logger: logging.Logger | None = None,
    track: bool = False,
    cleaner: BackgroundCleaner | None = None,
    trust_proxy: bool = False,
) -> Application:
    """Create the registry below the folder *root*.

    `create_app` starts no thread and sends no request.

    The page docs/library.md describes the arguments. Raises: ValueError or InvalidRepository for an
    invalid argument; OSError if the folder cannot be created.
    """
    root = Path(root).absolute()
    state = root / "entrepot"
    state.mkdir(parents=True, exist_ok=True)
    if logger is not None:
        forward_to(logger)
    hosted_globs = Globs(hosted)
    clock = Clock(state / layout.CLOCK)
    storage, index = open_storage(on_disk(root), clock), open_index(state, clock)
    parts = Parts(
        storage=storage,
        index=index,
        state=state,
        upstreams=_upstreams(upstreams, default_upstream),
        authenticator=basic.authenticator(
            authenticator, anonymous=anonymous, rules=None if rules is None else AccessRules(rules)
        ),
        reservations=_reservations(index, cleaner, clock),
        prefetch=_PREFETCH,
        delete_enabled=delete,
        may_host=lambda name: name in hosted_globs,
        epoch=_process_epoch() if trust_proxy else None,
        clock=clock,
    )
    tracker = AccessTracker(index, clock=clock) if track or cleaner else None
    app = assemble(parts)
    used = _access_callback(BlobStore(storage), tracker, on_blob_access)
    app.add_middleware(AccessHook(used, hides=not trust_proxy))
    threads = _Threads(root, index, tracker, cleaner, clock)
    return Application(app, threads.start, threads.stop)


def serve(app: Application, address: str = "127.0.0.1:5000", *, workers: int = 1) -> None:
    """Serve *app* at `host:port` with gunicorn until SIGTERM or SIGINT, then raise SystemExit."""
    GunicornApplication(
        app, AddressServing(address, workers, started=app.begin, stopped=app.close)
    ).run()


class _Threads:
    """A `_Threads` manages the background threads of one process."""

    def __init__(
        self,
        root: Path,
        index: Index,
        tracker: AccessTracker | None,
        cleaner: BackgroundCleaner | None,
        clock: Clock,
    ) -> None:
        self._clock = clock
        self._stopped = threading.Event()
        self._root = root
        self._index = index
        self._tracker = tracker
        self._cleaner = cleaner

    def start(self) -> None:
        if self._tracker:
            self._stopped = threading.Event()
            threading.Thread(target=self._keep_time, name="clock", daemon=True).start()
            self._tracker.start()
        if self._tracker and self._cleaner:
            self._cleaner.start(self._root, self._index, self._tracker.flush)

    def _keep_time(self) -> None:
        stopped = self._stopped
        while not stopped.wait(_KEEP_S):
            self._clock.keep()

    def stop(self) -> None:
        self._stopped.set()
        if self._cleaner:
            self._cleaner.stop()
        if self._tracker:
            self._tracker.stop()
        self._index.close()


def _access_callback(
    blobs: BlobStore, tracker: AccessTracker | None, on_blob_access: OnBlobAccess | None
) -> Callable[[Use], None] | None:
    if tracker is None and on_blob_access is None:
        return None

    def used(use: Use) -> None:
        if tracker:
            tracker.note(use.digest)
        if on_blob_access and use.is_blob:
            _call(on_blob_access, use, blobs)

    return used


def _call(on_blob_access: OnBlobAccess, use: Use, blobs: BlobStore) -> None:
    stat = blobs.stat(use.digest)
    size = stat.size if stat else use.size
    try:
        on_blob_access(str(use.digest), size or 0, use.repository)
    except Exception:  # A client's pull must not fail because of an error in the callback.
        log.exception("on_blob_access failed", extra={"digest": use.digest})


def _reservations(index: Index, cleaner: BackgroundCleaner | None, clock: Clock) -> Reservations:
    wake = cleaner.wake if cleaner else None
    return Reservations(index.reservations, _limits(cleaner), wake, clock, notes=index.notes)


def _limits(cleaner: BackgroundCleaner | None) -> SpaceLimits:
    if cleaner is None:
        return SpaceLimits()
    budget = cleaner.budget
    return SpaceLimits(
        max_used_bytes=budget.max_used_bytes, largest=budget.target, start=budget.start
    )


def _process_epoch() -> Callable[[], str]:
    """Return a function with a constant new epoch: a proxy ignores responses of earlier starts."""
    name = secrets.token_hex(8)
    return lambda: name


def _upstreams(
    upstreams: Mapping[str, str | UpstreamConfig] | Iterable[str | UpstreamConfig],
    default: str | None,
) -> UpstreamTable:
    if isinstance(upstreams, Mapping):
        found = [_source(host, each) for host, each in upstreams.items()]
    else:
        found = [_source(each, each) if isinstance(each, str) else each for each in upstreams]
    sources = {source.host: source for source in found}
    if default is not None and default not in sources:
        raise ValueError(f"the default upstream {default!r} is not one of the upstreams")
    return UpstreamTable(FixedUpstreams(sources), default=default)


def _source(host: str, given: str | UpstreamConfig) -> UpstreamConfig:
    if isinstance(given, UpstreamConfig):
        return given
    host = host.lower()
    url = default_url(host) if host == given.lower() else given.rstrip("/")
    return UpstreamConfig(host, url)
