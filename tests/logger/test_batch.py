"""Tests of `LogBatch`, which commits a batch of log lines to the index in one transaction."""

from __future__ import annotations

import json

import pytest

from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import ContentKind
from entrepot.datastore.refs import Digest
from entrepot.logger import batch, event_metrics, metrics, traffic
from entrepot.logger.batch import ACCESS, LogBatch
from entrepot.logger.dropped_lines import DroppedLines
from entrepot.logger.metrics import Metric
from entrepot.logger.position import LogPosition
from entrepot.logger.tail import Batch
from tests.logger.index import FailingIndex
from tests.logger.lines import BLOB, answer, event, probe, written

A = Digest.parse(BLOB.digest)


def _at(offset: int) -> LogPosition:
    return LogPosition(1, offset, "aa", 1, 0.0)


def _batch(*lines: bytes, offset: int = 100) -> Batch:
    return Batch(lines, _at(offset))


def _committed(index: FailingIndex, metric: Metric) -> dict[tuple[str, ...], float]:
    rows = metrics.read(index.notes.get(metrics.note(metric)))
    return {labels: amounts[0] for labels, amounts in rows}


@pytest.fixture
def index() -> FailingIndex:
    """Return an index with one row."""
    made = FailingIndex()
    made.record(A, 10, ContentKind.BLOB, 0.0)
    return made


def test_access_times_position_and_counters_are_one_transaction(index: FailingIndex) -> None:
    """The last uses, the position in the log and the counters are committed in one transaction.

    If a commit fails, nothing changes, and the next commit contains everything exactly once.
    """
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB), written(BLOB)))
    index.is_out = True
    with pytest.raises(IndexUnavailable):
        log_batch.commit(is_whole=True)
    index.is_out = False
    before = (_committed(index, batch.LINES), LogBatch(index).position(ACCESS), index.entry(A))
    accesses = log_batch.commit(is_whole=True)

    assert before[0] == {}
    assert before[1] is None
    assert before[2] is not None
    assert before[2].used == 0.0
    assert index.commits == 1
    assert accesses == {A: BLOB.end}
    assert _committed(index, batch.LINES) == {(ACCESS,): 2}
    assert LogBatch(index).position(ACCESS) == _at(100)
    entry = index.entry(A)
    assert entry is not None
    assert entry.used == BLOB.end


def test_lines_read_while_the_index_is_unavailable_are_kept(index: FailingIndex) -> None:
    """Lines that the logger reads while the index is unavailable are kept.

    The next successful commit counts each line once.
    """
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB)))
    index.is_out = True
    for _ in range(3):
        with pytest.raises(IndexUnavailable):
            log_batch.commit(is_whole=True)
    log_batch.access(_batch(written(answer(start=BLOB.start + 1000)), offset=200))
    index.is_out = False
    accesses = log_batch.commit(is_whole=True)

    assert accesses == {A: BLOB.end + 1}
    assert _committed(index, batch.LINES) == {(ACCESS,): 2}
    assert log_batch.is_empty


def test_counters_continue_with_the_values_in_the_index(index: FailingIndex) -> None:
    """After a restart, the logger's counters continue with the values in the index.

    After a kill, the logger reads and counts only uncommitted lines again.
    """
    first = LogBatch(index)
    first.access(_batch(written(BLOB)))
    first.commit(is_whole=True)
    first.access(_batch(written(BLOB), offset=200))

    second = LogBatch(index)
    second.access(_batch(written(BLOB), offset=200))
    second.commit(is_whole=True)

    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 2}
    rows = metrics.read(index.notes.get(metrics.note(traffic.DURATION)))
    assert rows[0][1][0] == 0.04
    assert sum(rows[0][1][1:]) == 2


def test_a_commit_writes_changed_metrics_only(index: FailingIndex) -> None:
    """A commit writes only the metrics that have changed, because commits are frequent.

    There are up to ten commits a second.
    """
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB)))
    log_batch.commit(is_whole=True)
    log_batch.events(_batch(event("budget", upstream="docker.io", remaining=7)))
    log_batch.commit(is_whole=True)

    changed = [batch.LINES, event_metrics.REMAINING]
    assert index.last == {"position:events", *(metrics.note(each) for each in changed)}


