"""With a wrong mount the container prints one clear line and exits with 2."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.system.containers import Engine, run_to_end
from tests.system.mounts import Mounts

pytestmark = pytest.mark.timeout(600)  # the first test that uses the image has to build it

Make = Callable[[Mounts], list[str]]


@dataclass(frozen=True, slots=True)
class Wrong:
    """A wrong mount: podman's options, and words that the printed line must have."""

    options: Make
    messages: tuple[str, ...]


def _volume(here: object, there: str) -> str:
    return f"--volume={here}:{there}"


def _closed(mounted: Mounts) -> list[str]:
    mounted.certs.chmod(0o700)
    return ["--user=1000", _volume(mounted.certs, "/certs")]


def _other_name(mounted: Mounts) -> list[str]:
    mounted.certificate.rename(mounted.certs / "tls.crt")
    return [_volume(mounted.certs, "/certs")]


def _none_in_it(mounted: Mounts) -> list[str]:
    mounted.certificate.unlink()
    return [_volume(mounted.certs, "/certs")]


def _users(mounted: Mounts, path: str, *options: str) -> list[str]:
    return [*options, _volume(mounted.auth, "/auth"), f"--env=REGISTRY_AUTH_HTPASSWD_PATH={path}"]


WRONG = {
    "a folder in place of the secret": Wrong(
        lambda mounted: [_volume(mounted.data, "/pull-secret.json")],
        ("/pull-secret.json: is a directory", "./NAME"),
    ),
    "an unreadable secret": Wrong(
        lambda mounted: ["--user=1000", _volume(mounted.secret, "/pull-secret.json")],
        ("/pull-secret.json: permission denied", "let user 1000 read it"),
    ),
    "certificates without certs.pem": Wrong(_other_name, ("/certs: the folder has no certs.pem",)),
    "an empty folder of certificates": Wrong(_none_in_it, ("/certs: the folder has no certs.pem",)),
    "a closed folder of certificates": Wrong(_closed, ("/certs: permission denied",)),
    "an unreadable certificate": Wrong(
        lambda mounted: ["--user=1000", _volume(mounted.certs, "/certs")],
        ("/certs/certs.pem: permission denied",),
    ),
    "a missing password file": Wrong(
        lambda mounted: _users(mounted, "/auth/users"), ("/auth/users: no such file",)
    ),
    "an unreadable password file": Wrong(
        lambda mounted: _users(mounted, "/auth/htpasswd", "--user=1000"),
        ("/auth/htpasswd: permission denied",),
    ),
    "data of another user": Wrong(
        lambda mounted: ["--user=1000", _volume(mounted.data, "/var/lib/registry")],
        ("/var/lib/registry is not writable: permission denied",),
    ),
    "no folder for sockets": Wrong(
        lambda _: ["--read-only", "--read-only-tmpfs=false"], ("temporary folder", "--tmpfs /tmp")
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_mount_is_reported_in_one_line(
    podman: Engine, image: str, mounted: Mounts, wrong: Wrong
) -> None:
    """For a wrong mount one line names the problem, the path and the remedy.

    No program is started.
    """
    ended = run_to_end(podman, image, *wrong.options(mounted))

    assert ended.code == 2, ended.output
    assert len(ended.output.splitlines()) == 1, ended.output
    (line,) = ended.output.splitlines()
    assert all(each in line for each in wrong.messages), line
