"""A changed pull secret, password file or certificate takes effect in a running container."""

from __future__ import annotations

import json
import socket
import ssl
from base64 import b64encode
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import bcrypt
import pytest

from tests.gates import BasicGate
from tests.system.certificates import Authority
from tests.system.containers import Engine, running
from tests.system.http_client import HttpClient
from tests.system.images import KB, of_size
from tests.system.mounts import LOGIN, Mounts
from tests.system.pulls import manifest_path
from tests.system.waiting import eventually
from tests.upstream import FakeUpstream

pytestmark = pytest.mark.timeout(600)  # the first test that uses the image has to build it

NEWCOMER = "bob:fresh"
Files = dict[str, bytes]


class _InPlace:
    """Mounts each file separately, and changes a file by overwriting it."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self.write(files)
        self.mounts = [f"--volume={folder}/{name}:/files/{name}" for name in files]

    def write(self, files: Files) -> None:
        for name, content in files.items():
            with (self._folder / name).open("wb") as file:
                file.write(content)


class _Renamed:
    """Mounts the folder of the files, and replaces a file by a rename."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self.write(files)
        self.mounts = [f"--volume={folder}:/files"]

    def write(self, files: Files) -> None:
        for name, content in files.items():
            fresh = self._folder / f".{name}.new"
            fresh.write_bytes(content)
            fresh.chmod(0o600)
            fresh.rename(self._folder / name)


class _Swapped:
    """Mounts the folder of the files, and replaces the link `..data` in it, as the kubelet does."""

    def __init__(self, folder: Path, files: Files) -> None:
        self._folder = folder
        self._numbers = iter(range(100))
        self.write(files)
        for name in files:
            (folder / name).symlink_to(f"..data/{name}")
        self.mounts = [f"--volume={folder}:/files"]

    def write(self, files: Files) -> None:
        version = self._folder / f"..version{next(self._numbers)}"
        version.mkdir()
        for name, content in files.items():
            (version / name).write_bytes(content)
        link = self._folder / "..new"
        link.symlink_to(version.name)
        link.rename(self._folder / "..data")


@pytest.mark.parametrize(
    ("way", "options"),
    [(_InPlace, []), (_Renamed, []), (_Swapped, []), (_Swapped, ["--user=1000"])],
    ids=["written in place", "renamed", "swapped", "swapped, without root"],
)
def test_changed_files_take_effect_without_a_restart(
    podman: Engine,
    image: str,
    mounted: Mounts,
    way: Callable[[Path, Files], _InPlace | _Renamed | _Swapped],
    options: list[str],
) -> None:
    """A changed pull secret, password file or certificate takes effect without a restart."""
    authority = mounted.authority
    folder = mounted.folder / "files"
    folder.mkdir()
    mounted.open_to_all()
    files = way(folder, _files(authority, "robot:old", LOGIN))
    with FakeUpstream(gate=BasicGate({"robot": "new"})) as upstream:
        upstream.put_image("app", "v1", of_size(KB, 910))
        more, netloc = mounted.on_the_host({"one.test": {"url": upstream.url}})
        settings = {
            "PULLSECRETPATH": "/files/secret.json",
            "REGISTRY_AUTH_HTPASSWD_PATH": "/files/htpasswd",
            "REGISTRY_HTTP_TLS_CERTIFICATE": "/files/certs.pem",
            "ENTREPOT_FRESHNESS": "0s",
        }
        environment = [f"--env={name}={value}" for name, value in settings.items()]
        with running(podman, image, *options, *more, *files.mounts, *environment) as container:
            tls = ssl.create_default_context(cafile=str(mounted.ca))
            http = HttpClient(int(netloc.rpartition(":")[2]), "localhost", tls=tls, login=LOGIN)
            bob = replace(http, login=NEWCOMER)
            path = manifest_path("one.test/app", "v1")
            before, shown = container.processes(), _shown(http)
            assert (http.get(path).status, bob.get("/v2/").status) == (403, 401)

            files.write(_files(authority, "robot:new", LOGIN, NEWCOMER))

            eventually(lambda: bob.get("/v2/").status == 200, what="the password file is reloaded")
            eventually(lambda: http.get(path).status == 200, what="the pull secret is reloaded")
            eventually(lambda: _shown(http) != shown, what="the certificate is reloaded")
            assert container.processes() == before


def _files(authority: Authority, robot: str, *logins: str) -> Files:
    """Return the contents of a pull secret for one.test, a password file, and a new certificate."""
    pair = authority.issue()
    auth = b64encode(robot.encode()).decode()
    return {
        "secret.json": json.dumps({"auths": {"one.test": {"auth": auth}}}).encode(),
        "htpasswd": b"".join(map(_user, logins)),
        "certs.pem": pair.pem() + pair.key_pem(),
    }


def _user(login: str) -> bytes:
    user, _, password = login.encode().partition(b":")
    return user + b":" + bcrypt.hashpw(password, bcrypt.gensalt(5)) + b"\n"


def _shown(http: HttpClient) -> bytes:
    """Return the certificate (DER) that the appliance sends to a TLS client."""
    assert http.tls is not None
    with (
        socket.create_connection((http.host, http.port), timeout=10) as plain,
        http.tls.wrap_socket(plain, server_hostname=http.host) as wire,
    ):
        return wire.getpeercert(binary_form=True) or b""
