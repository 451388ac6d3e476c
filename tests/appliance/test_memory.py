"""Test that `serve` does not start if the memory limit is too small."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from entrepot.appliance.memory import needed, problems
from tests.appliance.haproxy import ROOT

pytestmark = pytest.mark.slow

_MIB = 1024 * 1024


def test_a_limit_that_is_too_small_is_named_with_a_remedy() -> None:
    """A memory limit that is too small is reported with a remedy.

    Otherwise the kernel would kill the programs, and the operator would not learn why.
    """
    (problem,) = problems(2, 8 * _MIB, 100 * _MIB)

    assert str(problem) == (
        "memory limit: 100 MiB are too little: 2 workers need 144 MiB;"
        " raise the memory limit of the container, or lower http.workers"
    )


def test_a_limit_that_suffices_is_no_problem() -> None:
    """A limit of exactly the needed memory is enough, and a limit of one byte less is a problem."""
    assert problems(4, _MIB, needed(4, _MIB)) == []
    assert problems(4, _MIB, needed(4, _MIB) - 1) != []


def test_serve_refuses_to_start_with_too_little_memory(tmp_path: Path) -> None:
    """If the memory limit is too small, `serve` exits before any program starts."""
    code = (
        "import os; from entrepot.appliance import __main__, serve;"
        "serve.memory_limit = lambda: 64 * 1024 * 1024; raise SystemExit(__main__.main(['serve']))"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code],
        cwd=ROOT,
        env={"REGISTRYDIR": str(tmp_path / "data"), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert ended.returncode == 2
    assert "64 MiB are too little" in ended.stderr
    assert not list(tmp_path.glob("entrepot-*"))


def test_the_shipped_manifests_request_what_the_default_needs() -> None:
    """deployment.yaml and the chart request at least the memory that two workers need."""
    documents = yaml.safe_load_all((ROOT / "deployment.yaml").read_text())
    items = [each for document in documents for each in document.get("items", [document])]
    (deployment,) = (each for each in items if each["kind"] == "Deployment")
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    values = yaml.safe_load((ROOT / "charts/entrepot/values.yaml").read_text())
    requests = [each["resources"]["requests"]["memory"] for each in (container, values)]

    assert all(int(each.removesuffix("Mi")) * _MIB >= needed(2, 8 * _MIB) for each in requests)
