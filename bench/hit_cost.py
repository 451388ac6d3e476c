"""Measure a worker's CPU time for a warm request, alternately in two checkouts.

In `python -m bench hits OTHER`, OTHER is the root folder of the other checkout, whose Python
environment is in `.venv`. The benchmark sends the requests directly to a worker's socket over a
persistent connection, as HAProxy does.
"""

from __future__ import annotations

import http.client
import socket
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from bench import kinds
from bench.address import ServerAddress
from bench.content import ACCEPT, Image, digest_of
from bench.errors import ServerFailed, Unusable
from bench.kinds import Plan
from bench.server import Launch, Server
from bench.site import Site
from bench.tree import Process, Tree
from entrepot.runtime.run_names import worker_socket

_ROUNDS = 9
# The number of requests of each kind in a round. This many requests take about one second of CPU
# time.
_REQUESTS = 6000
_STARTS_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.1

Answer = tuple[str, str]
"""The method and the URL path of a request whose cost is measured."""


@dataclass(frozen=True, slots=True)
class Comparison:
    """The CPU time (us) of one kind of request in every round, in both checkouts."""

    name: str
    here: tuple[float, ...]
    other: tuple[float, ...]

    @property
    def difference(self) -> float:
        """Return the median of the rounds' differences (us); above 0, this checkout costs more."""
        return statistics.median(a - b for a, b in zip(self.here, self.other, strict=True))

    def line(self) -> str:
        """Return this comparison as a line of the printed table."""
        here, other = statistics.median(self.here), statistics.median(self.other)
        return f"{self.name:28} {here:8.1f} {other:8.1f} {self.difference:+8.1f}"


def compare(site: Site, other: Path) -> list[Comparison]:
    """Measure every kind of request in both checkouts, round by round. Raises: BenchError."""
    if not (other / ".venv" / "bin" / "python").exists():
        raise Unusable(f"{other} has no .venv: run `make run` or `make check` there once")
    found: dict[str, tuple[list[float], list[float]]] = {}
    with ExitStack() as stack:
        trees = [
            stack.enter_context(_running(site.plain(), root, site.app))
            for root in (kinds.ROOT, other)
        ]
        for number in range(_ROUNDS):
            for name, work in _works(site.app).items():
                for which in (0, 1) if number % 2 else (1, 0):
                    cost = trees[which].cost(work)
                    found.setdefault(name, ([], []))[which].append(cost)
    return [Comparison(name, tuple(a), tuple(b)) for name, (a, b) in found.items()]


def table(comparisons: list[Comparison]) -> str:
    """Return the table to print, with a line for each comparison."""
    head = f"{'CPU us a request, worker':28} {'here':>8} {'other':>8} {'more':>8}"
    return "\n".join([head, *(each.line() for each in comparisons)])


def _works(image: Image) -> Mapping[str, Answer]:
    name, blob = image.repository, digest_of(image.blobs[-1])
    return {
        "blob, GET": ("GET", f"{name}/blobs/{blob}"),
        "blob, HEAD": ("HEAD", f"{name}/blobs/{blob}"),
        "manifest by tag, GET": ("GET", f"{name}/manifests/latest"),
        "manifest by tag, HEAD": ("HEAD", f"{name}/manifests/latest"),
        "manifest by digest, GET": ("GET", f"{name}/manifests/{image.digest}"),
    }


def _pulled(image: Image) -> list[str]:
    """Return the URL paths of an image's manifest and blobs.

    All blobs must be cached, although only one of them is measured: at each request for a manifest,
    a worker checks that all blobs of the manifest are stored.
    """
    blobs = [f"{image.repository}/blobs/{digest_of(each)}" for each in image.blobs]
    return [*blobs, *(path for _, path in _works(image).values())]


@dataclass(frozen=True, slots=True)
class _Appliance:
    """A running appliance, with its processes; worker 1 gets all requests."""

    address: ServerAddress
    socket: Path
    processes: list[Process]

    def cost(self, work: Answer) -> float:
        """Send a request to worker 1 many times; return the mean CPU time of a request (us)."""
        method, path = work
        connection = _UnixConnection(self.socket)
        before = self._cpu()
        for _ in range(_REQUESTS):
            connection.request(
                method, f"/v2/{self.address.prefix}{path}", headers={"Accept": ACCEPT}
            )
            response = connection.getresponse()
            if response.status != http.HTTPStatus.OK:
                raise ServerFailed(f"{method} {path}: status {response.status} instead of 200")
            response.read()
        connection.close()
        return (self._cpu() - before) / _REQUESTS * 1e6

    def _cpu(self) -> float:
        """Return the CPU time that all registry processes have used so far (s)."""
        now = {each.pid: each.cpu for each in Tree(self.processes[0].pid).processes()}
        return sum(now.get(each.pid, 0.0) for each in self.processes[1:])


@contextmanager
def _running(plan: Plan, root: Path, image: Image) -> Iterator[_Appliance]:
    """Run the appliance of the checkout at *root*, and pull the image into its cache."""
    launch = kinds.entrepot_launch(plan)
    python = root / ".venv" / "bin" / "python"
    words = ("env", f"--chdir={root}", str(python), *launch.words[1:])
    environment = {**launch.environment, "PYTHONPATH": str(root)}
    with Server(Launch(words, plan.folder, launch.address, environment=environment)) as server:
        for path in _pulled(image):
            server.address.get(f"/v2/{server.address.prefix}{path}", {"Accept": ACCEPT})
        processes = server.tree.processes()
        folder = _run_directory(processes)
        workers = [each for each in processes if _is_registry(_command(each.pid))]
        if not workers:
            raise ServerFailed("the appliance has no running worker")
        yield _Appliance(server.address, folder / worker_socket(1), [processes[0], *workers])


def _run_directory(processes: list[Process]) -> Path:
    """Return the appliance's run directory, whose path is in an environment variable of HAProxy.

    Raises: ServerFailed.
    """
    deadline = time.monotonic() + _STARTS_WITHIN_S
    while time.monotonic() < deadline:
        for each in processes:
            with suppress(OSError):
                text = Path(f"/proc/{each.pid}/environ").read_bytes().decode(errors="replace")
                for line in text.split("\0"):
                    if line.startswith("ENTREPOT_RUN="):
                        return Path(line.partition("=")[2])
        time.sleep(_LOOK_EVERY_S)
    raise ServerFailed("no process has a variable with the run directory")


def _is_registry(command: list[str]) -> bool:
    """Return whether *command* runs the registry.

    Older versions have the module in another package, so only the last part of its name counts.
    """
    return any(word.split(".")[-1] == "registry" for word in command)


def _command(pid: int) -> list[str]:
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().decode(errors="replace").split("\0")
    return []


class _UnixConnection(http.client.HTTPConnection):
    """An HTTP connection over a unix socket."""

    def __init__(self, path: Path) -> None:
        super().__init__("localhost")
        self._path = path

    def connect(self) -> None:
        """Connect to the socket. Raises: OSError."""
        self.sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        self.sock.connect(str(self._path))
