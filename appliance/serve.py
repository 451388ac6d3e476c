"""Check the settings, prepare the start, and execute the main loop (`entrepot serve`)."""

from __future__ import annotations

import logging
import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import NoReturn

from entrepot import config
from entrepot.appliance import ballast, disk, memory, plan, rundir, serve_plan, takeover
from entrepot.appliance.health import gate
from entrepot.appliance.held_run import HeldRunDirectory
from entrepot.appliance.hit_counts import counted
from entrepot.appliance.privileges import ownership, separation, trusted_path, users
from entrepot.appliance.privileges.users import User
from entrepot.appliance.run_state import RunState
from entrepot.appliance.serve_plan import ServePlan
from entrepot.appliance.supervise import certificate, listen_address
from entrepot.appliance.supervise.environment import (
    MANY_FILES,
    Start,
    inherited,
    variables,
)
from entrepot.appliance.supervise.error_files import write_error_files
from entrepot.appliance.supervise.mailing import mailing
from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.appliance.upstreams import hidden
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.probe import probe
from entrepot.edge import cache_epoch
from entrepot.runtime import logs, outbound
from entrepot.runtime.memory_limit import memory_limit
from entrepot.runtime.run_names import CERTIFICATE, CLIENT_AUTHORITIES, SETTINGS

_log = logging.getLogger(__name__)

_STATE = "storage.statedir"


