"""During an attack an honest client's requests succeed, and the memory of all programs is bounded.

`make soak` also measures the honest client's p99 response time during each attack, and during
harmless requests of other clients. The p99 time during the attack may be at most three times the
p99 time during the harmless requests (medians of the rounds).
"""

from __future__ import annotations

import json
import statistics
import threading
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.attacks import (
    Honest,
    flood,
    guess,
    pipelined,
    readers,
    requests_for,
    resident,
    slow_bodies,
    slow_readers,
)
from tests.system.conftest import Start
from tests.system.images import FULL, KB, MB, of_size, scaled
from tests.system.pulls import Reader, blob_path, manifest_path
from tests.system.pushes import begin, push_blob, uploads_path
from tests.system.registries import htpasswd
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

ANN = "ann:right"
FRESH = ("bob:built", "cid:sailed")
NAME = "one.test/app"
LARGEST = 320 * MB
"""The limit of each process's resident memory (bytes); HAProxy may have more, see `_bound`."""
CONNECTIONS = scaled(1_560, 3_000)
CONNECTION = 128 * KB
"""The memory that HAProxy may use for one waiting connection: its two buffers (bytes)."""
SLOW_READERS = scaled(900, 1_500)
"""The number of slow readers: more than a worker has threads for blobs (784).

The number is below the limit at which a worker closes connections of slow readers.
"""
FLOODS = scaled(2, 4)
"""The number of clients that fill the log with floods of requests."""
TIMES = scaled(10, 150)
ROUNDS = 3
COST = scaled(8, 10)
"""bcrypt's cost of the passwords: 8 takes about 15 ms of CPU time, 10 about 60 ms."""
pytestmark = pytest.mark.timeout(scaled(120, 1_200))

Attack = Callable[[Appliance], AbstractContextManager[object]]


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run an upstream with a small image, and with a large blob for slow readers."""
    with FakeUpstream() as fake:
        fake.put_image("app", "v1", of_size(200 * KB, 1))
        fake.add_blob("app", LARGE)
        yield fake


LARGE = filler(4 * MB, 2)
"""A blob that does not fit into the buffers of a slow reader's connection."""
READ_SLOWLY = blob_path(NAME, Digest.of(LARGE))


def _started(folder: Path, upstream: FakeUpstream, *, passwords: bool) -> Appliance:
    environment = {
        "ENTREPOT_WORKERS": "2",
        "REGISTRY_LIMITS_UPLOADS": "5000",
        "REGISTRY_LIMITS_USERUPLOADS": "5000",
    }
    if passwords:
        users = htpasswd(folder / "users", ANN, *FRESH, cost=COST)
        environment |= {
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
            "REGISTRY_AUTH_HTPASSWD_REALM": "test",
        }
    return Appliance(folder, Setup({"one.test": {"url": upstream.url}}, environment=environment))


@pytest.fixture(scope="module")
def opened(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Appliance]:
    """Run an appliance without passwords."""
    with _started(tmp_path_factory.mktemp("open"), upstream, passwords=False) as appliance:
        yield appliance


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Appliance]:
    """Run an appliance that requires passwords."""
    with _started(tmp_path_factory.mktemp("closed"), upstream, passwords=True) as appliance:
        yield appliance


def honest(appliance: Appliance, login: str | None = None) -> Honest:
    """Return a client that pulls a stored manifest and layer.

    HAProxy's cache serves the manifest, and a worker serves the layer. The client also requests the
    layer with a new query each time, so the worker cannot repeat a response and needs a thread.
    """
    http = replace(appliance.http, login=login)
    manifest = http.get(manifest_path(NAME, "v1"))
    layer = manifest.body.partition(b'"layers"')[2].partition(b"sha256:")[2][:64].decode()
    blob = blob_path(NAME, f"sha256:{layer}")
    paths = ("/v2/", manifest_path(NAME, "v1"), blob, f"{blob}?{{number}}")
    client = Honest(http, paths)
    client.request(2)
    assert client.failures == []
    client.seconds.clear()
    return client


