"""podman, buildah and skopeo as users run them; each test has its own images and logins."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path

from tests.system import processes

# CONTAINERS_CONF names a file with this text. It replaces two defaults of Debian's podman that fail
# in a container without the right to raise limits.
ENGINE = """\
[containers]
default_ulimits = ["nofile=16384:16384", "nproc=16384:16384"]
[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "file"
"""
_POLICY = '{"default": [{"type": "insecureAcceptAnything"}]}'
_TIMEOUT_S = 240  # podman waits two minutes for a mirror that does not respond


class Clients:
    """The clients of one user, whose images, logins and configuration are in *folder*."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        for name in ("root", "run", "tmp", "home"):
            (folder / name).mkdir(parents=True)
        (folder / "containers.conf").write_text(ENGINE)
        (folder / "registries.conf").write_text("")
        (folder / "policy.json").write_text(_POLICY)
        (folder / "auth.json").write_text("{}")
        (folder / "auth.json").chmod(0o600)

    def podman(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run podman with these arguments, and return its result."""
        stores = [f"--root={self._folder}/root", f"--runroot={self._folder}/run"]
        return self._run(["podman", *stores, f"--tmpdir={self._folder}/tmp", *words])

    def buildah(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run buildah, which uses podman's images, and assert that it succeeds."""
        stores = [f"--root={self._folder}/root", f"--runroot={self._folder}/run"]
        done = self._run(["buildah", *stores, *words])
        assert done.returncode == 0, (words, done.stderr)
        return done

    def skopeo(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run skopeo with these arguments, and return its result."""
        policy = f"--policy={self._folder}/policy.json"
        registries = f"--registries-conf={self._folder}/registries.conf"
        return self._run(["skopeo", policy, registries, *words])

    def configure(self, tree: Path) -> None:
        """Install the files below *tree*/etc/containers as this user's configuration."""
        source = tree / "etc" / "containers"
        (drop_in,) = (source / "registries.conf.d").iterdir()
        shutil.copy(drop_in, self._folder / "registries.conf")
        own = self._folder / "home" / ".config" / "containers" / "certs.d"
        if (source / "certs.d").exists():
            shutil.copytree(source / "certs.d", own, dirs_exist_ok=True)

    def pull(self, image: str) -> str:
        """Pull *image* with podman over plain HTTP; return its ID, the hex digest of its config."""
        done = self.podman("pull", "--quiet", "--tls-verify=false", image)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()

    def pull_fails(self, image: str) -> str:
        """Pull *image* with podman, assert that it fails, and return podman's error message."""
        done = self.podman("pull", "--quiet", "--tls-verify=false", image)
        assert done.returncode != 0, done.stdout
        return done.stderr

    def copy(self, image: str, target: Path, *options: str) -> subprocess.CompletedProcess[str]:
        """Copy an image with skopeo into the folder *target*, with unchanged bytes."""
        plain = ["--src-tls-verify=false", "--preserve-digests", *options]
        return self.skopeo("copy", *plain, f"docker://{image}", f"dir:{target}")

    def login(self, registry: str, login: str) -> subprocess.CompletedProcess[str]:
        """Log in to *registry* with podman; later skopeo uses this *login* (user:password) too."""
        user, _, password = login.partition(":")
        return self.podman("login", "--tls-verify=false", f"-u={user}", f"-p={password}", registry)

    def forget(self) -> None:
        """Remove every image of the client, so that the next pull requests all content again."""
        done = self.podman("rmi", "--all", "--force")
        assert done.returncode == 0, done.stderr

    def close(self) -> None:
        """Remove all images, and unmount podman's image store."""
        self.podman("rmi", "--all", "--force")
        overlay = self._folder / "root" / "overlay"
        if os.path.ismount(overlay):
            subprocess.run(["umount", str(overlay)], check=False)

    def _run(self, argv: Sequence[str]) -> subprocess.CompletedProcess[str]:
        own = {
            "HOME": f"{self._folder}/home",
            "TMPDIR": f"{self._folder}/tmp",
            "XDG_RUNTIME_DIR": f"{self._folder}/run",
            "CONTAINERS_CONF": f"{self._folder}/containers.conf",
            "CONTAINERS_REGISTRIES_CONF": f"{self._folder}/registries.conf",
            "REGISTRY_AUTH_FILE": f"{self._folder}/auth.json",
        }
        return subprocess.run(
            list(argv),
            env=processes.clean_environment(own),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
