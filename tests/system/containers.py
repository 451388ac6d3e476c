"""Runs podman as an operator does, with an image store that later test runs reuse.

The build of the image needs no registry, because mmdebstrap makes the base image from Debian's
packages. The base image and the layers stay in the system's temporary folder, so that only the
first test run on a machine builds them.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import tempfile
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from tests.system import processes
from tests.system.clients import ENGINE
from tests.system.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
NEEDED = ("podman", "mmdebstrap", "runc", "netavark", "make")

_IMAGE = "localhost/entrepot-test"
_TIMEOUT_S = 300.0
# The build needs these variables of the test run to download packages.
_INHERITED = ("PIP_CERT", "SSL_CERT_FILE", "http_proxy", "https_proxy", "no_proxy")

Done = subprocess.CompletedProcess[str]


def missing() -> list[str]:
    """Return the programs that the tests with podman need but that are not installed."""
    path = f"{os.environ.get('PATH', '')}:/usr/sbin:/usr/lib/podman"
    return [each for each in NEEDED if shutil.which(each, path=path) is None]


class Engine:
    """podman with its image store in *folder*, whose path has at most 50 characters."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "containers.conf").write_text(ENGINE)

    @property
    def words(self) -> list[str]:
        """Return the command `podman` with the options that select this image store."""
        stores = (f"--root={self._folder}/root", f"--runroot={self._folder}/run")
        return ["podman", *stores, f"--tmpdir={self._folder}/tmp"]

    def environment(self) -> dict[str, str]:
        """Return the environment variables of this podman."""
        passed = {name: os.environ[name] for name in _INHERITED if name in os.environ}
        own = {"HOME": str(self._folder), "CONTAINERS_CONF": f"{self._folder}/containers.conf"}
        return processes.clean_environment(passed | own)

    def run(self, words: Sequence[str], cwd: Path | None = None) -> Done:
        """Run a program with this podman's environment; return its result even if it fails."""
        return subprocess.run(
            list(words),
            cwd=cwd,
            env=self.environment(),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=_TIMEOUT_S,
            check=False,
        )

    def try_podman(self, *words: str, cwd: Path | None = None) -> Done:
        """Run podman with these arguments, and return its result."""
        return self.run([*self.words, *words], cwd)

    def podman(self, *words: str, cwd: Path | None = None) -> str:
        """Run podman, assert that it succeeds, and return its output."""
        done = self.try_podman(*words, cwd=cwd)
        assert done.returncode == 0, (words, done.stderr)
        return done.stdout.strip()

    def build(self, suite: str) -> str:
        """Build the image with `make image` on a base of Debian *suite*, and return its name."""
        base = self._base(suite)
        image = f"{_IMAGE}:{suite}"
        make = ["make", "--no-print-directory", "image", f"IMAGE={image}", f"BASE={base}"]
        done = self.run([*make, f"ENGINE={' '.join(self.words)}"], ROOT)
        assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
        self.podman("image", "prune", "--force", "--filter=until=24h")
        return image

    def size(self, image: str) -> int:
        """Return an image's size in bytes."""
        return int(self.podman("image", "inspect", "--format={{.Size}}", image))

    def close(self) -> None:
        """Unmount podman's image store."""
        overlay = self._folder / "root" / "overlay"
        if os.path.ismount(overlay):
            subprocess.run(["umount", str(overlay)], check=False)

    def _base(self, suite: str) -> str:
        """Return the name of the base image of Debian *suite*; build it if it does not exist.

        The name of the image's tar file contains a hash of the command that made it, so a changed
        command makes a new file.
        """
        command = ["mmdebstrap", "--variant=minbase", "--mode=root", suite]
        made = hashlib.sha256(" ".join(command).encode()).hexdigest()[:12]
        tar = self._folder / f"{suite}-{made}.tar"
        image = f"docker.io/library/debian:{suite}-slim"
        if self.try_podman("image", "exists", image).returncode == 0 and tar.exists():
            return image
        if not tar.exists():
            fresh = tar.with_name(f"new-{tar.name}")
            done = self.run([*command, str(fresh)])
            assert done.returncode == 0, done.stderr[-2000:]
            fresh.rename(tar)
        self.podman("import", "--quiet", '--change=CMD ["bash"]', str(tar), image)
        return image


