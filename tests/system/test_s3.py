"""An appliance stores its content in a bucket (`storage.s3`) of a server as strict as S3."""

from __future__ import annotations

import shutil
import threading
from collections.abc import Iterator
from contextlib import suppress
from itertools import count
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore import layout
from entrepot.datastore.drivers.objects.owner import KEY
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.refs import Digest, Repository
from tests.images import filler, image
from tests.s3_front import S3Front, SlowDown, Stall
from tests.s3_storage import configured
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.driver_checks import CHECKS, SHORT, SMALL, Check
from tests.system.http_client import Response
from tests.system.images import KB, MB, of_size
from tests.system.pulls import blob_path, get_blob, manifest_path, pull, pull_blob, pull_manifest
from tests.system.pushes import ALLOWED, begin, push_soon, tags, uploads_path
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

UNFINISHED = "6c1f4b9e-0000-4000-8000-000000000000"
"""The ID of an upload that docker-registry has begun but not finished."""


PURGES_NOTHING = {"uploadpurging": {"enabled": False}}


@pytest.fixture(scope="module")
def s3() -> Iterator[S3Front]:
    """Run the S3 server for all tests of this file."""
    with S3Front() as front:
        yield front


@pytest.fixture(scope="module")
def upstream() -> Iterator[FakeUpstream]:
    """Run the upstream for all tests of this file."""
    with FakeUpstream() as fake:
        yield fake


def _keys(s3: S3Front, **others: object) -> dict[str, Any]:
    return {
        **configured(s3),
        "rootdirectory": "/registry",
        "chunksize": "5M",
        **others,
    }


def _setup(
    s3: S3Front,
    upstream: FakeUpstream,
    data: Path,
    **others: object,
) -> Setup:
    """Return the configuration of an appliance whose state is below *data*."""
    return Setup(
        {"one.test": {"url": upstream.url}},
        {"storage": {**ALLOWED["storage"], "s3": _keys(s3, **others), "redirect": SHORT}},
        {**SMALL, "REGISTRYDIR": "", "ENTREPOT_STATEDIR": str(data / "entrepot")},
        data=data,
    )


@pytest.fixture(scope="module")
def appliance(
    tmp_path_factory: pytest.TempPathFactory, s3: S3Front, upstream: FakeUpstream
) -> Iterator[Appliance]:
    """Run one appliance that has two workers and stores its content in the bucket."""
    folder = tmp_path_factory.mktemp("s3")
    with Appliance(folder, _setup(s3, upstream, folder / "data")) as running:
        yield running


def test_the_last_byte_does_not_wait_for_the_bucket(
    appliance: Appliance, s3: S3Front, upstream: FakeUpstream
) -> None:
    """While the bucket does not respond to the PUT of a blob, clients still get the whole blob."""
    made = upstream.put_image("early", "v1", image([filler(300 * KB, 605)]))
    layer = Digest.of(made.layers[0])
    stall = Stall(threading.Event())
    end = s3.fault("PUT", layer.hex, stall)
    appliance.http.get(manifest_path("one.test/early", "v1"))

    for _ in range(4):
        assert pull_blob(appliance.http, "one.test/early", layer) == made.layers[0]
    assert upstream.count("GET", str(layer)) == 1
    assert s3.get(f"registry/{layout.blob(layer)}") is None

    end()
    stall.until.set()
    eventually(
        lambda: s3.get(f"registry/{layout.blob(layer)}") == made.layers[0],
        what="the blob is in the bucket",
        within=60,
    )


def test_parts_of_an_upload_are_sent_while_its_bytes_arrive(
    appliance: Appliance, s3: S3Front
) -> None:
    """The worker sends a part of an upload to the bucket before the client has sent all bytes."""
    content = filler(7 * MB, 606)
    digest = Digest.of(content)
    where = begin(appliance.http, "team/parts")

    def body() -> Iterator[bytes]:
        yield content[: 6 * MB]
        eventually(lambda: s3.count("PUT", digest.hex) >= 1, what="a part was sent", within=60)
        assert s3.get(f"registry/{layout.blob(digest)}") is None
        yield content[6 * MB :]

    pushed = appliance.http.request(
        "PUT",
        f"{where}?digest={digest}",
        headers={"Content-Length": str(len(content))},
        body=body(),
    )

    assert pushed.status == 201, pushed
    assert s3.get(f"registry/{layout.blob(digest)}") == content
    assert pull_blob(appliance.http, "team/parts", digest) == content


