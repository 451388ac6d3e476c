"""`make conformance` runs a suite against an appliance that allows pushes and deletions."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from tests.conformance import __main__ as conformance
from tests.system.http_client import listens

# This program stands in for the OCI conformance suite, which belongs to another project. In its
# JUnit report, this program states whether it could log in, push, pull and delete.
SUITE = """#!{python}
# reads OCI_CONFIGURATION, as the current suite does
import base64, hashlib, http.client, os, pathlib
address = os.environ["OCI_REGISTRY"]
words = os.environ["OCI_USERNAME"] + ":" + os.environ["OCI_PASSWORD"]
login = {{"Authorization": "Basic " + base64.b64encode(words.encode()).decode()}}
digest = "sha256:" + hashlib.sha256(b"{{}}").hexdigest()
def ask(method, path, headers=login, body=b""):
    connection = http.client.HTTPConnection(address, timeout=30)
    connection.request(method, path, body, headers)
    return connection.getresponse().status
blobs = "/v2/conformance/repo1/blobs/"
got = [ask("POST", blobs + "uploads/?digest=" + digest, {{}}, b"{{}}"),
       ask("POST", blobs + "uploads/?digest=" + digest, body=b"{{}}"),
       ask("GET", blobs + digest), ask("DELETE", blobs + digest), ask("GET", blobs + digest)]
results = pathlib.Path(os.environ["OCI_RESULTS_DIR"])
(results / "address").write_text(address)
state = "passed" if got == [401, 201, 200, 202, 404] else "failure"
case = "<testcase name='%s' status='%s'/>" % (got, state)
suite = "<testsuite tests='1' failures='%d'>%s</testsuite>" % (state != "passed", case)
(results / "junit.xml").write_text("<testsuites>%s</testsuites>" % suite)
"""


def test_a_suite_is_run_against_an_appliance_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The suite runs against an appliance that is started for it and stopped afterwards."""
    monkeypatch.setattr(conformance, "OUT", tmp_path / "out")
    program = tmp_path / "suite"
    program.write_text(SUITE.format(python=sys.executable))
    program.chmod(0o755)

    assert conformance.main([str(program)]) == 0, capfd.readouterr()

    assert "1 checks passed, 0 tests failed, 0 not run" in capfd.readouterr().out
    _, _, port = (tmp_path / "out" / "address").read_text().rpartition(":")
    assert not listens(int(port))


def test_without_a_suite_nothing_is_started(capfd: pytest.CaptureFixture[str]) -> None:
    """Without a suite `make conformance` starts nothing; its message names the variable SUITE."""
    assert conformance.main([]) == 2

    assert "make conformance SUITE=" in capfd.readouterr().err
