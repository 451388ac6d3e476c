"""Clients mount blobs from other repositories (OCI distribution-spec 1.1, end-11)."""

from __future__ import annotations

from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.content import ContentStore
from entrepot.datastore.drivers.memory import MemoryIndex
from entrepot.datastore.refs import Digest, Repository
from entrepot.datastore.repositories import Repositories
from entrepot.registry.auth.identity import Action, Authenticator, Identity
from entrepot.registry.auth.rules import ALL
from entrepot.registry.auth.token_grant import Claims, TokenGrant
from entrepot.registry.challenges import BearerChallenge
from tests.images import filler
from tests.registry.push.pushing import NAME, Pushing, RecordingPins, pushing

_CONTENT = filler(5000, 1)
_DIGEST = Digest.of(_CONTENT)
_OTHER = "team/other"


def _mount(p: Pushing, query: str, name: str = NAME) -> Result:
    return p.send("POST", f"/v2/{name}/blobs/uploads/?{query}")


def _is_mounted(p: Pushing, answer: Result) -> bool:
    """Return True if the blob was mounted; otherwise finish the started upload and return False."""
    if answer.status_code == 201:
        assert answer.headers["location"] == f"/v2/{NAME}/blobs/{_DIGEST}"
        assert answer.headers["docker-content-digest"] == str(_DIGEST)
        assert p.ask("GET", f"blobs/{_DIGEST}").content == _CONTENT
        return True
    assert answer.status_code == 202
    assert p.ask("HEAD", f"blobs/{_DIGEST}").status_code == 404
    done = p.send("PUT", f"{answer.headers['location']}?digest={_DIGEST}", _CONTENT)
    assert done.status_code == 201
    return False


@pytest.mark.parametrize("algorithm", ["sha256", "sha512"])
def test_a_blob_is_mounted_from_another_repository(p: Pushing, algorithm: str) -> None:
    """A mount of a blob from another repository gets 201, without an upload.

    The repository in the URL still serves the blob after the other repository's link is deleted.
    """
    digest = p.blob(_CONTENT, _OTHER, algorithm)

    done = _mount(p, f"mount={digest}&from={_OTHER}")

    assert done.status_code == 201
    assert p.uploads() == []
    p.send("DELETE", f"/v2/{_OTHER}/blobs/{digest}")
    assert p.ask("GET", f"blobs/{digest}").content == _CONTENT


def test_a_mount_of_a_missing_blob_begins_an_upload(p: Pushing) -> None:
    """If the repository in `from` lacks the blob, the worker begins an upload and responds 202.

    An invalid name in `from` has the same effect.
    """
    p.blob(_CONTENT, "team/third")

    for source in (_OTHER, "team/none", "../../etc", "UPPER//x"):
        answer = _mount(p, f"mount={_DIGEST}&from={source}")
        assert _is_mounted(p, answer) is False
        p.ask("DELETE", f"blobs/{_DIGEST}")


def test_a_link_without_content_is_not_mounted(p: Pushing) -> None:
    """If a blob has a link but no file, the worker does not mount it and starts an upload."""
    p.repositories.link_blob(Repository(_OTHER), _DIGEST)

    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}&from={_OTHER}")) is False


def test_a_mount_without_from_searches_all_repositories(p: Pushing) -> None:
    """A mount without `from` searches the repository in the URL, then other repositories."""
    p.blob(_CONTENT, _OTHER)

    for _ in range(2):
        assert _is_mounted(p, _mount(p, f"mount={_DIGEST}"))
        p.send("DELETE", f"/v2/{_OTHER}/blobs/{_DIGEST}")


def test_an_unlinked_blob_is_not_mounted(p: Pushing) -> None:
    """A blob is not mounted if no repository that the client may read has a link to it.

    The worker starts an upload, as for a blob that is not stored.
    """
    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}")) is False
    p.ask("DELETE", f"blobs/{_DIGEST}")
    assert p.content(_DIGEST) == _CONTENT

    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}")) is False


def test_a_failed_mount_begins_an_upload_with_its_algorithm(p: Pushing) -> None:
    """If a blob with a sha512 digest cannot be mounted, the worker starts an upload with sha512."""
    digest = Digest.of(_CONTENT, "sha512")

    begun = _mount(p, f"mount={digest}&from={_OTHER}")

    assert begun.headers["docker-upload-uuid"].endswith(".sha512")
    where = begun.headers["location"]
    assert p.send("PUT", f"{where}?digest={digest}", _CONTENT).status_code == 201


