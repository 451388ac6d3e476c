"""Check the settings, start all programs, watch them, and stop them (`entrepot serve`)."""

from __future__ import annotations

import logging
import math
import resource
import time
from collections.abc import Iterable, Mapping, Sequence
from contextlib import nullcontext, suppress
from dataclasses import replace
from pathlib import Path

from entrepot import config
from entrepot.appliance import ballast, disk, memory, rundir, takeover
from entrepot.appliance.health import gate
from entrepot.appliance.privileges import ownership, separation, trusted_path, users
from entrepot.appliance.privileges.users import User
from entrepot.appliance.run_state import RunState, counted
from entrepot.appliance.state_file import StateWriter, Status
from entrepot.appliance.supervise import certificate, listen_address, programs
from entrepot.appliance.supervise.access_log import access_log
from entrepot.appliance.supervise.certificate_renewal import renewal
from entrepot.appliance.supervise.client_authorities import client_authorities
from entrepot.appliance.supervise.environment import (
    MANY_FILES,
    Start,
    inherited,
    variables,
)
from entrepot.appliance.supervise.error_files import write_error_files
from entrepot.appliance.supervise.mailing import mailing
from entrepot.appliance.supervise.output import Reader
from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.appliance.supervise.supervisor_process import SupervisorProcess
from entrepot.appliance.upstreams import hidden, upstream_names
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.datastore.disk_space import disk_space
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.probe import probe
from entrepot.edge import cache_epoch
from entrepot.runtime import logs, outbound
from entrepot.runtime.log_once import LogOnce
from entrepot.runtime.memory_limit import memory_limit
from entrepot.runtime.run_names import CERTIFICATE, CLIENT_AUTHORITIES, FRONT_SOCKET, SETTINGS
from entrepot.runtime.unix_socket import status_of

_log = logging.getLogger(__name__)

_LOOK_EVERY = 1.0  # interval in s while the appliance serves
_LOOK_FIRST = 0.05  # interval in s before the appliance serves
# interval in s between two requests for the programs' states, if supervisord's log reports no
# change
_ASK_EVERY = 60.0
_OK = 200
_STATE = "storage.statedir"


