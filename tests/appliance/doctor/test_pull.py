"""What the doctor says of an appliance that a client could not pull through."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest

from entrepot.appliance.doctor.finding import Finding, Health
from entrepot.appliance.doctor.http_client import ApplianceClient, ServerAddress
from entrepot.appliance.doctor.images import ImageName
from entrepot.appliance.doctor.pull import pull
from entrepot.appliance.doctor.routes import Route, routes
from entrepot.datastore.refs import Digest
from tests.images import Image, image
from tests.upstream import FakeUpstream

NAME = ImageName("one.test", "app", "v1")
PREFIX, NS = routes(NAME, None)
GOOD = {"OCI-Namespace": "one.test", "Cache-Status": "entrepot; hit"}
MISS = {"OCI-Namespace": "one.test", "Cache-Status": "entrepot; fwd=uri-miss; stored"}


@pytest.fixture
def front() -> Iterator[FakeUpstream]:
    """What answers as an appliance does, and can be told to do otherwise."""
    with FakeUpstream() as server:
        server.misbehave("", headers=GOOD)
        yield server


def put(front: FakeUpstream) -> Image:
    """Put one image where both routes lead."""
    made = front.add_image("one.test/app", "v1", [b"layer" * 100])
    front.put_image("app", "v1", made)
    return made


def pulled(front: FakeUpstream, route: Route = PREFIX) -> Finding:
    """Pull by one route."""
    host, _, port = front.host.partition(":")
    return pull(ApplianceClient(ServerAddress(host, int(port), host)), route, NAME)


@pytest.mark.parametrize("route", [PREFIX, NS], ids=["prefix", "ns"])
def test_every_part_is_pulled_and_told(front: FakeUpstream, route: Route) -> None:
    """Manifest, config and layer, by HEAD, GET and a range, as clients ask."""
    made = put(front)

    found = pulled(front, route)

    assert (found.verdict, found.what) == (Health.WORKS, route.name)
    assert "3 parts" in found.why
    assert "all of them from the cache" in found.why
    assert [each.method for each in front.requests][:2] == ["HEAD", "GET"]
    assert (
        front.requests[-1].headers["range"]
        == f"bytes={len(made.layers[0]) - 1}-{len(made.layers[0]) - 1}"
    )
    assert {each.query.get("ns") for each in front.requests} == {route.ns or None}
    assert {each.headers["accept-encoding"] for each in front.requests} == {"zstd, gzip, deflate"}


def test_what_had_to_be_fetched_is_told(front: FakeUpstream) -> None:
    """A second look says whether it was kept."""
    put(front)
    front.misbehave("/blobs/", method="GET", times=2, headers=MISS)

    found = pulled(front)

    assert "2 of them fetched just now" in found.why


def test_of_an_index_one_platform_is_pulled(front: FakeUpstream) -> None:
    """As a client would, that of this machine, else the first."""
    children = [image([b"a"], architecture="wasm"), image([b"b"], architecture="riscv64")]
    front.add_index("one.test/app", "v1", children)

    found = pulled(front)

    assert "4 parts" in found.why
    assert front.count("GET", f"/blobs/{Digest.of(b'a')}") == 1
    assert not front.count("GET", f"/blobs/{Digest.of(b'b')}")


@pytest.mark.parametrize(
    ("pattern", "knobs", "told"),
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
def test_what_would_end_a_clients_pull_fails(
    front: FakeUpstream, pattern: str, knobs: dict[str, Any], told: str
) -> None:
    """In a line that names the thing and the answer."""
    put(front)
    front.misbehave(pattern, **{**knobs, "headers": {**GOOD, **knobs.get("headers", {})}})

    found = pulled(front)

    assert found.verdict is Health.FAILS
    assert _matches(told, found.why), found.why


@pytest.mark.parametrize(
    ("headers", "told"),
    [
        ({"Warning": '299 - "served stale: one.test is away"'}, "served stale: one.test is away"),
        ({"OCI-Namespace": None}, "OCI-Namespace"),
        ({"Cache-Status": "entrepot; fwd=bypass"}, "passed through and not stored"),
    ],
)
def test_what_a_client_puts_up_with_fell_back(
    front: FakeUpstream, headers: dict[str, str | None], told: str
) -> None:
    """It works, and somebody should look; each is told once."""
    put(front)
    front.misbehave("", headers={**GOOD, **headers})

    found = pulled(front)

    assert found.verdict is Health.FELL_BACK
    assert found.why.count(told) == 1


def test_a_way_that_nobody_set_up_is_not_tried(front: FakeUpstream) -> None:
    """Dockerd's older store needs a default upstream; without one that is no fault."""
    optional = Route("default", "dockerd", "app", is_optional=True)

    assert pulled(front, optional).verdict is Health.NOT_TRIED
    assert pulled(front, Route("default", "dockerd", "app")).verdict is Health.FAILS


def _matches(pattern: str, text: str) -> bool:
    return re.search(pattern, text) is not None
