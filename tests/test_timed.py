"""Tests of the summary after `make test`, which counts the CPU time of every process."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow

ROOT = Path(__file__).parent.parent
_WORK = "import time\nwhile time.process_time() < 0.6: pass"


def timed(*words: str) -> subprocess.CompletedProcess[str]:
    """Run a command under `tests.timed`, as `make test` does."""
    return subprocess.run(
        [sys.executable, "-m", "tests.timed", *words],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize(
    ("script", "expected"), [("exit 3", 3), ("kill -TERM $$", 143)], ids=["code", "signal"]
)
def test_the_exit_code_is_that_of_the_command(script: str, expected: int) -> None:
    """`tests.timed` exits with the code of its command, so that a failed test fails CI."""
    assert timed("sh", "-c", script).returncode == expected


def test_the_cpu_time_of_an_orphan_is_counted(tmp_path: Path) -> None:
    """The CPU time of a daemon counts, although its parent ended first.

    The shell in this test waits for the daemon through a pipe.
    """
    pipe = tmp_path / "pipe"
    daemon = f"(({sys.executable} -c '{_WORK}'; : >{pipe}) &)"

    done = timed("sh", "-c", f"mkfifo {pipe}; {daemon}; cat {pipe}")

    found = re.search(r"; (\d+) s of CPU time", done.stdout)
    assert found is not None, done
    assert int(found[1]) >= 1
