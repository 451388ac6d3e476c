"""Run supervisord so that it forks the appliance's own programs instead of executing them.

The command is `python -m MODULE -c supervisord.conf`, with this module as MODULE. The appliance's
own programs have most of their modules in common. This process imports the modules once, before it
starts the programs. So the forked programs share the memory of the modules and start without
imports. This module replaces only two steps of the start of a program, fork and execve(2), so
supervisord.conf needs no change.

A program whose modules cannot be imported is executed in the usual way, so that it prints the error
itself. The other programs are still forked.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Final, NoReturn

from supervisor import supervisord
from supervisor.medusa import asyncore_25 as asyncore
from supervisor.options import ServerOptions
from supervisor.states import ProcessStates, SupervisorStates

from entrepot import config
from entrepot.appliance.supervise import forked_program
from entrepot.appliance.supervise.event_poller import EventPoller
from entrepot.appliance.supervise.forked_program import Main
from entrepot.datastore.drivers.table import on_disk, open_index, open_storage
from entrepot.datastore.storage import as_timed
from entrepot.runtime import logs
from entrepot.runtime.parent_death import end_with_parent
from entrepot.runtime.version import version

PROGRAMS: Final = {
    "entrepot.registry": "entrepot.registry.__main__",
    "entrepot.logger": "entrepot.logger.__main__",
    "entrepot.cleaner": "entrepot.cleaner.__main__",
    "entrepot.appliance.supervise.haproxy": "entrepot.appliance.supervise.haproxy",
}
"""A map from the name that follows `python -m` in a program's command to the module with its
function `main`.
"""

_SETTLED = frozenset({ProcessStates.RUNNING, ProcessStates.FATAL})
_STOPPED = ProcessStates.STOPPED  # The program was not started yet, or an operator stopped it.
_STARTER = "entrepot.appliance.supervise.parent_death_signal"


class ForkingOptions(ServerOptions):  # type: ignore[misc]  # supervisor ships no types
    """The options of supervisord, with replacements for the system calls that start programs.

    *mains* maps the name of each imported program to its function `main`.
    """

    def __init__(self, mains: Mapping[str, Main]) -> None:
        super().__init__()
        self._mains = mains
        self.poller = EventPoller(self)

    def setsignals(self) -> None:
        """Handle signals as supervisord does, and make the poller return when a signal arrives."""
        super().setsignals()
        self.poller.watch_signals()

    def get_signal(self) -> int | None:
        """Return the next signal that supervisord must handle, or None."""
        number: int | None = super().get_signal()
        self.poller.has_signals = number is not None
        return number

    def fork(self) -> int:
        """Fork as supervisord does, but with all signals blocked in the child."""
        return forked_program.fork()

    def execve(self, filename: str, argv: Sequence[str], env: Mapping[str, str]) -> NoReturn:
        """Run an imported program in this forked process; execute any other program.

        Raises: OSError.
        """
        words = program_of(argv)
        if words[:2] == [sys.executable, "-m"] and (main := self._mains.get(words[2])):
            forked_program.run(main, words, env)
        forked_program.reset_signals()
        os.execve(filename, list(argv), env)  # noqa: S606 - without a shell, on purpose


def program_of(argv: Sequence[str]) -> list[str]:
    """Return the command *argv* without `python -m ...parent_death_signal` at its start."""
    words = list(argv)
    return words[3:] if words[:3] == [sys.executable, "-m", _STARTER] else words


def load(programs: Mapping[str, str] = PROGRAMS) -> dict[str, Main]:
    """Import the programs, and return their functions `main`.

    Return no function if an import has started a thread, so that all programs are executed. A
    process with several threads must not fork: a lock that another thread holds would stay locked
    in the child for ever.
    """
    mains = dict[str, Main]()
    for name, module in programs.items():
        # A program whose modules cannot be imported is executed, and prints the error.
        with suppress(Exception, SystemExit):
            mains[name] = import_module(module).main
    with suppress(Exception):
        # These calls import drivers, cache results and set the log level, so the forked programs
        # need not do this. `open_index` and `open_storage` open no file.
        open_index(Path("/"))
        as_timed(open_storage(on_disk(Path("/"))))
        version()
        logs.set_level(config.resolved().log.level)
    return mains if len(list(Path("/proc/self/task").iterdir())) == 1 else {}


def run(options: ForkingOptions) -> None:
    """Run supervisord until it has stopped all programs, or must restart because of a SIGHUP."""
    supervisor = supervisord.Supervisor(options)
    options.poller.is_settled = lambda: is_settled(supervisor)
    with suppress(asyncore.ExitNow):
        supervisor.main()


def is_settled(supervisor: supervisord.Supervisor) -> bool:
    """Return whether every program keeps its state until the next event."""
    return all(
        program.get_state() in _SETTLED or (program.get_state() == _STOPPED and program.laststart)
        for group in supervisor.process_groups.values()
        for program in group.processes.values()
    )


def main(argv: Sequence[str]) -> None:
    """Run supervisord with the flags *argv* until it has stopped all programs."""
    end_with_parent()
    forked_program.reset_signals()
    mains = load()
    gc.collect()
    # In a forked program, a garbage collection would write to all objects and so copy the memory
    # that it shares with this process. The objects are therefore excluded from collections.
    gc.freeze()
    is_first = True
    while True:  # supervisord restarts after SIGHUP.
        options = ForkingOptions(mains)
        options.realize(list(argv), doc=supervisord.__doc__)
        options.first, options.test = is_first, False
        run(options)
        options.close_httpservers()
        options.close_logger()
        is_first = False
        if options.mood < SupervisorStates.RESTARTING:
            return


if __name__ == "__main__":
    main(sys.argv[1:])
