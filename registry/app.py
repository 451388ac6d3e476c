"""The application: the only place where the registry's parts are put together."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import falcon

from datastore import layout
from datastore.blobs import BlobStore
from datastore.index import AccessIndex
from datastore.integrity import Integrity
from datastore.proofs import Proofs
from datastore.quarantine import Quarantine, Report
from datastore.repositories import Repositories
from datastore.storage import Storage
from datastore.unproven import Unproven
from registry.api import errors, router
from registry.api.blobs import BlobResource
from registry.api.catalog import CatalogResource
from registry.api.docker_login import DockerLoginResource
from registry.api.door import Door, MayHost
from registry.api.every import EveryAnswer
from registry.api.front import Front
from registry.api.manifests import ManifestResource
from registry.api.referrers import ReferrersResource
from registry.api.status import FrontResource, HealthResource, MetricsResource, VersionResource
from registry.api.tags import TagsResource
from registry.api.uploads import BeginningResource, UploadResource
from registry.auth import Authenticator
from registry.download.task import Landing
from registry.filler import Filler
from registry.inflight import Inflight
from registry.lanes import Lanes
from registry.negative import Negative
from registry.prefetch import Prefetch
from registry.pullthrough.blobs import Blobs
from registry.pullthrough.lists import Lists
from registry.pullthrough.manifests import Manifests
from registry.push.bounds import UploadLimits
from registry.push.catalog import Catalog
from registry.push.deletes import Deletes
from registry.push.hashes import Hashes
from registry.push.manifests import Pushes
from registry.push.referrers import Referrers
from registry.push.sessions import Sessions
from registry.push.uploads import Uploads
from registry.room import Room
from registry.routing import Upstreams
from registry.shelf import Shelf
from registry.shown import Shown
from registry.turns import Turns

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
    room: Room
    report: Callable[..., None] = lambda **_: None
    metrics: Path | None = None
    prefetch: int = 0
    lanes: int = 1
    delete_enabled: bool = False
    may_host: MayHost = lambda _: False
    generation: Callable[[], str] | None = None
    filler: Filler | None = None
    limited: Callable[[str], None] = lambda _: None
    uploads: UploadLimits = field(default_factory=UploadLimits)
    clock: Callable[[], float] = time.time
    damaged: Report = lambda *_: None


def assemble(parts: Parts) -> App:
    """Wire the parts; nothing is started, and no upstream is talked to."""
    stores = BlobStore(parts.storage, _integrity(parts)), Repositories(parts.storage)
    shelf = Shelf(*stores, parts.index, parts.room, Proofs(parts.storage), parts.clock)
    negative = Negative()
    spool = parts.state / layout.SPOOL
    landing = Landing(shelf.blobs, parts.index, parts.room, parts.report, Lanes(parts.lanes))
    inflight = Inflight(spool, landing)
    prefetch = Prefetch(shelf, inflight, spool / "locks", parts.prefetch)
    blobs = Blobs(shelf, inflight, negative, prefetch, Shown(spool / "locks"))
    manifests = Manifests(shelf, Turns(spool / "locks"), negative)
    door = Door(
        parts.authenticator,
        parts.upstreams,
        shelf.repositories,
        parts.may_host,
        front=Front(parts.generation, parts.filler),
    )
    app = falcon.App(router=router.Router(), middleware=[EveryAnswer()])
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

    shelf: Shelf
    blobs: Blobs
    manifests: Manifests


def _route(app: App, door: Door, parts: Parts) -> None:
    app.add_route(router.STATUS, FrontResource())
    app.add_route(router.HEALTH, HealthResource())
    app.add_route(router.BASE, VersionResource(door))
    app.add_route(router.DOCKER_LOGIN, DockerLoginResource(door))
    if parts.metrics:
        app.add_route(router.METRICS, MetricsResource(door, parts.metrics))


def _route_content(app: App, door: Door, parts: Parts, content: Content) -> None:
    shelf = content.shelf
    lists = Lists(shelf, parts.storage)
    sessions = Sessions(parts.state / layout.UPLOADS, parts.room, Hashes(), parts.uploads)
    uploads = Uploads(shelf, sessions, parts.storage)
    pushes = Pushes(shelf, parts.state)
    deletes = Deletes(shelf, parts.state) if parts.delete_enabled else None
    catalog = Catalog(parts.storage, shelf.repositories, parts.upstreams)
    manifests = ManifestResource(door, content.manifests, pushes, deletes)
    app.add_route(router.MANIFEST, manifests)
    app.add_route(router.BLOB, BlobResource(door, content.blobs, deletes))
    app.add_route(router.UPLOADS, BeginningResource(door, uploads))
    app.add_route(router.UPLOAD, UploadResource(door, uploads))
    app.add_route(router.TAGS, TagsResource(door, lists))
    app.add_route(router.REFERRERS, ReferrersResource(door, lists, Referrers(shelf)))
    app.add_route(router.CATALOG, CatalogResource(door, catalog))