@pytest.mark.parametrize("check", CHECKS, ids=lambda each: str(each.__name__))
def test_clients_are_served_from_a_bucket(
    appliance: Appliance, upstream: FakeUpstream, check: Check
) -> None:
    """Each check of the storage drivers passes for an appliance that keeps content in a bucket."""
    check(appliance, upstream)


def test_a_warm_pull_costs_at_most_one_request_for_each_long_blob(
    appliance: Appliance, s3: S3Front, upstream: FakeUpstream
) -> None:
    """A pull of stored content costs the appliance at most one request for each long blob.

    Clients fetch long blobs directly from the bucket by redirects. Before some redirects the
    appliance sends a HEAD, which shows whether the bucket still has the blob. After the first pull
    the cleaner also examines each new blob once, at an unknown time, and the test counts these
    requests too. So the test repeats its four pulls until the cleaner has finished.
    """
    made = upstream.put_image("cost", "v1", of_size(300 * KB, 600))
    pull(appliance.http, "one.test/cost", "v1")
    names = ("one.test/cost", made.digest.hex, *(Digest.of(each).hex for each in made.blobs))
    layer = Digest.of(made.layers[0])
    clients = count(1)

    def cost_one_request() -> bool:
        s3.forget()
        for _ in range(4):
            pull_manifest(appliance.http, "one.test/cost", "v1")
            # HAProxy sees a different client each time, so no request counts as a repetition
            other = f"192.0.2.{next(clients)}"
            found = get_blob(appliance.http, "one.test/cost", layer, X_Forwarded_For=other)
            assert found.body == made.layers[0]
        ours = [each for each in s3.requests if any(name in each.key for name in names)]
        theirs = [each for each in ours if "X-Amz-Signature" in each.query]
        asked = [each.method for each in ours if each not in theirs and layer.hex in each.key]
        return len(theirs) == 4 and len(ours) == 4 + len(asked) and set(asked) <= {"HEAD"}

    eventually(cost_one_request, what="each client fetches the layer with one GET", within=30)


def test_catalog_and_referrers_need_no_request(appliance: Appliance, s3: S3Front) -> None:
    """A list that was read before needs no request to the bucket, and shows later pushes."""
    made = of_size(20 * KB, 606)
    push_soon(appliance.http, "team/listed", "v1", made)
    paths = (
        "/v2/_catalog",
        f"/v2/team/listed/referrers/{made.digest}",
        "/v2/team/listed/tags/list",
    )

    def answers() -> list[Response]:
        return [appliance.http.get(path) for path in paths]

    def need_no_request() -> bool:
        answers()
        s3.forget()
        found = answers()
        assert [each.status for each in found] == [200, 200, 200]
        lists = [each for each in s3.requests if "list-type=2" in each.query]
        return not lists and not [each for each in s3.requests if "team/listed" in each.key]

    # The cleaner sends list requests too, so the test repeats its requests until the cleaner is
    # idle.
    eventually(need_no_request, what="the lists are remembered", within=30)
    push_soon(appliance.http, "team/listed", "v2", of_size(20 * KB, 607))
    assert tags(appliance.http, "team/listed") == ["v1", "v2"]


