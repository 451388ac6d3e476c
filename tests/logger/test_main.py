"""Tests of the logger as a process that is killed, restarted and sent signals."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from functools import partial
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from entrepot import config
from entrepot.config.schema import Settings
from entrepot.datastore import layout
from entrepot.datastore.accesslog import Event, write_event
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.logger import metrics
from entrepot.logger.batch import ACCESS, LINES
from entrepot.runtime import run_names
from tests.logger.lines import BLOB, answer, written
from tests.logger.test_tail import Writer

pytestmark = pytest.mark.slow

ROOT = Path(__file__).resolve().parents[2]
A = Digest.parse(BLOB.digest)


class Logger:
    """Start and stop the logger's process, and write the access log that it reads."""

    def __init__(self, folder: Path) -> None:
        self.run = folder / "run"
        self.state = folder / "data" / "entrepot"
        self.run.mkdir()
        (self.state / "log").mkdir(parents=True)
        self.settings = self.run / run_names.SETTINGS
        config.dump(
            Settings.from_tree(
                {"storage": {"filesystem": {"rootdirectory": str(folder / "data")}}}
            ),
            self.settings,
        )
        self.writer = Writer(self.state / layout.ACCESS_LOG, keep=9)
        self.index = open_index(self.state)
        self.output = folder / "output"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start the process of the logger."""
        with self.output.open("ab") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "entrepot.logger"],
                cwd=ROOT,
                env=os.environ | {"ENTREPOT_SETTINGS": str(self.settings)},
                stdout=output,
                stderr=output,
            )

    def end(self, number: signal.Signals) -> int:
        """Send a signal to the logger's process, and return the exit code."""
        assert self.process is not None
        self.process.send_signal(number)
        return self.process.wait(10)

    def close(self) -> None:
        """Kill the logger's process if it runs, and close the index."""
        if self.process is not None and self.process.poll() is None:
            self.end(signal.SIGKILL)
        self.index.close()

    def metric(self, name: str, **labels: str) -> float:
        """Return the value of a metric in the metrics file, or 0 if there is no file."""
        with suppress(FileNotFoundError):
            text = (self.run / run_names.METRICS).read_text()
            return sum(
                sample.value
                for family in text_string_to_metric_families(text)
                for sample in family.samples
                if sample.name == name and labels.items() <= sample.labels.items()
            )
        return 0

    def lines(self) -> float:
        """Return the number of access log lines that the metrics file reports."""
        return self.metric("entrepot_log_lines_total", log="access")


@pytest.fixture
def logger(tmp_path: Path) -> Iterator[Logger]:
    """Yield a logger whose process has not been started yet."""
    made = Logger(tmp_path)
    yield made
    made.close()


def _eventually(condition: Callable[[], bool], within: float = 20) -> None:
    deadline = time.monotonic() + within
    while not condition():
        assert time.monotonic() < deadline, "the condition is not met in time"
        time.sleep(0.005)


def _write(logger: Logger, first: int, count: int) -> None:
    """Write *count* lines in small parts, and rotate the log once in the middle."""
    for number in range(first, first + count):
        logger.writer.unsent += written(answer(start=BLOB.start + number, bytes=number)) + b"\n"
        if number % 7 == 0:
            logger.writer.flush(number % 400)
        if number == first + count // 2:
            logger.writer.rotate()
    logger.writer.flush()


def _has_committed(logger: Logger, least: int) -> bool:
    """Return True if at least *least* lines have been committed to the index."""
    rows = dict(metrics.read(logger.index.notes.get(metrics.note(LINES))))
    return rows.get((ACCESS,), [0])[0] >= least


def test_a_logger_that_is_killed_repeatedly_counts_every_line_once(logger: Logger) -> None:
    """If the logger is killed several times while the log is rotated, each line counts once."""
    logger.index.record(A, 10, ContentKind.BLOB, 0.0)
    with ThreadPoolExecutor(1) as writers:
        for part in range(3):
            logger.start()
            writing = [writers.submit(_write, logger, 1000 * part, 500)]
            _eventually(partial(_has_committed, logger, 1000 * part + 1))
            writing += [writers.submit(_write, logger, 1000 * part + 500, 500)]
            logger.end(signal.SIGKILL)
            write_event(logger.state / layout.EVENTS, Event("budget", 1, {"upstream": "a"}))
            for each in writing:
                each.result(10)
    logger.start()
    _eventually(lambda: logger.lines() >= 3000)

    assert logger.lines() == 3000
    assert logger.metric("registry_http_requests_total") == 3000
    assert logger.metric("registry_http_request_duration_seconds_count") == 3000
    assert logger.metric("registry_http_response_size_bytes_sum") == sum(range(3000))
    assert logger.metric("entrepot_log_unreadable_total", log="access") == 0
    assert logger.metric("entrepot_log_unreadable_total", log="events") == 3
    assert logger.metric("entrepot_log_gaps_total") == 0
    entry = logger.index.entry(A)
    assert entry is not None
    assert entry.used == answer(start=BLOB.start + 2999).end


def test_sigterm_commits_the_lines_that_were_read(logger: Logger) -> None:
    """After SIGTERM the logger commits all lines and exits with 0; SIGHUP has no effect."""
    logger.start()
    _eventually((logger.run / run_names.METRICS).exists)
    assert logger.process is not None
    logger.process.send_signal(signal.SIGHUP)
    _write(logger, 0, 50)
    _eventually(lambda: logger.lines() == 50)
    code = logger.end(signal.SIGTERM)

    assert code == 0
    assert logger.lines() == 50
    assert "Traceback" not in logger.output.read_text()


def test_inotify_reports_new_lines_before_the_next_poll(logger: Logger) -> None:
    """If the log's folder does not exist at the start, the logger still reads the first lines."""
    (logger.state / "log").rmdir()
    logger.start()
    _eventually((logger.run / run_names.METRICS).exists)
    _write(logger, 0, 3)
    _eventually(lambda: logger.lines() == 3)

    assert logger.lines() == 3
