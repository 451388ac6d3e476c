"""Malformed requests get a 4xx, and unusual requests never get a 500."""

from __future__ import annotations

import json

import pytest

from entrepot.datastore.refs import Digest
from tests.system.appliance import Appliance
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.registries import Registry
from tests.system.waiting import eventually

NAME = "one.test/bad/app"
DIGEST = f"sha256:{'0' * 64}"
RANGES = (200, 206, 400, 416)

TARGETS = {
    "upper case": "/v2/one.test/Bad/manifests/v1",
    "empty component": "/v2/one.test//app/manifests/v1",
    "dots": "/v2/one.test/../../etc/passwd",
    "dots in a name": "/v2/one.test/../app/manifests/v1",
    "encoded dots": "/v2/one.test/%2e%2e/app/manifests/v1",
    "encoded slash": "/v2/one.test%2fapp/manifests/v1",
    "encoded zero": "/v2/one.test/a%00b/manifests/v1",
    "not UTF-8": "/v2/one.test/%ff%fe/manifests/v1",
    "half an escape": "/v2/one.test/app%/manifests/v1",
    "name of 300": f"/v2/one.test/{'a' * 300}/manifests/v1",
    "no name": "/v2//manifests/v1",
    "tag of 129": f"/v2/{NAME}/manifests/{'a' * 129}",
    "tag with a dash first": f"/v2/{NAME}/manifests/-v1",
    "no reference": f"/v2/{NAME}/manifests/",
    "short digest": f"/v2/{NAME}/manifests/sha256:abc",
    "long digest": f"/v2/{NAME}/blobs/{DIGEST}0",
    "upper-case digest": f"/v2/{NAME}/blobs/sha256:{'A' * 64}",
    "unknown algorithm": f"/v2/{NAME}/blobs/md5:{'0' * 32}",
    "digest of nothing": f"/v2/{NAME}/blobs/sha256:",
    "digest that climbs": f"/v2/{NAME}/blobs/sha256:../../../../etc/passwd",
    "no digest": f"/v2/{NAME}/blobs/",
    "a tag as a blob": f"/v2/{NAME}/blobs/v1",
    "n that is a word": f"/v2/{NAME}/tags/list?n=many",
    "n below nothing": f"/v2/{NAME}/tags/list?n=-1",
    "n beyond all": f"/v2/{NAME}/tags/list?n={'9' * 400}",
    "ns that is no host": "/v2/bad/app/manifests/v1?ns=%0d%0aX:y",
    "two ns": "/v2/bad/app/manifests/v1?ns=one.test&ns=two.test",
    "referrers of nonsense": f"/v2/{NAME}/referrers/nonsense",
    "no such thing": f"/v2/{NAME}/nonsense/v1",
    "outside the API": "/nonsense",
    "an absolute path of a file": "/v2/one.test/etc/passwd/blobs/..%2f..",
}
HEADERS = {
    "Authorization of rubbish": {"Authorization": "Basic %%%"},
    "Authorization of nobody knows": {"Authorization": "Negotiate abc"},
    "If-None-Match of rubbish": {"If-None-Match": 'W/"unclosed'},
    "Accept of rubbish": {"Accept": ";;;,,/"},
    "Accept-Encoding": {"Accept-Encoding": "zstd, gzip, deflate"},
    "a forged repository": {"X-Entrepot-Repository": "../../x", "X-Entrepot-Kind": "blob"},
    "a forged forwarder": {"X-Forwarded-Proto": "gopher", "Forwarded": "for=x"},
    "not ASCII": {"X-Odd": "\u00ff\u00fe"},
    "Host of another": {"Host": "evil.test"},
    "many values": {"X-Many": ",".join("a" * 10 for _ in range(200))},
}
_CLOSE = b" HTTP/1.1\r\nHost: x\r\nConnection: close\r\n"
REFUSED = {
    "a line of 10 kB": b"GET /v2/" + b"a" * 10_000 + _CLOSE + b"\r\n",
    "a header of 10 kB": b"GET /v2/" + _CLOSE + b"X: " + b"a" * 10_000 + b"\r\n\r\n",
    "two Authorizations": b"GET /v2/"
    + _CLOSE
    + b"Authorization: Basic YTpi\r\nAuthorization: Basic Yzpk\r\n\r\n",
}
# HAProxy cannot parse these requests. Before version 3.3, HAProxy responds to them with HTML
# instead of an OCI error (docs/decisions/007-errors-that-are-not-http.md).
NO_HTTP = {
    "no HTTP": b"nonsense\r\n\r\n",
    "no version": b"GET /v2/\r\n\r\n",
    "a header without a colon": b"GET /v2/" + _CLOSE + b"nonsense\r\n\r\n",
    "two lengths": b"PUT /v2/" + _CLOSE + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "bytes in the path": b"GET /v2/\xff\xfe" + _CLOSE + b"\r\n",
    "a line of 100 kB": b"GET /v2/" + b"a" * 100_000 + _CLOSE + b"\r\n",
    "a header of 100 kB": b"GET /v2/" + _CLOSE + b"X: " + b"a" * 100_000 + b"\r\n\r\n",
    "a thousand headers": b"GET /v2/"
    + _CLOSE
    + b"".join(b"X-%d: y\r\n" % number for number in range(1000))
    + b"\r\n",
}


