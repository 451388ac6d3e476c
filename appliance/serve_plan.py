"""Pass a plan from `entrepot serve` to the main loop, which runs in the same process.

To check the settings, `serve` imports modules that take 18 MB and are not needed afterwards. So
`serve` writes a `ServePlan` into a file in memory, and replaces itself by appliance/main_loop.py
with execve(2). The process keeps its id, its parent, its blocked signals and its locks. This module
imports nothing of `entrepot.config`: the main loop imports this module, and would otherwise use
those 18 MB again.
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
    """A `LogPlan` has the settings of `log:`; `hooks` are the mail hooks, with passwords."""

    level: str
    formatter: str
    fields: Mapping[str, Value]
    has_caller: bool
    hooks: tuple[Any, ...] = field(repr=False)


@dataclass(frozen=True, slots=True)
class AccessLogPlan:
    """An `AccessLogPlan` has the limits of the access log.

    `file_bytes` is the size of each file, and `backups` the number of older files. Two limits apply
    to lines that show no use of content. `lines` is the largest number of such lines for one client
    address in a second. `bytes_a_second` is the largest total number of bytes of such lines in a
    second. `printed` is the format on stdout: `combined`, `json`, or empty if nothing is printed.
    """

    file_bytes: int
    backups: int
    bytes_a_second: int
    lines: int
    printed: str


@dataclass(frozen=True, slots=True)
class ServePlan:
    """A `ServePlan` has the values that the main loop of `serve` needs.

    `data` and `state` are the data directory and the state directory. `environment` has the
    environment variables for supervisord. `startup_fields` are the fields of the log message
    `serving`. `grace` is the time in seconds for running requests when the appliance stops. If
    `had_terminal` is true, the process began with a controlling terminal. `socket` is the unix
    socket on which HAProxy listens, or None.

    If `has_checks` is true, health checks are configured. If `has_content_to_leave` is true, the
    content is in memory or in a bucket, and the main loop must delete the content or release the
    bucket at the end. If one of the two is true, the main loop reads the settings from the run
    directory.
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
    """Replace this program by the main loop, in the same process.

    *argv* are the arguments of `serve`, which ps(1) then shows. Raises: OSError.
    """
    # The plan can contain passwords. A file in memory hides them from other users and from disks.
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
    """Read the plan that `execute` wrote to the file *descriptor*, and close the file."""
    os.lseek(descriptor, 0, os.SEEK_SET)
    with open(descriptor, "rb") as file:
        plan = pickle.load(file)  # noqa: S301 - written by this program
    assert isinstance(plan, ServePlan)  # noqa: S101 - only `execute` starts the program
    plan.run.keep_at_exec(is_kept=False)
    return plan
