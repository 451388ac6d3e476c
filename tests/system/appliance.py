"""Starts a complete appliance as users do: `entrepot serve` with its own data directory."""

from __future__ import annotations

import os
import shutil
import signal
import ssl
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from http.client import HTTPException
from pathlib import Path
from typing import Any, Self

import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.ports import free_port
from tests.system import processes
from tests.system.http_client import HttpClient, listens
from tests.system.processes import Process
from tests.system.waiting import eventually

ROOT = Path(__file__).resolve().parents[2]
_MARK = "SYSTEM_TEST_MARK"
_STOPS_WITHIN = 10.0


@dataclass(frozen=True, slots=True)
class Setup:
    """The configuration with which a test starts an appliance.

    `upstreams` and `settings` become parts of the YAML file; `environment` has environment
    variables. `data` is the data directory (None: a new one). `tls` is the TLS context of the
    client `Appliance.http` (None: plain HTTP). `files` is the appliance's limit of open files
    (`ulimit -n`, soft and hard); with None the appliance has the limit of the test run.
    """

    upstreams: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    settings: Mapping[str, Any] = field(default_factory=dict)
    environment: Mapping[str, str] = field(default_factory=dict)
    data: Path | None = None
    tls: ssl.SSLContext | None = None
    files: int | None = None


class Appliance:
    """An appliance that listens on a free port of loopback; its output is in the file `log`."""

    def __init__(self, folder: Path, setup: Setup) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self.data = setup.data or folder / "data"
        self.state = self.data / "entrepot"
        self.log = folder / "appliance.log"
        self.file = folder / "config.yml"
        self.http = HttpClient(free_port(), "localhost", tls=setup.tls)
        self._environment = dict(setup.environment)
        self._limited = ["prlimit", f"--nofile={setup.files}"] if setup.files else []
        self._mark = f"{_MARK}={uuid.uuid4().hex}"
        self._process: subprocess.Popen[bytes] | None = None
        self._sockets: Path | None = None
        self._write(setup)

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self.stop()

    # ---- start and end

    def start(self) -> None:
        """Start the appliance, and wait until `/healthz` returns 200."""
        self.launch()
        try:
            eventually(self._is_ready, what=f"/healthz is 200, see {self.log}", within=30)
        except BaseException:
            self.kill()
            raise

    def launch(self) -> subprocess.Popen[bytes]:
        """Start the appliance, and do not wait until it serves."""
        # the sockets' folder has a short path: Linux limits the path of a unix socket to 107 bytes
        self._sockets = Path(tempfile.mkdtemp(prefix="ent-"))
        with self.log.open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *self._limited,
                    sys.executable,
                    "-m",
                    "entrepot.appliance",
                    "serve",
                    str(self.file),
                ],
                cwd=ROOT,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                env=self.environment(),
                start_new_session=True,
            )
        return self._process

    def stop(self, number: signal.Signals = signal.SIGTERM) -> int:
        """Send the signal *number* to the appliance, wait until it exits, and return its exit code.

        Assert that it left no process and no socket behind.
        """
        assert self._process is not None
        self._process.send_signal(number)
        return self.ended()

    def ended(self, *, within: float = _STOPS_WITHIN) -> int:
        """Wait up to *within* seconds until the appliance exits, and return its exit code.

        Assert that it left no process and no socket behind.
        """
        assert self._process is not None
        try:
            code = self._process.wait(timeout=within)
            self._check_nothing_is_left()
        finally:
            self.kill()
        return code

    def kill(self) -> None:
        """Kill all processes of the appliance at once, as a power cut would."""
        assert self._process is not None
        while left := self.processes():
            for each in left:
                with suppress(ProcessLookupError):
                    os.kill(each.pid, signal.SIGKILL)
            self._process.poll()
        self._process.wait()
        self._process = None
        if self._sockets is not None:
            shutil.rmtree(self._sockets)
            self._sockets = None

    def environment(self) -> dict[str, str]:
        """Return the environment variables of the appliance.

        From the environment of the test run, the appliance gets only PATH, the locale and the time
        zone. Other variables of the test run could configure the appliance.
        """
        name, _, value = self._mark.partition("=")
        own = {
            name: value,
            "HOME": str(self.file.parent),
            "TMPDIR": str(self._sockets),
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.http.port}",
            "REGISTRYDIR": str(self.data),
        }
        return processes.clean_environment(own | self._environment)

    # ---- the processes of the appliance

    def processes(self) -> list[Process]:
        """Return all processes of this appliance."""
        return processes.marked(self._mark)

    def program(self, name: str) -> Process | None:
        """Return the first process of the program *name*, or None if it does not run."""
        found = (each for each in self.processes() if _is_program(each, name))
        return next(found, None)

    def workers(self) -> list[Process]:
        """Return the registry's worker processes: registry processes without a child."""
        registry = [each for each in self.processes() if _is_program(each, "registry")]
        parents = {each.parent for each in registry}
        return [each for each in registry if each.pid not in parents]

    def kill_program(self, name: str, number: signal.Signals = signal.SIGKILL) -> None:
        """Send the signal *number* to the program *name* of the appliance."""
        found = self.program(name)
        assert found is not None, f"{name} does not run"
        os.kill(found.pid, number)

    # ---- the output of the appliance

    def output(self) -> str:
        """Return everything that the appliance has written to its log."""
        return self.log.read_text(errors="replace")

    def metrics(self) -> dict[str, list[tuple[dict[str, str], float]]]:
        """Return the samples of /metrics: the labels and the value of each, by metric name."""
        response = self.http.get("/metrics")
        assert response.status == 200, response
        found: dict[str, list[tuple[dict[str, str], float]]] = {}
        for family in text_string_to_metric_families(response.body.decode()):
            for sample in family.samples:
                found.setdefault(sample.name, []).append((dict(sample.labels), sample.value))
        return found

    def metric(self, name: str, **labels: str) -> float:
        """Return the sum of the samples of the metric *name* that have all of *labels*."""
        samples = self.metrics().get(name, [])
        return sum(value for found, value in samples if labels.items() <= found.items())

    def entrepot(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Run another `entrepot` command with the appliance's configuration."""
        return subprocess.run(
            [sys.executable, "-m", "entrepot.appliance", *words, str(self.file)],
            cwd=ROOT,
            env=self.environment(),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )

    def _write(self, setup: Setup) -> None:
        upstreams = {host: dict(settings) for host, settings in setup.upstreams.items()}
        document = {"version": 0.1, **setup.settings, "upstreams": upstreams}
        self.file.write_text(yaml.safe_dump(document))

    def _is_ready(self) -> bool:
        assert self._process is not None
        assert self._process.poll() is None, f"it ended: {self.output()[-600:]}"
        try:
            return self.http.get("/healthz").status == 200
        except (OSError, HTTPException):
            return False

    def _check_nothing_is_left(self) -> None:
        assert self._sockets is not None
        assert not self.processes()
        assert [str(each) for each in self._sockets.rglob("*")] == []
        assert not listens(self.http.port)


def _is_program(process: Process, name: str) -> bool:
    words = process.argv.split()
    if not words or "appliance." in process.argv:  # such a process only starts or watches programs
        return False
    return words[0].rpartition("/")[2] == name or f"-m entrepot.{name}" in process.argv
