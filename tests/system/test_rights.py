"""If the configuration file changes, its access rules and users apply without a restart."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import bcrypt
import pytest
import yaml

from entrepot.datastore.refs import Digest
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.pulls import blob_path, manifest_path, pull
from tests.system.pushes import push
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

ANN, BOB = "ann:sesame", "bob:builder"
# A change applies after 1 s. On a busy machine it can take longer, so the tests wait up to 10 s.
AT_ONCE = 10.0
OURS, THEIRS = of_size(KB, 700), of_size(KB, 701)
ABSENT = Digest.of(b"absent")
RULES: list[dict[str, Any]] = [
    {"user": "ann", "repository": ["ann/**", "one.test/ann/**"], "allow": ["pull", "push"]},
    {"user": "bob", "repository": ["bob/**", "one.test/bob/**"], "allow": ["pull", "push"]},
    {"user": "*", "repository": "common/*", "allow": ["pull"]},
]

Path = Callable[[str, object], str]
Answer = tuple[str, int, bytes]


def _users(*logins: str) -> dict[str, str]:
    split = (each.partition(":") for each in logins)
    return {
        user: bcrypt.hashpw(password.encode(), bcrypt.gensalt(5)).decode()
        for user, _, password in split
    }


def _settings(rules: list[dict[str, Any]] | None, *logins: str) -> dict[str, Any]:
    access = {} if rules is None else {"access": rules}
    return {"auth": {"htpasswd": {"realm": "test", "users": _users(*logins)}}, **access}


@dataclass(frozen=True, slots=True)
class Shared:
    """An appliance with two users who may use different repositories, and each user's image."""

    appliance: Appliance
    images: dict[str, Image]

    def http(self, login: str | None) -> HttpClient:
        """Return a client of the appliance with the given login."""
        return replace(self.appliance.http, login=login)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shared]:
    """Run an appliance; each user has pushed an image and has pulled one from the upstream."""
    with FakeUpstream() as fake:
        images = {name: fake.put_image(f"{name}/app", "v1", image) for name, image in _owned()}
        setup = Setup(
            {"one.test": {"url": fake.url, "default": True}},
            _settings(RULES, ANN, BOB) | {"hosted": {"ann/own": {}, "bob/own": {}}},
            {"REGISTRY_STORAGE_DELETE_ENABLED": "true"},
        )
        with Appliance(tmp_path_factory.mktemp("rights"), setup) as appliance:
            here = Shared(appliance, images)
            for login in (ANN, BOB):
                name = login.partition(":")[0]
                assert push(here.http(login), f"{name}/own", "v1", images[name])
                pull(here.http(login), f"one.test/{name}/app", "v1")
            yield here


def _owned() -> list[tuple[str, Image]]:
    return [("ann", OURS), ("bob", THEIRS)]


@pytest.mark.parametrize("name", ["ann/own", "one.test/ann/app", "One.Test/ann/app"])
def test_a_repository_is_hidden_from_users_without_rights(shared: Shared, name: str) -> None:
    """A user without rights to a repository gets 403 for its manifests, blobs, tags and referrers.

    A client without a login gets 401 for the same requests.
    """
    digest, layer = OURS.digest, Digest.of(OURS.layers[0])
    bob = shared.http(BOB)

    for path in (
        manifest_path(name, "v1"),
        manifest_path(name, digest),
        blob_path(name, layer),
        f"/v2/{name}/tags/list",
        f"/v2/{name}/referrers/{digest}",
        f"/v2/{name}/manifests/absent",
    ):
        assert (bob.get(path).status, bob.get(path).code) == (403, "DENIED"), path
        assert bob.head(path).status == 403
        assert shared.http(None).get(path).status == 401


def _layer(image: Image) -> Digest:
    return Digest.of(image.layers[0])


def _answers(http: HttpClient, path: Path, name: str, *digests: Digest) -> set[Answer]:
    """Request each digest with GET and HEAD; return the distinct responses, without digests."""
    return {
        (method, found.status, found.body.replace(str(digest).encode(), b""))
        for digest in digests
        for method in ("GET", "HEAD")
        for found in [http.request(method, path(name, digest))]
    }


def _statuses(answers: set[Answer]) -> list[tuple[str, int]]:
    return sorted((method, status) for method, status, _ in answers)