def endures(appliance: Appliance, client: Honest, attack: Attack, harmless: Attack) -> None:
    """Assert that *client* does not fail during *attack*, and that no process uses much memory.

    `make soak` also compares the client's response times during *attack* with its response times
    during *harmless*.
    """
    with attack(appliance):
        client.request(TIMES)
        seen = resident(appliance)
    assert client.failures == []
    assert {name: size for name, size in seen.items() if size > _bound(name)} == {}
    if FULL:
        ratios = [_p99(appliance, client, attack) for _ in range(ROUNDS)]
        usual = [_p99(appliance, client, harmless) for _ in range(ROUNDS)]
        assert client.failures == []
        assert statistics.median(ratios) <= 3 * statistics.median(usual), (ratios, usual)


def _bound(process: str) -> int:
    """Return the resident memory (bytes) that *process* may have while the clients attack."""
    in_haproxy = 96 * MB + CONNECTIONS * CONNECTION
    return max(LARGEST, in_haproxy) if process.startswith("haproxy") else LARGEST


def _p99(appliance: Appliance, client: Honest, beside: Attack) -> float:
    with beside(appliance):
        client.seconds.clear()
        client.request(TIMES)
    return client.p99()


def _busy(threads: int) -> Attack:
    """Return an `Attack` that sends harmless requests from *threads* threads."""
    return lambda appliance: flood(appliance, requests_for("GET", lambda _: "/v2/"), threads)


@pytest.fixture(scope="module")
def single(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Appliance]:
    """Run an appliance with one worker, which waits up to 15 minutes for bytes of the upstream."""
    environment = {"ENTREPOT_WORKERS": "1", "ENTREPOT_READ_TIMEOUT": "15m"}
    setup = Setup({"one.test": {"url": upstream.url}}, environment=environment)
    with Appliance(tmp_path_factory.mktemp("single"), setup) as appliance:
        yield appliance


def _slowly(path: str) -> Attack:
    """Return an attack with more slow readers than one worker has threads."""
    return lambda appliance: slow_readers(appliance, path, SLOW_READERS)


def _fast(appliance: Appliance) -> AbstractContextManager[object]:
    """Read a stored blob on as many connections as `_slowly` opens, but without delays."""
    return readers(appliance, READ_SLOWLY, SLOW_READERS)


def test_threads_slow_readers(single: Appliance) -> None:
    """Slow clients occupy no thread of a worker, even if there are more clients than threads."""
    assert single.http.get(READ_SLOWLY).status == 200

    endures(single, honest(single), _slowly(READ_SLOWLY), _fast)


def test_threads_slow_readers_of_a_download(single: Appliance, upstream: FakeUpstream) -> None:
    """Slow clients of a running download occupy no thread of a worker.

    Before the attack the upstream sends three quarters of the blob, and afterwards the rest.
    """
    assert single.http.get(READ_SLOWLY).status == 200
    digest, rest = upstream.add_blob("app", filler(4 * MB, 4)), threading.Event()
    path = blob_path(NAME, digest)
    upstream.misbehave(path.removeprefix("/v2/one.test"), hold=rest, hold_after=3 * MB)
    try:
        first = Reader(single.http, path).begin()
        eventually(lambda: len(first.received) > 2 * MB, what="the download is running")
        endures(single, honest(single), _slowly(path), _fast)
        assert not (single.data / layout.blob(digest)).exists()
    finally:
        rest.set()
        upstream.behave()
    assert first.end().has(digest)


def test_threads_a_blob_of_unknown_length(start: Start, fake: FakeUpstream) -> None:
    """If an upstream states no length for a blob, the worker sends the blob to clients in chunks.

    Requests of other clients still succeed afterwards.
    """
    contents = [filler(MB + number, number) for number in range(8)]
    digests = [fake.add_blob("app", content) for content in contents]
    fake.put_image("app", "v1", of_size(200 * KB, 1))
    fake.misbehave("/blobs/", chunked=True)
    appliance = start(Setup({"one.test": {"url": fake.url}}))
    client = honest(appliance)

    for digest, content in zip(digests, contents, strict=True):
        response = appliance.http.get(blob_path(NAME, digest))
        assert (response.status, response.body) == (200, content)
        assert response.headers.get("transfer-encoding") == "chunked"
        client.request(2)
    assert client.failures == []


