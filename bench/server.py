"""Start a server, wait until it answers, measure it, and terminate it with all its children."""

from __future__ import annotations

import http.client
import os
import resource
import signal
import ssl
import subprocess
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from bench.address import ServerAddress
from bench.errors import ServerFailed
from bench.tree import Tree, is_alive

_STARTS_WITHIN_S = 30.0
_STOPS_WITHIN_S = 10.0
_LOOK_EVERY_S = 0.02
# Each server's command line begins with these words, so that the kernel terminates the server if
# the benchmark is killed.
TETHER = ("setpriv", "--pdeathsig", "TERM")


@dataclass(frozen=True, slots=True)
class Launch:
    """How to start a server; a server that answers at the URL path `ready` is ready."""

    words: tuple[str, ...]
    folder: Path
    address: ServerAddress
    ready: str = "/v2/"
    environment: Mapping[str, str] = field(default_factory=dict)


class Server:
    """A server that runs inside a `with` statement; `log` is the file with its output."""

    def __init__(self, launch: Launch) -> None:
        self.address = launch.address
        self.log = launch.folder / "printed.log"
        self._launch = launch
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        try:
            self.start()
        except BaseException:
            self.stop()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    @property
    def tree(self) -> Tree:
        """Return the process of the server with its descendants."""
        return Tree(self._running().pid)

    def cpu_of(self, words: list[str]) -> float:
        """Run a command with the server's environment; return the command's CPU time (s).

        Raises: ServerFailed.
        """
        own = {"PATH": os.environ["PATH"], "HOME": str(self._launch.folder)}
        before = _of_children()
        done = subprocess.run(
            words, env=own | dict(self._launch.environment), capture_output=True, check=False
        )
        if done.returncode:
            raise ServerFailed(f"{' '.join(words)}: {done.stderr.decode(errors='replace')[-200:]}")
        return _of_children() - before

    def start(self) -> float:
        """Start the server; return the time until its first response (s). Raises: ServerFailed."""
        began = time.monotonic()
        self._process = self._started()
        while not self._answers():
            if self._process.poll() is not None:
                raise ServerFailed(f"{self._launch.words[0]} ended: {self._last_words()}")
            if time.monotonic() > began + _STARTS_WITHIN_S:
                raise ServerFailed(f"{self._launch.words[0]} does not answer: {self._last_words()}")
            time.sleep(_LOOK_EVERY_S)
        return time.monotonic() - began

    def stop(self) -> None:
        """Terminate the server, and kill processes that do not exit. A second call does nothing."""
        if self._process is None:
            return
        pids = [each.pid for each in self.tree.processes()]
        with suppress(ProcessLookupError):
            self._process.terminate()
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(_STOPS_WITHIN_S)
        self._end(pids)

    def kill(self) -> None:
        """Kill all processes of the server at once, to simulate a power cut."""
        self._end([each.pid for each in self.tree.processes()])

    def _end(self, pids: list[int]) -> None:
        """Kill the processes, and wait until they have ended.

        Parents are killed first, because a parent would restart a killed child.
        """
        process = self._running()
        deadline = time.monotonic() + _STOPS_WITHIN_S
        while pids and time.monotonic() < deadline:
            for pid in pids:
                with suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGKILL)
            process.poll()
            time.sleep(_LOOK_EVERY_S)
            pids = [pid for pid in pids if is_alive(pid)]
        process.wait()
        self._process = None

    def _started(self) -> subprocess.Popen[bytes]:
        launch = self._launch
        own = {"PATH": os.environ["PATH"], "HOME": str(launch.folder)}
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [*TETHER, *launch.words],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=own | dict(launch.environment),
                start_new_session=True,
            )

    def _answers(self) -> bool:
        connection = self.address.connect()
        try:
            connection.request("GET", self._launch.ready)
            status = connection.getresponse().status
        except (OSError, http.client.HTTPException, ssl.SSLError):
            return False
        finally:
            connection.close()
        return status in {http.HTTPStatus.OK, http.HTTPStatus.UNAUTHORIZED}

    def _last_words(self) -> str:
        return self.log.read_text(errors="replace")[-500:].strip() or "it printed nothing"

    def _running(self) -> subprocess.Popen[bytes]:
        if self._process is None:
            raise ServerFailed(f"{self._launch.words[0]} is not running")
        return self._process


def _of_children() -> float:
    """Return the CPU time of all ended children of this process (s)."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime
