"""While the upstream is down, stored content is served, and other content is refused."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.ports import free_port
from tests.system.appliance import Appliance, Setup
from tests.system.blackhole import BlackHole
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, of_size, two_platforms
from tests.system.pulls import blob_path, manifest_path, pull, pull_blob, pull_manifest
from tests.system.registries import Registry
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

NAME = "one.test/library/app"
MANY = "one.test/library/many"
QUICK = {
    "ENTREPOT_FRESHNESS": "0s",
    "ENTREPOT_CONNECT_TIMEOUT": "1s",
    "ENTREPOT_NEGATIVE_TTL": "0s",
}
AWAY = (502, 503, 504)


@dataclass(frozen=True, slots=True)
class Outage:
    """An appliance that has pulled images, and whose upstream was then stopped."""

    appliance: Appliance
    image: Image
    children: list[Image]


@pytest.fixture(scope="module", params=["running", "started in the outage"])
def outage(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Outage]:
    """Stop the upstream while the appliance runs, or before a restart of the appliance."""
    folder = tmp_path_factory.mktemp("outage")
    registry = Registry(folder / "registry")
    setup = Setup({"one.test": {"url": registry.url}}, environment=QUICK)
    with registry, Appliance(folder / "appliance", setup) as appliance:
        image = registry.push("library/app", "v1", of_size(64 * KB, 50))
        registry.push("library/other", "v1", of_size(KB, 51))
        children = two_platforms(52)
        registry.push_index("library/many", "v1", children)
        pull(appliance.http, NAME, "v1")
        pull_manifest(appliance.http, MANY, "v1")
        pull(appliance.http, MANY, children[0].digest)
        registry.stop()
        if request.param != "running":
            assert appliance.stop() == 0
            appliance.start()
        yield Outage(appliance, image, children)


def test_podman_pulls_a_stored_image_by_tag(outage: Outage, clients: Clients) -> None:
    """During an outage podman pulls a stored image by a tag that cannot be revalidated."""
    pulled = clients.pull(f"{outage.appliance.http.netloc}/{NAME}:v1")

    assert str(Digest.of(outage.image.config)) == f"sha256:{pulled}"


def test_podman_pulls_a_stored_image_by_digest(outage: Outage, clients: Clients) -> None:
    """During an outage podman pulls a stored image by digest, which needs no revalidation."""
    image = f"{outage.appliance.http.netloc}/{NAME}@{outage.image.digest}"

    assert str(Digest.of(outage.image.config)) == f"sha256:{clients.pull(image)}"


def test_podman_pulls_an_index_if_its_platform_is_stored(outage: Outage, clients: Clients) -> None:
    """While the upstream is down, an index is served if the image for one platform is stored."""
    pulled = clients.pull(f"{outage.appliance.http.netloc}/{MANY}:v1")

    assert str(Digest.of(outage.children[0].config)) == f"sha256:{pulled}"


def test_a_stale_tag_is_marked(outage: Outage) -> None:
    """A stale tag is served with `Warning: 299`, `Age` and `Cache-Status`."""
    response = outage.appliance.http.get(manifest_path(NAME, "v1"))

    assert outage.image.manifest == response.body
    assert response.headers["warning"].startswith("299 - ")
    assert int(response.headers["age"]) >= 0
    assert response.headers["cache-status"].startswith("entrepot; ")
    # a negative ttl means that the freshness has passed (RFC 9211, 2.3)
    assert "ttl=-" in response.headers["cache-status"]


def test_a_manifest_by_digest_is_never_stale(outage: Outage) -> None:
    """A manifest by digest is served from the store without a warning, also during an outage."""
    response = outage.appliance.http.get(manifest_path(NAME, outage.image.digest))

    assert (response.status, outage.image.manifest) == (200, response.body)
    assert "warning" not in response.headers


@pytest.mark.parametrize(
    "path",
    [
        manifest_path(NAME, "v2"),
        manifest_path("one.test/library/other", "v1"),
        manifest_path(NAME, f"sha256:{'0' * 64}"),
        blob_path(NAME, f"sha256:{'0' * 64}"),
    ],
    ids=["tag", "repository", "manifest", "blob"],
)
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_content_that_was_not_pulled_is_unavailable_and_not_unknown(
    outage: Outage, method: str, path: str
) -> None:
    """Content that was never pulled gets no 404 while its upstream is down.

    A client that got a 404 would report that the image does not exist.
    """
    response = outage.appliance.http.request(method, path)

    assert response.status in AWAY
    assert method == "HEAD" or response.code


def test_podman_reports_the_outage_for_an_image_that_was_not_pulled(
    outage: Outage, clients: Clients
) -> None:
    """During an outage podman's error for an image that is not stored lacks the word `unknown`.

    With this word (`manifest unknown`) the error would mean that the image does not exist.
    """
    message = clients.pull_fails(f"{outage.appliance.http.netloc}/one.test/library/other:v1")

    assert "unknown" not in message


@pytest.fixture(scope="module")
def unreachable(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Run an appliance whose upstreams cannot be reached, each for a different reason."""
    with BlackHole() as hole:
        upstreams: dict[str, dict[str, Any]] = {
            "refusing.test": {"url": f"http://127.0.0.1:{free_port()}"},
            "unknown.test": {"url": "http://entrepot.invalid", "insecure": True},
            "hole.test": {"url": hole.url},
        }
        setup = Setup(upstreams, environment=QUICK)
        with Appliance(tmp_path_factory.mktemp("unreachable"), setup) as appliance:
            yield appliance