def test_a_proxied_blob_can_be_mounted(tmp_path: Path) -> None:
    """A client can mount a proxied blob into a hosted repository, with or without `from`."""
    p = pushing(tmp_path, upstreams=["quay.io"])
    p.blob(_CONTENT, "team/helper")
    proxied = Repository("quay.io/podman/hello")
    p.repositories.set_origin(proxied, "quay.io")
    p.repositories.link_blob(proxied, _DIGEST)
    p.send("DELETE", f"/v2/team/helper/blobs/{_DIGEST}")

    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}&from=quay.io/podman/hello"))
    p.ask("DELETE", f"blobs/{_DIGEST}")
    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}"))


def test_a_blob_of_a_removed_upstream_is_not_mounted(p: Pushing) -> None:
    """A blob is not mounted if only repositories of a removed upstream have links to it."""
    left = Repository("gone.test/app")
    p.blob(_CONTENT, "gone.test/app")
    p.repositories.set_origin(left, "gone.test")

    for query in (f"mount={_DIGEST}&from={left}", f"mount={_DIGEST}"):
        assert _is_mounted(p, _mount(p, query)) is False
        p.ask("DELETE", f"blobs/{_DIGEST}")


class _NotSecret(Identity):
    """A user with all rights except for pulls from repositories named `secret`."""

    def may(self, action: Action, repository: Repository | None) -> bool:
        return action != "pull" or repository is None or "secret" not in repository.name

    def may_everywhere(self, action: Action) -> bool:
        return action != "pull"


class _Rules:
    def identify(self, authorization: str | None) -> Identity:
        return _NotSecret(authorization, frozenset({"pull", "push"}))


class _Token:
    """An authenticator whose only token permits pull and push in one repository."""

    def identify(self, authorization: str | None) -> Identity:
        access = {("repository", NAME): frozenset({"pull", "push"})}
        grant = TokenGrant(Claims("ann", 2**40, access), BearerChallenge("", ""), (NAME,))
        return Identity(authorization or "ann", ALL, token=grant)


@pytest.mark.parametrize("query", [f"mount={_DIGEST}&from=secret/app", f"mount={_DIGEST}"])
def test_an_unreadable_blob_is_not_mounted(tmp_path: Path, query: str) -> None:
    """A blob that the user may not pull is not mounted, even if the user knows its digest."""
    owner = pushing(tmp_path)
    owner.blob(_CONTENT, "secret/app")
    p = pushing(tmp_path, index=owner.index, authenticator=_Rules())

    assert _is_mounted(p, _mount(p, query)) is False


@pytest.mark.parametrize("client", [_Rules(), _Token()], ids=["rules", "token"])
def test_a_mount_does_the_same_work_for_unreadable_content_as_for_absent_content(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Authenticator
) -> None:
    """For a blob that the user may not pull, a mount reads the same files as for an absent blob.

    Otherwise the duration of the request would reveal whether the content is stored.
    """
    owner = pushing(tmp_path)
    for name in ("secret/app", "secret/other"):
        owner.blob(_CONTENT, name)
    for name in (NAME, _OTHER):
        owner.blob(b"something else", name)
    p = pushing(tmp_path, index=owner.index, authenticator=client)
    looked_at: list[str] = []
    links_blob, has_blob = Repositories.links_blob, ContentStore.has_blob

    def links(self: Repositories, name: Repository, digest: Digest) -> bool:
        looked_at.append(name.name)
        return links_blob(self, name, digest)

    def has(self: ContentStore, digest: Digest) -> bool:
        looked_at.append("store")
        return has_blob(self, digest)

    monkeypatch.setattr(Repositories, "links_blob", links)
    monkeypatch.setattr(ContentStore, "has_blob", has)

    seen = {}
    for digest in (_DIGEST, Digest.of(b"absent")):
        looked_at.clear()
        assert _mount(p, f"mount={digest}").status_code == 202
        seen[digest] = tuple(looked_at)

    assert len(set(seen.values())) == 1, seen
    assert not any("secret" in each for each in seen[_DIGEST])


def test_a_mounted_blob_is_pinned_and_counted_once(tmp_path: Path) -> None:
    """A mounted blob is pinned until its new link exists, and its size is counted once."""
    pins = RecordingPins()
    p = pushing(tmp_path, index=MemoryIndex(pins=pins))
    p.blob(_CONTENT, _OTHER)
    pins.held_once.clear()

    _mount(p, f"mount={_DIGEST}&from={_OTHER}")

    assert p.index.reservations.used_bytes() == len(_CONTENT) + OVERHEAD
    assert pins.held_once == {_DIGEST}
    assert pins.are_removed()
