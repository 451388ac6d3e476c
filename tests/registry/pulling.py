"""Provide the registry as a WSGI application, with an empty data directory and a fake upstream."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from falcon.testing import Result, TestClient

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.index import Index
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.datastore.storage import Storage
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from entrepot.runtime.hostnames import fold
from tests.disk_storage import disk_storage
from tests.upstream import FakeUpstream

NAME = "library/app"


@dataclass
class Pulling:
    """The registry of one appliance, which runs in the test's process; `u` is its fake upstream."""

    u: FakeUpstream
    root: Path
    client: TestClient

    @property
    def prefix(self) -> str:
        """Return the upstream's host, with `_` for the colon; repository names begin with it."""
        return fold(self.u.host)

    @property
    def repositories(self) -> Repositories:
        """Return the repositories, with their tags and links, in the data directory."""
        return Repositories(disk_storage(self.root))

    def get(self, path: str, **headers: str) -> Result:
        """Send a GET for a path in the test repository; `_` in a header's name becomes "-"."""
        return self.ask("GET", f"/v2/{self.prefix}/{NAME}/{path}", **headers)

    def head(self, path: str, **headers: str) -> Result:
        """Send a HEAD for a path in the upstream's test repository."""
        return self.ask("HEAD", f"/v2/{self.prefix}/{NAME}/{path}", **headers)

    def ask(self, method: str, url: str, **headers: str) -> Result:
        """Send a request for *url* to the registry, and return the response."""
        path, _, query = url.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        result: Result = self.client.simulate_request(
            method, path, query_string=query, headers=named
        )
        return result

    def pull(self, reference: str = "v1") -> None:
        """Pull the manifest *reference*, its config and all its layers through the registry."""
        manifest = self.get(f"manifests/{reference}")
        assert manifest.status_code == 200
        named = [manifest.json["config"], *manifest.json["layers"]]
        for descriptor in named:
            assert self.get(f"blobs/{descriptor['digest']}").status_code == 200

    def age(self, seconds: float, tag: str = "v1") -> None:
        """Simulate that the upstream last confirmed a tag and all manifests at an earlier time.

        The time of each confirmation is moved back by *seconds*.
        """
        name = Repository(f"{self.prefix}/{NAME}")
        storage = disk_storage(self.root)
        keys = [layout.tag_current(name, Tag(tag))]
        keys += [each.key for each in storage.walk(layout.revisions(name))]
        for key in keys:
            path = self.root / key
            at = path.stat().st_mtime - seconds
            os.utime(path, (at, at))

    def forget_blob(self, digest: Digest) -> None:
        """Delete the file of a blob but not its links, as an eviction does."""
        (self.root / layout.blob(digest)).unlink()


def pulling(
    u: FakeUpstream,
    root: Path,
    *others: FakeUpstream,
    authenticator: Authenticator | None = None,
    limits: SpaceLimits | None = None,
    default: str | None = None,
    prefetch: int = 0,
    lanes: int = 1,
    index: Index | None = None,
    storage: Storage | None = None,
    epoch: Callable[[], str] | None = None,
    has_edge_cache: bool = True,
    clock: Callable[[], float] = time.time,
    **fields: Any,
) -> Pulling:
    """Create the registry with the upstreams *u* and *others*, on *storage* or on a disk at *root*.

    *fields* are other settings of each upstream, named as in `UpstreamConfig`.
    """
    named = [
        replace(UpstreamConfig(each.host, each.url, read_timeout=20.0), **fields)
        for each in (u, *others)
    ]
    sources = {source.host: source for source in named}
    index = index or MemoryIndex()
    table = UpstreamTable(FixedUpstreams(sources), default=default)
    parts = Parts(
        storage=storage or disk_storage(root),
        index=index,
        state=root / "entrepot",
        upstreams=table,
        authenticator=authenticator or OpenAuthenticator(),
        reservations=Reservations(index.reservations, limits or SpaceLimits(), notes=index.notes),
        prefetch=prefetch,
        clock=clock,
        lanes=lanes,
        epoch=epoch,
        has_edge_cache=has_edge_cache,
    )
    return Pulling(u, root, TestClient(assemble(parts)))
