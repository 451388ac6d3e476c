"""Test `tls_check`, which checks changed TLS files in a child process."""

from __future__ import annotations

from pathlib import Path

import pytest

from entrepot import config
from entrepot.appliance.supervise import tls_check
from entrepot.runtime.run_names import SETTINGS
from tests.config.config_folder import ConfigFolder

pytestmark = pytest.mark.slow


def test_the_child_process_returns_the_problems_of_the_certificate(tmp_path: Path) -> None:
    """The child process reads the settings in the run directory, and returns each problem."""
    path = tmp_path / "certs.pem"
    settings = ConfigFolder(tmp_path).settings(f"--http.tls.certificate={path}")
    config.dump(settings, tmp_path / SETTINGS)

    (problem,) = tls_check.problems(tmp_path, tls_check.CERTIFICATE)

    assert problem == str(config.certificate_problems(settings)[0])
    assert str(path) in problem


def test_files_that_cannot_be_checked_are_not_used(tmp_path: Path) -> None:
    """If the child process fails, the changed files count as unusable."""
    (problem,) = tls_check.problems(tmp_path, tls_check.CLIENT_AUTHORITIES)

    assert problem.startswith("the files could not be checked: ")
