"""Start the worker processes with the parts of the application that the settings select."""

from __future__ import annotations

import dataclasses
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING
from wsgiref.types import WSGIApplication

from entrepot import config
from entrepot.config import ConfigError, ParsedPullSecret, Problem, parse_pull_secret
from entrepot.config.notifications import bare_url
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.budget import Budget
from entrepot.datastore.drivers.table import open_index, open_storage
from entrepot.datastore.globs import Globs
from entrepot.datastore.index import Index
from entrepot.datastore.refs import Repository
from entrepot.datastore.reservations import CleanerWakeup, Reservations, SpaceLimits
from entrepot.datastore.storage import Storage, report_requests
from entrepot.edge.cache_epoch import CacheEpoch
from entrepot.edge.cache_fill import CacheFill
from entrepot.edge.invalidation import Invalidation
from entrepot.registry.api import router
from entrepot.registry.api.authorize import MayHost
from entrepot.registry.api.write_events import WriteEvents
from entrepot.registry.app import App, Parts, assemble
from entrepot.registry.client_auth import client_auth
from entrepot.registry.download.spoolfile import discard_partial_downloads
from entrepot.registry.events import BreakerEvents, Events, damaged
from entrepot.registry.push.upload_sessions import UploadLimits
from entrepot.registry.push_settings import push_rules
from entrepot.registry.routing.name_conflicts import leaves_out, shadowed
from entrepot.registry.server.gunicorn_app import GunicornApplication, SocketServing
from entrepot.registry.server.limit_reports import LimitReports
from entrepot.registry.server.polled import ConnectionLimits
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import Shared, UpstreamTable
from entrepot.runtime import docker_hub, logs, outbound
from entrepot.runtime.clock import Clock, boot
from entrepot.runtime.log_limit import LogLimit
from entrepot.runtime.proxies import Proxies
from entrepot.runtime.reloading_file import ReloadingFile
from entrepot.runtime.run_names import (
    BREAKERS,
    FRONT_SOCKET,
    METRICS,
    PULL_SECRET,
    WAKE_SOCKET,
    blob_socket,
    worker_socket,
)

if TYPE_CHECKING:  # Only a program that redirects clients loads `redirects`.
    from entrepot.registry.pullthrough.redirects import Redirects

log = logging.getLogger(__name__)

_MOST_SOURCES = 1024
"""A worker caches the settings of at most this many upstreams, because a glob matches any number of
hosts.
"""


def main() -> None:
    """Serve registry requests until a signal stops the process."""
    settings = config.resolved()
    limit = LogLimit()
    logs.configure(
        settings.log.level,
        settings.log.formatter,
        "registry",
        fields=settings.log.fields,
        has_caller=settings.log.reportcaller,
        limit=limit,
    )
    # The log handler of gunicorn's logger does not have the filter, so the logger gets the filter.
    logging.getLogger("gunicorn.error").addFilter(limit)
    discard_partial_downloads(settings.storage.statedir, boot())
    numbers = range(1, settings.http.workers + 1)
    cache_epoch = CacheEpoch(settings.run)
    invalidation = Invalidation(cache_epoch)
    made = parts(settings, cache_epoch, invalidation)
    limit.reached = partial(made.limited, "log")
    serving = SocketServing(
        tuple(settings.run / worker_socket(number) for number in numbers),
        started=_started(settings, invalidation.start),
        blobs=tuple(settings.run / blob_socket(number) for number in numbers),
        limits=_connection_limits(settings),
        on_limit=made.limited,
    )
    GunicornApplication(_application(settings, made), serving).run()


def _started(settings: Settings, start: Callable[[], None]) -> Callable[[], None]:
    """Return the function that each worker calls after its start; that function calls *start*."""
    trackers = settings.reporting.active
    if not trackers:
        return start
    from entrepot.runtime.reporting import ErrorReports  # noqa: PLC0415 - for error trackers only

    reports = ErrorReports(trackers)

    def start_both() -> None:
        start()
        reports.start()

    return start_both


def _application(settings: Settings, made: Parts) -> WSGIApplication:
    """Return the WSGI application, wrapped in the operator's middleware.

    Raises: SystemExit.
    """
    middleware = settings.middleware
    if not middleware.is_set:
        return assemble(made)
    # Middleware must see each request, so the server must not repeat a response without calling the
    # application.
    made = dataclasses.replace(made, may_repeat=False)
    # The worker loads the modules of middleware only if the operator configures middleware.
    from entrepot.registry import middleware as loading  # noqa: PLC0415
    from entrepot.registry.api import repository_hooks  # noqa: PLC0415

    try:
        hooks = loading.repository_middleware([each.as_pair for each in middleware.repository])
        if hooks:
            made = dataclasses.replace(
                made,
                make_authorization=partial(repository_hooks.HookedAuthorization, hooks),
                add_hooks=lambda app: app.add_middleware(repository_hooks.AfterHooks()),
            )
        return loading.wrapped(assemble(made), [each.as_pair for each in middleware.registry])
    except loading.MiddlewareUnusable as error:
        log.exception("the workers cannot start", extra={"error": error})
        raise SystemExit(1) from error


