"""Count the files and functions of this source tree that run during a request.

The registry runs in this process with an empty data directory and a small upstream on loopback.
Threads that a request starts are traced too. Falcon's test client calls the application directly,
without gunicorn, so the files in `registry/server` are not counted.
"""

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import FrameType

from falcon.testing import TestClient

from bench.content import MEDIA_TYPE, Image, digest_of, image
from bench.kinds import ROOT
from entrepot.datastore.drivers.table import on_disk, open_index, open_storage
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.identity import OpenAuthenticator
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable

_FOLDERS = ("cleaner", "config", "datastore", "edge", "logger", "registry", "runtime")
_HOST = "upstream.test"
BOUNDS = {"warm blob GET": 12, "warm manifest by tag": 14, "cold blob GET": 28, "push": 22}
"""The largest allowed number of source files that run during each kind of request."""


@dataclass(slots=True)
class Touched:
    """The code that ran: the paths of files, and functions as (file, first line)."""

    files: set[str] = field(default_factory=set)
    functions: set[tuple[str, int]] = field(default_factory=set)

    def note(self, frame: FrameType, event: str, _argument: object) -> None:
        """Record a function call; `sys.setprofile` requires this signature."""
        if event != "call":
            return
        path = _below_root(frame.f_code.co_filename)
        if path:
            self.files.add(path)
            self.functions.add((path, frame.f_code.co_firstlineno))


def _below_root(name: str) -> str:
    """Return the path of a source file relative to this tree; empty for a file of a library."""
    path = Path(name).resolve()
    if not path.is_relative_to(ROOT):
        return ""
    below = path.relative_to(ROOT)
    return str(below) if below.parts[0] in _FOLDERS else ""


@contextmanager
def tracing() -> Iterator[Touched]:
    """Trace this thread and the threads that start in the `with` block; yield the code they run."""
    touched = Touched()
    threading.setprofile(touched.note)
    sys.setprofile(touched.note)
    try:
        yield touched
    finally:
        sys.setprofile(None)
        threading.setprofile(None)


@contextmanager
def _upstream(made: Image) -> Iterator[str]:
    """Serve the image *made* on loopback, and yield the URL of this upstream."""
    contents = {f"blobs/{digest_of(each)}": each for each in made.blobs}
    contents |= {"manifests/latest": made.manifest, f"manifests/{made.digest}": made.manifest}

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            content = contents.get(self.path.partition(f"/v2/{made.repository}/")[2])
            self.send_response(200 if content is not None else 404)
            is_manifest = "/manifests/" in self.path
            kind = MEDIA_TYPE if is_manifest else "application/octet-stream"
            self.send_header("Content-Type", kind)
            self.send_header("Content-Length", str(len(content or b"")))
            self.end_headers()
            self.wfile.write(content or b"")

        def log_message(self, *_: object) -> None:
            """Log nothing, so that only the table is printed."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        try:
            yield f"http://127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()


def measure() -> dict[str, Touched]:
    """Return the code that runs during each kind of request."""
    made = image("library/app", (70_000, 4_000))
    with _upstream(made) as url, tempfile.TemporaryDirectory(prefix="bench-files-") as folder:
        index = open_index(Path(folder))
        table = UpstreamTable(FixedUpstreams({_HOST: UpstreamConfig(_HOST, url)}))
        parts = Parts(
            storage=open_storage(on_disk(Path(folder) / "data")),
            index=index,
            state=Path(folder) / "data" / "entrepot",
            upstreams=table,
            authenticator=OpenAuthenticator(),
            reservations=Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        )
        try:
            return _requests(TestClient(assemble(parts)), made)
        finally:
            index.close()


def _requests(client: TestClient, made: Image) -> dict[str, Touched]:
    base = f"/v2/{_HOST}/{made.repository}"
    blob, manifest = f"{base}/blobs/{made.blob(70_000)}", f"{base}/manifests/latest"

    def get(path: str) -> None:
        _expect(client.simulate_get(path).status_code, 200)

    def push() -> None:
        content = made.blobs[-1]
        path = f"/v2/team/app/blobs/uploads/?digest={digest_of(content)}"
        _expect(client.simulate_post(path, body=content).status_code, 201)

    get(manifest)
    found = {"cold blob GET": _traced(lambda: get(blob))}
    for each in made.blobs:
        get(f"{base}/blobs/{digest_of(each)}")
    get(manifest)
    found["warm blob GET"] = _traced(lambda: get(blob))
    found["warm manifest by tag"] = _traced(lambda: get(manifest))
    found["push"] = _traced(push)
    return found


def _traced(request: Callable[[], None]) -> Touched:
    with tracing() as touched:
        request()
    return touched


def _expect(status: int, wanted: int) -> None:
    if status != wanted:
        raise SystemExit(f"bench files: the registry answers {status}, not {wanted}")


def table(found: dict[str, Touched], *, names: bool = False) -> str:
    """Return the table to print; with *names*, each line is followed by the paths of the files."""
    lines = [f"{'request':24} files functions  most files"]
    for kind, touched in found.items():
        numbers = f"{len(touched.files):5} {len(touched.functions):9}"
        lines.append(f"{kind:24} {numbers} {BOUNDS[kind]:11}")
        lines += [f"    {path}" for path in sorted(touched.files)] if names else []
    return "\n".join(lines)


if __name__ == "__main__":
    print(table(measure(), names="--names" in sys.argv))
