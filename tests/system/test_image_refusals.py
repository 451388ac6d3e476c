"""A mount that is wrong ends the container at once, with one clear line and code 2: item 5."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from tests.system.containers import Engine, run_to_end
from tests.system.mounts import Mounts

pytestmark = pytest.mark.timeout(600)  # whoever is first builds the image

Make = Callable[[Mounts], list[str]]


@dataclass(frozen=True, slots=True)
class Wrong:
    """One wrong way to run it, and what the line must tell."""

    options: Make
    says: tuple[str, ...]


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
    "a folder where the secret should be": Wrong(
        lambda mounted: [_volume(mounted.data, "/pull-secret.json")],
        ("/pull-secret.json: is a directory", "./NAME"),
    ),
    "a secret that may not be read": Wrong(
        lambda mounted: ["--user=1000", _volume(mounted.secret, "/pull-secret.json")],
        ("/pull-secret.json: permission denied", "let user 1000 read it"),
    ),
    "certificates of which none is certs.pem": Wrong(_other_name, ("/certs: no certs.pem in it",)),
    "certificates of which there is none": Wrong(_none_in_it, ("/certs: no certs.pem in it",)),
    "certificates that may not be seen": Wrong(_closed, ("/certs: permission denied",)),
    "a certificate that may not be read": Wrong(
        lambda mounted: ["--user=1000", _volume(mounted.certs, "/certs")],
        ("/certs/certs.pem: permission denied",),
    ),
    "a password file that is not there": Wrong(
        lambda mounted: _users(mounted, "/auth/users"), ("/auth/users: no such file",)
    ),
    "a password file that may not be read": Wrong(
        lambda mounted: _users(mounted, "/auth/htpasswd", "--user=1000"),
        ("/auth/htpasswd: permission denied",),
    ),
    "data of somebody else's": Wrong(
        lambda mounted: ["--user=1000", _volume(mounted.data, "/var/lib/registry")],
        ("/var/lib/registry is not writable: permission denied",),
    ),
    "no place for sockets": Wrong(
        lambda _: ["--read-only", "--read-only-tmpfs=false"], ("temporary folder", "--tmpfs /tmp")
    ),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG.keys())
def test_a_wrong_mount_is_told_in_one_line(
    podman: Engine, image: str, mounted: Mounts, wrong: Wrong
) -> None:
    """What is wrong where, and what to do; nothing has been started."""
    ended = run_to_end(podman, image, *wrong.options(mounted))

    assert ended.code == 2, ended.output
    (line,) = ended.output.splitlines()
    assert all(each in line for each in wrong.says), line
