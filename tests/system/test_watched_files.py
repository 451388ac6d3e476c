"""If a watched file becomes invalid, its last valid content stays in force."""

from __future__ import annotations

import json
import threading
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path

from tests.gates import BasicGate
from tests.images import filler
from tests.system.appliance import Appliance, Setup
from tests.system.conftest import Start
from tests.system.images import KB, of_size
from tests.system.pulls import Reader, blob_path, manifest_path
from tests.system.registries import htpasswd
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

LOGIN = "robot:old"


INVALID_USERS = ("alice:plain text\n", "no colon\n")
INVALID_SECRETS = ('{"auths": {', '{"auths": {"one.test": {"auth": "%%%"}}}')


def test_an_invalid_htpasswd_changes_nothing_and_is_one_warning(
    start: Start, tmp_path: Path
) -> None:
    """An invalid htpasswd file changes nothing; a worker logs one warning with the file's name."""
    users = htpasswd(tmp_path / "users", "alice:sesame")
    setup = Setup(
        environment={
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "test",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
        }
    )
    appliance = start(setup)
    valid, next_login = "alice:sesame", "bob:new"

    def status(login: str) -> int:
        return replace(appliance.http, login=login).get("/v2/").status

    assert status(valid) == 200
    for warnings, invalid in enumerate(INVALID_USERS):
        users.write_text(invalid)
        _wait_for_warning(appliance, users, warnings, request=partial(status, valid))

        assert (status(valid), status(next_login)) == (200, 401), invalid
        htpasswd(users, next_login)
        _wait_for_status(200, partial(status, next_login), what="the next valid user file is used")
        assert len(_warnings(appliance, users)) == warnings + 1, invalid
        valid, next_login = next_login, valid


def test_an_invalid_pull_secret_changes_nothing_and_is_one_warning(
    start: Start, tmp_path: Path
) -> None:
    """An invalid pull secret changes nothing: upstreams still get the previous credentials."""
    with FakeUpstream(gate=BasicGate({"robot": "old"})) as fake:
        for number in range(1 + len(INVALID_SECRETS)):
            fake.put_image("app", f"v{number}", of_size(KB, 410 + number))
        secret = _write(tmp_path / "secret.json", LOGIN)
        appliance = start(_setup(fake, secret))
        first = partial(_status, appliance, "v0")
        assert first() == 200

        for warnings, invalid in enumerate(INVALID_SECRETS):
            replace_text(secret, invalid)
            _wait_for_warning(appliance, secret, warnings, request=first)

            assert _status(appliance, f"v{warnings + 1}") == 200, invalid
            _write(secret, "robot:wrong")
            _wait_for_status(403, first, what="the wrong login is used")
            _write(secret, LOGIN)
            _wait_for_status(200, first, what="the right login is used again")
            eventually(
                lambda: [first() for _ in range(20)] == [200] * 20, what="all workers use it"
            )
            assert len(_warnings(appliance, secret)) == warnings + 1, invalid


def test_a_new_pull_secret_is_in_force_and_a_running_pull_continues(
    start: Start, tmp_path: Path
) -> None:
    """A new pull secret applies without a restart, and a running pull continues.

    Images of an upstream that the new secret adds can be pulled immediately.
    """
    release = threading.Event()
    with FakeUpstream(gate=BasicGate({"robot": "old"})) as fake, FakeUpstream() as other:
        digest = fake.add_blob("app", filler(512 * KB, 402))
        other.put_image("app", "v1", of_size(KB, 403))
        fake.misbehave(str(digest), method="GET", hold=release, hold_after=256 * KB)
        secret = _write(tmp_path / "secret.json", LOGIN)
        appliance = start(_setup(fake, secret))
        before = {each.pid for each in appliance.workers()}
        reader = Reader(appliance.http, blob_path("one.test/app", digest)).begin()
        eventually(lambda: reader.received, what="the pull has begun")

        _write(secret, LOGIN, other.host)

        path = manifest_path(f"{other.host}/app", "v1")
        eventually(lambda: appliance.http.get(path).status == 200, what="the new upstream works")
        release.set()
        assert reader.end().has(digest)
        assert before <= {each.pid for each in appliance.workers()}


def test_a_pull_secret_replaced_by_a_rename_is_reloaded(start: Start, tmp_path: Path) -> None:
    """If a pull secret is replaced by a rename, as Kubernetes and editors do, it is reloaded."""
    with FakeUpstream(gate=BasicGate({"robot": "new"})) as fake:
        fake.put_image("app", "v1", of_size(KB, 404))
        secret = _write(tmp_path / "secret.json", LOGIN)
        appliance = start(_setup(fake, secret))
        assert _status(appliance, "v1") == 403

        _write(tmp_path / "fresh.json", "robot:new").rename(secret)

        eventually(lambda: _status(appliance, "v1") == 200, what="the new pull secret is used")


def _setup(fake: FakeUpstream, secret: Path) -> Setup:
    environment = {"PULLSECRETPATH": str(secret), "ENTREPOT_FRESHNESS": "0s"}
    return Setup({"one.test": {"url": fake.url}}, environment=environment)


def _write(path: Path, login: str, *hosts: str) -> Path:
    """Write a pull secret with a login for one.test, and entries without a login for *hosts*."""
    entries: dict[str, dict[str, str]] = {host: {} for host in hosts}
    entries["one.test"] = {"auth": b64encode(login.encode()).decode()}
    replace_text(path, json.dumps({"auths": entries}))
    return path


def replace_text(path: Path, text: str) -> None:
    """Replace a file by a rename.

    If the file were written in place, a worker could read one half of it and log another warning.
    """
    new = path.with_suffix(".new")
    new.write_text(text)
    new.rename(path)


def _status(appliance: Appliance, tag: str) -> int:
    return appliance.http.get(manifest_path("one.test/app", tag)).status


def _wait_for_status(status: int, request: Callable[[], int], *, what: str) -> None:
    """Wait until a response to the request has this status."""
    eventually(lambda: request() == status, what=what)


def _wait_for_warning(
    appliance: Appliance, path: Path, warnings: int, *, request: Callable[[], int]
) -> None:
    """Send requests until the log has more than *warnings* warnings about *path*."""
    eventually(
        lambda: request() and len(_warnings(appliance, path)) > warnings,
        what="a warning names the file",
    )


def _warnings(appliance: Appliance, path: Path) -> list[str]:
    """Return the warnings in the log that name *path*."""
    return [
        line for line in appliance.output().splitlines() if f"{path}" in line and " warn " in line
    ]
