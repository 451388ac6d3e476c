"""Tests logins of podman and skopeo, and the reload of a changed htpasswd file."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.clients import Clients
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.pulls import Reader, blob_path, manifest_path
from tests.system.registries import Registry, htpasswd
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

ALICE, BOB = "alice:sesame", "bob:builder"
WRONG = "alice:guess"
NAME = "one.test/login/app"


@pytest.fixture(scope="module")
def closed(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """Run an appliance that requires a password for each request."""
    yield from _guarded(tmp_path_factory.mktemp("closed"), public, "none")


@pytest.fixture(scope="module")
def half_open(tmp_path_factory: pytest.TempPathFactory, public: Registry) -> Iterator[Appliance]:
    """Run an appliance that has a user and permits anonymous pulls."""
    yield from _guarded(tmp_path_factory.mktemp("halfopen"), public, "pull")


def test_podman_without_a_login_is_refused(closed: Appliance, clients: Clients) -> None:
    """A pull without a login gets 401, and podman's message shows that."""
    message = clients.pull_fails(f"{closed.http.netloc}/{NAME}:v1")

    assert "authentication required" in message or "unauthorized" in message


def test_a_login_with_a_wrong_password_fails(closed: Appliance, clients: Clients) -> None:
    """`podman login` with a wrong password fails."""
    assert clients.login(closed.http.netloc, WRONG).returncode != 0


def test_podman_pulls_after_its_login(closed: Appliance, clients: Clients) -> None:
    """After `podman login` podman can pull an image repeatedly as the same user."""
    assert clients.login(closed.http.netloc, ALICE).returncode == 0

    first = clients.pull(f"{closed.http.netloc}/{NAME}:v1")
    clients.forget()

    assert first == clients.pull(f"{closed.http.netloc}/{NAME}:v1")


@pytest.mark.parametrize(
    ("credentials", "succeeds"),
    [((), False), ((f"--src-creds={WRONG}",), False), ((f"--src-creds={ALICE}",), True)],
    ids=["anonymous", "wrong", "right"],
)
def test_skopeo_needs_the_right_password(
    closed: Appliance,
    clients: Clients,
    tmp_path: Path,
    *,
    credentials: tuple[str, ...],
    succeeds: bool,
) -> None:
    """Skopeo can copy an image only with the right credentials."""
    done = clients.copy(f"{closed.http.netloc}/{NAME}:v1", tmp_path / "copy", *credentials)

    assert succeeds == (done.returncode == 0), done.stderr


def test_a_refusal_is_a_basic_challenge_in_an_oci_envelope(closed: Appliance) -> None:
    """The response to `GET /v2/` without a login has a Basic challenge and an OCI error."""
    response = closed.http.get("/v2/")

    assert (response.status, response.code) == (401, "UNAUTHORIZED")
    assert response.headers["www-authenticate"].startswith("Basic realm=")


@pytest.mark.parametrize("path", ["/metrics", f"/v2/{NAME}/manifests/v1"])
def test_metrics_and_manifests_need_a_pull_right(closed: Appliance, path: str) -> None:
    """A client without a login gets 401 for metrics and manifests, but 200 for `/healthz`."""
    known = replace(closed.http, login=ALICE)

    assert closed.http.get(path).status == 401
    assert known.get(path).status == 200
    assert closed.http.get(path).status == 401
    assert closed.http.get("/healthz").status == 200


@pytest.mark.parametrize("method", ["GET", "HEAD"])
@pytest.mark.parametrize("login", [None, ALICE, WRONG])
def test_the_root_is_200_without_a_body_for_every_client(
    closed: Appliance, method: str, login: str | None
) -> None:
    """`GET /` gets 200 without a body for every client, as in docker distribution.

    Liveness probes request `/` without a password.
    """
    response = replace(closed.http, login=login).request(method, "/")

    assert (response.status, response.body) == (200, b"")


def test_any_client_pulls_where_anonymous_pulls_are_allowed(
    half_open: Appliance, clients: Clients
) -> None:
    """Where anonymous pulls are allowed, podman pulls with and without a login."""
    image = f"{half_open.http.netloc}/{NAME}:v1"
    anonymous = clients.pull(image)
    clients.forget()

    assert clients.login(half_open.http.netloc, ALICE).returncode == 0
    assert anonymous == clients.pull(image)


@pytest.mark.parametrize(("login", "status"), [(None, 401), (":", 401), (ALICE, 200), (WRONG, 401)])
def test_the_version_check_requires_a_password_although_anonymous_pulls_are_allowed(
    half_open: Appliance, login: str | None, status: int
) -> None:
    """`/v2/` requires a password even if anonymous pulls are allowed, so that clients log in."""
    response = replace(half_open.http, login=login).get("/v2/")

    assert response.status == status


@pytest.mark.parametrize(
    "credentials",
    [(), ("--src-no-creds",), (f"--src-creds={WRONG}",), (f"--src-creds={ALICE}",)],
    ids=["anonymous", "no login", "unknown", "right"],
)
def test_skopeo_pulls_where_anonymous_pulls_are_allowed(
    half_open: Appliance, clients: Clients, tmp_path: Path, credentials: tuple[str, ...]
) -> None:
    """Where anonymous pulls are allowed, skopeo pulls with any login and without a login."""
    done = clients.copy(f"{half_open.http.netloc}/{NAME}:v1", tmp_path / "copy", *credentials)

    assert done.returncode == 0, done.stderr


def test_a_changed_htpasswd_is_in_force_while_a_removed_users_pull_runs(
    start: Start, fake: FakeUpstream, tmp_path: Path
) -> None:
    """A changed htpasswd file applies immediately; a running pull of a removed user continues."""
    release = threading.Event()
    digest = fake.add_blob("app", filler(512 * KB, 21))
    fake.misbehave("/blobs/", method="GET", hold=release, hold_after=256 * KB)
    users = htpasswd(tmp_path / "htpasswd", ALICE)
    appliance = start(Setup({"one.test": {"url": fake.url}}, environment=_auth(users, "none")))
    alice, bob = (replace(appliance.http, login=login) for login in (ALICE, BOB))
    reader = Reader(alice, blob_path("one.test/app", digest)).begin()
    eventually(lambda: reader.received, what="the pull has begun")

    htpasswd(users, BOB)

    eventually(lambda: alice.get("/v2/").status == 401, what="the removed user is refused")
    eventually(lambda: bob.get("/v2/").status == 200, what="the new user is accepted")
    release.set()
    assert reader.end().has(digest)
    assert alice.get("/v2/").status == 401


def _guarded(folder: Path, public: Registry, anonymous: str) -> Iterator[Appliance]:
    public.push("login/app", "v1", of_size(16 * KB, 20))
    users = htpasswd(folder / "htpasswd", ALICE)
    setup = Setup({"one.test": {"url": public.url}}, environment=_auth(users, anonymous))
    with Appliance(folder, setup) as appliance:
        assert replace(appliance.http, login=ALICE).get(manifest_path(NAME, "v1")).status == 200
        yield appliance


def _auth(users: Path, anonymous: str) -> dict[str, str]:
    return {
        "REGISTRY_AUTH": "htpasswd",
        "REGISTRY_AUTH_HTPASSWD_REALM": "test",
        "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
        "REGISTRY_AUTH_ANONYMOUS": anonymous,
    }
