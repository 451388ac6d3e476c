"""A client reads lists of tags and referrers, which an upstream sends in pages."""

from __future__ import annotations

import json
import threading
from typing import Any

import pytest

from entrepot.datastore.manifest import OCI_INDEX
from entrepot.datastore.refs import Digest
from entrepot.registry.errors import Absent, ListTooLong, Unavailable, Why
from entrepot.registry.upstream import client
from entrepot.registry.upstream.protocol import Upstream
from tests.images import artifact
from tests.registry.upstream.clients import client_of
from tests.upstream import FakeUpstream


def test_tags_are_read_from_every_page(upstream: FakeUpstream) -> None:
    """If an upstream sends tags in three pages, the client returns the tags of all pages."""
    for tag in "abcde":
        upstream.add_image("app", tag, [b"layer"])
    upstream.page = 2

    assert client_of(upstream).tags("app") == list("abcde")
    assert upstream.count("GET", "/tags/list") == 3


def test_tags_stop_at_the_limit(upstream: FakeUpstream) -> None:
    """If the caller wants two tags, the client requests only two."""
    for tag in "abcde":
        upstream.add_image("app", tag, [b"layer"])

    assert client_of(upstream).tags("app", after="a", limit=2) == ["b", "c"]
    assert [each.query for each in upstream.requests] == [{"n": "2", "last": "a"}]


def test_a_next_page_on_another_host_is_requested_from_the_upstream(upstream: FakeUpstream) -> None:
    """If a link to the next page names another host, the upstream gets the request for the page.

    The other host can be wrong, because the upstream may not know its own public name.
    """
    for tag in "abc":
        upstream.add_image("app", tag, [b"layer"])
    upstream.page = 2
    upstream.quirks.link = '<http://evil.invalid{path}?n=2&last={last}>; rel="next"'

    assert list("abc") == client_of(upstream).tags("app")
    assert upstream.count("GET", "/v2/app/tags/list") == 2


def test_a_next_page_that_is_not_a_url_is_nonsense(upstream: FakeUpstream) -> None:
    """If the link to the next page is not a URL, the request fails.

    Otherwise the list would end early.
    """
    upstream.add_image("app", "a", [b"layer"])
    upstream.misbehave("/tags", headers={"Link": '<ftp://x/v2/>; rel="next"'})

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).tags("app")

    assert Why.NONSENSE is raised.value.why


@pytest.mark.parametrize("body", [b"<html>", b"[]", b'{"tags": {}}', b"[" * 100_000])
def test_a_body_that_is_not_a_list_is_nonsense(upstream: FakeUpstream, body: bytes) -> None:
    """If the body is not a list of tags, the request fails instead of returning an empty list."""
    upstream.misbehave("/tags", status=200, body=body)

    with pytest.raises(Unavailable) as raised:
        client_of(upstream).tags("app")

    assert raised.value.why is Why.NONSENSE


def _with_referrers(upstream: FakeUpstream) -> Digest:
    subject = upstream.add_image("app", "v1", [b"layer"])
    for kind in ("application/x.sig", "application/x.sbom"):
        made = artifact(subject, kind.encode(), kind)
        upstream.put_image("app", str(made.digest), made)
    return subject.digest


def _kinds(client: Upstream, subject: Digest, artifact_type: str | None = None) -> set[str]:
    body = client.referrers("app", subject, artifact_type).body
    return {each.decode() for each in (b"x.sig", b"x.sbom") if each in body}


def test_referrers_are_returned_as_one_index(upstream: FakeUpstream) -> None:
    """The client merges referrers of several pages into one index.

    The client returns a single page unchanged.
    """
    subject = _with_referrers(upstream)

    single = client_of(upstream).referrers("app", subject)
    upstream.page = 1
    merged = _kinds(client_of(upstream), subject)

    assert single.media_type == OCI_INDEX
    assert single.digest == Digest.of(single.body)
    assert merged == {"x.sig", "x.sbom"}
    assert upstream.count("GET", "/referrers/") == 3


def test_referrers_are_filtered_by_the_upstream_or_here(upstream: FakeUpstream) -> None:
    """If the upstream does not filter referrers by artifact type, the client filters them."""
    subject = _with_referrers(upstream)

    by_upstream = _kinds(client_of(upstream), subject, "application/x.sig")
    query = upstream.requests[-1].query
    everything = client_of(upstream).referrers("app", subject).body
    upstream.misbehave("/referrers", status=200, body=everything, media_type=OCI_INDEX)
    here = _kinds(client_of(upstream), subject, "application/x.sig")

    assert query == {"artifactType": "application/x.sig"}
    assert by_upstream == here == {"x.sig"}


@pytest.mark.parametrize("status", [400, 404, 405, 406, 501])
def test_an_upstream_without_the_referrers_api_is_absent(
    upstream: FakeUpstream, status: int
) -> None:
    """If an upstream has no list of referrers, the client raises Absent.

    The caller then looks for the referrers tag. If `referrers` returned an empty list instead, the
    caller would miss an existing signature.
    """
    upstream.misbehave("/referrers", status=status)

    with pytest.raises(Absent):
        client_of(upstream).referrers("app", Digest.of(b"subject"))


