"""Whether a client may push depends on its rights and on the name of the repository."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import entrepot.registry.__main__ as registry_main
from entrepot import config
from entrepot.datastore.refs import Digest, Repository
from entrepot.registry.auth.basic import BasicAuthenticator
from tests.images import filler, image
from tests.registry.push.pushing import NAME, Pushing, code, pushing

_MADE = image([filler(500, 1)])
_DIGEST = _MADE.digest
_UPLOAD = "blobs/uploads/00000000-0000-0000-0000-000000000000"
_WRITES = [
    ("POST", "blobs/uploads/"),
    ("POST", f"blobs/uploads/?digest={_DIGEST}"),
    ("POST", f"blobs/uploads/?mount={_DIGEST}&from=team/app"),
    ("GET", _UPLOAD),
    ("PATCH", _UPLOAD),
    ("PUT", f"{_UPLOAD}?digest={_DIGEST}"),
    ("DELETE", _UPLOAD),
    ("PUT", "manifests/v1"),
    ("PUT", f"manifests/{_DIGEST}?tag=v1"),
    ("DELETE", "manifests/v1"),
    ("DELETE", f"manifests/{_DIGEST}"),
    ("DELETE", f"blobs/{_DIGEST}"),
]


@pytest.mark.parametrize(("method", "path"), _WRITES)
@pytest.mark.parametrize("name", ["quay.io/podman/hello", "QUAY.IO/podman/hello"])
def test_a_push_to_an_upstreams_name_is_405(
    tmp_path: Path, method: str, path: str, name: str
) -> None:
    """A push or DELETE under an upstream's name gets 405, even if the name is in upper case."""
    p = pushing(tmp_path, upstreams=["quay.io"])

    refused = p.send(method, f"/v2/{name}/{path}", b"{}" if method[0] == "P" else None)

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")
    assert refused.headers["allow"] == "GET, HEAD"
    assert not (p.root / "docker").exists()


@pytest.mark.parametrize("name", ["library/alpine", "alpine", "some/thing"])
def test_a_push_over_a_name_of_the_default_upstream_is_405(tmp_path: Path, name: str) -> None:
    """A push under a name that the default upstream serves gets 405.

    Otherwise each dockerd that pulls this name would get the pushed image instead of the
    upstream's.
    """
    p = pushing(tmp_path, upstreams=["docker.io"], default="docker.io")

    refused = p.send("POST", f"/v2/{name}/blobs/uploads/")

    assert (refused.status_code, code(refused)) == (405, "UNSUPPORTED")


@pytest.mark.parametrize("name", ["team/app", "team/app/web", "a.b/c", "app"])
def test_the_setting_named_in_a_405_permits_the_push(tmp_path: Path, name: str) -> None:
    """The 405 names a setting; after the operator has added the setting, the push is accepted."""
    default = "corp.example"
    refused = pushing(tmp_path, upstreams=[default], default=default).send(
        "POST", f"/v2/{name}/blobs/uploads/"
    )
    (rule,) = re.findall(r"hosted: \{.*\}\}", refused.json["errors"][0]["message"])
    (tmp_path / "config.yml").write_text(f"version: 0.1\n{rule}\n")
    settings = config.load([str(tmp_path / "config.yml")], {}).settings

    p = pushing(
        tmp_path, upstreams=[default], default=default, may_host=registry_main._may_host(settings)
    )

    assert p.send("POST", f"/v2/{name}/blobs/uploads/").status_code == 202


@pytest.mark.parametrize(
    ("name", "default", "remedy"),
    [
        ("quay.io/a/b", None, "disable that upstream with upstreams.quay.io.enabled: false"),
        ("localhost_5000/b", None, "upstreams.localhost:5000.enabled: false"),
        ("alpine", "docker.io", "belongs to the upstream docker.io: push to another name"),
        ("library/alpine", "docker.io", "belongs to the upstream docker.io: push to another name"),
    ],
)
def test_a_405_states_the_remedy(
    tmp_path: Path, name: str, default: str | None, remedy: str
) -> None:
    """A 405 names the remedy: a setting or a push to another name.

    For official images of Docker Hub, the remedy is another name.
    """
    p = pushing(tmp_path, upstreams=["quay.io", "docker.io", "localhost:5000"], default=default)
    refused = p.send("PUT", f"/v2/{name}/manifests/v1", b"{}")

    assert refused.status_code == 405
    assert refused.json["errors"][0]["message"].endswith(remedy)


