"""Provide a worker of the registry on an empty data directory, and a client that pushes to it.

The client sends the requests of the OCI distribution-spec.
"""

from __future__ import annotations

import io
import json
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from falcon.testing import Result, TestClient

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.drivers.memory_parts import MemoryPins
from entrepot.datastore.index import REBUILT, Index
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.datastore.storage import Storage
from entrepot.registry.api.authorize import Authorization
from entrepot.registry.api.write_events import WriteEvents
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.identity import Authenticator, OpenAuthenticator
from entrepot.registry.push.push_rules import PushRules
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from tests.disk_storage import disk_storage
from tests.images import Image

NAME = "team/app"
OCTETS = "application/octet-stream"


@dataclass
class Pushing:
    """A worker of the registry that runs in the test's process; `root` is its data directory."""

    root: Path
    client: TestClient
    index: Index

    # ---- files in the data directory

    @property
    def storage(self) -> Storage:
        """Return the storage driver for the data directory."""
        return disk_storage(self.root)

    @property
    def repositories(self) -> Repositories:
        """Return the repositories, with their tags and links, in the data directory."""
        return Repositories(self.storage)

    def content(self, digest: Digest) -> bytes | None:
        """Return the stored bytes of *digest*, or None if they are not stored."""
        path = self.root / layout.blob(digest)
        return path.read_bytes() if path.exists() else None

    def uploads(self) -> list[Path]:
        """Return the files of unfinished uploads."""
        folder = self.root / "entrepot" / layout.UPLOADS
        return sorted(folder.iterdir()) if folder.exists() else []

    # ---- requests to the worker

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Result:
        """Send a request for a path in the test repository; `_` in a header's name becomes "-"."""
        return self.send(method, f"/v2/{NAME}/{path}", body, **headers)

    def send(self, method: str, url: str, body: bytes | None = None, **headers: str) -> Result:
        """Send a request for any URL to the worker."""
        path, _, query = url.partition("?")
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.client.simulate_request(
            method, path, query_string=query, headers=named, body=body
        )

    def stream(self, method: str, url: str, pieces: Iterable[bytes | Exception]) -> Result:
        """Send a request whose body arrives in *pieces*, without a Content-Length."""
        path, _, query = url.partition("?")
        extras = {"wsgi.input": Stream(pieces), "CONTENT_LENGTH": "", "wsgi.input_terminated": True}
        return self.client.simulate_request(
            method, path, query_string=query, body=b"-", extras=extras
        )

    # ---- pushes of whole blobs and manifests

    def begin(self, query: str = "", name: str = NAME) -> str:
        """Begin an upload, and return its URL from the header Location."""
        begun = self.send("POST", f"/v2/{name}/blobs/uploads/{query}")
        assert begun.status_code == 202, begun.text
        return begun.headers["location"]

    def blob(self, content: bytes, name: str = NAME, algorithm: str = "sha256") -> Digest:
        """Push *content* as a blob, and return its digest."""
        digest = Digest.of(content, algorithm)
        done = self.send("PUT", f"{self.begin(name=name)}?digest={digest}", content)
        assert done.status_code == 201, done.text
        return digest

    def manifest(self, body: bytes, media_type: str, reference: object, name: str = NAME) -> Result:
        """Push a manifest under *reference*, a tag or a digest, and return the response."""
        path = f"/v2/{name}/manifests/{reference}"
        return self.send("PUT", path, body, Content_Type=media_type)

    def image(self, made: Image, reference: object = "v1", name: str = NAME) -> Digest:
        """Push an image with all its parts, and return the digest of its manifest."""
        for blob in made.blobs:
            self.blob(blob, name)
        done = self.manifest(made.manifest, made.media_type, reference, name)
        assert done.status_code == 201, done.text
        return made.digest

    def tags(self, query: str = "") -> list[str]:
        """Return the tags that the worker lists for the test repository."""
        return list(self.ask("GET", f"tags/list{query}").json["tags"])


class RecordingPins(MemoryPins):
    """Pins in memory; `held_once` contains each digest that was ever pinned."""

    def __init__(self) -> None:
        super().__init__()
        self.held_once: set[Digest] = set()

    def pin(self, digests: Iterable[Digest], until: float) -> None:
        """Pin the digests, and record them."""
        wanted = set(digests)
        self.held_once |= wanted
        super().pin(wanted, until)

    def are_removed(self) -> bool:
        """Return True if no digest in `held_once` is still pinned."""
        return not self.pinned(self.held_once)


class Stream(io.RawIOBase):
    """The body of a request, which arrives in pieces.

    If one of the pieces is an exception, the body raises it in place of the piece, as a broken
    connection does.
    """

    def __init__(self, pieces: Iterable[bytes | Exception]) -> None:
        self._pieces = iter(pieces)
        self._rest = b""

    def read(self, size: int = -1, /) -> bytes:
        """Return at most *size* bytes of the body."""
        while len(self._rest) < size:
            piece = next(self._pieces, b"")
            if isinstance(piece, Exception):
                raise piece
            if not piece:
                break
            self._rest += piece
        found, self._rest = self._rest[:size], self._rest[size:]
        return found


def pushing(
    root: Path,
    *,
    index: Index | None = None,
    authenticator: Authenticator | None = None,
    limits: SpaceLimits | None = None,
    upstreams: Iterable[str] = (),
    default: str | None = None,
    delete_enabled: bool = True,
    read_only: bool = False,
    push_rules: PushRules | None = None,
    catalog_page: int = 1000,
    tags_page: int = 1000,
    may_host: Callable[[Repository], bool] = lambda _: False,
    token_endpoint: Callable[[Authorization], object] | None = None,
    events: WriteEvents | None = None,
) -> Pushing:
    """Return a worker on the data directory *root*; several workers can share one *index*."""
    index = index or MemoryIndex()
    index.notes.put({REBUILT: "0"})
    sources = {host: UpstreamConfig(host, f"http://{host}") for host in upstreams}
    parts = Parts(
        storage=disk_storage(root),
        index=index,
        state=root / "entrepot",
        upstreams=UpstreamTable(FixedUpstreams(sources), default=default),
        authenticator=authenticator or OpenAuthenticator(),
        reservations=Reservations(index.reservations, limits or SpaceLimits(), notes=index.notes),
        delete_enabled=delete_enabled,
        read_only=read_only,
        push_rules=push_rules,
        catalog_page=catalog_page,
        tags_page=tags_page,
        may_host=may_host,
        token_endpoint=token_endpoint,
        events=events,
    )
    return Pushing(root, TestClient(assemble(parts)), index)


def code(answer: Result) -> str:
    """Return the code of the first error in a response."""
    return str(answer.json["errors"][0]["code"])


def document(body: bytes, **changes: Any) -> bytes:
    """Return the JSON document *body* with changed fields; None removes a field."""
    fields = json.loads(body) | changes
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def is_served(p: Pushing, content: bytes, algorithm: str = "sha256") -> bool:
    """Return True if the worker serves exactly *content* for its digest."""
    got = p.ask("GET", f"blobs/{Digest.of(content, algorithm)}")
    return got.status_code == 200 and got.content == content


def pieces(content: bytes, size: int) -> Iterator[bytes]:
    """Yield *content* in pieces of *size* bytes; the last piece may be shorter."""
    return (content[start : start + size] for start in range(0, len(content), size))
