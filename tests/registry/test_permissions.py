"""Send random sequences of requests and compare the responses with a small model of permissions.

Alice can read a private upstream, a second upstream, and the hosted repository `alice/app`. Mallory
controls the second upstream, and can read it and the hosted repository `mallory/app`. Whatever the
second upstream claims, sends or withholds, Mallory can read only content that this upstream ever
had or that Mallory pushed. Alice can always read the private upstream's content, and pushed content
in `alice/app` until its eviction. Alice can also read the second upstream's content, but these
requests must not give Mallory access to other content.
"""

from __future__ import annotations

import base64
import json
import random
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final, Literal

import pytest
from falcon.testing import Result, TestClient

from entrepot.datastore import layout
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.index import REBUILT
from entrepot.datastore.manifest import DOCKER_MANIFEST, OCI_MANIFEST
from entrepot.datastore.refs import Digest
from entrepot.datastore.reservations import Reservations, SpaceLimits
from entrepot.registry.app import Parts, assemble
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.rules import ALL, PULL, AccessGrant, AccessRules
from entrepot.registry.upstream.upstream_config import UpstreamConfig
from entrepot.registry.upstream.upstreams import FixedUpstreams, UpstreamTable
from entrepot.runtime.hostnames import fold
from tests.disk_storage import disk_storage
from tests.fake_repository import error
from tests.wire import HONEST, Fault, HttpServer, Reply, Seen

pytestmark = pytest.mark.slow

_SEQUENCES = 200
_LONG = 10_000
_OPERATIONS = 16
# If possible, the data directory is in memory, because a disk takes too long to sync each write.
_FOLDER = "/dev/shm" if Path("/dev/shm").is_dir() else None
_CONFIG = "application/vnd.oci.image.config.v1+json"
_TYPES: Final = {"alice": OCI_MANIFEST, "mallory": DOCKER_MANIFEST}
"""The media type that a push or the upstream sends with a manifest that states no media type."""

Who = Literal["alice", "mallory"]
_EVERYONE: Final[tuple[Who, Who]] = ("alice", "mallory")

Mode = Literal["absent", "has", "claims", "lies"]
"""How an upstream responds to requests for a piece of content.

With `claims` it responds 200 to a HEAD and 404 to a GET. With `lies` it responds 200 to a HEAD and
sends other bytes to a GET.
"""

_MODES: Final[tuple[Mode, ...]] = ("absent", "has", "claims", "claims", "lies", "lies")


@dataclass(frozen=True)
class Content:
    """One of the four pieces of content in the test; if it is a manifest, `part` is its blob."""

    name: str
    body: bytes
    part: Content | None = None

    @property
    def digest(self) -> Digest:
        """Return the digest of the content."""
        return Digest.of(self.body)

    def media_type(self, source: Who) -> str:
        """Return the media type that clients of *source* get.

        The media type in the manifest has precedence over the type that *source* sends.
        """
        return str(json.loads(self.body).get("mediaType") or _TYPES[source])


def _manifest(part: bytes, **fields: str) -> bytes:
    descriptor = {"mediaType": _CONFIG, "digest": str(Digest.of(part)), "size": len(part)}
    return json.dumps({"schemaVersion": 2, **fields, "config": descriptor, "layers": []}).encode()


_BLOBS = (Content("b0", b"first" * 40), Content("b1", b"second" * 50))
_MANIFESTS = (
    Content("m0", _manifest(_BLOBS[0].body, mediaType=OCI_MANIFEST), _BLOBS[0]),
    Content("m1", _manifest(_BLOBS[1].body), _BLOBS[1]),
)
_ALL = (*_BLOBS, *_MANIFESTS)
_BY_DIGEST = {str(each.digest): each for each in _ALL}


