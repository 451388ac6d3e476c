"""Read the JUnit report of the conformance suite, and decide whether the suite passed."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from dataclasses import dataclass
from pathlib import Path

from tests.conformance.errors import SuiteError

_NOT_PASSED = ("failures", "errors", "skipped", "disabled")
_PASSED = "passed"
_SKIPPED = ("skipped", "disabled", "pending")


@dataclass(frozen=True, slots=True)
class Outcome:
    """The number of passed checks, and the names of the failed and the skipped tests.

    A test exercises several parts of the API, each of which counts as a check.
    """

    passed: int
    failed: tuple[str, ...]
    skipped: tuple[str, ...]

    def faults(self, status: int) -> list[str]:
        """Return why the suite's run with exit status *status* did not pass; empty if it passed.

        A skipped test of ranges is a fault: the suite skips ranges where a registry does not
        support them. The specification permits a registry without ranges, but the appliance
        promises ranges.
        """
        found = [f"failed: {name}" for name in self.failed]
        found += [f"skipped: {name}" for name in self.skipped if "range" in name.lower()]
        if not self.passed:
            found.append("no check passed")
        if status:
            found.append(f"the suite ended with exit status {status}")
        return found


def read(report: Path) -> Outcome:
    """Return the outcome that a JUnit report contains.

    Raises: SuiteError if the report is absent or damaged.
    """
    try:
        root = ET.parse(report).getroot()
        suites = list(root.iter("testsuite"))
        passed = sum(_passed(each) for each in suites)
    except FileNotFoundError as error:
        raise SuiteError("the suite wrote no junit.xml; see suite.log beside it") from error
    except (ET.ParseError, ValueError) as error:
        raise SuiteError(f"{report} cannot be read: {error}") from error
    states = [(case.get("name", ""), _state(case)) for case in root.iter("testcase")]
    skipped = tuple(name for name, state in states if state in _SKIPPED)
    failed = tuple(name for name, state in states if state not in (*_SKIPPED, _PASSED))
    return Outcome(passed, failed, skipped)


def _passed(suite: ET.Element) -> int:
    return int(suite.get("tests", "0")) - sum(int(suite.get(each, "0")) for each in _NOT_PASSED)


def _state(case: ET.Element) -> str:
    for state in ("failure", "error", "skipped"):
        if case.find(state) is not None:
            return state
    return case.get("status", _PASSED)
