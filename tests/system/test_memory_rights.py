"""HAProxy's cache obeys access rules and passwords, also after they are changed."""

from __future__ import annotations

import json
from base64 import b64encode
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.gates import BasicGate
from tests.images import Image
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.http_client import HttpClient, basic
from tests.system.images import KB, of_size
from tests.system.pulls import manifest_path, pull
from tests.system.registries import htpasswd
from tests.system.test_memory import AT_ONCE, is_cached, start_appliance, warm
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

ALICE, BOB, CAROL = "alice:sesame", "bob:builder", "carol:noel"
RULES: list[dict[str, Any]] = [
    {"user": ["alice", "carol"], "repository": "one.test/a/**", "allow": ["pull"]},
    {"user": "bob", "repository": "one.test/b/**", "allow": ["pull"]},
    {"user": "anonymous", "repository": "one.test/free", "allow": ["pull"]},
]


@dataclass(frozen=True, slots=True)
class Guarded:
    """An appliance whose HAProxy has cached responses for ALICE, BOB and anonymous clients."""

    appliance: Appliance
    images: dict[str, Image]

    def http(self, login: str | None) -> HttpClient:
        """Return a client of the appliance with the given login."""
        return replace(self.appliance.http, login=login)


@pytest.fixture(scope="module")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    """Run an appliance in front of two private repositories and a public one.

    ALICE, BOB and an anonymous client have each pulled one image.
    """
    folder = tmp_path_factory.mktemp("guarded")
    with FakeUpstream() as fake:
        names = {"a/app": ALICE, "b/app": BOB, "free": None}
        images = {
            name: fake.put_image(name, "v1", of_size(KB, 620 + number))
            for number, name in enumerate(names)
        }
        with Appliance(folder / "it", _setup(fake, folder)) as appliance:
            here = Guarded(appliance, images)
            for name, login in names.items():
                pull(here.http(login), f"one.test/{name}", "v1")
                paths = (manifest_path(f"one.test/{name}", ref) for ref in _references(here, name))
                warm(here.http(login), *paths)
            yield here


def _setup(fake: FakeUpstream, folder: Path) -> Setup:
    users = htpasswd(folder / "users", ALICE, BOB, CAROL)
    environment = {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "test",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
        "REGISTRY_AUTH_ANONYMOUS": "pull",
    }
    return Setup({"one.test": {"url": fake.url}}, {"access": RULES}, environment)


def _references(guarded: Guarded, name: str) -> list[str]:
    return ["v1", str(guarded.images[name].digest)]


@pytest.mark.parametrize("thief", [BOB, None], ids=["another user", "anonymous"])
@pytest.mark.parametrize(
    "target_template",
    [
        "{path}",
        "/v2/One.Test/a/app/manifests/{reference}",
        "/v2/a/app/manifests/{reference}?ns=one.test",
        "/v2/one.test/a/app/manifests/{reference}?ns=one.test",
        "{path}?",
        "{path}?x=1",
        "/v2/one.test//a/app/manifests/{reference}",
        "/v2/one.test/b/../a/app/manifests/{reference}",
        "/v2/one.test/%61/app/manifests/{reference}",
        "http://localhost{path}",
        "https://localhost{path}",
    ],
)
def test_a_user_gets_no_cached_response_of_another_user(
    guarded: Guarded, target_template: str, thief: str | None
) -> None:
    """A user never gets a response that HAProxy cached for a user with other rights.

    This holds for every spelling of host and path, for tags and digests, and for GET and HEAD.
    """
    for reference in _references(guarded, "a/app"):
        path = manifest_path("one.test/a/app", reference)
        target = target_template.format(path=path, reference=reference)
        host = "localhost" if target.startswith("http") else None
        for name in [host] if host else ["localhost", "alice", "one.test", "127.0.0.1:5000"]:
            for method in ("GET", "HEAD"):
                raw = _send_raw(guarded.appliance.http, f"{method} {target}", name, thief)
                assert raw.split()[1] in (b"400", b"401", b"403", b"404")
                assert guarded.images["a/app"].manifest not in raw


