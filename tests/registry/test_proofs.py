"""With access rules, an upstream's repository serves content only if that upstream sent it."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore import layout
from entrepot.datastore.manifest import OCI_MANIFEST
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.registry.auth.basic import BasicAuthenticator
from entrepot.registry.auth.rules import PULL, AccessGrant, AccessRules
from entrepot.runtime.hostnames import fold
from tests.disk_storage import disk_storage
from tests.images import image
from tests.registry.pulling import NAME, Pulling, pulling
from tests.upstream import FakeUpstream

IMAGE = image([b"a private layer" * 100])
LAYER = IMAGE.layers[0]
BLOB = f"blobs/{Digest.of(LAYER)}"
MANIFEST = f"manifests/{IMAGE.digest}"
_LOGIN = {"Authorization": "Basic " + base64.b64encode(b"me:pw").decode()}


@pytest.fixture
def honest() -> Iterator[FakeUpstream]:
    """Run an upstream with a private image in two repositories."""
    with FakeUpstream() as running:
        for name in (NAME, "other/app"):
            running.put_image(name, "v1", IMAGE)
        yield running


@pytest.fixture
def hostile() -> Iterator[FakeUpstream]:
    """Run an upstream that responds 200 to every HEAD but has no content."""
    with FakeUpstream() as running:
        running.add_blob(NAME, b"something")
        for path in ("/blobs/", "/manifests/"):
            running.misbehave(
                path,
                method="HEAD",
                status=200,
                media_type=OCI_MANIFEST,
                headers={"Docker-Content-Digest": str(IMAGE.digest)},
            )
        yield running


class Ruled:
    """An appliance with access rules and two upstreams; a client can read both."""

    def __init__(self, root: Path, one: FakeUpstream, two: FakeUpstream) -> None:
        everything = AccessRules([AccessGrant(("*",), ("**",), PULL)])
        self.p: Pulling = pulling(
            one,
            root,
            two,
            authenticator=BasicAuthenticator(
                lambda *_: True, realm="test", rules=lambda: everything
            ),
        )
        self.links = Repositories(disk_storage(root))

    def ask(
        self, upstream: FakeUpstream, path: str, method: str = "GET", name: str = NAME
    ) -> Result:
        """Send a request with a login for a path in a repository of *upstream*."""
        return self.p.ask(method, f"/v2/{fold(upstream.host)}/{name}/{path}", **_LOGIN)

    def links_it(self, upstream: FakeUpstream, name: str = NAME) -> bool:
        """Return True if the repository of *upstream* has a link to the layer."""
        repository = Repository(f"{fold(upstream.host)}/{name}")
        return self.links.links_blob(repository, Digest.of(LAYER))


@pytest.fixture
def a(tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream) -> Ruled:
    """Return an appliance that has pulled the private image from the honest upstream."""
    found = Ruled(tmp_path, honest, hostile)
    for path in (MANIFEST, *(f"blobs/{Digest.of(each)}" for each in IMAGE.blobs)):
        assert found.ask(honest, path).status_code == 200
    return found


@pytest.mark.parametrize("path", [BLOB, MANIFEST])
def test_a_confirmation_by_head_permits_nothing(a: Ruled, hostile: FakeUpstream, path: str) -> None:
    """A hostile upstream's repository does not serve content that the upstream only confirms.

    The hostile upstream confirms the content by a 200 to a HEAD. The digest of a private layer is
    not secret, so any upstream can claim to have the layer.
    """
    a.ask(hostile, path, "HEAD")

    for _ in range(2):
        assert a.ask(hostile, path).status_code == 404
    assert not a.links_it(hostile)


def test_a_head_reveals_nothing_of_the_store(a: Ruled, hostile: FakeUpstream) -> None:
    """A HEAD returns the upstream's headers, so it reveals nothing about stored content."""
    hostile.misbehave("/blobs/", method="HEAD", status=200, headers={"Content-Length": "7"})
    got = a.ask(hostile, BLOB, "HEAD")

    assert got.status_code == 200
    assert got.headers.get("content-length") != str(len(LAYER))


def test_wrong_bytes_leave_no_link(a: Ruled, hostile: FakeUpstream, honest: FakeUpstream) -> None:
    """If an upstream sends wrong bytes for a blob, the upstream's repository gets no link to it.

    Otherwise the repository would serve the correct bytes as soon as another upstream sent them.
    """
    hostile.add_blob(NAME, LAYER)
    hostile.misbehave("/blobs/", method="GET", corrupt=True)
    a.p.forget_blob(Digest.of(LAYER))

    with pytest.raises(ConnectionResetError):
        a.ask(hostile, BLOB)
    assert not a.links_it(hostile)
    assert a.ask(honest, BLOB).content == LAYER
    with pytest.raises(ConnectionResetError):
        a.ask(hostile, BLOB)


def test_wrong_bytes_leave_no_link_without_access_rules(
    tmp_path: Path, honest: FakeUpstream
) -> None:
    """Even without access rules, a repository whose upstream sent wrong bytes gets no link.

    Otherwise the repository would serve the content after another upstream has sent it.
    """
    p = pulling(honest, tmp_path)
    honest.misbehave("/blobs/", method="GET", corrupt=True)

    with pytest.raises(ConnectionResetError):
        p.get(BLOB)
    name = Repository(f"{p.prefix}/{NAME}")
    assert not p.repositories.links_blob(name, Digest.of(LAYER))
    honest.behave()
    assert p.get(BLOB).content == LAYER
    assert p.repositories.links_blob(name, Digest.of(LAYER))


