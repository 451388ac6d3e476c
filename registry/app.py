"""Assemble the application; no other module connects the registry's parts."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import falcon

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore, Integrity
from entrepot.datastore.content import ContentStore
from entrepot.datastore.index import Index
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.quarantine import Quarantine, Report
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.reservations import Reservations
from entrepot.datastore.storage import Storage, is_remote
from entrepot.datastore.unverified import UnverifiedMarks
from entrepot.edge.cache_fill import CacheFill
from entrepot.registry.api import errors, router
from entrepot.registry.api.authorize import Authorization, EdgeHeaders, MayHost
from entrepot.registry.api.blobs import BlobResource
from entrepot.registry.api.catalog import CatalogResource
from entrepot.registry.api.docker_login import DockerLoginResource
from entrepot.registry.api.manifests import ManifestResource
from entrepot.registry.api.referrers import ReferrersResource
from entrepot.registry.api.response_body import ResponseHeaders
from entrepot.registry.api.status import (
    HealthResource,
    MetricsResource,
    RootResource,
    VersionResource,
)
from entrepot.registry.api.tags import TagsResource
from entrepot.registry.api.uploads import StartUploadResource, UploadResource
from entrepot.registry.api.write_events import WriteEvents
from entrepot.registry.auth.identity import Authenticator
from entrepot.registry.download.parallel import ParallelLimits
from entrepot.registry.download.singleflight import SingleFlight
from entrepot.registry.download.writer import Destination
from entrepot.registry.pullthrough.blobs import Blobs
from entrepot.registry.pullthrough.lists import Lists
from entrepot.registry.pullthrough.manifests import KeyedLock, Manifests
from entrepot.registry.pullthrough.prefetch import Prefetch
from entrepot.registry.pullthrough.recent_answers import NegativeCache, RecentConfirmations
from entrepot.registry.push.catalog import Catalog
from entrepot.registry.push.deletes import Deletions
from entrepot.registry.push.hashes import Hashes
from entrepot.registry.push.manifests import ManifestPushes
from entrepot.registry.push.push_rules import PushRules
from entrepot.registry.push.referrers import Referrers
from entrepot.registry.push.upload_sessions import Sessions, UploadLimits
from entrepot.registry.push.uploads import BlobUploads
from entrepot.registry.routing.resolve import Upstreams

if TYPE_CHECKING:  # Only a program that redirects clients loads `redirects`.
    from entrepot.registry.pullthrough.redirects import Redirects

App = falcon.App[falcon.Request, falcon.Response]


@dataclass(frozen=True, slots=True)
class Parts:
    """A `Parts` holds the parts that make up an application; `state` is the state directory.

    The application calls `report` with the fields of each `download` event. `metrics` is the file
    of metrics that the logger writes. `prefetch` is the number of layers that are prefetched at a
    time from one upstream. `may_host` returns whether a name without a host is hosted; every other
    name without a host belongs to the default upstream. `epoch` returns the cache epoch of the
    HAProxy in front of the worker; if `epoch` is None, there is no HAProxy, and the worker ignores
    HAProxy's headers. `cache_fill` makes HAProxy fill its cache after repeated HEAD requests.
    `clock` returns the appliance's time in seconds since the UTC epoch. `events` queues the events
    of pushes and deletions; it is None if no notification endpoint is configured. `damaged` is
    called for each damaged stored file. `add_debug_pages` adds the routes of `http.debug.addr`; it
    is None if no debug listener is configured. `token_endpoint` returns the resource that issues
    tokens; with None, the resource for the docker daemon's login is used. `make_authorization`
    returns the `Authorization`, and `add_hooks` adds Falcon middleware; both can call the
    operator's repository middleware. If `may_repeat` is set, the worker's server is allowed to send
    the same response to an equal request without calling the application.
    `has_edge_cache` is True if HAProxy has a content cache. `redirects` makes the URLs with which
    clients fetch blobs from the storage; if it is None, the appliance sends all blobs.
    """

    storage: Storage
    index: Index
    state: Path
    upstreams: Upstreams
    authenticator: Authenticator
    reservations: Reservations
    report: Callable[..., None] = lambda **_: None
    metrics: Path | None = None
    prefetch: int = 0
    lanes: int = 1
    delete_enabled: bool = False
    read_only: bool = False
    push_rules: PushRules | None = None
    catalog_page: int = 1000
    tags_page: int = 1000
    may_host: MayHost = lambda _: False
    epoch: Callable[[], str] | None = None
    cache_fill: CacheFill | None = None
    limited: Callable[[str], None] = lambda _: None
    uploads: UploadLimits = field(default_factory=UploadLimits)
    clock: Callable[[], float] = time.time
    damaged: Report = lambda *_: None
    events: WriteEvents | None = None
    add_debug_pages: Callable[[App], None] | None = None
    token_endpoint: Callable[[Authorization], object] | None = None
    make_authorization: Callable[..., Authorization] = Authorization
    add_hooks: Callable[[App], None] | None = None
    may_repeat: bool = True
    has_edge_cache: bool = True
    redirects: Redirects | None = None


def assemble(parts: Parts) -> App:
    """Return the application; this function starts no thread and sends nothing to an upstream."""
    stores = (
        BlobStore(parts.storage, _integrity(parts)),
        Repositories(parts.storage, parts.index.link_times),
    )
    store = ContentStore(
        *stores, parts.index, parts.reservations, Proofs(parts.storage), parts.clock
    )
    spool = parts.state / layout.SPOOL
    destination = Destination(
        store.blobs,
        parts.index,
        parts.reservations,
        parts.report,
        ParallelLimits(parts.lanes),
        store.is_absent,
    )
    downloads = SingleFlight(spool, destination)
    prefetch = Prefetch(store, downloads, spool / "locks", parts.prefetch)
    recent = RecentConfirmations(spool / "locks")
    # Blobs and manifests have separate negative caches: if a client requests a manifest as a blob,
    # the remembered 404 must not hide the manifest.
    blobs = Blobs(
        store, downloads, NegativeCache(), prefetch, recent, is_remote=is_remote(parts.storage)
    )
    manifests = Manifests(store, KeyedLock(spool / "locks"), NegativeCache())
    authorization = parts.make_authorization(
        parts.authenticator,
        parts.upstreams,
        store.repositories,
        parts.may_host,
        edge=EdgeHeaders(
            parts.epoch,
            parts.cache_fill,
            may_repeat=parts.may_repeat,
            has_cache=parts.has_edge_cache,
        ),
        read_only=parts.read_only,
    )
    app = falcon.App(router=router.Router(), middleware=[ResponseHeaders()])
    app.req_options.strip_url_path_trailing_slash = False
    if parts.add_hooks:
        parts.add_hooks(app)
    errors.install(app)
    _route(app, authorization, parts)
    _route_content(app, authorization, parts, Content(store, blobs, manifests))
    return app


def _integrity(parts: Parts) -> Integrity:
    quarantine = Quarantine(parts.storage, parts.index, parts.clock, parts.damaged)
    unverified = UnverifiedMarks(parts.state / layout.UNVERIFIED)
    return Integrity(parts.storage, parts.index, quarantine, unverified)


@dataclass(frozen=True, slots=True)
class Content:
    """A `Content` holds the content store, and the objects that find blobs and manifests."""

    store: ContentStore
    blobs: Blobs
    manifests: Manifests


def _route(app: App, authorization: Authorization, parts: Parts) -> None:
    app.add_route(router.STATUS, RootResource())
    app.add_route(router.HEALTH, HealthResource())
    app.add_route(router.BASE, VersionResource(authorization))
    endpoint = parts.token_endpoint or DockerLoginResource
    app.add_route(router.DOCKER_LOGIN, endpoint(authorization))
    if parts.metrics:
        app.add_route(router.METRICS, MetricsResource(authorization, parts.metrics))
    if parts.add_debug_pages:
        parts.add_debug_pages(app)


def _route_content(app: App, authorization: Authorization, parts: Parts, content: Content) -> None:
    store = content.store
    lists = Lists(store, parts.storage)
    sessions = Sessions(parts.state / layout.UPLOADS, parts.reservations, Hashes(), parts.uploads)
    uploads = BlobUploads(store, sessions, parts.storage, parts.state)
    pushes = ManifestPushes(store, parts.state, parts.push_rules)
    deletes = Deletions(store, parts.state) if parts.delete_enabled else None
    catalog = Catalog(parts.storage, store.repositories, parts.upstreams)
    manifests = ManifestResource(authorization, content.manifests, pushes, deletes, parts.events)
    app.add_route(router.MANIFEST, manifests)
    blobs = BlobResource(
        authorization, content.blobs, deletes, parts.events, redirects=parts.redirects
    )
    app.add_route(router.BLOB, blobs)
    app.add_route(router.UPLOADS, StartUploadResource(authorization, uploads, parts.events))
    app.add_route(router.UPLOAD, UploadResource(authorization, uploads, parts.events))
    app.add_route(router.TAGS, TagsResource(authorization, lists, parts.tags_page))
    app.add_route(router.REFERRERS, ReferrersResource(authorization, lists, Referrers(store)))
    app.add_route(router.CATALOG, CatalogResource(authorization, catalog, parts.catalog_page))
