"""Run containerd with folders and a socket that only the tests use, and control it with ctr."""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Self

from tests.system import processes
from tests.system.pullers import PullFailed
from tests.system.waiting import eventually

_CONFIG = """\
version = 2
root = "{folder}/root"
state = "{folder}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
address = "{folder}/socket"
[ttrpc]
address = "{folder}/ttrpc"
"""
_TIMEOUT_S = 240  # containerd waits 30 s for each request to a host that does not respond


class Containerd:
    """A containerd that finds registries only in the hosts.toml files given to `configure`."""

    reads = "containerd"

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._log = folder / "containerd.log"
        self._hosts = folder / "none"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._folder.mkdir(parents=True, exist_ok=True)
        file = self._folder / "config.toml"
        file.write_text(_CONFIG.format(folder=self._folder))
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                ["containerd", "--config", str(file)],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=processes.clean_environment({}),
            )
        eventually(self._answers, what=f"containerd is up, see {self._log}")
        return self

    def __exit__(self, *_: object) -> None:
        assert self._process is not None
        self._process.terminate()
        self._process.wait(timeout=30)

    def version(self) -> str:
        """Return containerd's version."""
        return self._ctr("--version").stdout.split()[-1]

    def configure(self, tree: Path) -> None:
        """Use the hosts.toml files below *tree*, as with containerd's setting `config_path`."""
        self._hosts = tree / "etc" / "containerd" / "certs.d"

    def pull(self, image: str) -> set[str]:
        """Pull and unpack *image* for this machine's platform; return the digests of its parts."""
        hosts = ["--hosts-dir", str(self._hosts), "--snapshotter", "native"]
        done = self._ctr("images", "pull", *hosts, image)
        if done.returncode != 0:
            raise PullFailed(done.stderr)
        return set(self._ctr("content", "ls", "--quiet").stdout.split())

    def push(self, image: str, target: str, login: str = "") -> bool:
        """Push *image* under the name *target*; return True if the registry accepted it."""
        user = ["--user", login] if login else []
        return self._ctr("images", "push", "--plain-http", *user, target, image).returncode == 0

    def forget(self) -> None:
        """Remove every image, and wait until containerd has deleted its content."""
        names = self._ctr("images", "ls", "--quiet").stdout.split()
        if names:
            done = self._ctr("images", "rm", "--sync", *names)
            assert done.returncode == 0, done.stderr
        left = self._ctr("content", "ls", "--quiet").stdout.split()
        if left:  # content of failed pulls, which belongs to no image
            self._ctr("content", "rm", *left)

    def _answers(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, self._log.read_text()
        return self._ctr("version").returncode == 0

    def _ctr(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            ["ctr", f"--address={self._folder}/socket", *words],
            env=processes.clean_environment({"HOME": str(self._folder)}),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )
