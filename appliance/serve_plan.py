"""Pass what `entrepot serve` has prepared to the program that serves, in the same process.

To check the settings, `serve` loads modules that take 18 MB and are not needed afterwards. So
`serve` writes a `ServePlan` into a file in memory, and executes `appliance/main_loop.py` in its
place: the process keeps its id, its parent, its blocked signals and its locks. This module imports
nothing of `entrepot.config`.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NoReturn

from entrepot.appliance.held_run import HeldRunDirectory
from entrepot.appliance.supervise.tls_files import TlsPaths
from entrepot.runtime.logs import Value

MODULE: Final = "entrepot.appliance.main_loop"


@dataclass(frozen=True, slots=True)
class LogPlan:
    """A `LogPlan` has the settings of `log:`; `hooks` has the mail hooks with their passwords."""

    level: str
    formatter: str
    fields: Mapping[str, Value]
    has_caller: bool
    hooks: tuple[Any, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccessLogPlan:
    """An `AccessLogPlan` limits the access log's files, and the lines that show no use.

    `lines` is the limit for one address in a second, and `bytes_a_second` the limit for all.
    `printed` is the format on stdout: `combined`, `json`, or an empty string for none.
    """

    file_bytes: int
    backups: int
    bytes_a_second: int
    lines: int
    printed: str


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A `ServePlan` has all that the main loop of `serve` needs.

    `grace` is the time in s for running requests at a stop. `environment` is that of supervisord.
    `had_terminal` states that the process began with a controlling terminal. `socket` is the unix
    socket that HAProxy listens on, if it listens on one. `startup_fields` are the fields of the log
    message `serving`. If `has_checks` or `has_content_to_leave` is set, the settings are read from
    the run directory: for the health checks, or after the end of all programs.
    """

    run: HeldRunDirectory
    data: Path
    state: Path
    log: LogPlan
    access_log: AccessLogPlan
    tls: TlsPaths
    environment: Mapping[str, str]
    startup_fields: Mapping[str, str]
    grace: float
    had_terminal: bool
    socket: Path | None
    has_checks: bool
    has_content_to_leave: bool


def execute(plan: ServePlan, argv: Sequence[str]) -> NoReturn:
    """Execute the main loop in place of this process; *argv* are the arguments of `serve`.

    ps(1) also shows *argv*. Raises: OSError.
    """
    # The plan may have passwords, so it is neither in the arguments nor on a disk.
    descriptor = os.memfd_create("plan", 0)
    with open(descriptor, "wb", closefd=False) as file:
        pickle.dump(plan, file)
    plan.run.keep_at_exec(is_kept=True)
    sys.stdout.flush()
    sys.stderr.flush()
    words = [sys.executable, "-P", "-m", MODULE, str(descriptor), "serve", *argv]
    try:
        os.execv(sys.executable, words)  # noqa: S606 - without a shell, on purpose
    finally:
        os.close(descriptor)
        plan.run.keep_at_exec(is_kept=False)


def received(descriptor: int) -> ServePlan:
    """Read the plan that `execute` has written, and close its file."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb") as file:
        plan = pickle.load(file)  # noqa: S301 - written by this program
    assert isinstance(plan, ServePlan)  # noqa: S101 - only `execute` starts the program
    plan.run.keep_at_exec(is_kept=False)
    return plan