def test_invalid_lines_are_counted(index: FailingIndex) -> None:
    """The logger counts invalid lines, and handles the lines around them as usual."""
    log_batch = LogBatch(index)
    log_batch.access(_batch(b"junk", written(BLOB), b"\x00\xff", b'{"start": 1e999}'))
    log_batch.events(_batch(b"junk", event("download"), event("unknown")))
    log_batch.commit(is_whole=True)

    assert _committed(index, batch.UNREADABLE) == {(ACCESS,): 3, ("events",): 2}
    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}


def test_a_log_barrier_is_committed_with_the_lines_before_it(index: FailingIndex) -> None:
    """The log line of the cleaner's request is committed together with all earlier lines.

    The cleaner waits for this commit before it evicts content. The metrics do not count the
    cleaner's request.
    """
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB), written(probe("n1"))))
    log_batch.drop(DroppedLines(7, 3, 5))
    log_batch.commit(is_whole=True)

    assert index.notes.get("news") == "n1"
    assert index.notes.get("dropped") == "5"
    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}
    assert _committed(index, batch.LOST) == {(): 5}
    assert log_batch.news is None


def test_no_log_barrier_without_haproxy_s_count_of_dropped_lines(index: FailingIndex) -> None:
    """The logger commits no log barrier until it knows how many lines HAProxy dropped.

    A log barrier is the log line of a request with which the cleaner waits for the logger.
    """
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB), written(probe("n1"))))
    log_batch.commit(is_whole=False)
    before = index.notes.get("news")
    log_batch.commit(is_whole=True)

    assert before is None
    assert index.notes.get("news") == "n1"


@pytest.mark.parametrize(
    "line",
    [answer(uri="/healthz?news=x", source="127.0.0.1"), answer(uri="/v2/", source="unix")],
    ids=["from outside", "another internal request"],
)
def test_other_requests_are_no_log_barrier(index: FailingIndex, line: AccessLine) -> None:
    """No request of a client, and no internal request for another path, is a log barrier."""
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(line)))
    log_batch.commit(is_whole=True)

    assert index.notes.get("news") is None
    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}


def test_a_gap_and_a_line_too_long_are_counted(index: FailingIndex) -> None:
    """The logger's metrics count the gaps in the log, and the lines that are too long."""
    log_batch = LogBatch(index)
    log_batch.access(Batch([], _at(1), overlong=2, gaps=1))
    log_batch.commit(is_whole=True)

    assert _committed(index, batch.OVERLONG) == {(ACCESS,): 2}
    assert _committed(index, batch.GAPS) == {(ACCESS,): 1}


def test_the_cleaner_gets_the_number_of_losses_by_rotation(index: FailingIndex) -> None:
    """The logger reports to the cleaner how many lines were lost, including those lost by rotation.

    A lost line can belong to a pull. The cleaner, which does not know of the pull, could evict the
    content too early.
    """
    gap = Batch([], _at(1), gaps=1)
    first = LogBatch(index, run="one")
    first.access(gap)
    first.events(gap)
    first.commit(is_whole=True)
    second = LogBatch(index, run="one")
    second.access(gap)
    second.access(_batch(written(probe("n1")), offset=200))
    second.drop(DroppedLines(7, 3, 3))
    second.commit(is_whole=True)

    assert index.notes.get("dropped") == "5"


