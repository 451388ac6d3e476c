"""`entrepot serve` with stand-in programs: what is told of them is what the appliance may rely on.

The stand-ins are packages of the same names, first on the path of the programs that are started.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from tests.appliance.front import ROOT, eventually
from tests.ports import free_port

WAIT = "import signal\nsignal.sigwait({signal.SIGTERM})\n"
"""A program that does nothing until it is told to end."""

FAIL = "import sys\nprint('almost')\nsys.exit('out of luck')\n"
"""A program that can't stay up."""

SERVE = f"""
import signal, sys, threading
sys.path.append({str(ROOT)!r})
from entrepot import config
from tests.appliance.standin import Worker
with Worker(config.resolved().run / "worker1.sock"):
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])
    signal.sigwait([signal.SIGTERM])
"""
"""A registry of one worker."""

BESIDE = f"__path__.append({str(ROOT / 'entrepot')!r})\n"
"""The import package: what has no stand-in is found behind it."""

PROGRAMS = {"registry": SERVE, "logger": WAIT, "cleaner": WAIT}


class House:
    """One `entrepot serve` with *programs*; what it prints is in `log`."""

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
        (self._path / "entrepot/__init__.py").write_text(BESIDE)
        for name, source in (PROGRAMS | programs).items():
            package = self._path / "entrepot" / name
            package.mkdir(parents=True)
            (package / "__init__.py").touch()
            (package / "__main__.py").write_text(source)
        self.process = self.start()

    def start(self, *flags: str, **more: str) -> subprocess.Popen[bytes]:
        """Start one more `serve`, in the same directory."""
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
        eventually(lambda: not self.living())

    def output(self) -> str:
        """Return all that was printed."""
        return self.log.read_text(errors="replace")

    def serving(self) -> None:
        """Wait until it says that it serves."""
        eventually(lambda: " serving " in self.output() or self.process.poll() is not None)
        assert " serving " in self.output(), self.output()

    def living(self) -> dict[int, str]:
        """Return every process that this start has brought about."""
        return {
            int(each.name): _text(each / "cmdline").replace("\0", " ")
            for each in Path("/proc").glob("[0-9]*")
            if f"MARK={self.mark}" in _text(each / "environ").split("\0")
        }

    def pid_of(self, program: str) -> int:
        """Return the process id of the first process whose command line has *program* in it."""
        return next(pid for pid, line in self.living().items() if program in line)

    def run(self) -> Path:
        """Return the run directory."""
        return next(self.temporary.glob("entrepot-*"))


def _text(path: Path) -> str:
    try:
        return path.read_text(errors="replace")
    except OSError:
        return ""
