"""Tests how `entrepot doctor` pulls an image, and reports failures and fallbacks."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.appliance.doctor.finding import Finding, Health
from entrepot.appliance.doctor.http_client import ApplianceClient, ServerAddress
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.pull import pull
from entrepot.appliance.doctor.routes import Route, routes
from entrepot.datastore.refs import Digest
from entrepot.registry.upstream.breaker import Breaker, Pass, UpstreamFailure
from tests.images import Image, image
from tests.upstream import FakeUpstream

NAME = ImageName("one.test", "app", "v1")
PREFIX, NS = routes(NAME, None)
GOOD = {"OCI-Namespace": "one.test", "Cache-Status": "entrepot; hit"}
MISS = {"OCI-Namespace": "one.test", "Cache-Status": "entrepot; fwd=uri-miss; stored"}


@pytest.fixture
def registry() -> Iterator[FakeUpstream]:
    """Return a stand-in for an appliance, which a test can make misbehave."""
    with FakeUpstream() as server:
        server.misbehave("", headers=GOOD)
        yield server


def add_image(registry: FakeUpstream) -> Image:
    """Add one image to the stand-in, under the names with and without the upstream's host."""
    made = registry.add_image("one.test/app", "v1", [b"layer" * 100])
    registry.put_image("app", "v1", made)
    return made


def pulled(registry: FakeUpstream, route: Route = PREFIX, breakers: Path | None = None) -> Finding:
    """Let `doctor` pull the image under the names of *route*, and return its finding."""
    host, _, port = registry.host.partition(":")
    return pull(ApplianceClient(ServerAddress(host, int(port), host)), route, NAME, breakers)


@pytest.mark.parametrize("route", [PREFIX, NS], ids=["prefix", "ns"])
def test_every_part_of_the_image_is_pulled(registry: FakeUpstream, route: Route) -> None:
    """`doctor` pulls manifest, config and layer by HEAD, GET and a range, as clients do."""
    made = add_image(registry)

    found = pulled(registry, route)

    assert (found.verdict, found.what) == (Health.WORKS, route.name)
    assert "3 parts" in found.why
    assert "all of the parts came from the cache" in found.why
    assert [each.method for each in registry.requests][:2] == ["HEAD", "GET"]
    assert (
        registry.requests[-1].headers["range"]
        == f"bytes={len(made.layers[0]) - 1}-{len(made.layers[0]) - 1}"
    )
    assert {each.query.get("ns") for each in registry.requests} == {route.ns or None}
    assert {each.headers["accept-encoding"] for each in registry.requests} == {
        "zstd, gzip, deflate"
    }


def test_parts_fetched_from_the_upstream_are_counted(registry: FakeUpstream) -> None:
    """`doctor` counts the parts that came from the upstream.

    The appliance stores these parts, so they come from the cache at the next pull.
    """
    add_image(registry)
    registry.misbehave("/blobs/", method="GET", times=2, headers=MISS)

    found = pulled(registry)

    assert "2 of the parts were fetched just now" in found.why


def test_one_platform_of_an_index_is_pulled(registry: FakeUpstream) -> None:
    """If an index has no image for the local platform, `doctor` pulls the first image."""
    children = [image([b"a"], architecture="wasm"), image([b"b"], architecture="riscv64")]
    registry.add_index("one.test/app", "v1", children)

    found = pulled(registry)

    assert "4 parts" in found.why
    assert registry.count("GET", f"/blobs/{Digest.of(b'a')}") == 1
    assert not registry.count("GET", f"/blobs/{Digest.of(b'b')}")


@pytest.mark.parametrize(
    ("challenge", "remedy"),
    [('Basic realm="a"', "--authfile"), ('Bearer realm="a"', "for whom the token server permits")],
)
def test_the_remedy_of_a_refused_login_depends_on_the_challenge(
    registry: FakeUpstream, challenge: str, remedy: str
) -> None:
    """The remedy for a refused login names `--authfile` (Basic) or the token server (Bearer)."""
    registry.misbehave("/manifests/", status=401, headers={"WWW-Authenticate": challenge})

    assert remedy in pulled(registry).remedy


