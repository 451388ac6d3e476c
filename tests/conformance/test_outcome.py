"""Tests when a run of the conformance suite counts as passed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.conformance import __main__ as conformance
from tests.conformance import outcome
from tests.conformance.errors import SuiteError
from tests.conformance.outcome import Outcome

CURRENT = """<testsuites tests="7" disabled="2">
<testsuite name="OCI" tests="7" failures="1" errors="1" disabled="2">
<testcase name="ping" classname="" status="passed"></testcase>
<testcase name="blobs/range -500" classname="" status="{ranges}"></testcase>
<testcase name="push" classname="" status="failure"></testcase>
<testcase name="pull" classname="" status="error"></testcase>
<testcase name="cancel" classname="" status="skipped"></testcase>
</testsuite></testsuites>"""
GINKGO = """<?xml version="1.0" encoding="UTF-8"?>
<testsuites tests="4" disabled="1" errors="0" failures="1">
<testsuite name="conformance tests" tests="4" disabled="0" skipped="1" errors="0" failures="1">
<testcase name="[It] Pull" status="passed"></testcase>
<testcase name="[It] Push" status="failed"><failure message="x">y</failure></testcase>
<testcase name="[It] Tags" status="skipped"><skipped message="x"></skipped></testcase>
<testcase name="[It] Old"></testcase>
</testsuite></testsuites>"""


def _read(folder: Path, text: str) -> Outcome:
    report = folder / "junit.xml"
    report.write_text(text)
    return outcome.read(report)


def test_the_current_suites_report_is_counted_in_checks(tmp_path: Path) -> None:
    """The current suite's report has the number of checks, and the names of failed tests."""
    found = _read(tmp_path, CURRENT.format(ranges="passed"))

    assert found == Outcome(passed=3, failed=("push", "pull"), skipped=("cancel",))


def test_a_report_of_the_ginkgo_suite_is_read_too(tmp_path: Path) -> None:
    """A report of the older suite, which is made with ginkgo, is read too.

    In such a report an XML element inside the test case states the result. The older suite uses
    other words for the results than the current suite.
    """
    found = _read(tmp_path, GINKGO)

    assert found == Outcome(passed=2, failed=("[It] Push",), skipped=("[It] Tags",))


def test_a_skipped_range_is_a_fault_and_another_skip_is_none(tmp_path: Path) -> None:
    """A skipped test of ranges is a fault: the suite skips ranges that do not work.

    A skipped test of any other feature is no fault.
    """
    found = _read(tmp_path, CURRENT.format(ranges="skipped"))

    assert "skipped: blobs/range -500" in found.faults(0)
    assert not [each for each in found.faults(0) if "cancel" in each]


@pytest.mark.parametrize(
    ("found", "status", "word"),
    [
        (Outcome(860, (), ()), 1, "exit status 1"),
        (Outcome(860, ("push",), ()), 0, "failed: push"),
        (Outcome(0, (), ("push", "pull")), 0, "no check passed"),
    ],
)
def test_each_of_these_is_a_fault(found: Outcome, status: int, word: str) -> None:
    """A failed test, an exit status of 1, and a run without a passed check are faults."""
    assert [each for each in found.faults(status) if word in each]


def test_a_clean_run_has_no_fault() -> None:
    """A run without failures has no fault, even if the specification's version skips a test."""
    assert Outcome(860, (), ("post cancel",)).faults(0) == []


@pytest.mark.parametrize(
    "text", ["", "<testsuites><test", "<testsuites><testsuite tests='many'/></testsuites>"]
)
def test_a_damaged_report_is_an_error(tmp_path: Path, text: str) -> None:
    """A damaged report is an error, and never a run without failures."""
    with pytest.raises(SuiteError, match="cannot be read"):
        _read(tmp_path, text)


def test_a_missing_report_is_an_error(tmp_path: Path) -> None:
    """A missing report is an error: a suite that cannot read its configuration exits with 0."""
    with pytest.raises(SuiteError, match=r"wrote no junit\.xml"):
        outcome.read(tmp_path / "junit.xml")


@pytest.mark.parametrize(
    ("found", "code"),
    [(Outcome(2, (), ("cancel",)), 0), (Outcome(2, ("push",), ()), 1), (Outcome(2, (), ()), 0)],
)
def test_the_summary_decides_the_exit_status(
    found: Outcome, code: int, capsys: pytest.CaptureFixture[str]
) -> None:
    """`summarize` returns the exit status, and prints each fault and each test that was not run."""
    assert conformance.summarize(found, 0) == code

    printed = capsys.readouterr().out
    assert ("FAULT    failed: push" in printed) == bool(code)
    assert ("not run: cancel" in printed) == bool(found.skipped)
    assert "conformance: 2 checks passed" in printed
