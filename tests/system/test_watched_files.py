"""A watched file that turns bad leaves the last good one in force: item 11."""

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


BAD_USERS = ("alice:plain text\n", "no colon\n")
BAD_SECRETS = ('{"auths": {', '{"auths": {"one.test": {"auth": "%%%"}}}')


def test_a_bad_htpasswd_changes_nothing_but_one_warning(start: Start, tmp_path: Path) -> None:
    """Who could log in still can; the warning names the file, and comes once a worker or less."""
    users = htpasswd(tmp_path / "users", "alice:sesame")
    setup = Setup(
        environment={
            "REGISTRY_AUTH": "htpasswd",
            "REGISTRY_AUTH_HTPASSWD_REALM": "test",
            "REGISTRY_AUTH_HTPASSWD_PATH": str(users),
        }
    )
    appliance = start(setup)
    here, later = "alice:sesame", "bob:new"

    def status(login: str) -> int:
        return replace(appliance.door, login=login).get("/v2/").status

    assert status(here) == 200
    for told, bad in enumerate(BAD_USERS):
        users.write_text(bad)
        _is_told(appliance, users, told, ask=partial(status, here))

        assert (status(here), status(later)) == (200, 401), bad
        htpasswd(users, later)
        _is(200, partial(status, later), what="the next good file is in force")
        assert len(_warnings(appliance, users)) == told + 1, bad
        here, later = later, here


def test_a_bad_pull_secret_changes_nothing_but_one_warning(start: Start, tmp_path: Path) -> None:
    """Upstreams keep their credentials; the next good file is in force without a restart."""
    with FakeUpstream(gate=BasicGate({"robot": "old"})) as fake:
        for number in range(1 + len(BAD_SECRETS)):
            fake.put_image("app", f"v{number}", of_size(KB, 410 + number))
        secret = _write(tmp_path / "secret.json", LOGIN)
        appliance = start(_setup(fake, secret))
        first = partial(_status, appliance, "v0")
        assert first() == 200

        for told, bad in enumerate(BAD_SECRETS):
            secret.write_text(bad)
            _is_told(appliance, secret, told, ask=first)

            assert _status(appliance, f"v{told + 1}") == 200, bad
            _write(secret, "robot:wrong")
            _is(403, first, what="the next file is in force")
            _write(secret, LOGIN)
            _is(200, first, what="the right login is back")
            assert len(_warnings(appliance, secret)) == told + 1, bad


def test_a_new_pull_secret_is_in_force_and_a_running_pull_goes_on(
    start: Start, tmp_path: Path
) -> None:
    """No restart, no dropped pull; an upstream that the file names is there at once."""
    release = threading.Event()
    with FakeUpstream(gate=BasicGate({"robot": "old"})) as fake, FakeUpstream() as other:
        digest = fake.add_blob("app", filler(512 * KB, 402))
        other.put_image("app", "v1", of_size(KB, 403))
        fake.misbehave(str(digest), method="GET", hold=release, hold_after=256 * KB)
        secret = _write(tmp_path / "secret.json", LOGIN)
        appliance = start(_setup(fake, secret))
        before = {each.pid for each in appliance.workers()}
        reader = Reader(appliance.door, blob_path("one.test/app", digest)).begin()
        eventually(lambda: reader.received, what="the pull has begun")

        _write(secret, LOGIN, other.host)

        path = manifest_path(f"{other.host}/app", "v1")
        eventually(lambda: appliance.door.get(path).status == 200, what="the new upstream is there")
        release.set()
        assert reader.end().has(digest)
        assert before <= {each.pid for each in appliance.workers()}


def test_a_pull_secret_that_is_replaced_by_rename_is_seen(start: Start, tmp_path: Path) -> None:
    """Kubernetes and editors put a new file in the old one's place."""
    with FakeUpstream(gate=BasicGate({"robot": "new"})) as fake:
        fake.put_image("app", "v1", of_size(KB, 404))
        secret = _write(tmp_path / "secret.json", LOGIN)
        appliance = start(_setup(fake, secret))
        assert _status(appliance, "v1") == 403

        _write(tmp_path / "fresh.json", "robot:new").rename(secret)

        eventually(lambda: _status(appliance, "v1") == 200, what="the new file is in force")


def _setup(fake: FakeUpstream, secret: Path) -> Setup:
    environment = {"PULLSECRETPATH": str(secret), "ENTREPOT_FRESHNESS": "0s"}
    return Setup({"one.test": {"url": fake.url}}, environment=environment)


def _write(path: Path, login: str, *hosts: str) -> Path:
    """Write, in place, a pull secret with a login for one.test, and none for *hosts*."""
    entries: dict[str, dict[str, str]] = {host: {} for host in hosts}
    entries["one.test"] = {"auth": b64encode(login.encode()).decode()}
    path.write_text(json.dumps({"auths": entries}))
    return path


def _status(appliance: Appliance, tag: str) -> int:
    return appliance.door.get(manifest_path("one.test/app", tag)).status


def _is(status: int, ask: Callable[[], int], *, what: str) -> None:
    """Wait for a status."""
    eventually(lambda: ask() == status, what=what)


def _is_told(appliance: Appliance, path: Path, told: int, *, ask: Callable[[], int]) -> None:
    """Wait for a warning more than *told*, while clients ask."""
    eventually(
        lambda: ask() and len(_warnings(appliance, path)) > told, what="a warning names the file"
    )


def _warnings(appliance: Appliance, path: Path) -> list[str]:
    """Return the warnings that name a file."""
    return [
        line for line in appliance.output().splitlines() if f"{path}" in line and " warn " in line
    ]
