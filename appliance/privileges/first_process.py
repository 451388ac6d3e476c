"""Run as root, and watch the child process in which the appliance serves.

The command is `python -m MODULE DESCRIPTOR serve ...`, with this module as MODULE. The first
process of the container forks the process of the service user (appliance/privileges/separation.py),
and then replaces itself by this module. The open file DESCRIPTOR contains a `FirstProcess`. PERF:
this module imports nothing of `entrepot.config`, which saves 18 MB as long as the appliance runs.
"""

from __future__ import annotations

import logging
import os
import pickle
import signal
import sys
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NoReturn

from entrepot.appliance import held_run
from entrepot.appliance.privileges.copied_files import SecretCopies
from entrepot.appliance.privileges.user import User
from entrepot.appliance.serve_plan import LogPlan
from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.runtime import logs
from entrepot.runtime.log_once import LogOnce

_log = logging.getLogger("entrepot.appliance.privileges.separation")

MODULE: Final = "entrepot.appliance.privileges.first_process"
LOOK_EVERY: Final = 0.5
"""The number of seconds between two checks of the secret files for changes."""

_LOOK_RARELY = 60.0  # The number of seconds between two wake-ups if there is no secret file.
_FAILED = 1


@dataclass(frozen=True, slots=True)
class FirstProcess:
    """A `FirstProcess` has the values that root's process needs while its child serves.

    `child` is the process id of the child, which runs as `user`. `originals` are the secret files,
    and `folder` has their copies. `folder_lock` is a descriptor that locks the folder.
    `had_terminal` is true if this process began with a controlling terminal.
    """

    child: int
    user: User
    originals: tuple[Path, ...]
    folder: Path
    folder_lock: int
    log: LogPlan
    had_terminal: bool


def execute(plan: FirstProcess, argv: Sequence[str]) -> NoReturn:
    """Execute this module in place of this process; *argv* are the arguments of `serve`.

    Raises: OSError.
    """
    descriptor = os.memfd_create("plan", 0)
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(plan, file)
    os.set_inheritable(plan.folder_lock, True)
    sys.stdout.flush()
    sys.stderr.flush()
    words = [sys.executable, "-P", "-m", MODULE, str(descriptor), "serve", *argv]
    try:
        os.execv(sys.executable, words)  # noqa: S606 - without a shell, on purpose
    finally:
        os.close(descriptor)


def watch(
    child: int, signals: StopSignals, look: Callable[[], None], every: float = LOOK_EVERY
) -> int:
    """Forward signals to *child* until it exits, and return its exit code.

    Meanwhile call *look* at intervals of *every* seconds.
    """
    while (code := _reap(child)) is None:
        for caught in signals.wait(every):
            # The child has no terminal, so it would ignore a SIGHUP. It gets a SIGTERM instead.
            number = signal.SIGTERM if caught is signal.SIGHUP else caught
            with suppress(ProcessLookupError):
                os.kill(child, number)
        look()
    return code


class _Copies:
    """A `_Copies` copies changed secret files; after a failure, the next `look` tries again."""

    def __init__(self, plan: FirstProcess) -> None:
        self._plan = plan
        self._copies: SecretCopies | None = None
        self._complaint = LogOnce(_log, "secret files not readable", "secret files readable again")

    def look(self) -> None:
        """Copy the files that have changed."""
        plan = self._plan
        try:
            if self._copies is None:
                self._copies = SecretCopies(plan.originals, plan.folder, plan.user)
        except OSError as error:
            self._complaint.failed(error)
            return
        self._complaint.worked()
        self._copies.refresh()


def run(plan: FirstProcess) -> int:
    """Watch the child until it exits, remove the copies, and return the child's exit code."""
    os.set_inheritable(plan.folder_lock, False)
    signals = StopSignals(had_terminal=plan.had_terminal)
    log = plan.log
    logs.configure(log.level, log.formatter, "serve", fields=log.fields, has_caller=log.has_caller)
    try:
        copies = _Copies(plan)
        if not plan.originals:
            return watch(plan.child, signals, _do_nothing, _LOOK_RARELY)
        copies.look()
        return watch(plan.child, signals, copies.look)
    finally:
        os.close(plan.folder_lock)
        held_run.remove(plan.folder)


def _do_nothing() -> None:
    pass


def _reap(child: int) -> int | None:
    """Reap all ended children, as process 1 must; return the exit code of *child* if it ended."""
    code = None
    with suppress(ChildProcessError):
        while (found := os.waitpid(-1, os.WNOHANG))[0]:
            if found[0] == child:
                code = _code(found[1])
    return code


def _code(status: int) -> int:
    code = os.waitstatus_to_exitcode(status)
    if code >= 0:
        return code
    _log.error("serve ended", extra={"how": f"killed by {signal.Signals(-code).name}"})
    return _FAILED


def main(argv: Sequence[str]) -> int:
    """Watch the process that the open file *argv*[0] describes; return its exit code."""
    descriptor = int(argv[0])
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb") as file:
        plan = pickle.load(file)  # noqa: S301 - written by this program
    return run(plan)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
