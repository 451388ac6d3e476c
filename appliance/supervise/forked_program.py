"""Run a program of the appliance in a forked process, as if it had been executed.

The parent process has already loaded all modules. So the forked program starts without imports, and
shares the memory of the modules with its parent. This module gives the forked process the state of
an executed program: it removes the parent's signal handlers, unblocks all signals, and sets the
environment, the arguments, and the command line that ps(1) shows.
"""

from __future__ import annotations

import atexit
import ctypes
import gc
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NoReturn

from entrepot.runtime.parent_death import end_with_parent

Main = Callable[[], int | None]
"""The type of a program's function `main`, which returns the exit code; None means 0."""

_FAILED = 1
_PR_SET_NAME = 15  # This option of prctl(2) sets the name of the process.
# The indexes of the fields arg_start and arg_end in /proc/PID/stat (proc(5)), counted from the
# field after the name of the process.
_ARGUMENTS = slice(45, 47)


def fork() -> int:
    """Fork this process. Return 0 in the child, and the child's process id in the parent.

    In the child all signals are blocked until `run` or `reset_signals` is called. A signal that
    arrives meanwhile stays pending, so a handler of the parent never runs in the child.

    Raises: OSError.
    """
    sys.stdout.flush()
    sys.stderr.flush()
    mask = signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    pid = 0
    try:
        pid = os.fork()
    except OSError:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        raise
    if pid:
        signal.pthread_sigmask(signal.SIG_SETMASK, mask)
    return pid


def reset_signals() -> None:
    """Remove the parent's signal handlers and unblock all signals; ignored signals stay ignored."""
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals():
        if callable(signal.getsignal(number)):
            default = number == signal.SIGINT
            signal.signal(number, signal.default_int_handler if default else signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def run(main: Main, argv: Sequence[str], environ: Mapping[str, str]) -> NoReturn:
    """Run *main* in this forked process, and exit with the exit code that it returns.

    *argv* is the equivalent command: `python -m MODULE ARGUMENT...`. When the parent process exits,
    the kernel sends a SIGTERM to this process.
    """
    code = _FAILED
    try:
        # The garbage collection must not destroy objects of the parent here. Such an object may
        # close its file descriptor, whose number now belongs to a file of this program.
        gc.freeze()
        end_with_parent()
        set_command_line(argv)
        sys.argv = list(argv[2:])
        os.environ.clear()
        os.environ.update(environ)
        reset_signals()
        code = main() or 0
    except SystemExit as end:
        code = _exit_code(end)
    except BaseException:  # noqa: BLE001 - the process must not return into its parent's code
        traceback.print_exc()
    finally:
        _end(code)


def _exit_code(end: SystemExit) -> int:
    """Return the exit code in *end*; if *end* has a message, print the message and return 1."""
    if end.code is None or isinstance(end.code, int):
        return end.code or 0
    print(end.code, file=sys.stderr)  # noqa: T201 - as the interpreter does
    return _FAILED


def _end(code: int) -> NoReturn:
    """Exit like the interpreter: join the threads, run the atexit functions, flush the output."""
    try:
        threading._shutdown()  # type: ignore[attr-defined]  # noqa: SLF001 - as multiprocessing does
        atexit._run_exitfuncs()  # noqa: SLF001
    finally:
        for stream in (sys.stdout, sys.stderr):
            with suppress(OSError, ValueError):
                stream.flush()
        os._exit(code & 0xFF)


def set_command_line(argv: Sequence[str]) -> None:
    """Make ps(1) show *argv* as the command line, cut to the length of the original command line.

    The name of the process becomes the last part of the module's name. The kernel logs this name
    when it kills the process because the machine has no free memory. If the kernel does not report
    where the command line is in memory, ps(1) shows the original one.
    """
    name = argv[2].rpartition(".")[2].encode()
    with suppress(OSError):
        ctypes.CDLL(None).prctl(_PR_SET_NAME, name, 0, 0, 0)
    with suppress(OSError, ValueError, IndexError):
        fields = Path("/proc/self/stat").read_text().rpartition(")")[2].split()
        start, end = map(int, fields[_ARGUMENTS])
        if _is_on_stack(start, end):
            shown = b"\0".join(os.fsencode(each) for each in argv)[: end - start - 1]
            ctypes.memmove(start, shown.ljust(end - start, b"\0"), end - start)


def _is_on_stack(start: int, end: int) -> bool:
    """Return whether the addresses are in the main stack, where the kernel puts arguments."""
    for line in Path("/proc/self/maps").read_text().splitlines():
        if line.endswith("[stack]"):
            low, _, high = line.split()[0].partition("-")
            return int(low, 16) <= start < end <= int(high, 16)
    return False
