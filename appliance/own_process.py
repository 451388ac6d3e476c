"""Call a function in a child process, which ends after the call.

The drivers for buckets use a library that starts threads, which never end. If the caller loaded the
library itself, these threads could receive the signals that stop the appliance. In addition,
children that the caller forks later could not use the library.
"""

from __future__ import annotations

import os
import pickle
import sys
from collections.abc import Callable
from typing import TypeVar

from entrepot.config.errors import ConfigError

T = TypeVar("T")


def in_own_process(act: Callable[[], T]) -> T:
    """Call *act* in a forked child, and return the result of *act*.

    Raises: ConfigError if *act* raises it; ChildProcessError if the child exits without a result.
    """
    reader, writer = os.pipe()
    child = os.fork()
    if child == 0:
        _answer(act, writer)
    os.close(writer)
    with os.fdopen(reader, "rb") as file:
        answer = file.read()
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code != 0 or not answer:
        raise ChildProcessError(f"the process ended with {code}")
    found = pickle.loads(answer)  # noqa: S301 - written by this program
    if isinstance(found, ConfigError):
        raise found
    result: T = found
    return result


def _answer(act: Callable[[], object], writer: int) -> None:
    """Write the result of *act*, and exit without running the exit handlers of the parent."""
    code = 1
    try:
        try:
            found = act()
        except ConfigError as error:
            found = error
        with os.fdopen(writer, "wb") as file:
            pickle.dump(found, file)
        code = 0
    except Exception:  # noqa: BLE001 - the parent reports that the process failed
        sys.excepthook(*sys.exc_info())
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)
