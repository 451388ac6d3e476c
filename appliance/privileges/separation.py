"""Root's part, where root is not to serve: start who serves, bring him what only root can read.

The first process stays root's. It forks one that becomes the user and is `entrepot serve` as if he
had started it; HAProxy, workers, logger and cleaner are that one's children.
"""

from __future__ import annotations

import logging
import os
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import NoReturn

from entrepot import config
from entrepot.appliance import rundir
from entrepot.appliance.privileges import ownership, secret_copies, users
from entrepot.appliance.privileges.users import User
from entrepot.appliance.supervise.parent_death_signal import tether
from entrepot.appliance.supervise.supervisor_process import STOPS, block_signals
from entrepot.config.errors import ConfigError, Problem
from entrepot.config.schema import Settings

_log = logging.getLogger(__name__)

_LOOK_EVERY = 0.5  # s
_FAILED, _BAD_INPUT = 1, 2


def serve_as(user: User, settings: Settings, serve: Callable[[Settings], int]) -> int:
    """Have *user* run *serve* with settings that he can use, and return its exit code.

    Raises: ConfigError, before he has begun; his own he tells himself.
    """
    refuse_second()
    with secret_copies.made(config.named_files(settings), user) as copied:
        root, state = settings.storage.rootdirectory, settings.storage.statedir
        _take_over(root, user)
        if not state.is_relative_to(root):  # below it, the user makes what is missing
            _take_over(state, user)
        theirs = config.moved(settings, copied.places)
        return run(user, partial(serve, theirs), copied.refresh)


def run(user: User, serve: Callable[[], int], look: Callable[[], None]) -> int:
    """Run *serve* as *user* and return its exit code; meanwhile *look* twice a second."""
    signals = block_signals()
    sys.stdout.flush()
    us, child = os.getpid(), os.fork()
    if child == 0:
        signals.close()
        _begin(user, serve, us)
    while (code := _buried(child)) is None:
        for caught in signals.wait(_LOOK_EVERY):
            if caught in STOPS:
                with suppress(ProcessLookupError):
                    os.kill(child, caught)
        look()
    return code


def refuse_second() -> None:
    """Raise ConfigError while root of another `serve` lives in this container."""
    if rundir.living(rundir.COPIES):
        message = "another appliance runs in this container"
        remedy = "stop it, or set TMPDIR where /tmp is shared between containers"
        raise ConfigError([Problem(tempfile.gettempdir(), message, remedy)])


def _take_over(folder: Path, user: User) -> None:
    """Give a folder to the user, made if need be; where that fails the user has to do without."""
    said = {"path": folder, "user": user.name}
    try:
        taken = ownership.take_over(folder, user)
    except OSError as error:
        problem = error.strerror or str(error)
        _log.warning("data directory not taken over", extra=said | {"problem": problem})
        return
    if taken.given or taken.refused:
        more = {"files": taken.given, "refused": taken.refused}
        _log.info("data directory taken over", extra=said | more)


def _begin(user: User, serve: Callable[[], int], parent: int) -> NoReturn:
    """Be the child, to the end."""
    code = _FAILED
    try:
        os.setsid()  # a terminal's Ctrl-C comes from root, once
        users.become(user)
        tether()
        code = serve() if os.getppid() == parent else _FAILED
    except ConfigError as error:
        print(error, file=sys.stderr)  # noqa: T201 - as the command itself says it
        code = _BAD_INPUT
    except BaseException:  # noqa: BLE001 - nothing may go on as root's copy of this program
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


def _buried(child: int) -> int | None:
    """Bury all who have died, as a first process must; return the child's exit code, if he has."""
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
