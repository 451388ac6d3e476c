"""A client follows redirects but sends credentials only to the upstream's own host."""

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
    """Run the storage host to which the registry redirects."""
    with FakeUpstream() as running:
        running.add_blob("any", CONTENT)
        yield running


def _to(storage: FakeUpstream) -> dict[str, Any]:
    return {"redirect": storage.url + "/raw/{digest}?signature=secret"}


def test_a_redirected_blob_is_fetched_without_the_credentials(
    storage: FakeUpstream,
) -> None:
    """If a blob is redirected, the client sends its Range header to the new URL, but no credential.

    The client sends a later request for the blob to the upstream, not to the new URL.
    """
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
    """If an upstream redirects to its own host, the new request also has the credential."""
    with FakeUpstream(gate=BasicGate({"me": "x"})) as upstream:
        upstream.add_blob("app", CONTENT)
        upstream.misbehave("/blobs/", times=1, redirect="{path}")
        secret = secret_of(upstream.host, "me", "x")

        assert client_of(upstream, Shared(secret=lambda: secret)).blob_size("app", DIGEST) == 10


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_every_kind_of_redirect_is_followed(
    upstream: FakeUpstream, storage: FakeUpstream, status: int
) -> None:
    """The client follows 301, 302, 303, 307 and 308, which are equivalent for GET and HEAD."""
    upstream.misbehave("/blobs/", status=status, **_to(storage))

    assert client_of(upstream).blob_size("app", DIGEST) == 10


@pytest.mark.parametrize(
    "target",
    ["{path}", "ftp://127.0.0.1/x", "http://[bad/", ""],
    ids=["loop", "ftp", "bad", "none"],
)
def test_an_invalid_redirect_is_nonsense(upstream: FakeUpstream, target: str) -> None:
    """A request fails after more than five redirects, or after a redirect to an invalid URL."""
    upstream.misbehave("/blobs/", redirect=target)

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).blob_size("app", DIGEST)

    assert raised.value.why is Why.NONSENSE
    assert upstream.count() <= 12  # at most six HEADs, and a GET after each HEAD


@pytest.mark.parametrize("status", [401, 403])
def test_a_rejection_by_the_storage_host_is_not_a_denial(
    upstream: FakeUpstream, storage: FakeUpstream, status: int
) -> None:
    """If the storage host rejects a redirected request, the client raises Unavailable, not Denied.

    For example, the signed URL may have expired.
    """
    upstream.misbehave("/blobs/", **_to(storage))
    storage.misbehave(status=status)

    with pytest.raises(Unavailable), client_of(upstream).blob("app", DIGEST):
        pass


def test_the_first_byte_is_requested_if_the_storage_rejects_head(
    upstream: FakeUpstream, storage: FakeUpstream
) -> None:
    """If the storage host rejects a HEAD, a GET of the first byte returns the size of the blob."""
    upstream.misbehave("/blobs/", **_to(storage))
    storage.misbehave(method="HEAD", status=403)

    assert client_of(upstream).blob_size("app", DIGEST) == 10
    assert [each.method for each in storage.requests] == ["HEAD", "GET"]


def test_a_404_of_the_storage_host_is_absent(upstream: FakeUpstream, storage: FakeUpstream) -> None:
    """If the storage host responds 404, the client raises Absent, as after an upstream's 404."""
    upstream.misbehave("/blobs/", **_to(storage))

    with pytest.raises(Absent):
        client_of(upstream).blob_size("app", Digest.of(b"other"))


def test_a_redirect_from_https_to_http_needs_insecure(
    tmp_path: Path, storage: FakeUpstream
) -> None:
    """A redirect from https to http is refused, unless `insecure` is set.

    Without this rule, an attacker could make the client use a connection without encryption.
    """
    authority = Authority(tmp_path)
    with FakeUpstream(tls=authority.context()) as upstream:
        upstream.misbehave("/blobs/", **_to(storage))

        with pytest.raises(Unavailable) as raised:
            client_of(upstream, ca=authority.path).blob_size("app", DIGEST)

        assert raised.value.why is Why.NONSENSE
        assert storage.count() == 0
        assert client_of(upstream, insecure=True).blob_size("app", DIGEST) == 10


def test_no_message_contains_the_query_of_a_url(
    upstream: FakeUpstream, storage: FakeUpstream
) -> None:
    """Error messages omit the query of a URL, because a signed URL is a credential."""
    upstream.misbehave("/blobs/", **_to(storage))
    storage.stop()

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).blob_size("app", DIGEST)

    assert "secret" not in str(raised.value)