@pytest.mark.parametrize("gaps", [0, 1])
def test_losses_before_and_after_a_restart_of_haproxy_are_added(
    index: FailingIndex, gaps: int
) -> None:
    """The logger adds up the lines that were lost before and after a restart of HAProxy.

    After a restart HAProxy counts from 0. If the logger used only HAProxy's count, equal counts
    before and after the restart could hide a loss.
    """
    log_batch = LogBatch(index)
    log_batch.drop(DroppedLines().then(7, 1))
    log_batch.access(_batch(written(probe("n1"))))
    log_batch.commit(is_whole=True)
    log_batch.access(Batch([], _at(200), gaps=gaps))
    log_batch.drop(log_batch.dropped.then(8, 1 - gaps))
    log_batch.access(_batch(written(probe("n2")), offset=300))
    log_batch.commit(is_whole=True)

    assert index.notes.get("dropped") == "2"


def test_in_another_run_haproxy_s_count_starts_at_0(index: FailingIndex) -> None:
    """In a new run of the appliance, HAProxy's count of lost lines starts at 0.

    In a container HAProxy can have the same pid in both runs, so the pid does not show that the
    count has started again. The metric of lost lines adds up the losses of both runs.
    """
    first = LogBatch(index, run="one")
    first.drop(first.dropped.then(7, 3))
    first.access(_batch(written(probe("n1"))))
    first.commit(is_whole=True)
    second = LogBatch(index, run="two")
    second.drop(second.dropped.then(7, 3))
    second.access(_batch(written(probe("n2")), offset=200))
    second.commit(is_whole=True)

    assert index.notes.get("dropped") == "3"
    assert _committed(index, batch.LOST) == {(): 6}


def test_losses_of_an_earlier_run_are_not_reported_again(index: FailingIndex) -> None:
    """The logger does not report losses of an earlier run of the appliance to the cleaner.

    A newly started cleaner does not know which losses are old. If the logger reported old losses,
    each newly started cleaner would treat all content as just used.
    """
    first = LogBatch(index, run="one")
    first.access(Batch([], _at(1), gaps=1))
    first.commit(is_whole=True)
    second = LogBatch(index, run="two")
    second.access(_batch(written(probe("n1")), offset=200))
    second.commit(is_whole=True)

    assert index.notes.get("dropped") == "0"


def test_a_replaced_index_gets_all_values_again(index: FailingIndex) -> None:
    """If the index was replaced, the logger writes all metrics again, even unchanged ones."""
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB)))
    log_batch.events(_batch(event("budget", upstream="docker.io", remaining=7)))
    log_batch.commit(is_whole=True)
    same = log_batch.heal()
    kept = dict(log_batch.committed)
    other = FailingIndex()
    log_batch._index = other
    log_batch.access(_batch(offset=200))
    log_batch.commit(is_whole=True)
    healed = log_batch.heal()
    log_batch.commit(is_whole=True)

    assert (same, healed, log_batch.heal()) == (False, True, False)
    assert {name: other.notes.get(name) for name in kept if name.startswith("metric:")} == {
        name: text for name, text in kept.items() if name.startswith("metric:")
    }
    assert LogBatch(other).position(ACCESS) == _at(200)


def test_breakers_are_those_of_this_run(index: FailingIndex) -> None:
    """A new run of the appliance drops the states of circuit breakers from the earlier run."""
    first = LogBatch(index, run="one")
    first.events(_batch(event("breaker", upstream="quay.io", state="open")))
    first.commit(is_whole=True)
    LogBatch(index, run="one").commit(is_whole=True)
    kept = _committed(index, event_metrics.BREAKER)
    LogBatch(index, run="two").commit(is_whole=True)

    assert kept == {("quay.io",): 1}
    assert _committed(index, event_metrics.BREAKER) == {}


def test_invalid_notes_of_metrics_start_at_0(index: FailingIndex) -> None:
    """If the stored value of a metric is invalid, the logger starts, with the metric at 0."""
    index.notes.put({metrics.note(traffic.REQUESTS): "{", metrics.note(batch.LOST): "[[[], [1]]]"})
    index.notes.put({metrics.note(traffic.SIZE): json.dumps([[["blob"], [1, 2]]])})
    log_batch = LogBatch(index)
    log_batch.access(_batch(written(BLOB)))
    log_batch.commit(is_whole=True)

    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}
    assert _committed(index, traffic.SIZE) == {("blob",): 1000}