@contextmanager
def engine() -> Iterator[Engine]:
    """Yield podman for the tests; a second test run on this machine waits until the first ends."""
    folder = Path(tempfile.gettempdir()) / f"entrepot-tests-{os.getuid()}"
    folder.mkdir(mode=0o700, exist_ok=True)
    with (folder / "lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        found = Engine(folder)
        try:
            yield found
        finally:
            found.close()


@dataclass(frozen=True, slots=True)
class Ended:
    """A container that has exited: its exit code, and all its output."""

    code: int
    output: str


class Container:
    """A container that has been started."""

    def __init__(self, podman: Engine, name: str) -> None:
        self._podman = podman
        self.name = name

    def wait_until_serving(self) -> None:
        """Wait until the appliance in the container logs that it serves."""
        eventually(self._serves, what=f"{self.name} serves", within=60)

    def logs(self) -> str:
        """Return the container's output on stdout and stderr."""
        done = self._podman.try_podman("logs", self.name)
        return done.stdout + done.stderr

    def inspect(self) -> dict[str, Any]:
        """Return podman's description of the container."""
        found: list[dict[str, Any]] = yaml.safe_load(self._podman.podman("inspect", self.name))
        return found[0]

    def processes(self) -> list[tuple[int, str]]:
        """Return user id and command line of each process in the container.

        The container's first process comes first.
        """
        listed = self._podman.podman("top", self.name, "pid", "hpid").splitlines()[1:]
        # The list is sorted by the ids in the container, where the first process has id 1. Ids on
        # the host wrap around, so a later process can have a smaller one.
        inside = sorted(tuple(map(int, line.split())) for line in listed)
        found = [Path("/proc") / str(on_host) for _, on_host in inside]
        return [(each.stat().st_uid, _command(each)) for each in found if _command(each)]

    def execute(self, *words: str) -> Done:
        """Run a command in the container, and return its result."""
        return self._podman.try_podman("exec", self.name, *words)

    def is_healthy(self) -> bool:
        """Run the health check of the container, as systemd would; return True if it is healthy."""
        return self._podman.try_podman("healthcheck", "run", self.name).returncode == 0

    def stop(self, timeout: int = 10) -> Ended:
        """Stop the container with `podman stop`, which kills it after *timeout* seconds."""
        self._podman.podman("stop", f"--time={timeout}", self.name)
        return Ended(int(self.inspect()["State"]["ExitCode"]), self.logs())

    def start(self) -> None:
        """Start the stopped container again."""
        self._podman.podman("start", self.name)

    def remove(self) -> None:
        """Remove the container, whether it runs or not, with its anonymous volumes."""
        self._podman.try_podman("rm", "--force", "--volumes", "--time=0", self.name)

    def _serves(self) -> bool:
        output = self.logs()
        assert self.inspect()["State"]["Running"], output
        return " serving " in output


@contextmanager
def running(
    podman: Engine, image: str, *options: str, cwd: Path | None = None
) -> Iterator[Container]:
    """Run *image* in the background; the `with` block begins when the appliance serves."""
    container = Container(podman, f"test-{uuid.uuid4().hex[:12]}")
    try:
        podman.podman("run", "--detach", f"--name={container.name}", *options, image, cwd=cwd)
        container.wait_until_serving()
        yield container
    finally:
        container.remove()


def run_to_end(podman: Engine, image: str, *options: str, cwd: Path | None = None) -> Ended:
    """Run *image* in the foreground until it exits; return its exit code and output."""
    done = podman.try_podman("run", "--rm", *options, image, cwd=cwd)
    # On a machine without systemd, podman prints lines with these words; drop these lines.
    noise = ("healthcheck", "systemd")
    lines = [each for each in done.stderr.splitlines() if not any(word in each for word in noise)]
    return Ended(done.returncode, done.stdout + "\n".join(lines))


def _command(process: Path) -> str:
    return (process / "cmdline").read_text(errors="replace").replace("\0", " ").strip()
