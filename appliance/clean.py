"""`entrepot clean` and `entrepot gc`: the cleaner by hand, or what it would do."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import cast

from entrepot import config
from entrepot.appliance import rundir
from entrepot.appliance.privileges import users
from entrepot.appliance.supervise.environment import inherited
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.config.section import Section
from entrepot.datastore import layout
from entrepot.logger.__main__ import work
from entrepot.logger.loop import LoggerLoop
from entrepot.runtime.clock import Clock

_SETTINGS = "settings.json"
_LONGEST_READ_S = 600.0
_OWN = ("--once", "--dry-run")
# docker distribution's `garbage-collect` has the short ones
_OF_GC = {
    "--dry-run": "--dry-run",
    "-d": "--dry-run",
    "--delete-untagged": "--delete-untagged",
    "-m": "--delete-untagged",
}


def clean(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the cleaner, with the running appliance's settings if there is one; its exit code.

    Raises: ConfigError.
    """
    own = [word for word in argv if word in _OWN]
    if not own:
        raise ConfigError([Problem("entrepot clean", "nothing to do", "say --once or --dry-run")])
    return _run(own, [word for word in argv if word not in _OWN], environ)


def collect(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Take garbage away, or only say what is; the cleaner's exit code. Raises: ConfigError."""
    own = [_OF_GC[word] for word in argv if word in _OF_GC]
    return _run(["--gc", *own], [word for word in argv if word not in _OF_GC], environ)


def verify(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Read all that is stored; the cleaner's exit code. Raises: ConfigError."""
    own = [word for word in argv if word == "--json"]
    return _run(["--verify", *own], [word for word in argv if word != "--json"], environ)


def _run(own: Sequence[str], argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the cleaner with the settings of *argv*, over those of the appliance that runs there."""
    loaded = config.load(argv, environ)
    settings = loaded.settings
    users.step_down(environ)  # root's files among the user's would stop who serves
    run = rundir.found(settings.storage.statedir)
    if run is None:
        with rundir.claimed("entrepot-") as folder:
            config.dump(settings, folder / _SETTINGS)
            if not _is_dry(own):
                _read_logs(folder / _SETTINGS)
            stopped = ["--stopped"] if "--once" in own else []
            return _cleaner([*own, *stopped], environ, folder / _SETTINGS)
    running = config.resolved({"ENTREPOT_SETTINGS": str(run / _SETTINGS)})
    file = run / f"clean-{os.getpid()}.json"  # beside the sockets that the cleaner asks
    try:
        config.dump(_with_flags(running, loaded), file)
        return _cleaner(own, environ, file)
    finally:
        file.unlink(missing_ok=True)


def _with_flags(running: Settings, loaded: config.Loaded) -> Settings:
    """Return the settings of the running appliance, with what the command line says otherwise."""
    flags = [key for key, given in loaded.given.items() if given.origin.startswith("--")]
    sections: dict[str, object] = {}
    for key in flags:
        if key[0] == "cleaner":
            values = {key[1]: getattr(loaded.settings.cleaner, key[1])}
            section = sections.get("cleaner", running.cleaner)
            sections["cleaner"] = cast("Section", section).model_copy(update=values)
        elif key[0] in {"hosted", "log"}:
            sections[key[0]] = getattr(loaded.settings, key[0])
        elif key[0] != "storage":  # that has led us here
            remedy = "change it there and restart, or stop it first"
            problem = "without effect while an appliance runs"
            raise ConfigError([Problem(f"--{'.'.join(key)}", problem, remedy)])
    return running.model_copy(update=sections)


def _is_dry(own: Sequence[str]) -> bool:
    return "--dry-run" in own


def _read_logs(file: Path) -> None:
    """Bring what the access log still holds into the index: no logger runs that would do it."""
    settings = config.resolved({"ENTREPOT_SETTINGS": str(file)})
    loop = LoggerLoop(work(settings, Clock(settings.storage.statedir / layout.CLOCK)))
    deadline = time.monotonic() + _LONGEST_READ_S
    while loop.turn(time.monotonic()) == 0 and time.monotonic() < deadline:
        pass
    loop.finish(time.monotonic())


def _cleaner(words: Sequence[str], environ: Mapping[str, str], settings: Path) -> int:
    environment = inherited(environ) | {"ENTREPOT_SETTINGS": str(settings), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "entrepot.cleaner", *words]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - ours
