"""Run the appliance as the service user, while root's process copies secret files for that user.

The first process of the container keeps root's rights. It forks a child, which becomes the service
user and runs `entrepot serve` as if that user had started it. All programs of the appliance are
started by this child.
"""

from __future__ import annotations

import logging
import os
import sys
import tempfile
import traceback
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import NoReturn

from entrepot import config
from entrepot.appliance import plan, rundir
from entrepot.appliance.privileges import first_process, ownership, secret_copies, users
from entrepot.appliance.privileges.first_process import FirstProcess
from entrepot.appliance.privileges.users import User
from entrepot.appliance.supervise.stop_signals import StopSignals
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings
from entrepot.runtime.parent_death import end_with_parent

_log = logging.getLogger(__name__)

_FAILED, _BAD_INPUT = 1, 2


def serve_as(
    user: User, settings: Settings, argv: Sequence[str], serve: Callable[[Settings], NoReturn]
) -> NoReturn:
    """Run *serve* as *user* in a child process, and exit with the child's exit code.

    *serve* gets settings in which the paths of secret files are replaced by those of copies that
    *user* can read. After it has forked the child, this process replaces itself by a smaller
    program, which waits for the child. *argv* are the arguments of the command `serve`.

    Raises: ConfigError before the child starts. The child prints its own ConfigError.
    """
    refuse_second()
    with secret_copies.create(config.named_files(settings), user) as copied:
        root, state = settings.storage.rootdirectory, settings.storage.statedir
        _take_over(root, user)
        # If the state directory is inside the data directory, the service user can create it.
        if not state.is_relative_to(root):
            _take_over(state, user)
        usable = config.moved(settings, copied.paths)
        signals, child = _forked(user, partial(serve, usable))
        first = FirstProcess(
            child=child,
            user=user,
            originals=tuple(copied.paths),
            folder=copied.folder,
            folder_lock=copied.lock,
            log=plan.log_plan(settings),
            had_terminal=signals.had_terminal,
        )
        first_process.execute(first, argv)


def run(user: User, serve: Callable[[], int], look: Callable[[], None]) -> int:
    """Run *serve* as *user* in a child process, and return its exit code.

    While the child runs, this process calls *look* twice a second.
    """
    signals, child = _forked(user, serve)
    return first_process.watch(child, signals, look)


def _forked(user: User, serve: Callable[[], int]) -> tuple[StopSignals, int]:
    """Run *serve* as *user* in a child process.

    Return the `StopSignals` of this process and the process id of the child.
    """
    signals = StopSignals()
    sys.stdout.flush()
    us, child = os.getpid(), os.fork()
    if child == 0:
        signals.close()
        _begin(user, serve, us)
    return signals, child


def refuse_second() -> None:
    """Raise ConfigError if root's process of another `serve` runs in this container."""
    if rundir.living_of_this_user(rundir.COPIES):
        message = "another appliance runs in this container"
        remedy = "stop that appliance, or set TMPDIR if containers share /tmp"
        raise ConfigError([Problem(tempfile.gettempdir(), message, remedy)])


def _take_over(folder: Path, user: User) -> None:
    """Make *user* the owner of a folder, which is created if needed; errors are only logged."""
    fields = {"path": folder, "user": user.name}
    try:
        taken = ownership.take_over(folder, user)
    except OSError as error:
        problem = error.strerror or str(error)
        _log.warning(
            "the data directory could not be taken over", extra=fields | {"problem": problem}
        )
        return
    if taken.given or taken.refused:
        counts = {"files": taken.given, "refused": taken.refused}
        _log.info("the data directory was taken over", extra=fields | counts)


def _begin(user: User, serve: Callable[[], int], parent: int) -> NoReturn:
    """Run *serve* as *user* in the forked child, and exit."""
    code = _FAILED
    try:
        os.setsid()  # Ctrl-C in a terminal then reaches only root's process, which forwards it.
        users.become(user)
        end_with_parent()
        code = serve() if os.getppid() == parent else _FAILED
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command itself prints it
        code = _BAD_INPUT
    except BaseException:  # noqa: BLE001 - the child must not return into root's code
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
