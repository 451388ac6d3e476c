"""Tests of the fake upstream, on whose correct responses other tests depend."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import urllib3

from entrepot.datastore.manifest import OCI_INDEX, OCI_MANIFEST, parse
from entrepot.datastore.refs import Digest
from tests.certificates import Authority
from tests.gates import BasicGate, TokenService
from tests.images import artifact, image, layer
from tests.upstream import FakeUpstream


@pytest.fixture
def upstream() -> Iterator[FakeUpstream]:
    """Run a fake upstream without faults."""
    with FakeUpstream() as running:
        yield running


@pytest.fixture
def http() -> Iterator[urllib3.PoolManager]:
    """Return an HTTP client that neither repeats a request nor follows a redirect."""
    with urllib3.PoolManager(retries=False, timeout=5) as pool:
        yield pool


def test_an_image_is_served_by_tag_and_digest_with_its_blobs(
    upstream: FakeUpstream, http: urllib3.PoolManager
) -> None:
    """The fake upstream serves an image by tag and by digest, with all its blobs."""
    built = upstream.add_image("library/app", "v1", [layer({"bin/true": b"#!"})])

    by_tag = http.request("GET", f"{upstream.url}/v2/library/app/manifests/v1")
    by_digest = http.request("GET", f"{upstream.url}/v2/library/app/manifests/{built.digest}")
    blobs = [
        http.request("GET", f"{upstream.url}/v2/library/app/blobs/{digest}").data
        for digest in parse(by_tag.data).parts()
    ]

    assert by_tag.data == by_digest.data == built.manifest
    assert by_tag.headers["Docker-Content-Digest"] == str(built.digest)
    assert by_tag.headers["Content-Type"] == OCI_MANIFEST
    assert blobs == list(built.blobs)
    assert upstream.count("GET", "/blobs/") == 2


def test_ranges_are_exact(upstream: FakeUpstream, http: urllib3.PoolManager) -> None:
    """The fake upstream answers a range with 206 and Content-Range, or with 416 past the end.

    With `ignore_range` it answers with the whole blob.
    """
    url = f"{upstream.url}/v2/app/blobs/{upstream.add_blob('app', b'0123456789')}"

    part = http.request("GET", url, headers={"Range": "bytes=2-4"})
    rest = http.request("GET", url, headers={"Range": "bytes=7-"})
    behind = http.request("GET", url, headers={"Range": "bytes=10-"})
    upstream.misbehave(ignore_range=True)
    ignored = http.request("GET", url, headers={"Range": "bytes=2-4"})

    assert (part.status, part.data) == (206, b"234")
    assert part.headers["Content-Range"] == "bytes 2-4/10"
    assert (rest.status, rest.data) == (206, b"789")
    assert behind.status == 416
    assert (ignored.status, ignored.data) == (200, b"0123456789")


def test_a_rule_ends_after_its_times(upstream: FakeUpstream, http: urllib3.PoolManager) -> None:
    """A fault with `times` ends after this number of requests, and affects no other path."""
    upstream.add_image("app", "v1", [b"layer"])
    url = f"{upstream.url}/v2/app/manifests/v1"
    upstream.misbehave("/manifests/", times=1, status=503, headers={"Retry-After": "7"})

    first, elsewhere, second = (http.request("GET", each) for each in (url, f"{url}/../../", url))

    assert (first.status, first.headers["Retry-After"]) == (503, "7")
    assert elsewhere.status != 503
    assert second.status == 200


def test_a_cut_body_ends_early_and_is_counted(
    upstream: FakeUpstream, http: urllib3.PoolManager
) -> None:
    """A body with the fault `cut` ends after `cut` bytes, although Content-Length is larger."""
    url = f"{upstream.url}/v2/app/blobs/{upstream.add_blob('app', bytes(1000))}"
    upstream.misbehave("/blobs/", cut=300)

    with pytest.raises(urllib3.exceptions.ProtocolError):
        http.request("GET", url)

    assert upstream.bytes_sent == 300


def test_a_held_body_waits_for_its_event(upstream: FakeUpstream, http: urllib3.PoolManager) -> None:
    """A body with the fault `hold` pauses after `hold_after` bytes until the event is set."""
    gate = threading.Event()
    url = f"{upstream.url}/v2/app/blobs/{upstream.add_blob('app', b'x' * 500)}"
    upstream.misbehave("/blobs/", hold=gate, hold_after=200, chunked=True)

    answer = http.request("GET", url, preload_content=False)
    first = answer.read1(1000)
    sent = upstream.requests[0].sent
    gate.set()

    assert (len(first), sent) == (200, 200)
    assert len(answer.read()) == 300


def test_a_restarted_upstream_uses_the_same_port(
    upstream: FakeUpstream, http: urllib3.PoolManager
) -> None:
    """A stopped fake upstream refuses connections; after a start it has the same port."""
    url = f"{upstream.url}/v2/"
    upstream.stop()

    with pytest.raises(urllib3.exceptions.HTTPError):
        http.request("GET", url)
    upstream.start()

    assert http.request("GET", url).status == 200


def test_a_redirect_leads_to_the_blob_on_another_server(
    upstream: FakeUpstream, http: urllib3.PoolManager
) -> None:
    """A redirect of the fake upstream leads to the same blob on another server."""
    with FakeUpstream() as storage:
        digest = upstream.add_blob("app", b"content")
        storage.add_blob("any", b"content")
        upstream.misbehave("/blobs/", redirect=storage.url + "/raw/{digest}")

        answer = http.request("GET", f"{upstream.url}/v2/app/blobs/{digest}")
        followed = http.request("GET", answer.headers["Location"])

    assert (answer.status, followed.data) == (307, b"content")


def test_tags_and_referrers_are_paginated(
    upstream: FakeUpstream, http: urllib3.PoolManager
) -> None:
    """A page of tags or referrers has a Link to the next page, as OCI specifies."""
    subject = upstream.add_image("app", "a", [b"layer"])
    upstream.move_tag("app", "b", subject.digest)
    signature = artifact(subject, b"sig", "application/x.sig")
    upstream.put_image("app", str(signature.digest), signature)
    upstream.page = 1

    tags = http.request("GET", f"{upstream.url}/v2/app/tags/list")
    referrers = http.request("GET", f"{upstream.url}/v2/app/referrers/{subject.digest}")

    assert tags.json()["tags"] == ["a"]
    assert tags.headers["Link"] == '</v2/app/tags/list?n=1&last=a>; rel="next"'
    assert referrers.headers["Content-Type"] == OCI_INDEX
    assert [Digest.parse(each["digest"]) for each in referrers.json()["manifests"]] == [
        signature.digest
    ]


def test_the_children_of_an_index_are_served(
    upstream: FakeUpstream, http: urllib3.PoolManager
) -> None:
    """The fake upstream serves the manifests of an index by digest."""
    children = [image([b"one"], architecture="amd64"), image([b"two"], architecture="arm64")]
    upstream.add_index("app", "multi", children)

    answer = http.request("GET", f"{upstream.url}/v2/app/manifests/multi")

    for digest in parse(answer.data).parts():
        child = http.request("GET", f"{upstream.url}/v2/app/manifests/{digest}")
        assert child.status == 200


def test_basic_authentication_accepts_the_right_password_only(http: urllib3.PoolManager) -> None:
    """With Basic authentication the fake upstream accepts only the right password."""
    with FakeUpstream(gate=BasicGate({"me": "pa:ss"})) as upstream:
        wrong = urllib3.make_headers(basic_auth="me:nope")
        right = urllib3.make_headers(basic_auth="me:pa:ss")

        refused = http.request("GET", f"{upstream.url}/v2/", headers=wrong)
        accepted = http.request("GET", f"{upstream.url}/v2/", headers=right)

    assert (refused.status, accepted.status) == (401, 200)
    assert refused.headers["WWW-Authenticate"] == 'Basic realm="fake"'


def test_a_token_is_valid_for_its_scope_until_revoked(http: urllib3.PoolManager) -> None:
    """A token is valid for its scope until the test revokes it; then a request gets 401."""
    with TokenService() as tokens, FakeUpstream(gate=tokens) as upstream:
        upstream.add_image("app", "v1", [b"layer"])
        url = f"{upstream.url}/v2/app/manifests/v1"
        issued = json.loads(http.request("GET", f"{tokens.url}?scope=repository:app:pull").data)
        headers = {"Authorization": f"Bearer {issued['token']}"}

        before = http.request("GET", url, headers=headers).status
        tokens.revoke()
        after = http.request("GET", url, headers=headers)

    assert (before, after.status) == (200, 401)
    assert tokens.issued == ["repository:app:pull"]
    assert 'scope="repository:app:pull"' in after.headers["WWW-Authenticate"]


def test_tls_requires_trust_in_the_private_authority(tmp_path: Path) -> None:
    """A client can use TLS with the fake upstream only if it trusts the private authority."""
    authority = Authority(tmp_path)
    with FakeUpstream(tls=authority.context()) as upstream:
        trusting = urllib3.PoolManager(retries=False, ca_certs=str(authority.path))
        strict = urllib3.PoolManager(retries=False, ssl_context=ssl.create_default_context())

        with trusting, strict:
            assert trusting.request("GET", f"{upstream.url}/v2/").status == 200
            with pytest.raises(urllib3.exceptions.SSLError):
                strict.request("GET", f"{upstream.url}/v2/")