@dataclass
class Claimant:
    """An upstream for which the test decides what content it has and what it only claims to have.

    `ever` contains the name of each piece of content that the upstream ever had.
    """

    owner: Who
    modes: dict[str, Mode] = field(default_factory=dict)
    tag: Content = _MANIFESTS[0]
    ever: set[str] = field(default_factory=set)

    def become(self, content: Content, mode: Mode) -> None:
        """Set how the upstream responds to requests for *content* from now on."""
        self.modes[content.name] = mode
        if mode == "has":
            self.ever.add(content.name)

    def mode(self, content: Content) -> Mode:
        """Return how the upstream responds to requests for *content*."""
        return self.modes.get(content.name, "absent")

    def answer(self, seen: Seen) -> tuple[Reply, Fault]:
        """Respond to one request that the appliance sends to this upstream."""
        if seen.path == "/v2/":
            return Reply(200, {}, b"{}"), HONEST
        reference = seen.path.rpartition("/")[2]
        content = self.tag if reference == "v1" else _BY_DIGEST.get(reference)
        if content is None or self.mode(content) == "absent":
            return error(404, "NOT_FOUND"), HONEST
        if seen.method == "GET" and self.mode(content) == "claims":
            return error(404, "NOT_FOUND"), HONEST
        is_manifest = "/manifests/" in seen.path
        if is_manifest and content.part is None:
            return error(404, "NOT_FOUND"), HONEST
        headers = {"Docker-Content-Digest": str(content.digest)}
        if is_manifest:
            headers["Content-Type"] = _TYPES[self.owner]
            if content.media_type(self.owner) != _TYPES[self.owner]:
                headers["Content-Type"] = content.media_type(self.owner)
        lies = seen.method == "GET" and self.mode(content) == "lies"
        return Reply(200, headers, content.body[::-1] if lies else content.body), HONEST


