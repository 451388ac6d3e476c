"""An upstream's word opens nothing that it has not sent: a link is written only after proof."""

from __future__ import annotations

import base64
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore import layout
from entrepot.datastore.drivers.filesystem import Filesystem
from entrepot.datastore.manifest import OCI_MANIFEST
from entrepot.datastore.proofs import Proofs
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.registry.auth.identity import Basic
from entrepot.registry.auth.rules import PULL, AccessGrant, AccessRules
from entrepot.runtime.hostnames import fold
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
    """Run an upstream with a private image, under two names."""
    with FakeUpstream() as running:
        for name in (NAME, "other/app"):
            running.put_image(name, "v1", IMAGE)
        yield running


@pytest.fixture
def hostile() -> Iterator[FakeUpstream]:
    """Run an upstream that says yes to every HEAD, and has nothing."""
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
    """An appliance with access rules, before two upstreams."""

    def __init__(self, root: Path, one: FakeUpstream, two: FakeUpstream) -> None:
        everything = AccessRules([AccessGrant(("*",), ("**",), PULL)])
        self.p: Pulling = pulling(
            one,
            root,
            two,
            authenticator=Basic(lambda *_: True, realm="test", rules=lambda: everything),
        )
        self.links = Repositories(Filesystem(root))

    def ask(
        self, upstream: FakeUpstream, path: str, method: str = "GET", name: str = NAME
    ) -> Result:
        """Ask for something of an upstream."""
        return self.p.ask(method, f"/v2/{fold(upstream.host)}/{name}/{path}", **_LOGIN)

    def links_it(self, upstream: FakeUpstream, name: str = NAME) -> bool:
        """Return whether the layer may be read under an upstream's name."""
        repository = Repository(f"{fold(upstream.host)}/{name}")
        return self.links.links_blob(repository, Digest.of(LAYER))


@pytest.fixture
def a(tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream) -> Ruled:
    """Return an appliance that has pulled the private image."""
    found = Ruled(tmp_path, honest, hostile)
    for path in (MANIFEST, *(f"blobs/{Digest.of(each)}" for each in IMAGE.blobs)):
        assert found.ask(honest, path).status_code == 200
    return found


@pytest.mark.parametrize("path", [BLOB, MANIFEST])
def test_a_head_that_says_yes_opens_nothing(a: Ruled, hostile: FakeUpstream, path: str) -> None:
    """The digest of a private layer is no secret: it stands in manifests and lock files."""
    a.ask(hostile, path, "HEAD")

    for _ in range(2):
        assert a.ask(hostile, path).status_code == 404
    assert not a.links_it(hostile)


def test_a_head_says_nothing_of_our_store(a: Ruled, hostile: FakeUpstream) -> None:
    """It is the upstream's own word, its length too."""
    hostile.misbehave("/blobs/", method="HEAD", status=200, headers={"Content-Length": "7"})
    got = a.ask(hostile, BLOB, "HEAD")

    assert got.status_code == 200
    assert got.headers.get("content-length") != str(len(LAYER))


def test_other_bytes_leave_no_link(a: Ruled, hostile: FakeUpstream, honest: FakeUpstream) -> None:
    """What is fetched from others later would be served under that name without a question."""
    hostile.add_blob(NAME, LAYER)
    hostile.misbehave("/blobs/", method="GET", corrupt=True)
    a.p.forget_blob(Digest.of(LAYER))

    with pytest.raises(ConnectionResetError):
        a.ask(hostile, BLOB)
    assert not a.links_it(hostile)
    assert a.ask(honest, BLOB).content == LAYER
    with pytest.raises(ConnectionResetError):
        a.ask(hostile, BLOB)


def test_other_bytes_leave_no_link_where_all_may_read_all(
    tmp_path: Path, honest: FakeUpstream
) -> None:
    """The same without rules."""
    p = pulling(honest, tmp_path)
    honest.misbehave("/blobs/", method="GET", corrupt=True)

    with pytest.raises(ConnectionResetError):
        p.get(BLOB)
    name = Repository(f"{p.prefix}/{NAME}")
    assert not p.repositories.links_blob(name, Digest.of(LAYER))
    honest.behave()
    assert p.get(BLOB).content == LAYER
    assert p.repositories.links_blob(name, Digest.of(LAYER))


def test_what_an_upstream_sends_is_its_own(a: Ruled, hostile: FakeUpstream) -> None:
    """Once: from then on it is a hit under that name, and the store holds it once."""
    hostile.behave()
    hostile.put_image(NAME, "v1", IMAGE)

    sources = [a.ask(hostile, BLOB).headers["cache-status"] for _ in range(2)]

    assert a.links_it(hostile)
    assert hostile.count("GET", "/blobs/") == 1
    assert ["hit" in each for each in sources] == [False, True]


def test_two_names_of_one_upstream_share_what_it_sent(a: Ruled, honest: FakeUpstream) -> None:
    """It confirms the second name, and gives away what it has sent itself."""
    sent = honest.count("GET", "/blobs/")

    assert a.ask(honest, BLOB, name="other/app").content == LAYER
    assert a.links_it(honest, "other/app")
    assert honest.count("GET", "/blobs/") == sent


def test_a_proof_outlives_the_index_and_goes_with_the_content(
    tmp_path: Path, a: Ruled, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """It lies beside the content."""
    again = Ruled(tmp_path, honest, hostile)
    sent = honest.count("GET", "/blobs/")
    assert again.ask(honest, BLOB, name="other/app").content == LAYER
    assert honest.count("GET", "/blobs/") == sent

    proofs = Proofs(Filesystem(tmp_path))
    assert [proofs.has(Digest.of(LAYER), each.host) for each in (honest, hostile)] == [True, False]
    proofs.forget(Digest.of(LAYER))
    assert not proofs.has(Digest.of(LAYER), honest.host)
    assert a.p.client is not None


def test_content_that_was_pushed_is_no_upstreams(
    tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """Nor does it stand for what an upstream has."""
    found = Ruled(tmp_path, honest, hostile)
    storage = Filesystem(tmp_path)
    storage.write(layout.blob(Digest.of(LAYER)), LAYER)
    Repositories(storage).link_blob(Repository("team/app"), Digest.of(LAYER))

    assert found.ask(hostile, BLOB).status_code == 404
    assert found.ask(honest, BLOB).content == LAYER
    assert honest.count("GET", "/blobs/") == 1


def test_a_download_that_runs_is_joined_by_the_names_of_its_upstream_only(
    tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """Neither its bytes nor its end are for anybody else."""
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


def test_where_all_may_read_all_one_fetch_serves_every_upstream(
    tmp_path: Path, honest: FakeUpstream
) -> None:
    """Layers are shared between registries; the second one confirms that it has it."""
    with FakeUpstream() as second:
        second.put_image(NAME, "v1", IMAGE)
        p = pulling(honest, tmp_path, second)
        theirs = f"/v2/{fold(second.host)}/{NAME}"
        assert p.get(BLOB).content == LAYER
        assert p.get(MANIFEST).status_code == 200

        assert p.ask("GET", f"{theirs}/{BLOB}").content == LAYER
        assert p.ask("GET", f"{theirs}/{MANIFEST}").content == IMAGE.manifest
        assert second.count("GET") == 0


def test_a_whole_file_of_a_dead_writer_is_not_shown_unasked(
    tmp_path: Path, honest: FakeUpstream, hostile: FakeUpstream
) -> None:
    """It may have been begun under another name, which this one says nothing of."""
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