def test_slots_slow_bodies_without_a_password(closed: Appliance) -> None:
    """While clients with a wrong password send slow bodies, requests of other clients succeed.

    The test sends more concurrent slow bodies than HAProxy forwards to a worker.
    """
    client = honest(closed, ANN)

    endures(
        closed,
        client,
        lambda appliance: slow_bodies(
            appliance, "PUT", ["/v2/app/blobs/uploads/x"], CONNECTIONS, login="eve:guess"
        ),
        _busy(8),
    )


def test_slots_slow_uploads(opened: Appliance) -> None:
    """Pulls and pushes succeed during more slow uploads than HAProxy forwards at the same time."""
    paths = [begin(opened.http, "team/slow") for _ in range(1_560)]

    endures(
        opened,
        honest(opened),
        lambda appliance: slow_bodies(appliance, "PATCH", paths, len(paths)),
        _busy(8),
    )
    assert push_blob(opened.http, "team/app", b"honest").status == 201


@pytest.mark.parametrize(
    ("user", "login"),
    [(lambda number: f"user{number}", FRESH[0]), (lambda _: "cid", FRESH[1])],
    ids=["ever new names", "one name"],
)
def test_bcrypt_wrong_passwords(closed: Appliance, user: Callable[[int], str], login: str) -> None:
    """A flood of wrong passwords does not delay a client with a right password."""
    client, threads = honest(closed, ANN), scaled(40, 160)

    endures(closed, client, lambda each: flood(each, guess(user), threads), _busy(threads))
    with flood(closed, guess(user), threads) as answers:
        eventually(lambda: len(answers) > 100, what="guessed passwords got responses", within=60)
        eventually(
            lambda: replace(closed.http, login=login).get("/v2/").status == 200,
            what="a right password is accepted for the first time",
        )
    assert 200 not in answers


def test_inodes_unfinished_uploads(start: Start, upstream: FakeUpstream) -> None:
    """Above the limit of unfinished uploads a worker responds 429; a metric counts these responses.

    Pulls still succeed while the worker refuses uploads.
    """
    environment = {"REGISTRY_LIMITS_UPLOADS": "60", "REGISTRY_LIMITS_USERUPLOADS": "50"}
    setup = Setup({"one.test": {"url": upstream.url}}, environment=environment)
    appliance = start(setup)
    client = honest(appliance)

    with flood(appliance, requests_for("POST", lambda _: uploads_path("team/app")), 8) as answers:
        client.request(TIMES)
        eventually(lambda: 429 in answers, what="an upload was refused")
    files = list((appliance.state / "uploads").rglob("*")) or list(appliance.state.rglob("*-*-*"))
    assert 50 <= len([each for each in files if each.is_file()]) <= 60
    assert client.failures == []
    eventually(
        lambda: appliance.metric("entrepot_limited_total", limit="uploads") > 0,
        what="the refusals are counted",
    )


def test_memory_a_false_size(opened: Appliance, upstream: FakeUpstream) -> None:
    """A worker's memory does not grow with the size that a manifest states."""
    digest = upstream.add_blob("app", b"small")
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(digest)}
    body = _manifest(layer | {"size": 2**60}, str(upstream.add_blob("app", b"{}")))
    upstream.add_manifest("app", "big", body, "application/vnd.oci.image.manifest.v1+json")
    client = honest(opened)

    assert opened.http.get(manifest_path(NAME, "big")).status == 200
    opened.http.get(blob_path(NAME, digest))
    client.request(TIMES)
    assert client.failures == []
    assert max(resident(opened).values()) < LARGEST


def test_memory_a_layer_as_a_manifest(opened: Appliance, upstream: FakeUpstream) -> None:
    """If a client requests a large blob as a manifest, no worker reads the blob into memory."""
    large = upstream.add_blob("app", filler(MB, 3) * scaled(64, 600))
    client = honest(opened)
    assert opened.http.get(blob_path(NAME, large)).status == 200

    with flood(opened, requests_for("GET", lambda _: manifest_path(NAME, large)), 8) as answers:
        client.request(TIMES)
        seen = resident(opened)
    assert client.failures == []
    assert max(seen.values()) < LARGEST
    assert 200 not in answers


