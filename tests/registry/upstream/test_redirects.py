"""Redirects: followed by hand, and never with a credential to another host."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Absent, Unavailable, Why
from entrepot.registry.upstream.upstreams import Shared
from tests.certificates import Authority
from tests.gates import BasicGate
from tests.registry.upstream.clients import client_of, secret_of
from tests.upstream import FakeUpstream

CONTENT = b"0123456789"
DIGEST = Digest.of(CONTENT)


@pytest.fixture
def storage() -> Iterator[FakeUpstream]:
    """Run the storage behind a registry."""
    with FakeUpstream() as running:
        running.add_blob("any", CONTENT)
        yield running


def _to(storage: FakeUpstream) -> dict[str, Any]:
    return {"redirect": storage.url + "/raw/{digest}?signature=secret"}


def test_a_blob_is_fetched_where_the_upstream_says_without_the_credentials(
    storage: FakeUpstream,
) -> None:
    """The range goes along, the password does not; nor does the next request know it there."""
    with FakeUpstream(gate=BasicGate({"me": "x"})) as upstream:
        upstream.add_blob("app", CONTENT)
        upstream.misbehave("/blobs/", **_to(storage))
        secret = secret_of(upstream.host, "me", "x")
        client = client_of(upstream, Shared(secret=lambda: secret))

        for _ in range(2):
            with client.blob("app", DIGEST, 4) as blob:
                assert (blob.start, b"".join(blob.chunks())) == (4, b"456789")

    for request in storage.requests:
        assert "authorization" not in request.headers
        assert request.headers["range"] == "bytes=4-"
        assert request.query == {"signature": "secret"}


def test_a_redirect_on_the_same_host_keeps_the_credentials() -> None:
    """It is still the upstream."""
    with FakeUpstream(gate=BasicGate({"me": "x"})) as upstream:
        upstream.add_blob("app", CONTENT)
        upstream.misbehave("/blobs/", times=1, redirect="{path}")
        secret = secret_of(upstream.host, "me", "x")

        assert client_of(upstream, Shared(secret=lambda: secret)).blob_size("app", DIGEST) == 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(
    upstream: FakeUpstream, storage: FakeUpstream, status: int
) -> None:
    """For GET and HEAD they all mean the same."""
    upstream.misbehave("/blobs/", status=status, **_to(storage))

    assert client_of(upstream).blob_size("app", DIGEST) == 10


@pytest.mark.parametrize(
    "target",
    ["{path}", "ftp://127.0.0.1/x", "http://[bad/", ""],
    ids=["loop", "ftp", "bad", "none"],
)
def test_a_redirect_that_leads_nowhere_is_nonsense(upstream: FakeUpstream, target: str) -> None:
    """Five hops at most, to http and https only."""
    upstream.misbehave("/blobs/", redirect=target)

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).blob_size("app", DIGEST)

    assert raised.value.why is Why.NONSENSE
    assert upstream.count() <= 12  # a HEAD, and a GET behind it


@pytest.mark.parametrize("status", [401, 403])
def test_a_storage_host_that_refuses_is_no_denial(
    upstream: FakeUpstream, storage: FakeUpstream, status: int
) -> None:
    """The registry let us in; a signature that ran out says nothing of our rights."""
    upstream.misbehave("/blobs/", **_to(storage))
    storage.misbehave(status=status)

    with pytest.raises(Unavailable), client_of(upstream).blob("app", DIGEST):
        pass


def test_a_storage_host_that_refuses_head_is_asked_for_the_first_byte(
    upstream: FakeUpstream, storage: FakeUpstream
) -> None:
    """The link was signed for GET; the range shows the size."""
    upstream.misbehave("/blobs/", **_to(storage))
    storage.misbehave(method="HEAD", status=403)

    assert client_of(upstream).blob_size("app", DIGEST) == 10
    assert [each.method for each in storage.requests] == ["HEAD", "GET"]


def test_a_storage_host_without_the_blob_is_absence(
    upstream: FakeUpstream, storage: FakeUpstream
) -> None:
    """404 is 404 wherever it comes from."""
    upstream.misbehave("/blobs/", **_to(storage))

    with pytest.raises(Absent):
        client_of(upstream).blob_size("app", Digest.of(b"other"))


def test_https_does_not_lead_to_http_unless_the_upstream_is_insecure(
    tmp_path: Path, storage: FakeUpstream
) -> None:
    """Nobody downgrades us."""
    authority = Authority(tmp_path)
    with FakeUpstream(tls=authority.context()) as upstream:
        upstream.misbehave("/blobs/", **_to(storage))

        with pytest.raises(Unavailable) as raised:
            client_of(upstream, ca=authority.path).blob_size("app", DIGEST)

        assert raised.value.why is Why.NONSENSE
        assert storage.count() == 0
        assert client_of(upstream, insecure=True).blob_size("app", DIGEST) == 10


def test_no_message_tells_the_query_of_a_url(upstream: FakeUpstream, storage: FakeUpstream) -> None:
    """A signed link is a credential."""
    upstream.misbehave("/blobs/", **_to(storage))
    storage.stop()

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).blob_size("app", DIGEST)

    assert "secret" not in str(raised.value)