def test_a_refused_connection_is_502_and_opens_the_breaker(unreachable: Appliance) -> None:
    """If an upstream refuses connections, clients get 502, then 503 from its circuit breaker."""
    first = unreachable.http.get(manifest_path("refusing.test/app", "v1"))
    resting = eventually(lambda: _resting(unreachable, "refusing.test"), what="the breaker opens")

    assert first.status == 502
    assert int(resting) >= 0


def test_an_unknown_host_is_502(unreachable: Appliance) -> None:
    """If an upstream's host name cannot be resolved, the client gets 502, 503 or 504."""
    assert unreachable.http.get(manifest_path("unknown.test/app", "v1")).status in AWAY


def test_a_black_hole_is_504_and_opens_the_breaker(unreachable: Appliance) -> None:
    """If an upstream drops all packets, a request gets 504, and then the circuit breaker opens."""
    first = unreachable.http.get(manifest_path("hole.test/app", "v1"))
    resting = eventually(lambda: _resting(unreachable, "hole.test"), what="the breaker opens")

    assert first.status == 504
    assert int(resting) >= 0


def test_an_incomplete_image_is_refused_before_its_manifest(
    start: Start, fake: FakeUpstream
) -> None:
    """If parts of an image are not stored, its manifest is refused while the upstream is down.

    If podman got the manifest, it would not try another mirror for the layers.
    """
    image = fake.put_image("app", "v1", of_size(KB, 53))
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=QUICK))
    appliance.http.get(manifest_path("one.test/app", "v1"))
    pull_blob(appliance.http, "one.test/app", Digest.of(image.config))
    fake.stop()

    by_tag = appliance.http.get(manifest_path("one.test/app", "v1"))

    assert by_tag.status == 503
    path = manifest_path("one.test/app", image.digest)
    eventually(lambda: appliance.http.get(path).status == 503, what="a pull by digest gets 503 too")


def test_an_upstream_that_is_back_is_used_again(start: Start, fake: FakeUpstream) -> None:
    """When the upstream works again, its circuit breaker closes, and tags are confirmed again."""
    fake.put_image("app", "v1", of_size(KB, 54))
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=QUICK))
    pull(appliance.http, "one.test/app", "v1")
    fake.stop()
    eventually(lambda: "warning" in _tag(appliance), what="the tag is stale")

    fake.start()

    eventually(lambda: "warning" not in _tag(appliance), what="the tag is fresh again")


def test_the_list_of_tags_is_served_locally_during_an_outage(outage: Outage) -> None:
    """During an outage the list of tags contains the tags that the appliance has stored."""
    response = outage.appliance.http.get(f"/v2/{NAME}/tags/list")

    assert response.status == 200
    assert b'"v1"' in response.body


def _tag(appliance: Appliance) -> dict[str, str]:
    response = appliance.http.get(manifest_path("one.test/app", "v1"))
    assert response.status == 200
    return dict(response.headers)


def _resting(appliance: Appliance, host: str) -> str:
    """Return the Retry-After of a 503, which the circuit breaker sends; "" for other statuses."""
    response = appliance.http.get(manifest_path(f"{host}/app", "v1"))
    assert response.status in AWAY
    return response.headers.get("retry-after", "") if response.status == 503 else ""
