"""The path and `ns` of a request determine the upstream or hosted repository that serves it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import pytest

from entrepot.datastore import layout
from entrepot.datastore.refs import Digest, Repository, Tag
from entrepot.registry.pullthrough import lists
from entrepot.runtime.hostnames import fold, unfold
from tests import images
from tests.disk_storage import disk_storage
from tests.registry.pulling import NAME, pulling
from tests.upstream import FakeUpstream


@pytest.fixture
def two() -> Iterator[tuple[FakeUpstream, FakeUpstream]]:
    """Run two upstreams with different images in repositories of the same name."""
    with FakeUpstream() as one, FakeUpstream() as other:
        one.add_image(NAME, "v1", [b"one"])
        other.add_image(NAME, "v1", [b"other"])
        yield one, other


Two = tuple[FakeUpstream, FakeUpstream]


def test_equal_names_at_two_upstreams_do_not_mix(two: Two, tmp_path: Path) -> None:
    """If two upstreams have a repository of the same name, a client gets each upstream's own image.

    The first component of the path or `ns` names the upstream.
    """
    p = pulling(two[0], tmp_path, two[1])
    for each in two:
        meant = each._repository(NAME).tags["v1"]
        urls = [
            f"/v2/{fold(each.host)}/{NAME}/manifests/v1",
            f"/v2/{each.host}/{NAME}/manifests/v1",
            f"/v2/{NAME}/manifests/v1?ns={each.host}",
            f"/v2/{each.host}/{NAME}/manifests/v1?ns={each.host}",
        ]
        got = [p.ask("HEAD", url).headers.get("docker-content-digest") for url in urls]

        assert got == [meant] * 4


def test_a_prefix_that_differs_from_ns_is_404(two: Two, tmp_path: Path) -> None:
    """If the path and `ns` of a request name different upstreams, the client gets 404.

    After the 404 the client tries its next host.
    """
    p = pulling(two[0], tmp_path, two[1])
    got = p.ask("GET", f"/v2/{two[0].host}/{NAME}/manifests/v1?ns={two[1].host}")

    assert got.status_code == 404
    assert got.json["errors"][0]["code"] == "NAME_UNKNOWN"


def test_no_request_is_sent_to_an_unconfigured_host(two: Two, tmp_path: Path) -> None:
    """If a client names a host that is not configured, the appliance sends that host no request."""
    p = pulling(two[0], tmp_path)
    got = [
        p.ask("GET", f"/v2/{NAME}/manifests/v1?ns={two[1].host}"),
        p.ask("GET", f"/v2/{two[1].host}/{NAME}/manifests/v1"),
    ]

    assert [each.status_code for each in got] == [404, 404]
    assert two[1].requests == []


def test_the_default_upstream_serves_names_without_a_host(two: Two, tmp_path: Path) -> None:
    """A name without a host is fetched from the default upstream, as dockerd expects of mirrors."""
    p = pulling(two[0], tmp_path, two[1], default=two[1].host)
    got = p.ask("GET", f"/v2/{NAME}/manifests/v1")

    assert got.headers["docker-content-digest"] == two[1]._repository(NAME).tags["v1"]


def host(root: Path, name: str) -> str:
    """Write an image into the data directory as docker distribution does; return its digest."""
    p = pulling(FakeUpstream(), root)
    image = images.image([b"hosted"])
    repository = Repository(name)
    for blob in image.blobs:
        p.repositories.link_blob(repository, Digest.of(blob))
        _store(root, blob)
    _store(root, image.manifest)
    p.repositories.link_manifest(repository, image.digest)
    p.repositories.set_tag(repository, Tag("v1"), image.digest)
    return str(image.digest)


def _store(root: Path, content: bytes) -> None:
    digest = Digest.of(content)
    folder = root / f"docker/registry/v2/blobs/sha256/{digest.hex[:2]}/{digest.hex}"
    folder.mkdir(parents=True)
    (folder / "data").write_bytes(content)


def test_repositories_of_docker_distribution_are_served(two: Two, tmp_path: Path) -> None:
    """Repositories that docker distribution wrote are served as hosted.

    These repositories have no file with an origin, and a repository without an origin is hosted.
    """
    digest = host(tmp_path, "team/app")
    p = pulling(two[0], tmp_path)
    got = p.ask("GET", "/v2/team/app/manifests/v1")

    assert got.headers["docker-content-digest"] == digest
    assert p.ask("GET", f"/v2/team/app/blobs/{Digest.of(b'hosted')}").content == b"hosted"
    assert p.ask("GET", "/v2/team/app/tags/list").json == {"name": "team/app", "tags": ["v1"]}


def test_a_hosted_repository_takes_precedence_over_the_default_upstream(
    two: Two, tmp_path: Path
) -> None:
    """A hosted repository is served even if the default upstream has a repository of that name."""
    digest = host(tmp_path, NAME)
    p = pulling(two[0], tmp_path, default=two[0].host)

    assert p.ask("HEAD", f"/v2/{NAME}/manifests/v1").headers["docker-content-digest"] == digest


def test_content_of_a_removed_upstream_is_not_served(two: Two, tmp_path: Path) -> None:
    """After an upstream is removed from the settings, its stored content is no longer served.

    The operator may have revoked the credentials for that upstream.
    """
    before = pulling(two[0], tmp_path)
    before.pull()
    after = pulling(two[1], tmp_path)
    got = after.ask("GET", f"/v2/{before.prefix}/{NAME}/manifests/v1")

    assert got.status_code == 404


def test_official_images_of_docker_hub_are_in_library(tmp_path: Path) -> None:
    """For Docker Hub, the name `docker.io/alpine` means `docker.io/library/alpine`."""
    with FakeUpstream() as hub:
        hub.add_image("library/alpine", "3", [b"alpine"])
        p = pulling(hub, tmp_path, host="docker.io")
        got = p.ask("GET", "/v2/docker.io/alpine/manifests/3")

    assert got.status_code == 200
    assert p.repositories.tag(Repository("docker.io/library/alpine"), Tag("3")) is not None


def test_tags_are_the_upstreams_or_the_stored_ones_in_an_outage(two: Two, tmp_path: Path) -> None:
    """The list of tags comes from the upstream; during an outage it contains the stored tags.

    The parameters `n` and `last` work for both lists.
    """
    u = two[0]
    for tag in ("v2", "v3"):
        u.add_image(NAME, tag, [tag.encode()])
    p = pulling(u, tmp_path)
    p.pull("v2")
    page = p.get("tags/list?n=2")
    rest = p.get("tags/list?n=2&last=v2")
    u.stop()

    assert page.json["tags"] == ["v1", "v2"]
    assert 'rel="next"' in page.headers["link"]
    assert rest.json["tags"] == ["v3"]
    assert p.get("tags/list").json["tags"] == ["v2"]


def test_referrers_are_requested_and_stored(two: Two, tmp_path: Path) -> None:
    """The appliance filters the upstream's list of referrers and stores the list for outages."""
    u = two[0]
    subject = u.add_image(NAME, "v2", [b"subject"])
    u.put_image(NAME, "sig", images.artifact(subject, b"signature", "application/x-sig"))
    p = pulling(u, tmp_path)
    path = f"referrers/{subject.digest}"
    p.get("manifests/v2")
    kept = p.get(path)
    none = p.get(f"{path}?artifactType=application/x-other")
    u.stop()
    away = p.get(path)
    u.start()
    u.referrers = False

    assert len(kept.json["manifests"]) == 1
    assert none.json["manifests"] == []
    assert none.headers["oci-filters-applied"] == "artifactType"
    assert away.json == kept.json
    assert p.get(path).status_code == 404