@pytest.mark.parametrize("name", ["ann/own", "one.test/ann/app"])
def test_a_refusal_does_not_depend_on_the_digest(shared: Shared, name: str) -> None:
    """A user without rights to a repository gets the same 403 for every digest.

    The digest may be in this repository, in another that the user may pull, or in none.
    """
    bob = shared.http(BOB)
    pull(bob, "bob/own", THEIRS.digest)

    answers = _answers(bob, manifest_path, name, OURS.digest, THEIRS.digest, ABSENT)
    answers |= _answers(bob, blob_path, name, _layer(OURS), _layer(THEIRS), ABSENT)

    assert _statuses(answers) == [("GET", 403), ("HEAD", 403)], answers


@pytest.mark.parametrize("name", ["bob/own", "one.test/bob/app"])
def test_content_of_another_repository_is_as_unknown_as_absent_content(
    shared: Shared, name: str
) -> None:
    """A user gets the same 404 for a digest of a hidden repository as for an unknown digest.

    The user requests both digests from a repository that the user may pull.
    """
    bob = shared.http(BOB)

    manifests = _answers(bob, manifest_path, name, OURS.digest, ABSENT)
    blobs = _answers(bob, blob_path, name, _layer(OURS), ABSENT)

    assert _statuses(manifests) == [("GET", 404), ("HEAD", 404)], manifests
    assert _statuses(blobs) == [("GET", 404), ("HEAD", 404)], blobs


def test_a_user_without_push_rights_cannot_write(shared: Shared) -> None:
    """A user without push rights cannot push, mount, delete, or use another user's upload."""
    ann, bob = shared.http(ANN), shared.http(BOB)
    layer = Digest.of(OURS.layers[0])
    begun = ann.request("POST", "/v2/ann/own/blobs/uploads/").headers["location"]

    for method, path in (
        ("POST", "/v2/ann/own/blobs/uploads/"),
        ("PATCH", begun),
        ("PUT", manifest_path("ann/own", "v2")),
        ("DELETE", begun),
        ("DELETE", manifest_path("ann/own", OURS.digest)),
        ("DELETE", blob_path("ann/own", layer)),
    ):
        assert bob.request(method, path).status == 403, (method, path)
    assert ann.request("DELETE", manifest_path("ann/own", OURS.digest)).status == 403
    mount = f"/v2/bob/own/blobs/uploads/?mount={layer}&from=ann/own"
    assert bob.request("POST", mount).status == 202
    assert bob.get(blob_path("bob/own", layer)).status == 404


def test_the_catalog_lists_the_repositories_that_a_user_may_pull(shared: Shared) -> None:
    """The catalog lists first the hosted, then the proxied repositories that the user may pull."""
    listed = {
        login: json.loads(shared.http(login).get("/v2/_catalog").body)["repositories"]
        for login in (ANN, BOB)
    }

    assert listed == {ANN: ["ann/own", "one.test/ann/app"], BOB: ["bob/own", "one.test/bob/app"]}


def test_clients_log_in_and_have_only_their_rights(shared: Shared, clients: Clients) -> None:
    """Podman logs in as a user in the configuration file, and has only the rights of this user."""
    netloc = shared.appliance.http.netloc
    assert clients.login(netloc, BOB).returncode == 0

    clients.pull(f"{netloc}/bob/own:v1")

    assert "denied" in clients.pull_fails(f"{netloc}/ann/own:v1").lower()


# ---- changes of the configuration file of a running appliance


def _edit(appliance: Appliance, **sections: object) -> None:
    """Change sections of the configuration file; None removes a section."""
    document = yaml.safe_load(appliance.file.read_text()) | sections
    kept = {name: each for name, each in document.items() if each is not None}
    appliance.file.write_text(yaml.safe_dump(kept))


def _warnings(appliance: Appliance) -> list[str]:
    lines = appliance.output().splitlines()
    return [each for each in lines if " warn " in each and "watched file" in each]


