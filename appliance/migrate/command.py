"""Copy all content of one storage to another (`entrepot migrate FROM TO`)."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import sys
import tempfile
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Final

from entrepot import config
from entrepot.appliance.migrate import places
from entrepot.appliance.migrate.migration import Migration
from entrepot.appliance.migrate.progress import Progress
from entrepot.appliance.migrate.report import Report, as_json, as_text
from entrepot.appliance.privileges import ownership, users
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.runtime import logs
from entrepot.runtime.clock import Clock

_JSON: Final = "--json"
_INCOMPLETE: Final = 1
_SIDES: Final = 2
_SCRATCH: Final = "migrate-"
_IMAGE: Final = "ENTREPOT_IMAGE"
_ABSENT: Final = Path("/nonexistent")
_NO_FILES: Final = config.DefaultPaths(_ABSENT, _ABSENT, _ABSENT, _ABSENT)


def migrate(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Copy all content, and print a report. Return 0 if the target is complete, else 1.

    Raises: ConfigError, before anything is copied.
    """
    words = [word for word in argv if word != _JSON]
    if len(words) != _SIDES or any(word.startswith("-") for word in words):
        remedy = "give two configuration files or data directories: entrepot migrate FROM TO"
        raise ConfigError([Problem("entrepot migrate", "FROM and TO are needed", remedy)])
    source, target = (_settings(word, environ) for word in words)
    places.refuse_same(source, target)
    _give_folders(target, environ)
    users.step_down(environ)
    places.make_folders(target)
    if not logging.getLogger().handlers:
        # Warnings are not logged: they repeat the text of the report or of a ConfigError.
        logs.configure("error", "text", "migrate", stream=sys.stderr)
    with _stopping() as stop:
        report = _migrated(source, target, stop)
    sys.stdout.write(f"{as_json(report) if _JSON in argv else as_text(report)}\n")
    return 0 if report.is_complete else _INCOMPLETE


def _settings(word: str, environ: Mapping[str, str]) -> Settings:
    """Return the settings of the source or the target.

    *word* is a configuration file or a data directory. Environment variables of settings are
    ignored, because a variable would apply to both the source and the target.
    """
    if Path(word).is_dir():
        return config.load([f"--storage.filesystem.rootdirectory={word}"], {}, _NO_FILES).settings
    image = {name: text for name, text in environ.items() if name == _IMAGE}
    return config.load([word], image, _NO_FILES).settings


def _give_folders(target: Settings, environ: Mapping[str, str]) -> None:
    """Make the service user the owner of the target's folders, as `serve` does.

    Raises: ConfigError.
    """
    user = users.choose(environ).user
    if user is None:
        return
    for folder in dict.fromkeys((target.storage.rootdirectory, target.storage.statedir)):
        try:
            ownership.take_over(folder, user)
        except OSError as error:
            why = (error.strerror or str(error)).lower()
            remedy = f"give the folder to user {user.uid}"
            raise ConfigError([Problem(str(folder), why, remedy)]) from error


def _migrated(source: Settings, target: Settings, stop: threading.Event) -> Report:
    """Copy the content; meanwhile no other appliance on this machine can use source or target.

    Raises: ConfigError if the source or the target cannot be used.
    """
    clock = Clock(target.storage.statedir / layout.CLOCK)
    with (
        places.opened_target(target, clock) as to,
        _scratch(target.storage.statedir) as scratch,
        places.opened_source(source, scratch, stop.wait) as origin,
        Progress(sys.stderr) as progress,
    ):
        migration = Migration(origin.side, to, scratch, now=clock(), progress=progress, stop=stop)
        report = migration.run()
        if not report.stopped and origin.was_used():
            report.problem("an appliance used the source: stop it, and run the command again")
    return report


@contextmanager
def _scratch(state: Path) -> Iterator[Path]:
    """Create a folder for temporary files, and delete the folders of killed migrations."""
    for left in state.glob(f"{_SCRATCH}*"):
        shutil.rmtree(left, ignore_errors=True)
    try:
        folder = Path(tempfile.mkdtemp(prefix=_SCRATCH, dir=state))
    except OSError as error:
        why = (error.strerror or str(error)).lower()
        raise ConfigError([Problem(str(state), why, "make the folder writable")]) from error
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


@contextmanager
def _stopping() -> Iterator[threading.Event]:
    """Yield an event that SIGINT or SIGTERM sets; a second signal ends the process immediately."""
    stop = threading.Event()

    def end(_: int, __: FrameType | None) -> None:
        if stop.is_set():
            os._exit(_INCOMPLETE)
        stop.set()

    before = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