def test_a_hosted_name_can_be_pushed_beside_a_default_upstream(tmp_path: Path) -> None:
    """With a default upstream, clients can still push to and pull from a hosted name.

    The worker sends the upstream no request for that name.
    """
    p = pushing(
        tmp_path,
        upstreams=["docker.io"],
        default="docker.io",
        may_host=lambda name: name.name.startswith("team/"),
    )
    assert p.ask("HEAD", f"blobs/{_DIGEST}").status_code == 404

    p.image(_MADE)

    assert p.ask("GET", "manifests/v1").status_code == 200
    assert p.send("GET", "/v2/_catalog").json == {"repositories": [NAME]}


def test_a_repository_stays_hosted_when_a_default_upstream_is_added(tmp_path: Path) -> None:
    """After the operator adds a default upstream, clients can still push to a hosted repository."""
    before = pushing(tmp_path)
    before.image(_MADE)
    p = pushing(tmp_path, index=before.index, upstreams=["docker.io"], default="docker.io")

    p.image(_MADE, "v2")

    assert p.tags() == ["v1", "v2"]


def test_names_are_folded_to_lower_case(p: Pushing) -> None:
    """A repository name in upper case is folded to lower case, including in the Location header."""
    begun = p.send("POST", "/v2/Team/App/blobs/uploads/")

    where = begun.headers["location"]
    assert where.startswith("/v2/team/app/")
    digest = Digest.of(b"x")
    assert p.send("PUT", f"{where}?digest={digest}", b"x").status_code == 201
    assert p.repositories.links_blob(Repository(NAME), digest)


@pytest.mark.parametrize("name", ["team/..", "team/-app", "team/app.", "a" * 256])
def test_an_invalid_name_is_400(p: Pushing, name: str) -> None:
    """A push to an invalid repository name gets 400 NAME_INVALID."""
    refused = p.send("POST", f"/v2/{name}/blobs/uploads/")

    assert (refused.status_code, code(refused)) == (400, "NAME_INVALID")


@pytest.mark.parametrize(("method", "path"), _WRITES)
def test_an_anonymous_client_cannot_push(tmp_path: Path, method: str, path: str) -> None:
    """If anonymous clients can only pull, a push without a correct password gets 401."""
    owner = pushing(tmp_path)
    owner.image(_MADE)
    p = pushing(
        tmp_path,
        index=owner.index,
        authenticator=BasicAuthenticator(lambda *_: False, realm="r", anonymous="pull"),
    )

    for headers in ({}, {"Authorization": "Basic dTpw"}):
        body = b"{}" if method[0] == "P" else None
        refused = p.ask(method, path, body, **headers)
        assert (refused.status_code, code(refused)) == (401, "UNAUTHORIZED")
        assert refused.headers["www-authenticate"] == 'Basic realm="r"'
    assert p.ask("GET", "manifests/v1").status_code == 200


def test_a_user_can_pull_push_and_delete(tmp_path: Path) -> None:
    """A user with a correct password can push and delete.

    The response has a header with the user's name for the access log.
    """
    p = pushing(tmp_path, authenticator=BasicAuthenticator(lambda *_: True, realm="r"))
    login = {"Authorization": "Basic dTpw"}

    begun = p.ask("POST", "blobs/uploads/", None, **login)
    digest = Digest.of(b"x")
    done = p.send("PUT", f"{begun.headers['location']}?digest={digest}", b"x", **login)

    assert done.status_code == 201
    assert done.headers["x-entrepot-user"] == "u"
    assert p.ask("DELETE", f"blobs/{digest}", None, **login).status_code == 202