def _send_raw(http: HttpClient, what: str, host: str, login: str | None) -> bytes:
    lines = [f"{what} HTTP/1.1", f"Host: {host}", "Connection: close"]
    if login:
        lines.append(f"Authorization: {basic(login)}")
    return http.raw("\r\n".join([*lines, "", ""]).encode())


def test_users_with_equal_rights_share_cached_responses(guarded: Guarded) -> None:
    """Users with equal rights share cached responses.

    A worker verifies a user's password once, and HAProxy remembers the result.
    """
    path = manifest_path("one.test/a/app", "v1")
    warm(guarded.http(ALICE), path)
    carol = guarded.http(CAROL)

    assert carol.get("/v2/").status == 200
    warm(guarded.http(ALICE), path)
    assert is_cached(carol.get(path))


def test_a_wrong_password_has_the_rights_of_an_anonymous_client(guarded: Guarded) -> None:
    """A client with a wrong password gets public content only."""
    mistaken = guarded.http("alice:guess")

    assert mistaken.get(manifest_path("one.test/free", "v1")).status == 200
    assert mistaken.get(manifest_path("one.test/a/app", "v1")).status == 401
    assert mistaken.get("/v2/").status == 401


def test_a_revoked_right_is_revoked_in_the_cache_too(start: Start, tmp_path: Path) -> None:
    """After a user's right is revoked, HAProxy no longer serves cached responses to the user."""
    with FakeUpstream() as fake:
        fake.put_image("a/app", "v1", of_size(KB, 630))
        appliance = start_appliance(start, _setup(fake, tmp_path))
        alice, carol = (replace(appliance.http, login=login) for login in (ALICE, CAROL))
        path = manifest_path("one.test/a/app", "v1")
        pull(alice, "one.test/a/app", "v1")
        for http in (alice, carol):
            assert http.get("/v2/").status == 200
            warm(http, path)

        _edit(appliance, [{**RULES[0], "user": "carol"}, *RULES[1:]])

        eventually(lambda: alice.get(path).status == 403, what="a right is revoked", within=AT_ONCE)
        assert carol.get(path).status == 200


def _edit(appliance: Appliance, rules: list[dict[str, Any]]) -> None:
    document = yaml.safe_load(appliance.file.read_text())
    appliance.file.write_text(yaml.safe_dump({**document, "access": rules}))


def test_a_changed_password_is_in_force_at_once(start: Start, tmp_path: Path) -> None:
    """After a password was changed, the old password is rejected and the new password works."""
    with FakeUpstream() as fake:
        fake.put_image("a/app", "v1", of_size(KB, 631))
        appliance = start_appliance(start, _setup(fake, tmp_path))
        old, new = (replace(appliance.http, login=login) for login in (ALICE, "alice:open"))
        path = manifest_path("one.test/a/app", "v1")
        pull(old, "one.test/a/app", "v1")
        warm(old, path)

        htpasswd(tmp_path / "users", "alice:open", BOB, CAROL)

        eventually(lambda: old.get(path).status == 401, what="the login is refused", within=AT_ONCE)
        assert [old.get(path).status for _ in range(3)] == [401] * 3
        warm(new, path)


def test_an_upstream_removed_from_the_pull_secret_is_removed_from_the_cache(
    start: Start, tmp_path: Path
) -> None:
    """After an upstream was removed from the pull secret, its cached responses are not served."""
    with FakeUpstream(gate=BasicGate({"robot": "key"})) as fake:
        fake.put_image("app", "v1", of_size(KB, 632))
        secret = _secret(tmp_path / "secret.json", fake.host, "other.test")
        appliance = start_appliance(start, Setup(environment={"PULLSECRETPATH": str(secret)}))
        pull(appliance.http, f"{fake.host}/app", "v1")
        path = manifest_path(f"{fake.host}/app", "v1")
        warm(appliance.http, path)

        _secret(secret, "other.test")

        eventually(
            lambda: appliance.http.get(path).status == 404, what="the path gets 404", within=AT_ONCE
        )


def _secret(path: Path, *hosts: str) -> Path:
    auth = b64encode(b"robot:key").decode()
    path.write_text(json.dumps({"auths": {host: {"auth": auth} for host in hosts}}))
    return path