def test_changed_rights_and_users_are_in_force_without_a_restart(start: Start) -> None:
    """Granted and revoked rights apply to a running appliance without a restart."""
    appliance = start(Setup(settings=_settings(None, ANN, BOB)))
    ann, bob = (replace(appliance.http, login=login) for login in (ANN, BOB))
    assert push(ann, "ann/own", "v1", OURS)
    path = manifest_path("ann/own", "v1")
    assert bob.get(path).status == 200
    before = {each.pid for each in appliance.workers()}

    _edit(appliance, access=RULES)
    eventually(lambda: bob.get(path).status == 403, what="the rules apply", within=AT_ONCE)
    _edit(appliance, **_settings(RULES, BOB))
    eventually(lambda: ann.get(path).status == 401, what="ann's login is refused", within=AT_ONCE)
    _edit(appliance, access=[{"user": "bob", "repository": "**", "allow": "pull"}])
    eventually(lambda: bob.get(path).status == 200, what="bob may pull", within=AT_ONCE)
    _edit(appliance, access=[])
    eventually(lambda: bob.get(path).status == 403, what="no user may pull", within=AT_ONCE)

    assert bob.get("/v2/").status == 200
    assert before == {each.pid for each in appliance.workers()}
    assert _warnings(appliance) == []


def _rubbish(appliance: Appliance) -> None:
    appliance.file.write_text("access: [{user: ann")


def _unreadable_rule(appliance: Appliance) -> None:
    _edit(appliance, access=[{"user": "bob", "repository": "**", "allow": "all"}])


def _without_rules(appliance: Appliance) -> None:
    _edit(appliance, access=None)


def _emptied(appliance: Appliance) -> None:
    appliance.file.write_text("")


@pytest.fixture(scope="module")
def followed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Appliance]:
    """Run an appliance with an image of ann; the tests change its configuration file."""
    setup = Setup(settings=_settings(None, ANN, BOB))
    with Appliance(tmp_path_factory.mktemp("followed"), setup) as appliance:
        assert push(replace(appliance.http, login=ANN), "ann/own", "v1", OURS)
        yield appliance


@pytest.mark.parametrize("spoil", [_rubbish, _unreadable_rule, _without_rules, _emptied])
def test_an_invalid_edit_grants_no_rights(followed: Appliance, spoil: Any) -> None:
    """An invalid change of the access rules grants no rights, and causes one warning.

    Workers that are restarted afterwards still use the last valid rules.
    """
    appliance, good = followed, followed.file.read_text()
    ann, bob = (replace(appliance.http, login=login) for login in (ANN, BOB))
    path = manifest_path("ann/own", "v1")
    assert bob.get(path).status == 200
    _edit(appliance, access=RULES)
    eventually(lambda: bob.get(path).status == 403, what="the rules apply", within=AT_ONCE)
    warnings = len(_warnings(appliance))

    spoil(appliance)
    eventually(
        lambda: bob.get(path).status == 403 and len(_warnings(appliance)) > warnings,
        what="a warning is logged",
    )
    old = {each.pid for each in appliance.workers()}
    for each in old:
        os.kill(each, signal.SIGKILL)

    eventually(
        lambda: (
            len({each.pid for each in appliance.workers()} - old) == len(old)
            and appliance.http.get("/healthz").status == 200
        ),
        what="all workers were replaced",
    )
    assert [bob.get(path).status for _ in range(12)] == [403] * 12
    assert [ann.get(path).status for _ in range(12)] == [200] * 12
    assert len(_warnings(appliance)) == warnings + 1

    all_users = {"user": "*", "repository": "**", "allow": "pull"}
    appliance.file.write_text(yaml.safe_dump(yaml.safe_load(good) | {"access": [all_users]}))
    eventually(lambda: bob.get(path).status == 200, what="the valid file is used", within=AT_ONCE)


def test_rules_of_a_variable_are_not_reloaded_from_the_file(start: Start) -> None:
    """Rules in an environment variable stay in force when the configuration file changes."""
    rules = json.dumps([{"user": "bob", "repository": "**", "allow": ["pull", "push"]}])
    appliance = start(
        Setup(settings=_settings(None, ANN, BOB), environment={"REGISTRY_ACCESS": rules})
    )
    ann, bob = (replace(appliance.http, login=login) for login in (ANN, BOB))
    assert push(bob, "ann/own", "v1", OURS)

    _edit(appliance, **_settings(RULES, BOB))

    eventually(lambda: ann.get("/v2/").status == 401, what="ann's login is refused", within=AT_ONCE)
    assert bob.get(manifest_path("ann/own", "v1")).status == 200