def test_referrers_of_unknown_subjects_are_not_stored(two: Two, tmp_path: Path) -> None:
    """If an upstream sends an empty list of referrers, the list is not stored.

    Otherwise clients could fill the disk with lists for invented digests.
    """
    p = pulling(two[0], tmp_path)
    digest = Digest.of(b"never seen")

    assert p.get(f"referrers/{digest}").json["manifests"] == []
    assert list(disk_storage(tmp_path).walk(layout.REFERRERS)) == []


def test_a_large_list_of_referrers_is_not_stored(
    two: Two, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A large list of referrers is not stored, because no space is reserved for such lists."""
    monkeypatch.setattr(lists, "_LARGEST_STORED", 100)
    u = two[0]
    subject = u.add_image(NAME, "v2", [b"subject"])
    u.put_image(NAME, "sig", images.artifact(subject, b"signature", "application/x-sig"))
    p = pulling(u, tmp_path)
    p.get("manifests/v2")

    assert len(p.get(f"referrers/{subject.digest}").json["manifests"]) == 1
    assert list(disk_storage(tmp_path).walk(layout.REFERRERS)) == []


@pytest.mark.parametrize(
    ("host", "spelled"),
    [
        ("[::1]:5000", "[0:0::1]:5000"),
        ("[2001:db8::a]", "[2001:DB8:0::000A]"),
        ("[2001:db8:0:1::]:443", "[2001:db8:0:1:0:0:0:0]:443"),
    ],
)
def test_an_upstream_can_be_an_ipv6_address(host: str, spelled: str, tmp_path: Path) -> None:
    """An upstream can be an IPv6 address in any spelling, with brackets in `ns` and in the path.

    The folder name on the disk has no colons.
    """
    with FakeUpstream() as upstream:
        image = upstream.add_image(NAME, "v1", [b"layer"])
        p = pulling(upstream, tmp_path, host=host)
        urls = [
            f"/v2/{host}/{NAME}/manifests/v1",
            f"/v2/{fold(host)}/{NAME}/manifests/v1",
            f"/v2/{spelled}/{NAME}/manifests/v1",
            f"/v2/{NAME}/manifests/v1?ns={host}",
            f"/v2/{NAME}/manifests/v1?ns={quote(host)}",
        ]
        got = [p.ask("GET", url) for url in urls]

    assert [image.manifest] * len(urls) == [each.content for each in got]
    assert host == unfold(fold(host))
    assert p.repositories.exists(Repository(f"{fold(host)}/{NAME}"))
    Repository.parse(f"{fold(host)}/{NAME}")
