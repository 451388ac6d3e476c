"""Run the OCI conformance suite against an appliance: `python -m tests.conformance SUITE`.

Exit status: 0 when the suite passed, 1 when it did not, 2 when the suite could not be run.
"""

from __future__ import annotations

import os
import shutil
import signal
import sys
import tempfile
from pathlib import Path

from tests.conformance import outcome, suite
from tests.conformance.errors import SuiteError
from tests.system.appliance import ROOT, Appliance, Setup
from tests.system.pushes import ALLOWED
from tests.system.registries import htpasswd

OUT = ROOT / "build" / "conformance"
LOGIN = "conformance:only-for-this-run"


def main(arguments: list[str]) -> int:
    """Run the suite that *arguments* name, print a summary, and return the exit status."""
    try:
        with tempfile.TemporaryDirectory(prefix="ent-") as scratch:
            executable = suite.find(" ".join(arguments), Path(scratch) / "suite")
            return summarize(*_run(executable, Path(scratch)))
    except SuiteError as error:
        print(f"conformance: {error}", file=sys.stderr)
        return 2


def _run(executable: Path, scratch: Path) -> tuple[outcome.Outcome, int]:
    """Run the suite against an appliance that accepts pushes.

    Return the suite's report and its exit status.
    """
    shutil.rmtree(OUT, ignore_errors=True)
    OUT.mkdir(parents=True)
    users = htpasswd(scratch / "users", LOGIN)
    auth = {"htpasswd": {"realm": "conformance", "path": str(users)}}
    setup = Setup(settings={**ALLOWED, "auth": auth}, data=scratch / "data")
    with Appliance(OUT, setup) as appliance:
        address = f"127.0.0.1:{appliance.http.port}"
        variables = suite.environment(executable, address, LOGIN, OUT, os.environ)
        status = suite.run(executable, variables, OUT)
    return outcome.read(OUT / "junit.xml"), status


def summarize(found: outcome.Outcome, status: int) -> int:
    """Print the tests that were not run, the faults and the totals; return the exit status."""
    faults = found.faults(status)
    for name in found.skipped:
        print(f"not run: {name}")
    for fault in faults:
        print(f"FAULT    {fault}")
    print(f"conformance: {found.passed} checks passed, {len(found.failed)} tests failed, ", end="")
    print(f"{len(found.skipped)} not run; reports in {os.path.relpath(OUT)}/")
    return 1 if faults else 0


if __name__ == "__main__":
    # SystemExit leaves the `with` blocks, so that the appliance is stopped
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    sys.exit(main(sys.argv[1:]))