class World:
    """One appliance, its two upstreams, and a model of permissions.

    `trace` lists all operations so far.
    """

    def __init__(self, root: Path, servers: dict[Who, HttpServer]) -> None:
        self.root = root
        self.trace: list[str] = []
        self.upstreams: dict[str, Claimant] = {}
        self.pushed: dict[str, set[str]] = {}
        self.stored_by_push: set[tuple[str, str]] = set()
        hosts: dict[Who, str] = {}
        for owner, server in servers.items():
            claimant = Claimant(owner)
            server.answer = claimant.answer
            hosts[owner] = server.host
            self.upstreams[f"{fold(server.host)}/lib/app"] = claimant
        self.private, self.shared = self.upstreams
        self.own: dict[Who, str] = {"alice": "alice/app", "mallory": "mallory/app"}
        self.readable: dict[Who, tuple[str, ...]] = {
            "alice": (self.private, self.shared, "alice/app"),
            "mallory": (self.shared, "mallory/app"),
        }
        self.client = TestClient(assemble(self._parts(hosts)))

    def _parts(self, hosts: dict[Who, str]) -> Parts:
        index = MemoryIndex()
        index.notes.put({REBUILT: "0"})
        rules = AccessRules(
            rule
            for who, names in self.readable.items()
            for rule in (
                AccessGrant((who,), names, PULL),
                AccessGrant((who,), (self.own[who],), ALL),
            )
        )
        sources = {
            host: UpstreamConfig(host, f"http://{host}", freshness=0.0, negative_ttl=0.0)
            for host in hosts.values()
        }
        return Parts(
            storage=disk_storage(self.root),
            index=index,
            state=self.root / "entrepot",
            upstreams=UpstreamTable(FixedUpstreams(sources)),
            authenticator=BasicAuthenticator(lambda *_: True, realm="test", rules=lambda: rules),
            reservations=Reservations(index.reservations, SpaceLimits(), notes=index.notes),
        )

    # ---- the model of the test: these methods compute the expected permissions

    def owned(self, repository: str) -> set[str]:
        """Return the names of all content ever pushed to *repository* or ever at its upstream."""
        claimant = self.upstreams.get(repository)
        return claimant.ever if claimant else self.pushed.get(repository, set())

    def is_entitled(self, who: Who, content: Content) -> bool:
        """Return True if *who* can read a repository that ever had the content."""
        return any(content.name in self.owned(each) for each in self.readable[who])

    # ---- operations of the test: these methods send requests

    def ask(self, who: Who, method: str, path: str, body: bytes = b"", **headers: str) -> Result:
        """Send a request to the appliance with the login of *who*."""
        login = base64.b64encode(f"{who}:password".encode()).decode()
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        path, _, query = path.partition("?")
        result: Result
        try:
            result = self.client.simulate_request(
                method,
                path,
                query_string=query,
                body=body,
                headers={"Authorization": f"Basic {login}", **named},
            )
        except ConnectionResetError:
            result = Result([], "599 Cut short", [])
        self.trace.append(f"{who} {method} {path}?{query} -> {result.status_code}")
        return result

    def read(self, who: Who, method: str, repository: str, kind: str, content: Content) -> None:
        """Request content by its digest as *who*; assert that the model permits the response."""
        got = self.ask(who, method, f"/v2/{repository}/{kind}/{content.digest}")
        may_read = repository in self.readable[who]
        if got.status_code == 200:
            assert may_read, "the user may not read the repository"
            self._check(who, method, repository, content, got)
        elif may_read and method == "GET":
            assert not self._must_be_stored(repository, kind, content), "the content must be served"

    def read_tag(self, who: Who, method: str, repository: str) -> None:
        """Request the tag of an upstream's repository; the model must permit the response."""
        got = self.ask(who, method, f"/v2/{repository}/manifests/v1")
        if got.status_code != 200:
            return
        assert repository in self.readable[who], "the user may not read the repository"
        content = _BY_DIGEST[got.headers["docker-content-digest"]]
        self._check(who, method, repository, content, got)

    def push(self, who: Who, manifest: Content) -> None:
        """Push *manifest* and the blob to which it refers to the repository of *who*."""
        repository, part = self.own[who], manifest.part
        assert part is not None
        self._push_blob(who, part)
        path = f"/v2/{repository}/manifests/{manifest.digest}"
        done = self.ask(who, "PUT", path, manifest.body, Content_Type=manifest.media_type(who))
        assert done.status_code == 201, done.text
        self._has_pushed(repository, manifest)

    def _push_blob(self, who: Who, content: Content) -> None:
        repository = self.own[who]
        where = self.ask(who, "POST", f"/v2/{repository}/blobs/uploads/").headers["location"]
        done = self.ask(who, "PUT", f"{where}?digest={content.digest}", content.body)
        assert done.status_code == 201, done.text
        self._has_pushed(repository, content)

    def mount(self, who: Who, source: str, content: Content) -> None:
        """Mount a blob from *source* (if empty, from any repository) into *who*'s repository."""
        query = f"mount={content.digest}" + (f"&from={source}" if source else "")
        done = self.ask(who, "POST", f"/v2/{self.own[who]}/blobs/uploads/?{query}")
        assert done.status_code in (201, 202)
        if done.status_code == 201:
            assert self.is_entitled(who, content), "the user may not read the content"
            self._has_pushed(self.own[who], content)

    def evict(self, content: Content) -> None:
        """Delete the file of *content* but not its links, as an eviction does."""
        self.trace.append(f"evict {content.name}")
        (self.root / layout.blob(content.digest)).unlink(missing_ok=True)
        self.stored_by_push = {each for each in self.stored_by_push if each[1] != content.name}

    def _has_pushed(self, repository: str, content: Content) -> None:
        self.pushed.setdefault(repository, set()).add(content.name)
        self.stored_by_push.add((repository, content.name))

    # ---- checks of the test: these methods compare responses with the model

    def _check(self, who: Who, method: str, repository: str, content: Content, got: Result) -> None:
        claimant = self.upstreams.get(repository)
        says_so = claimant is not None and claimant.mode(content) != "absent"
        if method == "GET":
            assert got.content == content.body, "the bytes have another digest"
        if method == "GET" or not says_so:
            assert self.is_entitled(who, content), "the user may not read the content"
        if "/manifests/" in self.trace[-1] and self.is_entitled(who, content):
            source: Who = claimant.owner if claimant else repository.partition("/")[0]  # type: ignore[assignment]  # a user
            assert got.headers["content-type"] == content.media_type(source), "the type is wrong"

    def _must_be_stored(self, repository: str, kind: str, content: Content) -> bool:
        if (kind == "manifests") != (content.part is not None):
            return False
        claimant = self.upstreams.get(repository)
        if claimant:
            return claimant.mode(content) == "has"
        return (repository, content.name) in self.stored_by_push


