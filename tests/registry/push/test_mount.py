"""A blob that another repository has need not be sent again (OCI distribution-spec 1.1, end-11)."""

from __future__ import annotations

from pathlib import Path

import pytest
from falcon.testing import Result

from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.refs import Digest, Repository
from entrepot.registry.auth.identity import Action, Identity
from tests.images import filler
from tests.registry.push.pushing import NAME, Holding, Pushing, pushing

_CONTENT = filler(5000, 1)
_DIGEST = Digest.of(_CONTENT)
_OTHER = "team/other"


def _mount(p: Pushing, query: str, name: str = NAME) -> Result:
    return p.send("POST", f"/v2/{name}/blobs/uploads/?{query}")


def _is_mounted(p: Pushing, answer: Result) -> bool:
    """Tell whether it was, and check that an upload has begun if not."""
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
    """201, and not a byte is sent; the other repository keeps its own."""
    digest = p.blob(_CONTENT, _OTHER, algorithm)

    done = _mount(p, f"mount={digest}&from={_OTHER}")

    assert done.status_code == 201
    assert p.uploads() == []
    p.send("DELETE", f"/v2/{_OTHER}/blobs/{digest}")
    assert p.ask("GET", f"blobs/{digest}").content == _CONTENT


def test_a_blob_that_is_not_there_is_to_be_uploaded(p: Pushing) -> None:
    """202 and an upload: from a repository that lacks it, is none, or could be none."""
    p.blob(_CONTENT, "team/third")

    for source in (_OTHER, "team/none", "../../etc", "UPPER//x"):
        answer = _mount(p, f"mount={_DIGEST}&from={source}")
        assert _is_mounted(p, answer) is False
        p.ask("DELETE", f"blobs/{_DIGEST}")


def test_a_link_without_its_data_is_not_mounted(p: Pushing) -> None:
    """It would be a blob that nobody can pull."""
    p.repositories.link_blob(Repository(_OTHER), _DIGEST)

    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}&from={_OTHER}")) is False


def test_a_blob_is_mounted_from_wherever_it_is(p: Pushing) -> None:
    """Without `from`: from the first repository that has it, or from its own."""
    p.blob(_CONTENT, _OTHER)

    for _ in range(2):
        assert _is_mounted(p, _mount(p, f"mount={_DIGEST}"))
        p.send("DELETE", f"/v2/{_OTHER}/blobs/{_DIGEST}")


def test_a_blob_that_is_nowhere_is_to_be_uploaded(p: Pushing) -> None:
    """Without `from` too; also one whose data is here but which no repository shows."""
    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}")) is False
    p.ask("DELETE", f"blobs/{_DIGEST}")
    assert p.content(_DIGEST) == _CONTENT

    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}")) is False


def test_an_upload_that_a_mount_became_hashes_as_its_digest_says(p: Pushing) -> None:
    """What is to be mounted names the algorithm."""
    digest = Digest.of(_CONTENT, "sha512")

    begun = _mount(p, f"mount={digest}&from={_OTHER}")

    assert begun.headers["docker-upload-uuid"].endswith(".sha512")
    where = begun.headers["location"]
    assert p.send("PUT", f"{where}?digest={digest}", _CONTENT).status_code == 201


def test_a_proxied_blob_is_mounted_too(tmp_path: Path) -> None:
    """Its link permits it under the upstream's name; it is then hosted under the other."""
    p = pushing(tmp_path, upstreams=["quay.io"])
    p.blob(_CONTENT, "team/helper")
    proxied = Repository("quay.io/podman/hello")
    p.repositories.set_origin(proxied, "quay.io")
    p.repositories.link_blob(proxied, _DIGEST)
    p.send("DELETE", f"/v2/team/helper/blobs/{_DIGEST}")

    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}&from=quay.io/podman/hello"))
    p.ask("DELETE", f"blobs/{_DIGEST}")
    assert _is_mounted(p, _mount(p, f"mount={_DIGEST}"))


def test_what_its_upstream_no_longer_permits_is_not_mounted(p: Pushing) -> None:
    """An upstream that is none any more: its content is served to nobody."""
    left = Repository("gone.test/app")
    p.blob(_CONTENT, "gone.test/app")
    p.repositories.set_origin(left, "gone.test")

    for query in (f"mount={_DIGEST}&from={left}", f"mount={_DIGEST}"):
        assert _is_mounted(p, _mount(p, query)) is False
        p.ask("DELETE", f"blobs/{_DIGEST}")


class _NotSecret(Identity):
    """Whoever may do everything but read what is secret."""

    def may(self, action: Action, repository: Repository | None) -> bool:
        return action != "pull" or repository is None or "secret" not in repository.name


class _Rules:
    def identify(self, authorization: str | None) -> Identity:
        return _NotSecret(authorization, frozenset({"pull", "push"}))


@pytest.mark.parametrize("query", [f"mount={_DIGEST}&from=secret/app", f"mount={_DIGEST}"])
def test_nobody_mounts_what_he_may_not_read(tmp_path: Path, query: str) -> None:
    """To know a digest is no permission."""
    owner = pushing(tmp_path)
    owner.blob(_CONTENT, "secret/app")
    p = pushing(tmp_path, index=owner.index, authenticator=_Rules())

    assert _is_mounted(p, _mount(p, query)) is False


def test_a_mounted_blob_is_held_and_counted_once(tmp_path: Path) -> None:
    """Until it is linked; its row is the one that it had, used now."""
    index = Holding()
    p = pushing(tmp_path, index=index)
    p.blob(_CONTENT, _OTHER)
    index.held_once.clear()

    _mount(p, f"mount={_DIGEST}&from={_OTHER}")

    assert index.used_bytes() == len(_CONTENT) + OVERHEAD
    assert index.held_once == {_DIGEST}
    assert index.let_go()
