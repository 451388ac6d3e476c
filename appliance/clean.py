"""`entrepot clean` and `entrepot gc`: the cleaner by hand, or what it would do."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

import config
from appliance import privileges, rundir
from appliance.environment import inherited
from config.errors import ConfigError, Problem

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
    """Run the cleaner with the settings of *argv*, or those of the appliance that runs there."""
    settings = config.load(argv, environ).settings
    privileges.step_down(environ)  # root's files among his would stop who serves
    run = rundir.found(settings.storage.statedir)
    if run is not None:
        return _cleaner(own, environ, run / "settings.json")
    with rundir.claimed("entrepot-") as folder:
        file = folder / "settings.json"
        config.dump(settings, file)
        return _cleaner(own, environ, file)


def _cleaner(words: Sequence[str], environ: Mapping[str, str], settings: Path) -> int:
    environment = inherited(environ) | {"ENTREPOT_SETTINGS": str(settings), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "cleaner", *words]
    return subprocess.run(command, env=environment, check=False).returncode  # noqa: S603 - ours