def run(world: World, chance: random.Random) -> None:
    """Run a random sequence of operations in *world*.

    Raises: AssertionError if a response violates the model of permissions.
    """
    repositories = (world.private, world.shared, "alice/app", "mallory/app")
    private, shared = world.upstreams[world.private], world.upstreams[world.shared]
    for content in _ALL:
        private.become(content, chance.choice(("has", "absent")))
        shared.become(content, chance.choice(_MODES))
    for _ in range(_OPERATIONS):
        who, content = chance.choice(_EVERYONE), chance.choice(_ALL)
        match chance.randrange(16):
            case 0:
                world.trace.append(f"private has {content.name}")
                private.become(content, "has")
            case 1 | 2:
                mode = chance.choice(_MODES)
                world.trace.append(f"shared {mode} {content.name}")
                shared.become(content, mode)
            case 3:
                shared.tag, private.tag = chance.choices(_MANIFESTS, k=2)
            case 4 | 5:
                world.push(who, chance.choice(_MANIFESTS))
            case 6:
                world.mount(who, chance.choice(("", *repositories)), chance.choice(_BLOBS))
            case 7:
                world.evict(content)
            case 8:
                name = chance.choice((world.private, world.shared))
                world.read_tag(who, chance.choice(("GET", "HEAD")), name)
            case _:
                natural = "manifests" if content.part else "blobs"
                kind = natural if chance.random() < 0.9 else chance.choice(("manifests", "blobs"))
                known = repositories if chance.random() < 0.1 else world.readable[who]
                method = chance.choice(("GET", "GET", "HEAD"))
                world.read(who, method, chance.choice(known), kind, content)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[Who, HttpServer]]:
    """Run one server for each of the two upstreams; all sequences of requests use these servers."""
    with ExitStack() as stack:
        found: dict[Who, HttpServer] = {}
        for who in _EVERYONE:
            found[who] = HttpServer(lambda _: (Reply(404), HONEST))
            found[who].start()
            stack.callback(found[who].stop)
        yield found


def _sequences(servers: dict[Who, HttpServer], seeds: range) -> None:
    """Run a sequence of operations for each seed; a failure states the seed and all operations."""
    for seed in seeds:
        root = Path(tempfile.mkdtemp(prefix="permissions-", dir=_FOLDER))
        world = World(root, servers)
        try:
            run(world, random.Random(seed))
        except AssertionError as wrong:
            steps = "\n".join(world.trace)
            pytest.fail(f"sequence {seed}: {wrong}\n{steps}", pytrace=False)
        finally:
            shutil.rmtree(root, ignore_errors=True)


@pytest.mark.parametrize("part", range(4))
def test_clients_cannot_read_content_of_other_users(
    servers: dict[Who, HttpServer], part: int
) -> None:
    """In 200 short random sequences, no client reads content to which it has no right."""
    each = _SEQUENCES // 4
    _sequences(servers, range(part * each, (part + 1) * each))


@pytest.mark.soak
@pytest.mark.timeout(1800)
@pytest.mark.parametrize("part", range(4))
def test_clients_cannot_read_content_of_other_users_in_long_runs(
    servers: dict[Who, HttpServer], part: int
) -> None:
    """In 10,000 short random sequences, no client reads content to which it has no right."""
    each = _LONG // 4
    _sequences(servers, range(1000 + part * each, 1000 + (part + 1) * each))
