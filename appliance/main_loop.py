"""Start all programs, watch them, and stop them.

When `entrepot serve` has checked the settings, it replaces itself by this program with execve(2):
`python -m MODULE DESCRIPTOR serve ...`, with this module as MODULE. The file that is open at
DESCRIPTOR contains a `ServePlan`.

PERF: this module imports `entrepot.config` only when it is needed. Until then, this process uses 18
MB less.
"""

from __future__ import annotations

import logging
import math
import sys
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path

from entrepot.appliance import data_folders, serve_plan
from entrepot.appliance.run_state import RunState
from entrepot.appliance.serve_plan import ServePlan
from entrepot.appliance.supervise import programs
from entrepot.appliance.supervise.access_log import access_log
from entrepot.appliance.supervise.certificate_renewal import renewal
from entrepot.appliance.supervise.client_authorities import client_authorities
from entrepot.appliance.supervise.mailing import mailing
from entrepot.appliance.supervise.output import Reader
from entrepot.appliance.supervise.run_events import RunEvents
from entrepot.appliance.supervise.state_process import StateProcess
from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.appliance.supervise.supervisor_process import SupervisorProcess
from entrepot.datastore.disk_space import disk_space
from entrepot.runtime import logs
from entrepot.runtime.log_once import LogOnce
from entrepot.runtime.run_names import FRONT_SOCKET, SETTINGS
from entrepot.runtime.unix_socket import status_of

_log = logging.getLogger("entrepot.appliance.serve")

# The number of seconds between two checks while the appliance serves. If a watched file changes,
# the loop does not wait for the next check.
_LOOK_EVERY = 10.0
# The number of seconds between two checks while files must be polled or a program has failed.
_LOOK_OFTEN = 1.0
_LOOK_FIRST = 0.05  # The number of seconds between two checks before the appliance serves.
# The number of seconds between two requests to supervisord for the programs' states, as long as the
# log of supervisord reports no change.
_ASK_EVERY = 60.0
_OK = 200
_BAD_INPUT = 2


def serve(plan: ServePlan) -> int:
    """Run the appliance until a signal stops it. Return 0, or 1 if supervisord or a program failed.

    Raises: ConfigError if a file cannot be written into the run directory.
    """
    signals = StopSignals(had_terminal=plan.had_terminal)
    log = plan.log
    logs.configure(log.level, log.formatter, "serve", fields=log.fields, has_caller=log.has_caller)
    try:
        with mailing(log.hooks, log.formatter) as observer:
            supervisor = _start(plan, signals, observer)
            if plan.has_checks:
                _watch_health(plan.run.path)
            loop = _MainLoop(plan, signals, supervisor)
            try:
                return loop.run()
            finally:
                loop.close()
                supervisor.clear()
                _leave(plan)
    finally:
        plan.run.release()


def _start(plan: ServePlan, signals: StopSignals, observer: Reader | None) -> SupervisorProcess:
    """Start supervisord. Raises: ConfigError."""
    run = plan.run.path
    try:
        return SupervisorProcess(
            run,
            plan.environment,
            access_log(plan.access_log, plan.log, plan.state),
            signals,
            grace=plan.grace,
            observer=observer,
        )
    except OSError as error:
        from entrepot.appliance import rundir  # noqa: PLC0415 - see the module's docstring

        raise rundir.unwritable(run, error) from error


def _watch_health(run: Path) -> None:
    """Start the threads of the health checks, which end with this process."""
    from entrepot import config  # noqa: PLC0415 - only if configured
    from entrepot.appliance.health import checks, gate, watch  # noqa: PLC0415

    found = list(checks.configured(config.resolved(_settings_in(run))))
    watch.HealthWatch(found, gate.Gate(run).publish).start()
    _log.info("health checks started", extra={"checks": len(found)})