def test_the_url_of_a_redirect_is_written_nowhere(
    appliance: Appliance, upstream: FakeUpstream
) -> None:
    """A redirect counts as a use, and its signed URL is written to no file.

    If the client immediately repeats the request, the worker sends the blob itself.
    """
    made = upstream.put_image("secret", "v1", of_size(300 * KB, 605))
    layer = Digest.of(made.layers[0])
    pull(appliance.http, "one.test/secret", "v1")
    path = blob_path("one.test/secret", layer)

    clients = count(1)

    def redirected() -> tuple[Response, str] | None:
        client = f"198.51.100.{next(clients)}"
        found = appliance.http.get(path, X_Forwarded_For=client)
        return (found, client) if found.status == 307 else None

    # A client can get the last byte before the bucket has the blob, so the test waits for a 307.
    first, client = eventually(redirected, what="the blob is stored", within=60, pause=0.5)
    second = appliance.http.get(path, X_Forwarded_For=client)

    assert (second.status, second.body) == (200, made.layers[0])
    signature = first.headers["location"].partition("X-Amz-Signature=")[2].encode()

    def is_counted() -> bool:
        return appliance.metric("registry_http_requests_total", code="307", handler="blob") > 0

    eventually(is_counted, what="the logger has read the line of the redirect")
    assert [each for each in appliance.state.rglob("*") if signature in _content(each)] == []
    assert signature.decode() not in appliance.output()


@pytest.mark.parametrize("client", ["skopeo", pytest.param("podman", marks=pytest.mark.soak)])
def test_a_client_fetches_a_layer_from_the_bucket(  # noqa: PLR0917 - fixtures
    appliance: Appliance,
    s3: S3Front,
    upstream: FakeUpstream,
    clients: Clients,
    tmp_path: Path,
    client: str,
) -> None:
    """A client fetches a layer with the signed URL, and S3 accepts all headers of that request."""
    made = upstream.put_image(client, "v1", of_size(300 * KB, 608 + len(client)))
    pull(appliance.http, f"one.test/{client}", "v1")
    path = blob_path(f"one.test/{client}", Digest.of(made.layers[0]))
    numbers = count(1)

    def is_redirected() -> bool:
        other = f"203.0.113.{next(numbers)}"
        return appliance.http.get(path, X_Forwarded_For=other).status == 307

    eventually(is_redirected, what="the blob is stored", within=60, pause=0.5)
    s3.forget()
    image = f"{appliance.http.netloc}/one.test/{client}:v1"
    if client == "skopeo":
        done = clients.copy(image, tmp_path / "copy")
        assert done.returncode == 0, done.stderr
    else:
        clients.pull(image)

    layer = Digest.of(made.layers[0]).hex
    theirs = [each for each in s3.requests if layer in each.key and each.method == "GET"]
    assert ["X-Amz-Signature" in each.query for each in theirs] == [True]
    assert s3.refused == []


def test_a_restart_keeps_the_content_and_the_claim(
    appliance: Appliance, s3: S3Front, upstream: FakeUpstream
) -> None:
    """A restart keeps the content of the bucket.

    After a clean stop the bucket has no owner; after a kill the same appliance is still the owner.
    """
    made = of_size(6 * MB, 610)
    push_soon(appliance.http, "team/restart", "v1", made)
    upstream.put_image("restart", "v1", of_size(100 * KB, 611))
    pull(appliance.http, "one.test/restart", "v1")
    assert appliance.stop() == 0
    assert s3.get(f"registry/{KEY}") is None

    appliance.start()
    assert pull(appliance.http, "team/restart", "v1")[0] == made.digest
    appliance.kill()
    appliance.start()
    upstream.forget()

    assert pull(appliance.http, "team/restart", "v1")[0] == made.digest
    pull(appliance.http, "one.test/restart", "v1")
    assert [each for each in upstream.requests if "/blobs/" in each.path] == []
    push_soon(appliance.http, "team/restart", "v2", of_size(50 * KB, 612))


def test_a_lost_index_is_rebuilt_from_the_bucket(
    appliance: Appliance, s3: S3Front, upstream: FakeUpstream
) -> None:
    """After the loss of the state directory all content and its last uses are restored."""
    made = of_size(200 * KB, 620)
    push_soon(appliance.http, "team/rebuilt", "v1", made)
    assert appliance.stop() == 0
    before = _last_uses(appliance)
    assert Digest.of(made.layers[0]) in before
    shutil.rmtree(appliance.state)
    s3.forget()

    appliance.start()

    def are_restored() -> bool:
        uses = _last_uses(appliance)
        return Digest.of(made.layers[0]) in uses and uses.items() <= before.items()

    eventually(are_restored, what="the last uses are restored", within=60)
    assert 0 < s3.count("GET", f"^registry/{layout.SNAPSHOT}/..$") <= 256
    assert pull(appliance.http, "team/rebuilt", "v1")[0] == made.digest
    assert tags(appliance.http, "team/rebuilt") == ["v1"]
    upstream.put_image("after", "v1", of_size(100 * KB, 621))

    def is_stored() -> bool:
        pull(appliance.http, "one.test/after", "v1")
        upstream.forget()
        pull(appliance.http, "one.test/after", "v1")
        return not any("/blobs/" in each.path for each in upstream.requests)

    eventually(is_stored, what="downloads are stored after the rebuild", within=30)


