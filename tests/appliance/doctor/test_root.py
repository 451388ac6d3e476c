"""Test that `entrepot doctor`, run as root, reads the service user's files as that user."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from entrepot import config
from entrepot.config.schema import Settings
from entrepot.runtime import run_names
from tests.appliance.haproxy import ROOT

pytestmark = pytest.mark.slow

LOOKS = """
import os, sys
from pathlib import Path
from entrepot.appliance.privileges import users
from entrepot.appliance.doctor import command
from entrepot.config.errors import ConfigError
users.NAME = "daemon"
users.missing = lambda _: ()
users._check_interpreter = lambda _: None  # this interpreter may be below /root
command.rundir.find = lambda _: Path(sys.argv[1])
def examine(target, now):
    print(target.login.username)
    sys.exit(3)
command.examine = examine
command.doctor(sys.argv[2:], {"ENTREPOT_IMAGE": "1", "REGISTRYDIR": sys.argv[1]})
"""


def _look(run: Path, *argv: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", LOOKS, str(run), *argv],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.fixture
def run() -> Iterator[Path]:
    """Create a run directory that any user may enter, unlike the folders that pytest creates."""
    with tempfile.TemporaryDirectory(prefix="ent-") as folder:
        Path(folder).chmod(0o755)
        yield Path(folder)


@pytest.fixture
def secret(run: Path) -> Path:
    """Create a file of logins (auth.json) that only root can read."""
    path = run / "auth.json"
    path.write_text(json.dumps({"auths": {"127.0.0.1:5000": {"auth": "YW5uOnJpZ2h0"}}}))
    path.chmod(0o600)
    return path


as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can change its user")


@as_root
def test_root_follows_no_link_in_the_run_directory(run: Path, secret: Path) -> None:
    """`doctor` as root follows no link in the run directory.

    A compromised worker could create a link there to a file that only root can read.
    """
    (run / run_names.SETTINGS).symlink_to(secret)

    seen = _look(run, "--image=app:v1")

    assert "permission denied" in seen.stderr.lower()


@as_root
def test_files_named_on_the_command_line_are_read_as_root(run: Path, secret: Path) -> None:
    """`doctor` as root reads the files of the command line before it gives up root's rights."""
    config.dump(Settings(), run / run_names.SETTINGS)
    (run / run_names.SETTINGS).chmod(0o644)

    seen = _look(run, f"--authfile={secret}", "--image=app:v1")

    assert (seen.returncode, seen.stdout) == (3, "ann\n"), seen.stderr
