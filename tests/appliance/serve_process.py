"""`entrepot serve` with stand-ins for its programs, which run or fail as the test requires.

The stand-ins are packages with the names of the real ones, and come first on the import path of the
started programs.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from textwrap import indent
from typing import Self

from tests.appliance.haproxy import ROOT, eventually
from tests.ports import free_port

WAIT = "import signal\nsignal.sigwait({signal.SIGTERM})\n"
"""A stand-in for a program, which waits until it is stopped."""

FAIL = "import sys\nprint('almost')\nsys.exit('out of luck')\n"
"""A stand-in for a program, which fails at its start."""

SERVE = f"""
import signal, sys, threading
sys.path.append({str(ROOT)!r})
from entrepot import config
from tests.appliance.stub_worker import StubWorker
with StubWorker(config.resolved().run / "worker1.sock"):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.sigwait([signal.SIGTERM])
"""
"""A stand-in for the registry, with one stand-in for a worker."""

IMPORT_PACKAGE = f"__path__.append({str(ROOT / 'entrepot')!r})\n"
"""The import package of the stand-ins, which finds all other modules in the real package."""

PROGRAMS = {"registry": SERVE, "logger": WAIT, "cleaner": WAIT}


class ServeProcess:
    """One `entrepot serve` with the stand-ins *programs*; its output is in the file `log`."""

    def __init__(
        self,
        folder: Path,
        temporary: Path,
        *,
        settings: Mapping[str, str] | None = None,
        **programs: str,
    ) -> None:
        self._settings = dict(settings or {})
        self.data = folder / "data"
        self.log = folder / "serve.log"
        self.port = free_port()
        self.temporary = temporary
        self.mark = uuid.uuid4().hex
        self._path = folder / "stand-ins"
        (self._path / "entrepot").mkdir(parents=True)
        (self._path / "entrepot/__init__.py").write_text(IMPORT_PACKAGE)
        for name, source in (PROGRAMS | programs).items():
            package = self._path / "entrepot" / name
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(_program(source))
        self.process = self.start()

    def start(self, *flags: str, **more: str) -> subprocess.Popen[bytes]:
        """Start `entrepot serve` on the data directory `data`, with *flags* and more variables."""
        environment = {
            "PATH": os.environ["PATH"],
            "PYTHONPATH": str(self._path),
            "TMPDIR": str(self.temporary),
            "REGISTRYDIR": str(self.data),
            "REGISTRY_HTTP_ADDR": f"127.0.0.1:{self.port}",
            "REGISTRY_PROXY_PASSWORD": "hush",
            "REGISTRY_PROXY_USERNAME": "robot",
            "REGISTRY_PROXY_REMOTEURL": "https://quay.io",
            "HTTPS_PROXY": "http://me:proxy-hush@proxy.test:3128",
            "MARK": self.mark,
        }
        with self.log.open("ab") as log:
            return subprocess.Popen(
                [sys.executable, "-m", "entrepot.appliance", "serve", *flags],
                cwd=ROOT,
                env=environment | self._settings | more,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        self.process.wait(timeout=15)
        eventually(lambda: not self.processes())

    def output(self) -> str:
        """Return all that `entrepot serve` has printed so far."""
        return self.log.read_text(errors="replace")

    def wait_until_serving(self) -> None:
        """Wait until `entrepot serve` logs that it serves."""
        eventually(lambda: " serving " in self.output() or self.process.poll() is not None)
        assert " serving " in self.output(), self.output()

    def processes(self) -> dict[int, str]:
        """Return the command lines of `entrepot serve` and its child processes, by process id."""
        return {
            int(each.name): _text(each / "cmdline").replace("\0", " ")
            for each in Path("/proc").glob("[0-9]*")
            if f"MARK={self.mark}" in _text(each / "environ").split("\0")
        }

    def pid_of(self, program: str) -> int:
        """Return the id of the first process whose command line contains *program*."""
        return next(pid for pid, line in self.processes().items() if program in line)

    def run_directory(self) -> Path:
        """Return the run directory."""
        return next(self.temporary.glob("entrepot-*"))


def _program(source: str) -> str:
    """Return the module `__main__` of a program: supervisord loads the module and calls `main`."""
    return f"def main():\n{indent(source, '    ')}\nif __name__ == '__main__':\n    main()\n"


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