def serve(argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Run the appliance until a signal stops it.

    If the appliance must run as the service user, it runs in a child process. Otherwise the main
    loop replaces this program. In both cases this function does not return. Raises: ConfigError for
    bad input, before any program is started.
    """
    loaded = config.load(argv, environ)
    settings = loaded.settings
    choice = users.choose(environ)
    read = choice.user is None or _may_read(loaded, choice.user)
    _refuse(config.check(settings) if read else [])
    logs.configure(
        settings.log.level,
        settings.log.formatter,
        "serve",
        fields=settings.log.fields,
        has_caller=settings.log.reportcaller,
    )
    remarks = config.remarks(settings) if read else []
    warnings = [str(each) for each in (*loaded.warnings, *remarks)]
    if choice.lacking:
        warnings.append(f"all programs run as root, which lacks {' '.join(choice.lacking)}")
    if choice.user is None:
        _serve(settings, warnings, argv, environ)
    separation.serve_as(
        choice.user, settings, argv, lambda usable: _serve(usable, warnings, argv, environ)
    )


def _may_read(loaded: config.Loaded, user: User) -> bool:
    """Return whether root may read the files that the settings name, in order to check them.

    Root must not read a file that *user* can replace by a symlink to another file. If there is such
    a file, only the process of *user* checks the files.

    Raises: ConfigError if *user* can change the configuration file, because root obeys that file.
    """
    if loaded.file is not None and not trusted_path.is_trusted(loaded.file, user):
        message = f"root obeys the configuration file, but user {user.name} can change it"
        remedy = "move the file out of the data directory, into a folder that only root can change"
        raise ConfigError([Problem(str(loaded.file), message, remedy)])
    return all(trusted_path.is_trusted(each, user) for each in config.named_files(loaded.settings))


def _serve(
    settings: Settings, warnings: Sequence[str], argv: Sequence[str], environ: Mapping[str, str]
) -> NoReturn:
    """Prepare the start, then replace this program by the main loop. Raises: ConfigError."""
    rundir.refuse_second(settings.storage.statedir)
    cache = settings.http.edgecachesize if settings.has_edge_cache else 0
    _refuse(memory.problems(settings.http.workers, cache, memory_limit()))
    _try_folders(settings)
    for warning in warnings:
        _log.warning(warning)
    # From here on, stop signals are blocked until the main loop receives them. So a signal cannot
    # end this process before the run directory is removed.
    signals = StopSignals()
    _allow_many_files()
    run = rundir.hold_new(settings.storage.statedir)
    try:
        with mailing(settings.log.hooks, settings.log.formatter):
            prepared = _prepared(settings, run, environ, had_terminal=signals.had_terminal)
        serve_plan.execute(prepared, argv)
    finally:  # This runs only after an error, because a successful execve(2) does not return.
        run.release()


def _prepared(
    settings: Settings, run: HeldRunDirectory, environ: Mapping[str, str], *, had_terminal: bool
) -> ServePlan:
    """Write the files that the programs read, and return the plan for the main loop.

    Raises: ConfigError.
    """
    if settings.storage.bucket:
        from entrepot.appliance import bucket  # noqa: PLC0415 - only with this driver

        settings = bucket.with_spool_size(settings)
    try:
        start = _prepare(settings, run.path)
        outbound.hand_over(environ, run.path)
        _write_record(settings, run.path)
    except OSError as error:
        raise rundir.unwritable(run.path, error) from error
    return plan.serve_plan(
        settings, run, inherited(environ) | variables(settings, start), had_terminal=had_terminal
    )


def _try_folders(settings: Settings) -> None:
    """Create the data directory if needed, and check that it is usable. Raises: ConfigError."""
    _refuse(config.check(settings))
    storage = settings.storage
    if storage.inmemory:
        from entrepot.appliance import in_memory  # noqa: PLC0415 - only with this driver

        in_memory.begin(settings)
    unwritable = _unwritable(dict.fromkeys((storage.rootdirectory, storage.statedir)))
    with suppress(ConfigError) if unwritable else nullcontext():
        ownership.make_folders(settings)
    if not unwritable:
        ownership.close_to_others(settings)
        ballast.create(storage.statedir)
    elif (found := unwritable.get(storage.statedir)) and ballast.release(storage.statedir):
        _log.info("reserved disk space released", extra={"path": storage.statedir, "disk": found})
    if storage.statedir not in unwritable:
        _refuse([Problem(_STATE, each) for each in probe(storage.statedir)])
    if storage.bucket:
        from entrepot.appliance.own_process import in_own_process  # noqa: PLC0415 - rarely used

        _refuse(in_own_process(lambda: _open_bucket(settings)))
        return
    takeover.take_over(settings)
    _refuse(hidden(settings))


def _open_bucket(settings: Settings) -> list[Problem]:
    """Claim the bucket, and return the problems with its content. Raises: ConfigError."""
    from entrepot.appliance import bucket  # noqa: PLC0415 - only with this driver

    bucket.begin(settings)
    takeover.take_over(settings)
    return hidden(settings)


def _unwritable(folders: Iterable[Path]) -> dict[Path, str]:
    """Return the folders that cannot be written to, each with the condition of its disk.

    Log a warning for each of these folders.
    """
    unwritable = {}
    for folder in folders:
        with suppress(OSError):  # If a permission is missing, a later use of the folder reports it.
            there = next(each for each in (folder, *folder.parents) if each.is_dir())
            if found := disk.condition(there):
                _log.warning("disk not writable", extra={"path": folder, "disk": found})
                unwritable[folder] = found
    return unwritable


def _refuse(problems: list[Problem]) -> None:
    if problems:
        raise ConfigError(problems)


def _allow_many_files() -> None:
    """Raise the limit of open files for this process and its children, to at most MANY_FILES."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, MANY_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, allowed), hard))


def _prepare(settings: Settings, run: Path) -> Start:
    """Write the files that the programs read into the run directory. Raises: ConfigError."""
    debug, tls = settings.http.debug.addr, plan.tls_paths(settings.http.tls)
    start = Start(
        run=run,
        settings_file=run / SETTINGS,
        address=listen_address.bindable(settings.http.addr),
        certificate=certificate.write_pem(tls, run / CERTIFICATE),
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        client_authorities=certificate.write_client_authorities(tls, run / CLIENT_AUTHORITIES),
        debug=None if debug is None else listen_address.bindable(debug, "http.debug.addr"),
    )
    config.dump(settings, start.settings_file)
    cache_epoch.begin(run)
    if settings.health.has_checks:
        gate.begin(run)
    write_error_files(run, settings.http.headers)
    return start


def _write_record(settings: Settings, run: Path) -> None:
    index = open_index(settings.storage.statedir)
    RunState(time.time(), counted(index.notes)).write(run)
    index.close()
