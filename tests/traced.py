"""A pytest plugin that records which lines of chosen modules each test runs.

The environment variable MODULES has the paths of these modules, separated by colons. The plugin
writes the lines that each passed test runs, as JSON, to the file that TRACE names.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any

import pytest

_modules = {
    os.path.realpath(path): path for path in os.environ.get("MODULES", "").split(":") if path
}
_paths: dict[str, str | None] = {}
_current: dict[str, set[int]] = {}
_found: dict[str, dict[str, list[int]]] = {}


def _trace(frame: FrameType, event: str, argument: Any) -> Any:
    del event, argument
    written = frame.f_code.co_filename
    if written not in _paths:
        _paths[written] = _modules.get(os.path.realpath(written))
    module = _paths[written]
    if module is None:
        return None
    lines = _current.setdefault(module, set())
    lines.add(frame.f_lineno)

    def line(frame: FrameType, event: str, argument: Any) -> Any:
        del event, argument
        _current.setdefault(module, set()).add(frame.f_lineno)
        return line

    return line


def pytest_configure() -> None:
    """Trace the lines that this thread and new threads run."""
    threading.settrace(_trace)
    sys.settrace(_trace)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol() -> Iterator[None]:
    """Discard the lines that were recorded for the previous test."""
    _current.clear()
    yield


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Record the lines that a test has run, if the test passed."""
    if report.when == "call" and report.passed:
        _found[report.nodeid] = {name: sorted(lines) for name, lines in _current.items()}


def pytest_sessionfinish() -> None:
    """Write the lines of all passed tests."""
    sys.settrace(None)
    Path(os.environ["TRACE"]).write_text(json.dumps(_found))
