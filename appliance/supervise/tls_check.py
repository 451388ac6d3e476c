"""Check changed files of `http.tls` in a child process.

The command is `python -m MODULE certificate|clientcas`, with this module as MODULE. The check needs
modules of the configuration and of OpenSSL. To save memory, the main loop of `entrepot serve` does
not load these modules.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Final

from entrepot.runtime.run_names import SETTINGS

CERTIFICATE: Final = "certificate"
CLIENT_AUTHORITIES: Final = "clientcas"

Check = Callable[[Path, str], list[str]]
"""The type of the function `problems`, which tests replace."""

_TIMEOUT_S = 30.0


def problems(run: Path, kind: str) -> list[str]:
    """Return the reasons why HAProxy cannot use the files of *kind*.

    *kind* is CERTIFICATE or CLIENT_AUTHORITIES. The settings are read from the run directory *run*.
    """
    try:
        done = subprocess.run(  # noqa: S603 - our own interpreter and module
            [sys.executable, "-P", "-m", "entrepot.appliance.supervise.tls_check", kind],
            env={**os.environ, "ENTREPOT_SETTINGS": str(run / SETTINGS)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            timeout=_TIMEOUT_S,
            check=True,
        )
        found: list[str] = json.loads(done.stdout)
    except (OSError, ValueError, subprocess.SubprocessError) as error:
        return [f"the files could not be checked: {error}"]
    return found


def main(kind: str) -> None:
    """Print the problems of the files of *kind* as a JSON list."""
    from entrepot import config  # noqa: PLC0415 - only the child process needs it

    check = config.certificate_problems
    if kind == CLIENT_AUTHORITIES:
        check = config.client_authority_problems
    sys.stdout.write(json.dumps([str(each) for each in check(config.resolved())]))


if __name__ == "__main__":
    main(sys.argv[1])