def _connection_limits(settings: Settings) -> ConnectionLimits:
    """Return the limits above which a worker closes slow connections.

    They are three quarters of the limits at which new requests wait (docs/operations.md).
    """
    limits = settings.limits
    return ConnectionLimits(limits.blobs * 3 // 4, limits.bodies * 3 // 4, limits.minrate)


def parts(settings: Settings, cache_epoch: CacheEpoch, invalidation: Invalidation) -> Parts:
    """Return the parts of the application that the settings select; start no thread."""
    clock = Clock(settings.storage.statedir / layout.CLOCK)
    report = Events(settings.storage.statedir / layout.EVENTS, clock)
    limited = LimitReports(report)
    auth = client_auth(settings, invalidation, limited)
    index = open_index(settings.storage.statedir, clock)
    storage = open_storage(settings.storage, clock)
    report_requests(storage, report)
    return Parts(
        limited=limited,
        uploads=UploadLimits(
            settings.limits.uploads, settings.limits.useruploads, lambda: limited("uploads")
        ),
        storage=storage,
        index=index,
        state=settings.storage.statedir,
        upstreams=_upstreams(
            settings, BreakerEvents(report, cache_epoch.increment), invalidation, clock
        ),
        authenticator=auth.authenticator,
        token_endpoint=auth.token_endpoint,
        reservations=Reservations(
            index.reservations,
            _limits(settings),
            CleanerWakeup(settings.run / WAKE_SOCKET),
            clock,
            notes=index.notes,
        ),
        report=partial(report, "download"),
        metrics=settings.run / METRICS,
        prefetch=settings.proxy.prefetch,
        lanes=settings.proxy.lanes,
        delete_enabled=settings.storage.delete.enabled,
        catalog_page=settings.catalog.maxentries,
        tags_page=settings.tags.maxtags,
        push_rules=push_rules(settings),
        read_only=settings.storage.maintenance.readonly.enabled,
        epoch=invalidation.epoch,
        has_edge_cache=settings.has_edge_cache,
        cache_fill=CacheFill(settings.run / FRONT_SOCKET) if settings.has_edge_cache else None,
        may_host=_may_host(settings),
        clock=clock,
        damaged=partial(damaged, report, cache_epoch.increment),
        add_debug_pages=_debug_pages(settings),
        events=_write_events(settings, limited),
        redirects=_redirects(settings, storage, index, clock),
    )


def _redirects(
    settings: Settings, storage: Storage, index: Index, clock: Clock
) -> Redirects | None:
    """Return the redirects to the storage, or None if the appliance sends every blob."""
    if not settings.has_redirects:
        return None
    from entrepot.registry.storage_redirects import redirects  # noqa: PLC0415 - rarely used

    return redirects(settings, storage, index, clock)


def _debug_pages(settings: Settings) -> Callable[[App], None] | None:
    """Return a function that adds the pages of `http.debug.addr`, or None without that address."""
    debug = settings.http.debug
    if debug.addr is None:
        return None
    # `registry.api.debug` loads a parser of metrics, so a worker imports it only if needed.
    from entrepot.registry.api.debug import DebugResource, DebugSources  # noqa: PLC0415

    resource = DebugResource(
        DebugSources(
            settings.run,
            settings.run / METRICS,
            debug.prometheus.enabled,
            {each.name: bare_url(each.url) for each in settings.notifications.active},
        )
    )

    def add(app: App) -> None:
        app.add_route(router.DEBUG, resource)
        app.add_route(router.PROFILE, resource)

    return add


def _write_events(settings: Settings, limited: LimitReports) -> WriteEvents | None:
    """Return the queue for events of pushes and deletions, or None if no endpoint is configured."""
    if not settings.notifications.active:
        return None
    # These modules load SQLite and UUIDs, so a worker imports them only if an endpoint is
    # configured.
    from entrepot.notifications import setup  # noqa: PLC0415
    from entrepot.registry.api.notify import Notifier  # noqa: PLC0415

    recorder = setup.recorder(settings, lambda lost: limited("events", lost))
    return Notifier(recorder, has_references=settings.notifications.events.includereferences)


def _may_host(settings: Settings) -> MayHost:
    """Return the predicate for repositories that are hosted because they match `hosted:`.

    Official images are excluded: otherwise one pushed image would replace the official image for
    every dockerd that uses the appliance as a mirror. The pattern `**` in `hosted:` is excluded,
    because it sets a retention time and lists no name.
    """
    own = Globs(each.repository for each in settings.hosted if each.repository != "**")
    return lambda name: name in own and not name.name.startswith(docker_hub.OFFICIAL)


def _limits(settings: Settings) -> SpaceLimits:
    budget = Budget(
        settings.cleaner.maxsize,
        settings.cleaner.threshold,
        has_events=bool(settings.notifications.active),
        spoolsize=settings.storage.spoolsize,
    )
    return SpaceLimits(
        max_used_bytes=budget.max_used_bytes,
        largest=budget.target,
        start=budget.start,
        spool=budget.max_reserved_bytes,
    )


def _upstreams(
    settings: Settings, report: BreakerEvents, invalidation: Invalidation, clock: Clock
) -> UpstreamTable:
    secret = _secret(settings, invalidation)
    shared = Shared(
        secret=secret,
        proxies=_proxies(settings.run),
        breakers=settings.run / BREAKERS,
        report=report,
        clock=clock,
    )
    default = config.upstreams_in_force(settings, secret()).default
    return UpstreamTable(_InForce(settings, secret), shared, default=default)


class _InForce:
    """An `_InForce` holds the upstreams in force; a change of the pull secret recomputes them."""

    def __init__(self, settings: Settings, secret: Callable[[], ParsedPullSecret | None]) -> None:
        self._settings = settings
        self._secret = secret
        self._view = self._make_view(secret())

    def hosts(self) -> Sequence[str]:
        """Return the hosts of upstreams that are configured by full name."""
        return self._current().known.hosts

    def config(self, host: str) -> UpstreamConfig | None:
        """Return the settings of an upstream, or None if there is no such upstream."""
        view = self._current()
        found = view.sources.get(host)
        if found is None and view.known.globs and view.known.names(host):
            found = _source(view.known.values(host))
            if len(view.sources) >= _MOST_SOURCES:
                view.sources.clear()
            view.sources[host] = found
        return found

    def _current(self) -> _View:
        view, secret = self._view, self._secret()
        if view.secret is not secret:
            view = self._view = self._make_view(secret)
        return view

    def _make_view(self, secret: ParsedPullSecret | None) -> _View:
        known = config.upstreams_in_force(self._settings, secret)
        return _View(secret, known, {host: _source(known.values(host)) for host in known.hosts})


@dataclass(frozen=True, slots=True)
class _View:
    """A `_View` holds the upstreams that result from one pull secret, and caches the settings.

    PERF: without this cache, the worker would compute the upstream's settings for each request,
    which takes a fifth of the time that a cache hit takes.
    """

    secret: ParsedPullSecret | None
    known: config.UpstreamSet
    sources: dict[str, UpstreamConfig]


def _proxies(run: Path) -> Proxies:
    """Return the proxies that `entrepot serve` read from its environment.

    A worker's own environment has no proxy variables, because the URL of a proxy may contain a
    password.
    """
    handed = outbound.handed_over(run)
    return Proxies(handed.proxies, handed.exempt)


def _secret(
    settings: Settings, invalidation: Invalidation
) -> Callable[[], ParsedPullSecret | None]:
    """Return a function that returns the pull secret currently in force."""
    path = settings.pullsecret.path
    if path is None:
        return lambda: None

    made_in = os.getpid()

    def parse(content: bytes) -> ParsedPullSecret:
        secret = parse_pull_secret(content, settings.pullsecret.ignore, source=str(path))
        if settings.storage.bucket and os.getpid() == made_in:
            # A request to an object store before the fork would break the workers. `entrepot serve`
            # has already checked that no upstream hides a pushed repository.
            return secret
        storage = open_storage(settings.storage)
        known = config.upstreams_in_force(settings, secret)
        for name in shadowed(storage, known.names):
            raise ConfigError([_name_conflict(str(path), name)])
        return secret

    reloading = ReloadingFile(path, parse, last_good=settings.run / PULL_SECRET)
    invalidation.watch(reloading)
    return lambda: reloading.value


def _name_conflict(source: str, name: Repository) -> Problem:
    remedy = f"remove that upstream from the file, or restart with {leaves_out(name)}"
    return Problem(source, f"an upstream in this file would hide {name}, which was pushed", remedy)


def _source(values: config.UpstreamValues) -> UpstreamConfig:
    fields = {each.name for each in dataclasses.fields(UpstreamConfig)}
    given = {name: value for name, value in dataclasses.asdict(values).items() if name in fields}
    return UpstreamConfig(**given)


if __name__ == "__main__":
    main()
