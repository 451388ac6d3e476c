"""Run the cleaner once, for `entrepot clean`, `entrepot gc` and `entrepot verify`."""

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
from entrepot.runtime.run_names import PREFIX, SETTINGS

_LONGEST_READ_S = 600.0
_OWN = ("--once", "--dry-run")
# docker distribution's command `garbage-collect` has the same options, with the same short forms.
_GC_OPTIONS = {"d": "--dry-run", "m": "--delete-untagged", "q": "--quiet"}
_OFF = ("=false", "=0")
_ON = ("=true", "=1")


def clean(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the cleaner once (`entrepot clean`), and return the cleaner's exit code.

    If an appliance runs on the data directory, the cleaner uses the settings of that appliance.

    Raises: ConfigError for bad input.
    """
    own = [word for word in argv if word in _OWN]
    if not own:
        remedy = "give --once or --dry-run"
        raise ConfigError([Problem("entrepot clean", "nothing to do", remedy)])
    return _run(own, [word for word in argv if word not in _OWN], environ)


def collect(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Delete or list pushed content that nothing references (`entrepot gc`).

    Return the cleaner's exit code. Raises: ConfigError for bad input.
    """
    named = {word: _gc_options(word) for word in argv}
    own = [option for options in named.values() for option in options or ()]
    rest = [word for word in argv if named[word] is None]
    cleaner = [each for each in dict.fromkeys(own) if each != "--quiet"]
    return _run(["--gc", *cleaner], rest, environ, is_quiet="--quiet" in own)


def _gc_options(word: str) -> tuple[str, ...] | None:
    """Return the long options that *word*, such as `-dm`, switches on.

    Return None if *word* is no option of `gc`.
    """
    if len(word) > 1 and word[0] == "-" and set(word[1:]) <= _GC_OPTIONS.keys():
        return tuple(_GC_OPTIONS[letter] for letter in word[1:])
    name, equals, value = word.partition("=")
    if name not in _GC_OPTIONS.values() or f"{equals}{value}" not in {"", *_ON, *_OFF}:
        return None
    return () if f"{equals}{value}" in _OFF else (name,)


def verify(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Re-read all stored content (`entrepot verify`), and return the cleaner's exit code.

    Raises: ConfigError for bad input.
    """
    own = [word for word in argv if word == "--json"]
    return _run(["--verify", *own], [word for word in argv if word != "--json"], environ)


def _run(
    own: Sequence[str], argv: Sequence[str], environ: Mapping[str, str], *, is_quiet: bool = False
) -> int:
    """Run the cleaner in a child process with the options *own*, and return its exit code.

    If no appliance runs on the data directory, the settings come from *argv* and *environ*.
    Otherwise they come from the running appliance, and flags in *argv* override them. If *is_quiet*
    is true, the cleaner's output is discarded, but not its errors. Raises: ConfigError.
    """
    loaded = config.load(argv, environ)
    settings = loaded.settings
    # Root must not create files in the data directory: the appliance runs as another user, and
    # could not read them.
    users.step_down(environ)
    run = rundir.find(settings.storage.statedir)
    if run is None:
        with rundir.temporary_folder(PREFIX) as folder:
            config.dump(settings, folder / SETTINGS)
            if not _is_dry(own):
                _read_logs(folder / SETTINGS)
            stopped = ["--stopped"] if "--once" in own else []
            return _cleaner([*own, *stopped], environ, folder / SETTINGS, is_quiet=is_quiet)
    running = config.resolved({"ENTREPOT_SETTINGS": str(run / SETTINGS)})
    # The cleaner expects the appliance's sockets in the same folder as the settings file, so the
    # settings file must be in the run directory.
    file = run / f"clean-{os.getpid()}.json"
    try:
        config.dump(_with_flags(running, loaded), file)
        return _cleaner(own, environ, file, is_quiet=is_quiet)
    finally:
        file.unlink(missing_ok=True)


def _with_flags(running: Settings, loaded: config.Loaded) -> Settings:
    """Return the settings of the running appliance, overridden by the command line's flags."""
    flags = [key for key, given in loaded.given.items() if given.origin.startswith("--")]
    sections: dict[str, object] = {}
    for key in flags:
        if key[0] == "cleaner":
            values = {key[1]: getattr(loaded.settings.cleaner, key[1])}
            section = sections.get("cleaner", running.cleaner)
            sections["cleaner"] = cast("Section", section).changed(**values)
        elif key[0] in {"hosted", "log"}:
            sections[key[0]] = getattr(loaded.settings, key[0])
        # Flags of `storage` are ignored here, because they only serve to select the data directory.
        elif key[0] != "storage":
            remedy = "change the setting in the configuration and restart, or stop the appliance"
            problem = "the flag has no effect while an appliance runs"
            raise ConfigError([Problem(f"--{'.'.join(key)}", problem, remedy)])
    return running.changed(**sections)


def _is_dry(own: Sequence[str]) -> bool:
    return "--dry-run" in own


def _read_logs(file: Path) -> None:
    """Write the uses in the access log to the index, because no logger process is running."""
    settings = config.resolved({"ENTREPOT_SETTINGS": str(file)})
    loop = LoggerLoop(work(settings, Clock(settings.storage.statedir / layout.CLOCK)))
    deadline = time.monotonic() + _LONGEST_READ_S
    while loop.turn(time.monotonic()) == 0 and time.monotonic() < deadline:
        pass
    loop.finish(time.monotonic())


def _cleaner(
    words: Sequence[str], environ: Mapping[str, str], settings: Path, *, is_quiet: bool
) -> int:
    environment = inherited(environ) | {"ENTREPOT_SETTINGS": str(settings), "PYTHONSAFEPATH": "1"}
    command = [sys.executable, "-m", "entrepot.cleaner", *words]
    output = subprocess.DEVNULL if is_quiet else None
    return subprocess.run(command, env=environment, stdout=output, check=False).returncode  # noqa: S603 - ours