def test_content_that_an_upstream_sent_is_linked(a: Ruled, hostile: FakeUpstream) -> None:
    """A second upstream's repository gets a link to a stored blob if that upstream sends the blob.

    The next request in that repository is a hit.
    """
    hostile.behave()
    hostile.put_image(NAME, "v1", IMAGE)

    sources = [a.ask(hostile, BLOB).headers["cache-status"] for _ in range(2)]

    assert a.links_it(hostile)
    assert hostile.count("GET", "/blobs/") == 1
    assert ["hit" in each for each in sources] == [False, True]


def test_repositories_of_one_upstream_share_its_content(a: Ruled, honest: FakeUpstream) -> None:
    """Repositories of one upstream share stored blobs after one HEAD request per repository."""
    sent = honest.count("GET", "/blobs/")

    assert a.ask(honest, BLOB, name="other/app").content == LAYER
    assert a.links_it(honest, "other/app")
    assert honest.count("GET", "/blobs/") == sent


def test_a_proof_survives_the_index_and_is_deleted_with_the_content(
    tmp_path: Path, a: Ruled, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """The proof that an upstream sent a blob is a file, so it survives the loss of the index.

    The proof is deleted together with the blob.
    """
    again = Ruled(tmp_path, honest, hostile)
    sent = honest.count("GET", "/blobs/")
    assert again.ask(honest, BLOB, name="other/app").content == LAYER
    assert honest.count("GET", "/blobs/") == sent

    proofs = Proofs(disk_storage(tmp_path))
    assert [proofs.has(Digest.of(LAYER), each.host) for each in (honest, hostile)] == [True, False]
    proofs.forget(Digest.of(LAYER))
    assert not proofs.has(Digest.of(LAYER), honest.host)
    assert a.p.client is not None


def test_pushed_content_is_not_a_proof_for_an_upstream(
    tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """An upstream's repository serves a pushed blob only after the upstream has sent it once."""
    found = Ruled(tmp_path, honest, hostile)
    storage = disk_storage(tmp_path)
    storage.write(layout.blob(Digest.of(LAYER)), LAYER)
    Repositories(storage).link_blob(Repository("team/app"), Digest.of(LAYER))

    assert found.ask(hostile, BLOB).status_code == 404
    assert found.ask(honest, BLOB).content == LAYER
    assert honest.count("GET", "/blobs/") == 1


def test_a_download_is_joined_within_its_upstream_only(
    tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """A request joins a running download only if the download is from the same upstream.

    A request for another upstream begins its own download.
    """
    found = Ruled(tmp_path, honest, hostile)
    gate = threading.Event()
    honest.misbehave("/blobs/", method="GET", hold=gate, hold_after=100)
    with ThreadPoolExecutor() as pool:
        first = pool.submit(found.ask, honest, BLOB)
        for seen in iter(lambda: honest.find("GET", "/blobs/"), []):
            seen[0].started.wait(10)
            break
        while not honest.find("GET", "/blobs/"):
            pass
        second = pool.submit(found.ask, honest, BLOB, "GET", "other/app")
        theirs = found.ask(hostile, BLOB)
        gate.set()
        bodies = [first.result().content, second.result().content]

    assert theirs.status_code == 404
    assert bodies == [LAYER, LAYER]
    assert honest.count("GET", "/blobs/") == 1


def test_without_access_rules_upstreams_share_content(tmp_path: Path, honest: FakeUpstream) -> None:
    """Without access rules, an upstream's 200 to a HEAD is enough to serve stored content."""
    with FakeUpstream() as second:
        second.put_image(NAME, "v1", IMAGE)
        p = pulling(honest, tmp_path, second)
        theirs = f"/v2/{fold(second.host)}/{NAME}"
        assert p.get(BLOB).content == LAYER
        assert p.get(MANIFEST).status_code == 200

        assert p.ask("GET", f"{theirs}/{BLOB}").content == LAYER
        assert p.ask("GET", f"{theirs}/{MANIFEST}").content == IMAGE.manifest
        assert second.count("GET") == 0


def test_a_complete_file_of_a_dead_writer_needs_a_confirmation(
    tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """A whole blob in a dead writer's spool file is served only if the upstream confirms the blob.

    The dead writer may have begun the spool file for another repository. That repository's
    permission proves nothing for the repository in the request.
    """
    found = Ruled(tmp_path, honest, hostile)
    key = layout.spool_key(Digest.of(LAYER), honest.host)
    spool = tmp_path / "entrepot" / layout.SPOOL
    spool.mkdir(parents=True)
    (spool / layout.spool(key)).write_bytes(LAYER)
    (spool / layout.spool_size(key)).write_text(str(len(LAYER)))
    honest.remove(NAME, str(Digest.of(LAYER)))

    assert found.ask(honest, BLOB).status_code == 404
    assert not found.links_it(honest)
    assert found.ask(honest, BLOB, name="other/app").content == LAYER