class TestBounds:
    """An endless list is rejected; the limits apply to all its pages together."""

    @pytest.fixture(autouse=True)
    def _small(self, monkeypatch: pytest.MonkeyPatch) -> None:
        """Lower the limits of lists, so that short lists reach them."""
        monkeypatch.setattr(client, "_MOST_TAGS", 50)
        monkeypatch.setattr(client, "MOST_DESCRIPTORS", 50)
        monkeypatch.setattr(client, "_LARGEST_LIST", 20_000)
        monkeypatch.setattr(client, "_MOST_PAGES", 40)

    @staticmethod
    def _endless(upstream: FakeUpstream, body: dict[str, Any], times: int | None = None) -> None:
        """Make the upstream respond *times* times with *body* and a link to another page."""
        upstream.quirks.endless = True
        upstream.misbehave(
            body=json.dumps(body).encode(),
            media_type=OCI_INDEX,
            status=200,
            times=times,
        )

    @pytest.mark.parametrize(
        ("tags", "pages"),
        [
            ([f"v{each}" for each in range(20)], 3),
            ([f"{each}{'x' * 120}" for each in range(20)], 3),
            ([], 40),
            ([f"v{each}" for each in range(60)], 1),
            (["y" * 9000] * 3, 1),
            (["y" * 6000], 4),
        ],
        ids=["entries", "long", "empty", "one page", "bytes", "bytes of pages"],
    )
    def test_an_endless_list_of_tags_is_rejected(
        self, upstream: FakeUpstream, tags: list[str], pages: int
    ) -> None:
        """A list with too many tags, bytes or empty pages is rejected."""
        self._endless(upstream, {"tags": tags})
        with pytest.raises(ListTooLong):
            client_of(upstream).tags("app")

        assert len(upstream.requests) == pages

    def test_only_the_requested_number_of_tags_is_read(self, upstream: FakeUpstream) -> None:
        """If the caller wants seven tags, the client reads only seven, even of an endless list."""
        self._endless(upstream, {"tags": ["a", "b", "c"]})

        found = client_of(upstream).tags("app", limit=7)
        assert found == ["0001a", "0001b", "0001c", "0002a", "0002b", "0002c", "0003a"]
        assert len(upstream.requests) == 3

    @pytest.mark.parametrize("size", [10, 2000])
    def test_an_endless_list_of_referrers_is_rejected(
        self, upstream: FakeUpstream, size: int
    ) -> None:
        """A list with too many referrers or bytes is rejected."""
        self._endless(upstream, {"manifests": [{"artifactType": "x" * size}] * 5})
        with pytest.raises(ListTooLong):
            client_of(upstream).referrers("app", Digest.of(b"x"))

        assert len(upstream.requests) <= 11

    def test_slow_pages_share_one_timeout(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """All pages of a list together must arrive within one timeout."""
        monkeypatch.setattr(client, "_LIST_WITHIN_S", 0.2)
        self._endless(upstream, {"tags": []})
        upstream.misbehave(delay=0.05, status=200, body=b"{}")
        with pytest.raises(Unavailable) as raised:
            client_of(upstream).tags("app")

        assert raised.value.why is Why.TIMEOUT
        assert len(upstream.requests) < 10

    def test_pages_without_links_share_the_limit_of_pages(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """The limits apply to all pages together even if the upstream sends no Link header.

        Without a Link, the client requests the next page with `last`.
        """
        monkeypatch.setattr(client, "_TAG_PAGE", 1)
        for number in range(45):
            upstream.add_image("app", f"v{number:02}", [b"layer"])
        upstream.misbehave("tags/list", headers={"Link": None})

        assert len(client_of(upstream).tags("app", limit=40)) == 40
        with pytest.raises(ListTooLong):
            client_of(upstream).tags("app", limit=45)

    def test_a_page_that_stops_in_its_body_ends_at_the_timeout_of_the_list(
        self, upstream: FakeUpstream, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """If a body stops, the read ends at the timeout of the list, before the read timeout."""
        monkeypatch.setattr(client, "_LIST_WITHIN_S", 0.3)
        upstream.add_image("app", "v1", [b"layer"])
        released = threading.Event()
        upstream.misbehave("tags/list", hold=released, hold_after=1)
        late = threading.Timer(15, released.set)
        late.start()
        try:
            with pytest.raises(Unavailable) as raised:
                client_of(upstream, read_timeout=20).tags("app")
            assert not released.is_set()
        finally:
            released.set()
            late.cancel()

        assert raised.value.why is Why.TIMEOUT

    @pytest.mark.parametrize("limit", [None, 5])
    def test_a_repeated_page_ends_the_list(self, upstream: FakeUpstream, limit: int | None) -> None:
        """If a page of tags equals the previous page, the client ends the list.

        A registry that ignores `last` links each page to itself.
        """
        upstream.misbehave(
            status=200, body=b'{"tags": ["b", "a"]}', headers={"Link": '</v2/app/x>; rel="next"'}
        )

        assert client_of(upstream).tags("app", limit=limit) == ["a", "b"]
        assert upstream.count() <= 3