def _leave(plan: ServePlan) -> None:
    """Clean up after all programs have exited.

    Delete content that is in memory, release the claim on a bucket, and delete the unix socket on
    which HAProxy listened.
    """
    if plan.has_content_to_leave:
        from entrepot import config  # noqa: PLC0415 - only with these drivers
        from entrepot.appliance import bucket, in_memory  # noqa: PLC0415

        settings = config.resolved(_settings_in(plan.run.path))
        if settings.storage.inmemory:
            in_memory.end(settings)
        if settings.storage.bucket:
            bucket.end(settings)
    if plan.socket is not None:
        from entrepot.appliance.supervise import listen_address  # noqa: PLC0415 - rarely used
        from entrepot.config.address import SocketPath  # noqa: PLC0415

        listen_address.remove_socket(SocketPath(str(plan.socket)))


def _settings_in(run: Path) -> dict[str, str]:
    return {"ENTREPOT_SETTINGS": str(run / SETTINGS)}


class _MainLoop:
    """A `_MainLoop` watches the programs, and logs when one has exited.

    If a program keeps failing, the loop stops all programs.
    """

    def __init__(
        self, plan: ServePlan, signals: StopSignals, supervisor: SupervisorProcess
    ) -> None:
        self._plan = plan
        self._supervisor = supervisor
        self._run = run = plan.run.path
        self._record = RunState.read(run)
        self._watch = programs.ProgramWatch(time.monotonic())
        self._renewal = renewal(plan.tls, run)
        self._client_authorities = client_authorities(plan.tls, run)
        self._state = StateProcess(run)
        self._events = RunEvents(run, signals)
        self._serving = False
        self._asked, self._has_failed = -math.inf, False
        self._no_space = LogOnce(_log, "programs wait for disk space", "disk space available again")
        self._complaint = LogOnce(
            _log, "run directory not writable", "run directory writable again"
        )

    def run(self) -> int:
        """Wait for a signal or a failure, then stop all programs and return the exit code."""
        while True:
            signal = self._supervisor.wait(self._interval())
            self._events.clear()
            if signal is not None:
                _log.info("stopping", extra={"reason": signal.name, "grace": self._plan.grace})
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
        """Stop the process that writes state.json, and the watch of the run directory."""
        self._state.close()
        self._events.close()

    def _interval(self) -> float:
        """Return the longest time until the next check, in seconds."""
        if not self._serving:
            return _LOOK_FIRST
        # On a network disk, the kernel does not report changes that another machine makes. The
        # certificate can be on such a disk, so its files are polled.
        is_polled = self._plan.tls.certificate is not None or not self._events.are_watched
        is_waiting = self._has_failed or not self._has_folders()
        return _LOOK_OFTEN if is_polled or is_waiting else _LOOK_EVERY

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
        """Return whether the programs' states must be read.

        The states are read after a change, and at least once a minute. Before the appliance serves,
        and while a program has failed, every check reads the states.
        """
        has_changed = self._supervisor.take_change()
        is_late = time.monotonic() - self._asked >= _ASK_EVERY
        return has_changed or is_late or not self._serving or self._has_failed

    def _ask(self) -> programs.ProgramFailure | None:
        """Read the programs' states; return the failure of a program that keeps exiting."""
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
            _log.info("serving", extra=dict(self._plan.startup_fields))
        failure = self._watch.failure(seen, time.monotonic())
        self._has_failed = failure is not None
        return None if failure is not None and self._lacks_space(seen) else failure

    def _lacks_space(self, seen: Sequence[programs.Program]) -> bool:
        """If the temporary folder is full, restart failed programs and return True.

        A program that exited because of the full folder does not count as failed.
        """
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

    def _has_folders(self) -> bool:
        return data_folders.log_folder(self._plan.state).is_dir()

    def _make_folders(self) -> None:
        """Create the folders that the start could not create because the disk was full."""
        if not self._has_folders():
            with suppress(OSError):
                for folder in data_folders.folders(self._plan.data, self._plan.state):
                    data_folders.make(folder)

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


def main(argv: Sequence[str]) -> int:
    """Read the plan from the file descriptor *argv*[0], serve, and return the exit code."""
    try:
        return serve(serve_plan.received(int(argv[0])))
    # An import of the class ConfigError would load modules that this process does not need. If a
    # ConfigError was raised, its module is already loaded.
    except Exception as error:
        errors = sys.modules.get("entrepot.config.errors")
        if errors is None or not isinstance(error, errors.ConfigError):
            raise
        print(error, file=sys.stderr)  # noqa: T201 - as the command itself prints it
        return _BAD_INPUT


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