@pytest.fixture(scope="module")
def layer(shared: Appliance, public: Registry) -> bytes:
    """Return the layer of an image that the appliance has pulled."""
    image = public.push("bad/app", "v1", of_size(KB, 90))
    pull(shared.http, NAME, "v1")
    return image.layers[0]


@pytest.mark.parametrize("target", [pytest.param(each, id=name) for name, each in TARGETS.items()])
@pytest.mark.parametrize("method", ["GET", "HEAD"])
def test_a_malformed_target_is_an_oci_error(shared: Appliance, method: str, target: str) -> None:
    """HAProxy, gunicorn or a worker refuses a malformed target with a 4xx and an OCI error."""
    response = shared.http.request(method, target)

    assert 400 <= response.status < 500, response
    assert method == "HEAD" or response.code, response


@pytest.mark.parametrize("method", ["PUT", "POST", "PATCH", "DELETE"])
@pytest.mark.parametrize(
    "path", [manifest_path(NAME, "v1"), blob_path(NAME, "uploads/"), blob_path(NAME, DIGEST)]
)
def test_a_write_to_a_proxied_name_is_unsupported(
    shared: Appliance, method: str, path: str
) -> None:
    """A write to a proxied repository gets 405, and the header `Allow` does not list PUT."""
    response = shared.http.request(method, path, body=b"{}")

    assert (response.status, response.code) == (405, "UNSUPPORTED")
    assert "PUT" not in response.headers["allow"]


@pytest.mark.parametrize("method", ["TRACE", "CONNECT", "NONSENSE", "PROPFIND"])
def test_a_method_that_is_not_ours_is_refused(shared: Appliance, method: str) -> None:
    """A method that the API does not have gets a 4xx, never a 500."""
    response = shared.http.request(method, manifest_path(NAME, "v1"))

    assert 400 <= response.status < 500, response


@pytest.mark.parametrize(
    ("asked", "status"),
    [
        ("bytes=0-9", 206),
        ("bytes=-10", 206),
        ("bytes=10-", 206),
        ("bytes=99999999-", 416),
        ("bytes=0-99999999", 206),
        ("bytes=9-2", 416),
        ("bytes=abc", 200),
        ("bytes=", 200),
        ("bytes=-", 200),
        ("bytes=-0", 416),
        ("lines=0-9", 200),
    ],
)
def test_a_range_is_read_as_rfc_9110_has_it(
    shared: Appliance, layer: bytes, asked: str, status: int
) -> None:
    """A Range header that cannot be parsed is ignored, and a range past the end gets 416."""
    response = shared.http.get(blob_path(NAME, Digest.of(layer)), Range=asked)

    assert response.status == status
    assert status != 200 or layer == response.body
    assert status != 416 or response.headers["content-range"] == f"bytes */{len(layer)}"


@pytest.mark.parametrize(
    "asked",
    [
        "bytes=0-1,3-4",
        "bytes=0-0,-1",
        pytest.param(f"bytes={'0-1,' * 500}5-6", id="500 ranges"),
        pytest.param(f"bytes={'9' * 4000}-", id="4000 digits"),
    ],
)
def test_an_unusual_range_is_answered_whole_or_refused(
    shared: Appliance, layer: bytes, asked: str
) -> None:
    """A request for several ranges, or for a range with a huge number, gets 200, 206, 400 or 416.

    All of these statuses are allowed: after an error or a whole blob, a client that loads blobs
    lazily requests single ranges.
    """
    assert shared.http.get(blob_path(NAME, Digest.of(layer)), Range=asked).status in RANGES


@pytest.mark.parametrize("headers", [pytest.param(each, id=name) for name, each in HEADERS.items()])
def test_an_odd_header_breaks_nothing(
    shared: Appliance, layer: bytes, headers: dict[str, str]
) -> None:
    """An unusual request header is ignored or refused, and the response is never compressed."""
    assert layer

    response = shared.http.request("GET", manifest_path(NAME, "v1"), headers=headers)

    assert response.status < 500, response
    assert "content-encoding" not in response.headers
    assert not [name for name in response.headers if name.startswith("x-entrepot")]


@pytest.mark.parametrize(
    "request_", [pytest.param(each, id=name) for name, each in REFUSED.items()]
)
def test_what_is_too_long_or_ambiguous_is_refused_in_our_words(
    shared: Appliance, request_: bytes
) -> None:
    """HAProxy responds with an OCI error to a request that is too long or ambiguous."""
    status, body = _parsed(shared.http.raw(request_))

    assert 400 <= status < 500, (status, body)
    assert json.loads(body)["errors"][0]["code"]


@pytest.mark.parametrize(
    "request_", [pytest.param(each, id=name) for name, each in NO_HTTP.items()]
)
def test_what_is_hardly_http_is_refused(shared: Appliance, request_: bytes) -> None:
    """HAProxy responds with a 4xx to a request that is not valid HTTP."""
    status, body = _parsed(shared.http.raw(request_))

    assert 400 <= status < 500, (status, body)


def test_after_all_of_this_the_same_workers_serve(shared: Appliance) -> None:
    """After all bad requests of this file, no worker has crashed and the appliance is healthy."""
    assert "Traceback" not in shared.output()
    assert eventually(lambda: shared.http.get("/healthz").status == 200, what="healthz is 200")


def _parsed(response: bytes) -> tuple[int, bytes]:
    head, _, body = response.partition(b"\r\n\r\n")
    return int(head.split(b" ", 2)[1]), body