@pytest.mark.parametrize(
    ("pattern", "knobs", "expected"),
    [
        ("/manifests/", {"status": 503, "headers": {"Retry-After": "7"}}, "503 UNKNOWN: .*7 s"),
        ("/manifests/", {"status": 401}, "401"),
        ("/manifests/v1", {"headers": {"Docker-Content-Digest": None}}, "none; containerd"),
        ("/manifests/v1", {"headers": {"Docker-Content-Digest": "md5:1"}}, "md5:1; containerd"),
        ("/manifests/v1", {"chunked": True}, "HEAD has no Content-Length"),
        ("/manifests/sha", {"corrupt": True}, "manifest sha256:.* another digest"),
        ("/manifests/sha", {"status": 502}, "manifest sha256:.* 502"),
        ("/blobs/", {"status": 504}, "blob sha256:.* 504"),
        ("/blobs/", {"corrupt": True}, "blob sha256:.* another digest"),
        ("/blobs/", {"chunked": True}, "its Content-Length"),
        ("/blobs/", {"cut": 10}, "GET .*/blobs/"),
        ("/blobs/", {"drop": True}, "GET .*/blobs/"),
        ("/blobs/", {"ignore_range": True}, "range: 200 with no Content-Range, not bytes 499-499"),
        ("/blobs/", {"headers": {"Content-Encoding": "gzip"}}, "compressed"),
    ],
)
def test_an_error_that_would_end_a_clients_pull_is_a_failure(
    registry: FakeUpstream, pattern: str, knobs: dict[str, Any], expected: str
) -> None:
    """For an error that would end a client's pull, `doctor` reports the part and the response."""
    add_image(registry)
    registry.misbehave(pattern, **{**knobs, "headers": {**GOOD, **knobs.get("headers", {})}})

    found = pulled(registry)

    assert found.verdict is Health.FAILS
    assert _matches(expected, found.why), found.why


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({"Warning": '299 - "served stale: one.test is away"'}, "served stale: one.test is away"),
        ({"OCI-Namespace": None}, "OCI-Namespace"),
        ({"Cache-Status": "entrepot; fwd=bypass"}, "passed through and not stored"),
    ],
)
def test_a_fault_that_clients_tolerate_is_a_fallback(
    registry: FakeUpstream, headers: dict[str, str | None], expected: str
) -> None:
    """If clients tolerate a fault, `doctor` reports it once, with the verdict `fell back`."""
    add_image(registry)
    registry.misbehave("", headers={**GOOD, **headers})

    found = pulled(registry)

    assert found.verdict is Health.FELL_BACK
    assert found.why.count(expected) == 1


def test_an_optional_route_that_is_not_configured_is_not_tried(registry: FakeUpstream) -> None:
    """A 404 on an optional route is no failure; `doctor` reports the route as not tried.

    The optional route serves dockerd's older image store, which requests images without the
    registry's host. This route works only if the appliance has a default upstream.
    """
    optional = Route("default", "dockerd", "app", is_optional=True)

    assert pulled(registry, optional).verdict is Health.NOT_TRIED
    assert pulled(registry, Route("default", "dockerd", "app")).verdict is Health.FAILS


@pytest.mark.parametrize("status", [502, 503, 504])
@pytest.mark.parametrize("is_open", [True, False], ids=["open", "closed"])
def test_a_failure_of_the_upstream_names_the_cause_of_its_breaker(
    registry: FakeUpstream, tmp_path: Path, status: int, *, is_open: bool
) -> None:
    """The remedy has the cause from the circuit breaker, shortened and without control codes.

    `doctor` reads the cause from a file of the workers, into which a compromised worker could write
    any text.
    """
    registry.misbehave("/manifests/", status=status)
    long = "refused: no connection\x1b[2J" + "x" * 5000
    failure = UpstreamFailure("refused", at_once=is_open, detail=long)
    for host in ("one.test", "other.test"):
        Breaker(host, tmp_path).failed(failure, Pass())

    found = pulled(registry, breakers=tmp_path)

    assert found.verdict is Health.FAILS
    assert found.remedy.startswith(
        "one.test: open (refused: no connection?[2Jx" if is_open else "one.test: failed (refused)"
    )
    assert found.remedy.endswith("; details: entrepot status")
    assert len(found.remedy) < 300


@pytest.mark.parametrize(("status", "host"), [(502, "other.test"), (404, "one.test")])
def test_other_failures_do_not_name_the_breaker(
    registry: FakeUpstream, tmp_path: Path, status: int, host: str
) -> None:
    """A failed pull's remedy names no circuit breaker of another upstream, and none for a 404."""
    registry.misbehave("/manifests/", status=status)
    Breaker(host, tmp_path).failed(UpstreamFailure("refused", at_once=True), Pass())

    assert pulled(registry, breakers=tmp_path).remedy == pulled(registry).remedy


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
