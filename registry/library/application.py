"""The registry in somebody's own Python process, made of plain values (docs/library.md).

No configuration is read here and nothing stands before us: what the appliance's other programs do,
a thread or two of this process do, if they are asked to.
"""

from __future__ import annotations

import atexit
import ipaddress
import logging
import os
import secrets
import threading
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Protocol
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIEnvironment

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.drivers.sqlite import SqliteIndex
from entrepot.datastore.globs import Globs
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.app import App, Parts, assemble
from entrepot.registry.auth import identity
from entrepot.registry.auth.identity import Anonymous, Authenticator, Check
from entrepot.registry.auth.rules import AccessGrant, AccessRules
from entrepot.registry.library.access_hook import AccessHook, Use
from entrepot.registry.library.access_tracker import AccessTracker
from entrepot.registry.library.log_bridge import hand_to
from entrepot.registry.server.gunicorn_app import GunicornApplication, Listening
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Fixed, UpstreamTable
from entrepot.runtime.clock import Clock

log = logging.getLogger(__name__)

OnBlobAccess = Callable[[str, int, str], None]
"""Takes a blob's digest, its size in bytes (0 where nobody knows it yet), and its repository."""

# layers fetched ahead of a client at a time, as in the appliance
_PREFETCH = 3
_KEEP_S = 1.0
_DOCKER_HUB = {"docker.io": "https://registry-1.docker.io"}


class BackgroundCleaner(Protocol):
    """Keeps a data directory within bounds, in a thread of this process; `cleaner.Cleaner` is one.

    `start` is called in each process that serves, after any fork, with what brings all uses that
    this process knows of into the index and tells whether it could. `wake` asks for room, in bytes.
    """

    @property
    def budget(self) -> Budget:
        """The bounds."""
        ...

    def start(self, root: Path, index: AccessIndex, settle: Callable[[], bool]) -> None:
        """Begin, in a thread."""
        ...

    def wake(self, needs: int) -> None:
        """Look now."""
        ...

    def stop(self) -> None:
        """End; what was begun is finished."""
        ...


class Application:
    """A WSGI application: the registry below one data directory.

    Its threads are started in each process that serves, with the first request or by `begin`.
    """

    def __init__(self, app: App, begin: Callable[[], None], end: Callable[[], None]) -> None:
        self._app = app
        self._begin = begin
        self._end = end
        self._lock = threading.Lock()
        self._process = 0

    def __call__(self, environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        """Answer a request."""
        if self._process != os.getpid():
            self.begin()
        return self._app(environ, start_response)

    def begin(self) -> None:
        """Start the threads of this process; may be repeated."""
        with self._lock:
            if self._process != os.getpid():
                self._process = os.getpid()
                self._begin()
                atexit.register(self.close)

    def close(self) -> None:
        """End the threads of this process, and leave nothing unwritten; may be repeated."""
        with self._lock:
            if self._process == os.getpid():
                self._process = 0
                self._end()
                atexit.unregister(self.close)


def create_app(  # noqa: PLR0913 - what a program may say, each by its name and with a default
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
    """Make the registry below the folder *root*; nothing is started, no upstream is talked to.

    docs/library.md says what each argument means. Raises: ValueError, InvalidRepository, for one
    that means nothing; OSError, when the folder cannot be made.
    """
    root = Path(root).absolute()
    state = root / "entrepot"
    state.mkdir(parents=True, exist_ok=True)
    if logger is not None:
        hand_to(logger)
    own = Globs(hosted)
    clock = Clock(state / layout.CLOCK)
    storage, index = Filesystem(root, clock), SqliteIndex(state / layout.INDEX, clock=clock)
    parts = Parts(
        storage=storage,
        index=index,
        state=state,
        upstreams=_upstreams(upstreams, default_upstream),
        authenticator=identity.authenticator(
            authenticator, anonymous=anonymous, rules=None if rules is None else AccessRules(rules)
        ),
        reservations=Reservations(
            index, _limits(cleaner), cleaner.wake if cleaner else None, clock
        ),
        prefetch=_PREFETCH,
        delete_enabled=delete,
        may_host=lambda name: name in own,
        epoch=_a_generation() if trust_proxy else None,
        clock=clock,
    )
    tracker = AccessTracker(index, clock=clock) if track or cleaner else None
    app = assemble(parts)
    used = _used(BlobStore(storage), tracker, on_blob_access)
    app.add_middleware(AccessHook(used, hides=not trust_proxy))
    threads = _Threads(root, index, tracker, cleaner, clock)
    return Application(app, threads.start, threads.stop)


def serve(app: Application, address: str = "127.0.0.1:5000", *, workers: int = 1) -> None:
    """Serve *app* at `host:port` with gunicorn, until SIGTERM or SIGINT; then SystemExit."""
    GunicornApplication(
        app, Listening(address, workers, started=app.begin, stopped=app.close)
    ).run()


class _Threads:
    """What runs beside the requests of one process."""

    def __init__(
        self,
        root: Path,
        index: SqliteIndex,
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


def _used(
    blobs: BlobStore, tracker: AccessTracker | None, on_blob_access: OnBlobAccess | None
) -> Callable[[Use], None] | None:
    if tracker is None and on_blob_access is None:
        return None

    def used(use: Use) -> None:
        if tracker:
            tracker.note(use.digest)
        if on_blob_access and use.is_blob:
            _tell(on_blob_access, use, blobs)

    return used


def _tell(on_blob_access: OnBlobAccess, use: Use, blobs: BlobStore) -> None:
    stat = blobs.stat(use.digest)
    size = stat.size if stat else use.size
    try:
        on_blob_access(str(use.digest), size or 0, use.repository)
    except Exception:  # the program's own mistake costs no client its pull
        log.exception("on_blob_access failed", extra={"digest": use.digest})


def _limits(cleaner: BackgroundCleaner | None) -> SpaceLimits:
    if cleaner is None:
        return SpaceLimits()
    budget = cleaner.budget
    return SpaceLimits(
        max_used_bytes=budget.max_used_bytes, largest=budget.target, start=budget.start
    )


def _a_generation() -> Callable[[], str]:
    """Return a name for this application's life: what a proxy remembers is worth no more."""
    name = secrets.token_hex(8)
    return lambda: name


def _upstreams(
    named: Mapping[str, str | UpstreamConfig] | Iterable[str | UpstreamConfig], default: str | None
) -> UpstreamTable:
    if isinstance(named, Mapping):
        found = [_source(host, each) for host, each in named.items()]
    else:
        found = [_source(each, each) if isinstance(each, str) else each for each in named]
    sources = {source.host: source for source in found}
    if default is not None and default not in sources:
        raise ValueError(f"the default upstream {default!r} is none of the upstreams")
    return UpstreamTable(Fixed(sources), default=default)


def _source(host: str, said: str | UpstreamConfig) -> UpstreamConfig:
    if isinstance(said, UpstreamConfig):
        return said
    host = host.lower()
    return UpstreamConfig(host, _url(host) if host == said.lower() else said.rstrip("/"))


def _url(host: str) -> str:
    """Return where a registry is of which only the name is known."""
    return _DOCKER_HUB.get(host) or f"{'http' if _is_loopback(host) else 'https'}://{host}"


def _is_loopback(host: str) -> bool:
    name = urlsplit(f"//{host}").hostname or ""
    try:
        return name == "localhost" or ipaddress.ip_address(name).is_loopback
    except ValueError:
        return False