def serve(argv: Sequence[str], environ: Mapping[str, str]) -> int:
    """Run the appliance. Return 0 after a signal to stop, 1 if a program cannot stay up.

    Raises: ConfigError for bad input, before any program is started.
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
        return _serve(settings, warnings, environ)
    return separation.serve_as(
        choice.user, settings, lambda usable: _serve(usable, warnings, environ)
    )


def _may_read(loaded: config.Loaded, user: User) -> bool:
    """Return whether *user* can put no other file in place of a file that the settings name.

    Only then root reads these files to check them; otherwise the process of *user* reads them.

    Raises: ConfigError if *user* can change the configuration file, because root would obey it.
    """
    if loaded.file is not None and not trusted_path.is_trusted(loaded.file, user):
        message = f"user {user.name} can change the configuration file, but root obeys it"
        remedy = "move the file out of the data directory, into a folder that only root can change"
        raise ConfigError([Problem(str(loaded.file), message, remedy)])
    return all(trusted_path.is_trusted(each, user) for each in config.named_files(loaded.settings))


def _serve(settings: Settings, warnings: Sequence[str], environ: Mapping[str, str]) -> int:
    """Serve as the current user. Raises: ConfigError."""
    rundir.refuse_second(settings.storage.statedir)
    cache = settings.http.edgecachesize if settings.has_edge_cache else 0
    _refuse(memory.problems(settings.http.workers, cache, memory_limit()))
    _try_folders(settings)
    for warning in warnings:
        _log.warning(warning)
    signals = StopSignals()
    _allow_many_files()
    with mailing(settings.log) as observer, rundir.create(settings.storage.statedir) as run:
        record, supervisor = _begin(settings, run, signals, environ, observer)
        if settings.health.has_checks:
            _watch_health(settings, run)
        loop = _MainLoop(settings, record, supervisor)
        try:
            return loop.run()
        finally:
            loop.close()
            supervisor.clear()
            _leave(settings)
            listen_address.remove_socket(settings.http.addr)


def _leave(settings: Settings) -> None:
    """Remove all content if `storage.inmemory` is set, and release the claim on a bucket."""
    if settings.storage.inmemory:
        from entrepot.appliance import in_memory  # noqa: PLC0415 - only with this driver

        in_memory.end(settings)
    if settings.storage.bucket:
        from entrepot.appliance import bucket  # noqa: PLC0415 - only with this driver

        bucket.end(settings)


def _watch_health(settings: Settings, run: Path) -> None:
    """Start the threads of the health checks, which end with this process."""
    from entrepot.appliance.health import checks, watch  # noqa: PLC0415 - only if configured

    found = list(checks.configured(settings))
    watch.HealthWatch(found, gate.Gate(run).publish).start()
    _log.info("health checks started", extra={"checks": len(found)})


def _begin(
    settings: Settings,
    run: Path,
    signals: StopSignals,
    environ: Mapping[str, str],
    observer: Reader | None,
) -> tuple[RunState, SupervisorProcess]:
    """Write the files that the programs read, and start supervisord. Raises: ConfigError."""
    if settings.storage.bucket:
        from entrepot.appliance import bucket  # noqa: PLC0415 - only with this driver

        settings = bucket.with_spool_size(settings)
    try:
        start = _prepare(settings, run)
        outbound.hand_over(environ, run)
        record = _begin_record(settings, run)
        supervisor = SupervisorProcess(
            run,
            inherited(environ) | variables(settings, start),
            access_log(settings),
            signals,
            grace=settings.http.draintimeout,
            observer=observer,
        )
    except OSError as error:
        problem = (
            f"the temporary folder cannot be written to: {(error.strerror or str(error)).lower()}"
        )
        remedy = "free space in that folder, or set TMPDIR to another folder"
        raise ConfigError([Problem(str(run.parent), problem, remedy)]) from error
    return record, supervisor


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
    elif ballast.release(storage.statedir):
        _log.info("ballast removed", extra={"path": storage.statedir})
    if storage.statedir not in unwritable:
        _refuse([Problem(_STATE, each) for each in probe(storage.statedir)])
    if storage.bucket:
        from entrepot.appliance.own_process import in_own_process  # noqa: PLC0415 - rarely used

        _refuse(in_own_process(lambda: _open_bucket(settings)))
        return
    takeover.take_over(settings)
    _refuse(hidden(settings))


def _open_bucket(settings: Settings) -> list[Problem]:
    """Claim the bucket, and return the problems of its content. Raises: ConfigError."""
    from entrepot.appliance import bucket  # noqa: PLC0415 - only with this driver

    bucket.begin(settings)
    takeover.take_over(settings)
    return hidden(settings)


def _unwritable(folders: Iterable[Path]) -> list[Path]:
    """Return the folders that cannot be written to, and log a warning for each folder."""
    unwritable = []
    for folder in folders:
        with suppress(OSError):  # The function that uses the folder reports missing permissions.
            there = next(each for each in (folder, *folder.parents) if each.is_dir())
            if found := disk.condition(there):
                _log.warning("disk not writable", extra={"path": folder, "disk": found})
                unwritable.append(folder)
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
    debug = settings.http.debug.addr
    start = Start(
        run=run,
        settings_file=run / SETTINGS,
        address=listen_address.bindable(settings.http.addr),
        certificate=certificate.write_pem(settings.http.tls, run / CERTIFICATE),
        files=resource.getrlimit(resource.RLIMIT_NOFILE)[0],
        client_authorities=certificate.write_client_authorities(
            settings.http.tls, run / CLIENT_AUTHORITIES
        ),
        debug=None if debug is None else listen_address.bindable(debug, "http.debug.addr"),
    )
    config.dump(settings, start.settings_file)
    cache_epoch.begin(run)
    if settings.health.has_checks:
        gate.begin(run)
    write_error_files(run, settings.http.headers)
    return start


def _begin_record(settings: Settings, run: Path) -> RunState:
    index = open_index(settings.storage.statedir)
    record = RunState(time.time(), counted(index.notes))
    index.close()
    record.write(run)
    return record


class _MainLoop:
    """A `_MainLoop` watches the programs, logs when one ends, and ends all if one can't stay up."""

    def __init__(self, settings: Settings, record: RunState, supervisor: SupervisorProcess) -> None:
        self._settings = settings
        self._record = record
        self._supervisor = supervisor
        self._run = supervisor.run
        self._watch = programs.ProgramWatch(time.monotonic())
        self._renewal = renewal(settings, supervisor.run)
        self._client_authorities = client_authorities(settings, supervisor.run)
        self._state = StateWriter(supervisor.run, self._gather)
        self._serving = False
        self._asked, self._has_failed = -math.inf, False
        self._no_space = LogOnce(_log, "programs wait for disk space", "disk space available again")
        self._complaint = LogOnce(
            _log, "run directory not writable", "run directory writable again"
        )

    def run(self) -> int:
        """Wait for a signal or a failure, stop all programs, and return the exit code."""
        while True:
            signal = self._supervisor.wait(_LOOK_EVERY if self._serving else _LOOK_FIRST)
            if signal is not None:
                grace = self._settings.http.draintimeout
                _log.info("stopping", extra={"reason": signal.name, "grace": grace})
                self._supervisor.stop()
                _log.info("stopped", extra={"reason": signal.name})
                return 0
            if self._supervisor.ended:
                _log.critical("supervisord ended", extra={"how": self._supervisor.ended})
                return 1
            if (failure := self._look()) is not None:
                self._give_up(failure)
                return 1

    def close(self) -> None:
        """Write nothing more into the run directory."""
        self._state.close()

    def _look(self) -> programs.ProgramFailure | None:
        if self._serving and programs.is_gone(self._run):
            return programs.ProgramFailure(
                "supervisord", f"the sockets in {self._run} were deleted"
            )
        self._renewal.look()
        if self._client_authorities is not None:
            self._client_authorities.look()
        self._state.look()
        self._make_folders()
        return self._ask() if self._must_ask() else None

    def _must_ask(self) -> bool:
        """Return whether to read the programs' states: after a change, and once a minute."""
        has_changed = self._supervisor.take_change()
        is_late = time.monotonic() - self._asked >= _ASK_EVERY
        return has_changed or is_late or not self._serving or self._has_failed

    def _ask(self) -> programs.ProgramFailure | None:
        """Read the programs' states; return a program that failed for good."""
        self._asked, self._has_failed = time.monotonic(), True
        try:
            seen = programs.read_all(self._run)
        except programs.SupervisorUnreachable:
            return self._watch.silence(time.monotonic(), is_frozen=self._supervisor.is_frozen)
        for name in self._watch.restarted(seen, time.monotonic()):
            self._count_end(name)
            how = programs.how_it_ended(name, self._supervisor.supervisor_log())
            _log.warning("program ended, started again", extra={"program": name, "how": how})
        if not self._serving and status_of(self._run / FRONT_SOCKET, "/healthz", timeout=1) == _OK:
            self._serving = True
            _log.info("serving", extra=_startup_fields(self._settings))
        failure = self._watch.failure(seen, time.monotonic())
        self._has_failed = failure is not None
        return None if failure is not None and self._lacks_space(seen) else failure

    def _gather(self) -> Status:
        """Return the overall state of the appliance.

        The first request for the state loads the modules that gather the state.
        """
        from entrepot.appliance.overall_state import look  # noqa: PLC0415 - 10 MB, rarely used

        written = {"ENTREPOT_SETTINGS": str(self._run / SETTINGS)}
        return look(config.resolved(written), time.time())

    def _lacks_space(self, seen: Sequence[programs.Program]) -> bool:
        """While the temporary folder is full, restart failed programs and return True."""
        with suppress(OSError):
            if problem := disk_space(self._run).problem:
                self._no_space.failed(OSError(f"{self._run.parent} is {problem}"))
                self._watch.forgive()
                for each in seen:
                    with suppress(programs.SupervisorUnreachable):
                        if each.has_given_up:
                            programs.start(self._run, each)
                return True
        self._no_space.worked()
        return False

    def _make_folders(self) -> None:
        """Create the folders that could not be created at the start because of a full disk."""
        if not (self._settings.storage.statedir / "log").is_dir():
            with suppress(ConfigError):
                ownership.make_folders(self._settings)

    def _count_end(self, name: str) -> None:
        ends = {**self._record.ends, name: self._record.ends.get(name, 0) + 1}
        self._record = replace(self._record, ends=ends)
        try:
            self._record.write(self._run)
        except OSError as error:
            self._complaint.failed(error)
        else:
            self._complaint.worked()

    def _give_up(self, failure: programs.ProgramFailure) -> None:
        self._supervisor.stop()
        fields = {
            "program": failure.name,
            "reason": failure.reason,
            "how": programs.how_it_ended(failure.name, self._supervisor.supervisor_log()),
            "said": self._supervisor.last_lines(failure.name),
        }
        _log.critical("a program could not stay up, so all programs were ended", extra=fields)


def _startup_fields(settings: Settings) -> dict[str, str]:
    """Return the fields of the log message `serving`."""
    return {
        "url": listen_address.url_of(
            settings.http.addr, tls=settings.http.tls.certificate is not None
        ),
        "data": settings.storage.place,
        "upstreams": " ".join(upstream_names(settings)),
    }