@pytest.mark.parametrize("header", ["WWW-Authenticate", "Link"])
def test_cpu_by_regular_expression(opened: Appliance, upstream: FakeUpstream, header: str) -> None:
    """Upstream headers that are costly for regular expressions do not block a worker."""
    client = honest(opened)
    worst = {"WWW-Authenticate": "Bearer " + " " * 60_000, "Link": "<" * 60_000}[header]
    path = {"WWW-Authenticate": manifest_path(NAME, "none"), "Link": f"/v2/{NAME}/tags/list"}
    status = 401 if header == "WWW-Authenticate" else 200
    upstream.misbehave("none|tags", times=100, status=status, headers={header: worst})

    with flood(opened, requests_for("GET", lambda _: path[header]), 4):
        client.request(TIMES)
    upstream.behave()
    assert client.failures == []


@pytest.fixture(scope="module")
def small(tmp_path_factory: pytest.TempPathFactory, upstream: FakeUpstream) -> Iterator[Appliance]:
    """Run an appliance with a small cap."""
    environment = {"CLEANER_MAXSIZE": "16M", "ENTREPOT_WORKERS": "2"}
    setup = Setup({"one.test": {"url": upstream.url}}, environment=environment)
    with Appliance(tmp_path_factory.mktemp("small"), setup) as appliance:
        yield appliance


@pytest.mark.parametrize(
    "request_",
    [
        b"GET /v2/none/none/manifests/x HTTP/1.1\r\nHost: localhost\r\n\r\n",
        pytest.param(b"no HTTP at all\r\n\r\n", marks=pytest.mark.soak),
    ],
    ids=["unknown", "no HTTP"],
)
def test_log_short_lines_stop_no_eviction(
    small: Appliance, upstream: FakeUpstream, request_: bytes
) -> None:
    """During a flood of short log lines the cleaner still evicts.

    Before an eviction the cleaner sends a request, and waits for the log line of this request. If
    this line were dropped because of the flood, the cleaner would not evict.
    """
    left_out = partial(small.metric, "entrepot_limited_total", limit="lines")
    before = left_out()

    with pipelined(small, request_, FLOODS) as answers:
        eventually(lambda: len(answers) > 100, what="100 requests got responses", within=60)
        _needs_eviction(small, upstream)
        eventually(
            lambda: left_out() > before + 100,
            what="the lines that were left out are counted",
        )


def test_log_long_uris_stop_no_eviction(small: Appliance, upstream: FakeUpstream) -> None:
    """During a flood of long URLs the cleaner still evicts.

    HAProxy truncates these URLs in its log lines, so that such lines do not crowd out other lines.
    """
    uri = "/v2/" + "/" * 3_900

    with flood(small, requests_for("GET", lambda number: f"{uri}{number}"), FLOODS) as answers:
        eventually(lambda: len(answers) > 200, what="200 long URIs got responses")
        _needs_eviction(small, upstream)


def _needs_eviction(appliance: Appliance, fake: FakeUpstream) -> None:
    """Pull more images than the cap allows, and wait until the cleaner has evicted some."""
    first = fake.count()  # a new number, so that each call pulls new images
    stored = list[Path]()
    for number in range(first, first + 10):
        name = f"one.test/app{number}"
        fake.put_image(f"app{number}", "v1", of_size(2 * MB, number))
        layers = _layers(appliance, name)
        client = Honest(appliance.http, (manifest_path(name, "v1"), *layers))
        client.request(1)
        assert client.failures == []
        digests = [Digest.parse(each.rpartition("/")[2]) for each in layers]
        stored += [appliance.data / layout.blob(digest) for digest in digests]
    eventually(
        lambda: not all(each.exists() for each in stored),
        what="the cleaner evicts during the flood",
        within=60,
    )
    eventually(
        lambda: appliance.metric("entrepot_evictions_total", reason="size") > 0,
        what="the evictions are counted",
    )


def _layers(appliance: Appliance, name: str) -> list[str]:
    body = appliance.http.get(manifest_path(name, "v1")).body
    return [blob_path(name, f"sha256:{each[:64].decode()}") for each in body.split(b"sha256:")[1:]]


def _manifest(layer: dict[str, object], config: str) -> bytes:
    kind = "application/vnd.oci.image.config.v1+json"
    return json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.manifest.v1+json",
            "config": {"mediaType": kind, "digest": config, "size": 2},
            "layers": [layer],
        }
    ).encode()