def _content(path: Path) -> bytes:
    """Return the bytes of a file; b"" for a folder, or a file that was removed meanwhile."""
    with suppress(FileNotFoundError, IsADirectoryError):
        return path.read_bytes()
    return b""


def _last_uses(appliance: Appliance) -> dict[Digest, float]:
    """Return the last use of each object in the appliance's index."""
    index = open_index(appliance.state)
    try:
        return {row.digest: row.used for row in index.oldest(None, 10_000)}
    finally:
        index.close()


def test_the_requests_to_the_bucket_are_in_the_metrics(appliance: Appliance) -> None:
    """The metrics count bucket requests of workers and cleaner, and show the snapshot's age."""
    push_soon(appliance.http, "team/metrics", "v1", of_size(200 * KB, 625))
    seconds = "registry_storage_action_seconds_count"

    def are_counted() -> bool:
        page = appliance.http.get("/metrics").body.decode()
        return (
            appliance.metric(seconds, driver="s3aws", action="PutContent") > 0
            and appliance.metric(seconds, driver="s3aws", action="Walk") > 0
            and appliance.metric("entrepot_storage_requests_total", verb="PUT", status="2xx") > 0
            and appliance.metric("entrepot_storage_bytes_total", direction="written") > 200 * KB
            and "\nentrepot_snapshot_age_seconds " in page
            and "\nentrepot_spool_bytes " in page
        )

    eventually(are_counted, what="the metrics of the bucket are shown", within=60)


def test_docker_registry_and_the_appliance_serve_one_bucket_in_turn(
    appliance: Appliance, s3: S3Front, tmp_path: Path
) -> None:
    """docker-registry and the appliance can serve the same bucket one after the other.

    Each program serves the images that were pushed to the other one, but not a tag that the other
    one has deleted. The test server accepts all requests that docker-registry signs with AWS's
    library, as S3 would.
    """
    ours, theirs, shared = (of_size(300 * KB, seed) for seed in (630, 631, 632))
    push_soon(appliance.http, "turn/ours", "v1", ours)
    push_soon(appliance.http, "turn/shared", "v1", shared)
    assert appliance.stop() == 0
    s3.forget()
    storage = {"s3": _keys(s3, secure=False, chunksize=5 * MB), "redirect": {"disable": True}}
    settings = {"storage": {**storage, "delete": {"enabled": True}}}
    with Registry(tmp_path / "registry", settings=settings) as registry:
        assert pull(registry.http, "turn/ours", "v1")[0] == ours.digest
        registry.push("turn/theirs", "v1", theirs)
        registry.push("turn/shared", "v2", theirs)
        gone = registry.http.request("DELETE", manifest_path("turn/shared", shared.digest))
        assert gone.status == 202
    assert s3.refused == []

    appliance.start()

    assert pull(appliance.http, "turn/theirs", "v1")[0] == theirs.digest
    assert pull(appliance.http, "turn/shared", "v2")[0] == theirs.digest
    assert appliance.http.get(manifest_path("turn/shared", "v1")).status == 404
    assert pull(appliance.http, "turn/ours", "v1")[0] == ours.digest


