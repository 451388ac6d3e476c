"""The application: the only place where the registry's parts are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import falcon

from entrepot.datastore import layout
from entrepot.datastore.blobs import BlobStore
from entrepot.datastore.content import ContentStore
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.integrity import Integrity
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.quarantine import Quarantine, Report
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.reservations import Reservations
from entrepot.datastore.storage import Storage
from entrepot.datastore.unverified import Unproven
from entrepot.edge.cache_fill import CacheFill
from entrepot.registry.api import errors, router
from entrepot.registry.api.authorize import Authorization, MayHost
from entrepot.registry.api.blobs import BlobResource
from entrepot.registry.api.catalog import CatalogResource
from entrepot.registry.api.docker_login import DockerLoginResource
from entrepot.registry.api.edge_headers import EdgeHeaders
from entrepot.registry.api.manifests import ManifestResource
from entrepot.registry.api.referrers import ReferrersResource
from entrepot.registry.api.response_headers import ResponseHeaders
from entrepot.registry.api.status import (
    FrontResource,
    HealthResource,
    MetricsResource,
    VersionResource,
)
from entrepot.registry.api.tags import TagsResource
from entrepot.registry.api.uploads import BeginningResource, UploadResource
from entrepot.registry.auth.identity import Authenticator
from entrepot.registry.download.parallel import ParallelLimits
from entrepot.registry.download.singleflight import SingleFlight
from entrepot.registry.download.task import Landing
from entrepot.registry.pullthrough.blobs import Blobs
from entrepot.registry.pullthrough.keyed_lock import KeyedLock
from entrepot.registry.pullthrough.lists import Lists
from entrepot.registry.pullthrough.manifests import Manifests
from entrepot.registry.pullthrough.negative_cache import NegativeCache
from entrepot.registry.pullthrough.prefetch import Prefetch
from entrepot.registry.pullthrough.recent_answers import RecentAnswers
from entrepot.registry.push.bounds import UploadLimits
from entrepot.registry.push.catalog import Catalog
from entrepot.registry.push.deletes import Deletions
from entrepot.registry.push.hashes import Hashes
from entrepot.registry.push.manifests import ManifestPushes
from entrepot.registry.push.referrers import Referrers
from entrepot.registry.push.upload_sessions import Sessions
from entrepot.registry.push.uploads import BlobUploads
from entrepot.registry.routing.resolve import Upstreams

App = falcon.App[falcon.Request, falcon.Response]


@dataclass(frozen=True, slots=True)
class Parts:
    """What an application is made of; `state` is the state directory.

    `report` takes the fields of a `download` event; `metrics` is the file that the logger writes;
    `prefetch` is how many layers are fetched ahead at a time, from one upstream. `may_host` tells
    which names are hosted here although a default upstream could have them. `generation` says that
    HAProxy stands before this application, and in which generation it remembers: without it, no
    header makes anybody a user. `filler` asks HAProxy for what should be remembered. `clock` gives
    the time of the appliance (s, UTC epoch). `damaged` is told of stored files that turn out wrong.
    """

    storage: Storage
    index: AccessIndex
    state: Path
    upstreams: Upstreams
    authenticator: Authenticator
    room: Reservations
    report: Callable[..., None] = lambda **_: None
    metrics: Path | None = None
    prefetch: int = 0
    lanes: int = 1
    delete_enabled: bool = False
    may_host: MayHost = lambda _: False
    generation: Callable[[], str] | None = None
    filler: CacheFill | None = None
    limited: Callable[[str], None] = lambda _: None
    uploads: UploadLimits = field(default_factory=UploadLimits)
    clock: Callable[[], float] = time.time
    damaged: Report = lambda *_: None


def assemble(parts: Parts) -> App:
    """Wire the parts; nothing is started, and no upstream is talked to."""
    stores = BlobStore(parts.storage, _integrity(parts)), Repositories(parts.storage)
    shelf = ContentStore(*stores, parts.index, parts.room, Proofs(parts.storage), parts.clock)
    negative = NegativeCache()
    spool = parts.state / layout.SPOOL
    landing = Landing(
        shelf.blobs, parts.index, parts.room, parts.report, ParallelLimits(parts.lanes)
    )
    inflight = SingleFlight(spool, landing)
    prefetch = Prefetch(shelf, inflight, spool / "locks", parts.prefetch)
    blobs = Blobs(shelf, inflight, negative, prefetch, RecentAnswers(spool / "locks"))
    manifests = Manifests(shelf, KeyedLock(spool / "locks"), negative)
    door = Authorization(
        parts.authenticator,
        parts.upstreams,
        shelf.repositories,
        parts.may_host,
        front=EdgeHeaders(parts.generation, parts.filler),
    )
    app = falcon.App(router=router.Router(), middleware=[ResponseHeaders()])
    app.req_options.strip_url_path_trailing_slash = False
    errors.install(app)
    _route(app, door, parts)
    _route_content(app, door, parts, Content(shelf, blobs, manifests))
    return app


def _integrity(parts: Parts) -> Integrity:
    quarantine = Quarantine(parts.storage, parts.index, parts.clock, parts.damaged)
    unproven = Unproven(parts.state / layout.UNPROVEN)
    return Integrity(parts.storage, parts.index, quarantine, unproven)


@dataclass(frozen=True, slots=True)
class Content:
    """What is here, and how it is read."""

    shelf: ContentStore
    blobs: Blobs
    manifests: Manifests


def _route(app: App, door: Authorization, parts: Parts) -> None:
    app.add_route(router.STATUS, FrontResource())
    app.add_route(router.HEALTH, HealthResource())
    app.add_route(router.BASE, VersionResource(door))
    app.add_route(router.DOCKER_LOGIN, DockerLoginResource(door))
    if parts.metrics:
        app.add_route(router.METRICS, MetricsResource(door, parts.metrics))


def _route_content(app: App, door: Authorization, parts: Parts, content: Content) -> None:
    shelf = content.shelf
    lists = Lists(shelf, parts.storage)
    sessions = Sessions(parts.state / layout.UPLOADS, parts.room, Hashes(), parts.uploads)
    uploads = BlobUploads(shelf, sessions, parts.storage)
    pushes = ManifestPushes(shelf, parts.state)
    deletes = Deletions(shelf, parts.state) if parts.delete_enabled else None
    catalog = Catalog(parts.storage, shelf.repositories, parts.upstreams)
    manifests = ManifestResource(door, content.manifests, pushes, deletes)
    app.add_route(router.MANIFEST, manifests)
    app.add_route(router.BLOB, BlobResource(door, content.blobs, deletes))
    app.add_route(router.UPLOADS, BeginningResource(door, uploads))
    app.add_route(router.UPLOAD, UploadResource(door, uploads))
    app.add_route(router.TAGS, TagsResource(door, lists))
    app.add_route(router.REFERRERS, ReferrersResource(door, lists, Referrers(shelf)))
    app.add_route(router.CATALOG, CatalogResource(door, catalog))