def test_docker_registry_and_the_appliance_write_one_bucket_at_once(
    s3: S3Front, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """With `storage.shared`, docker-registry and the appliance see each other's changes.

    The appliance remembers a link or a tag of a hosted repository for ten seconds.
    """
    prefix = {"rootdirectory": "/shared"}
    setup = _setup(s3, upstream, tmp_path / "data", **prefix)
    setup.settings["storage"]["shared"] = True
    setup.settings["storage"]["maintenance"] = {"uploadpurging": {"interval": "1s"}}
    keys = _keys(s3, secure=False, chunksize=5 * MB, **prefix)
    theirs_not = {"redirect": {"disable": True}, "maintenance": PURGES_NOTHING}
    settings = {"storage": {"s3": keys, "delete": {"enabled": True}, **theirs_not}}
    ours, theirs, moved = (of_size(100 * KB, seed) for seed in (680, 681, 682))
    uploads = f"shared/{layout.uploads(Repository('one/app'))}"
    for name in ("startedat", "hashstates/sha256/0", "data"):
        s3.put(f"{uploads}/{UNFINISHED}/{name}", b"2026-01-01T00:00:00Z")
    with (
        Registry(tmp_path / "registry", settings=settings) as registry,
        Appliance(tmp_path / "appliance0", setup) as appliance,
    ):
        begun = registry.http.request("POST", uploads_path("one/app"))
        assert begun.status == 202
        young = f"{uploads}/{begun.headers['docker-upload-uuid']}/startedat"
        assert appliance.http.get(manifest_path("one/app", "v1")).status == 404
        push_soon(appliance.http, "one/app", "ours", ours)
        registry.push("one/app", "v1", theirs)
        assert pull(appliance.http, "one/app", "v1")[0] == theirs.digest
        assert pull(registry.http, "one/app", "ours")[0] == ours.digest
        assert tags(appliance.http, "one/app") == ["ours", "v1"]

        registry.push("one/app", "v1", moved)

        def is_moved() -> bool:
            return pull(appliance.http, "one/app", "v1")[0] == moved.digest

        eventually(is_moved, what="the appliance has the moved tag", within=60)
        path = manifest_path("one/app", ours.digest)
        assert registry.http.request("DELETE", path).status == 202
        eventually(lambda: appliance.http.get(path).status == 404, what="a deletion", within=60)
        push_soon(appliance.http, "one/app", "ours", ours)
        assert pull(registry.http, "one/app", "ours")[0] == ours.digest
        path = manifest_path("one/app", moved.digest)
        assert appliance.http.request("DELETE", path).status == 202
        assert registry.http.get(path).status == 404

        def is_purged() -> bool:
            return s3.keys(f"{uploads}/{UNFINISHED}") == []

        eventually(is_purged, what="the old upload is removed", within=60)
        assert s3.get(young) is not None
        assert s3.count("PUT", f"^shared/{KEY}") == 0


def test_while_the_bucket_is_down_pulls_pass_through_and_pushes_wait(
    appliance: Appliance, s3: S3Front, upstream: FakeUpstream
) -> None:
    """While the bucket is down, pulls succeed if the upstream can send the content.

    When the bucket responds again, content is stored there without a restart of the appliance.
    """
    upstream.put_image("down", "v1", of_size(300 * KB, 640))
    new = upstream.put_image("down", "v2", of_size(300 * KB, 641))
    pull(appliance.http, "one.test/down", "v1")
    s3.is_down = True
    try:
        for tag in ("v1", "v2"):
            pull(appliance.http, "one.test/down", tag)
        assert _push(appliance, "team/down", b"refused") == 503
    finally:
        s3.is_down = False

    def is_pushed() -> bool:
        return _push(appliance, "team/down", b"accepted") == 201

    eventually(is_pushed, what="pushes are accepted again", within=30)

    def is_stored() -> bool:
        pull(appliance.http, "one.test/down", "v2")
        upstream.forget()
        assert pull_blob(appliance.http, "one.test/down", Digest.of(new.layers[0]))
        return not any("/blobs/" in each.path for each in upstream.requests)

    eventually(is_stored, what="downloads are stored again", within=30)


def test_an_acknowledged_push_survives_a_throttled_bucket(
    appliance: Appliance, s3: S3Front
) -> None:
    """While the bucket limits its rate, a push gets 201 or 503; a push with 201 is stored."""
    end = s3.fault("PUT", "/blobs/", SlowDown(), times=5)
    pushed = [filler(20 * KB, 650 + n) for n in range(8)]
    statuses = {each: _push(appliance, "team/slow", each) for each in pushed}
    end()

    def is_accepted() -> bool:
        return _push(appliance, "team/slow", b"last") == 201

    eventually(is_accepted, what="pushes are accepted again", within=30)
    assert 503 in statuses.values()
    assert set(statuses.values()) <= {201, 503}
    for content, status in statuses.items():
        if status == 201:
            assert pull_blob(appliance.http, "team/slow", Digest.of(content)) == content


def _push(appliance: Appliance, name: str, content: bytes) -> int:
    """Push a blob, and return the status of the PUT, or of the POST if it is refused."""
    begun = appliance.http.request("POST", uploads_path(name))
    if begun.status != 202:
        return begun.status
    where = f"{begun.headers['location']}?digest={Digest.of(content)}"
    return appliance.http.request("PUT", where, body=content).status


def test_a_second_appliance_only_reads(
    appliance: Appliance, s3: S3Front, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """A second appliance on a bucket writes nothing to the bucket.

    This appliance serves stored content, passes other content through, and refuses pushes with 503.
    """
    made = of_size(200 * KB, 660)
    push_soon(appliance.http, "team/two", "v1", made)
    upstream.put_image("two", "v1", of_size(100 * KB, 661))
    with Appliance(tmp_path / "second", _setup(s3, upstream, tmp_path / "data")) as second:
        assert "another appliance owns the bucket" in second.output()
        assert pull(second.http, "team/two", "v1")[0] == made.digest
        pull(second.http, "one.test/two", "v1")
        assert _push(second, "team/two", b"other") == 503
    assert _push(appliance, "team/two", b"ours") == 201
    prefix = f"registry/{layout.REPOSITORIES}/one.test/two"
    assert s3.keys(prefix) == []


@pytest.mark.parametrize(
    ("wrong", "expected"),
    [
        ({"accesskey": "AKIAWRONG"}, "correct storage.s3.accesskey"),
        pytest.param(
            {"secretkey": "wrong"}, "correct storage.s3.secretkey", marks=pytest.mark.soak
        ),
        ({"region": "us-east-1"}, "set storage.s3.region to the bucket's region"),
        ({"bucket": "absent"}, "create the bucket, or correct storage.s3.bucket"),
        pytest.param(
            {"ca": "/nonexistent/ca.pem"}, "name a file that can be read", marks=pytest.mark.soak
        ),
    ],
    ids=lambda each: next(iter(each)) if isinstance(each, dict) else "",
)
def test_a_bucket_that_refuses_requests_is_one_line(
    s3: S3Front, upstream: FakeUpstream, tmp_path: Path, wrong: dict[str, object], expected: str
) -> None:
    """If the bucket refuses requests, `serve` and `check` print one line and exit with 2."""
    setup = _setup(s3, upstream, tmp_path / "data", **wrong)
    appliance = Appliance(tmp_path / "appliance0", setup)

    assert appliance.launch().wait(timeout=60) == 2
    lines = [line for line in appliance.output().splitlines() if "storage.s3" in line]
    assert len(lines) == 1, appliance.output()
    assert expected in lines[0]
    checked = appliance.entrepot("check")
    assert checked.returncode == 2
    assert expected in checked.stdout


def test_the_start_does_not_need_the_bucket(
    s3: S3Front, upstream: FakeUpstream, tmp_path: Path
) -> None:
    """An appliance starts although its bucket does not respond.

    Pulls are passed through until the bucket responds; then downloads are stored.
    """
    upstream.put_image("late", "v1", of_size(100 * KB, 670))
    setup = _setup(s3, upstream, tmp_path / "data", rootdirectory="/late")
    s3.is_down = True
    try:
        late = Appliance(tmp_path / "appliance0", setup)
        late.start()
        pull(late.http, "one.test/late", "v1")
    finally:
        s3.is_down = False

    def is_stored() -> bool:
        pull(late.http, "one.test/late", "v1")
        upstream.forget()
        pull(late.http, "one.test/late", "v1")
        return not any("/blobs/" in each.path for each in upstream.requests)

    try:
        eventually(is_stored, what="downloads are stored", within=60)
    finally:
        late.stop()
