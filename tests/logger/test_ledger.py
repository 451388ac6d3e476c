"""What was read goes into the index in one transaction, or not at all."""

from __future__ import annotations

import json

import pytest

from datastore.accesslog import AccessLine
from datastore.errors import IndexUnavailable
from datastore.index import Kind
from datastore.refs import Digest
from logger import happenings, ledger, metrics, traffic
from logger.haproxy import Dropped
from logger.ledger import ACCESS, Ledger
from logger.metrics import Metric
from logger.position import Position
from logger.tail import Batch
from tests.logger.index import FailingIndex
from tests.logger.lines import BLOB, answer, event, probe, written

A = Digest.parse(BLOB.digest)


def _at(offset: int) -> Position:
    return Position(1, offset, "aa", 1, 0.0)


def _batch(*lines: bytes, offset: int = 100) -> Batch:
    return Batch(lines, _at(offset))


def _committed(index: FailingIndex, metric: Metric) -> dict[tuple[str, ...], float]:
    rows = metrics.read(index.note(metrics.note(metric)))
    return {labels: amounts[0] for labels, amounts in rows}


@pytest.fixture
def index() -> FailingIndex:
    """Return an index with one row."""
    made = FailingIndex()
    made.record(A, 10, Kind.BLOB, 0.0)
    return made


def test_stamps_position_and_counters_are_one_transaction(index: FailingIndex) -> None:
    """A commit that fails leaves nothing; the next one brings all, once."""
    account = Ledger(index)
    account.access(_batch(written(BLOB), written(BLOB)))
    index.is_out = True
    with pytest.raises(IndexUnavailable):
        account.commit(is_whole=True)
    index.is_out = False
    before = (_committed(index, ledger.LINES), Ledger(index).position(ACCESS), index.entry(A))
    told = account.commit(is_whole=True)

    assert before[0] == {}
    assert before[1] is None
    assert before[2] is not None
    assert before[2].used == 0.0
    assert index.commits == 1
    assert told == {A: BLOB.end}
    assert _committed(index, ledger.LINES) == {(ACCESS,): 2}
    assert Ledger(index).position(ACCESS) == _at(100)
    entry = index.entry(A)
    assert entry is not None
    assert entry.used == BLOB.end


def test_what_is_read_while_the_index_is_out_is_kept(index: FailingIndex) -> None:
    """Lines of before and after the failure are counted once each."""
    account = Ledger(index)
    account.access(_batch(written(BLOB)))
    index.is_out = True
    for _ in range(3):
        with pytest.raises(IndexUnavailable):
            account.commit(is_whole=True)
    account.access(_batch(written(answer(start=BLOB.start + 1000)), offset=200))
    index.is_out = False
    told = account.commit(is_whole=True)

    assert told == {A: BLOB.end + 1}
    assert _committed(index, ledger.LINES) == {(ACCESS,): 2}
    assert account.is_empty


def test_counters_go_on_where_the_index_has_them(index: FailingIndex) -> None:
    """A killed logger counts what it had read and not committed again, and nothing else."""
    first = Ledger(index)
    first.access(_batch(written(BLOB)))
    first.commit(is_whole=True)
    first.access(_batch(written(BLOB), offset=200))

    second = Ledger(index)
    second.access(_batch(written(BLOB), offset=200))
    second.commit(is_whole=True)

    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 2}
    rows = metrics.read(index.note(metrics.note(traffic.DURATION)))
    assert rows[0][1][0] == 0.04
    assert sum(rows[0][1][1:]) == 2


def test_a_commit_writes_what_has_changed(index: FailingIndex) -> None:
    """Ten commits a second must not write every metric ten times."""
    account = Ledger(index)
    account.access(_batch(written(BLOB)))
    account.commit(is_whole=True)
    account.events(_batch(event("budget", upstream="docker.io", remaining=7)))
    account.commit(is_whole=True)

    changed = [ledger.LINES, happenings.REMAINING]
    assert index.last == {"position:events", *(metrics.note(each) for each in changed)}


def test_lines_that_cannot_be_read_are_counted_and_harm_nothing(index: FailingIndex) -> None:
    """Never fatal, and the lines around them count."""
    account = Ledger(index)
    account.access(_batch(b"junk", written(BLOB), b"\x00\xff", b'{"start": 1e999}'))
    account.events(_batch(b"junk", event("download"), event("unknown")))
    account.commit(is_whole=True)

    assert _committed(index, ledger.UNREADABLE) == {(ACCESS,): 3, ("events",): 2}
    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}


def test_the_news_comes_with_the_lines_before_it(index: FailingIndex) -> None:
    """Once it is there the cleaner may trust the stamps; its own request is nobody's."""
    account = Ledger(index)
    account.access(_batch(written(BLOB), written(probe("n1"))))
    account.drop(Dropped(7, 3, 5))
    account.commit(is_whole=True)

    assert index.note("news") == "n1"
    assert index.note("dropped") == "5"
    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}
    assert _committed(index, ledger.LOST) == {(): 5}
    assert account.news is None


def test_no_news_while_nobody_knows_what_was_dropped(index: FailingIndex) -> None:
    """The stamps go in, the news waits."""
    account = Ledger(index)
    account.access(_batch(written(BLOB), written(probe("n1"))))
    account.commit(is_whole=False)
    before = index.note("news")
    account.commit(is_whole=True)

    assert before is None
    assert index.note("news") == "n1"


@pytest.mark.parametrize(
    "line",
    [answer(uri="/healthz?news=x", source="127.0.0.1"), answer(uri="/v2/", source="unix")],
    ids=["from outside", "another request of ours"],
)
def test_nobody_else_makes_news(index: FailingIndex, line: AccessLine) -> None:
    """A client's request under the probe's name is a request like any other."""
    account = Ledger(index)
    account.access(_batch(written(line)))
    account.commit(is_whole=True)

    assert index.note("news") is None
    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}


def test_a_gap_and_a_line_too_long_are_counted(index: FailingIndex) -> None:
    """An operator sees that something is missing."""
    account = Ledger(index)
    account.access(Batch([], _at(1), overlong=2, gaps=1))
    account.commit(is_whole=True)

    assert _committed(index, ledger.OVERLONG) == {(ACCESS,): 2}
    assert _committed(index, ledger.GAPS) == {(ACCESS,): 1}


def test_the_cleaner_is_told_of_lines_that_were_rotated_away(index: FailingIndex) -> None:
    """They were uses like those that HAProxy dropped: what they used went as if nobody had."""
    gap = Batch([], _at(1), gaps=1)
    first = Ledger(index, run="one")
    first.access(gap)
    first.events(gap)
    first.commit(is_whole=True)
    second = Ledger(index, run="one")
    second.access(gap)
    second.access(_batch(written(probe("n1")), offset=200))
    second.drop(Dropped(7, 3, 3))
    second.commit(is_whole=True)

    assert index.note("dropped") == "5"


@pytest.mark.parametrize("gaps", [0, 1])
def test_what_is_lost_around_haproxys_restart_is_told(index: FailingIndex, gaps: int) -> None:
    """It counts from 0 again: a sum of its number and of gaps could be what it was before."""
    account = Ledger(index)
    account.drop(Dropped().then(7, 1))
    account.access(_batch(written(probe("n1"))))
    account.commit(is_whole=True)
    account.access(Batch([], _at(200), gaps=gaps))
    account.drop(account.dropped.then(8, 1 - gaps))
    account.access(_batch(written(probe("n2")), offset=300))
    account.commit(is_whole=True)

    assert index.note("dropped") == "2"


def test_in_another_run_it_is_another_haproxy(index: FailingIndex) -> None:
    """In a container both have the same process number, and what the second lost seemed known."""
    first = Ledger(index, run="one")
    first.drop(first.dropped.then(7, 3))
    first.access(_batch(written(probe("n1"))))
    first.commit(is_whole=True)
    second = Ledger(index, run="two")
    second.drop(second.dropped.then(7, 3))
    second.access(_batch(written(probe("n2")), offset=200))
    second.commit(is_whole=True)

    assert index.note("dropped") == "3"
    assert _committed(index, ledger.LOST) == {(): 6}


def test_what_was_lost_in_an_earlier_run_is_not_told_again(index: FailingIndex) -> None:
    """HAProxy counts anew too, and the cleaner knows of nothing: ages would begin at each start."""
    first = Ledger(index, run="one")
    first.access(Batch([], _at(1), gaps=1))
    first.commit(is_whole=True)
    second = Ledger(index, run="two")
    second.access(_batch(written(probe("n1")), offset=200))
    second.commit(is_whole=True)

    assert index.note("dropped") == "0"


def test_an_index_that_was_replaced_gets_everything_again(index: FailingIndex) -> None:
    """Somebody deleted it while we run: what did not change since is written too."""
    account = Ledger(index)
    account.access(_batch(written(BLOB)))
    account.events(_batch(event("budget", upstream="docker.io", remaining=7)))
    account.commit(is_whole=True)
    same = account.heal()
    kept = dict(account.committed)
    other = FailingIndex()
    account._index = other
    account.access(_batch(offset=200))
    account.commit(is_whole=True)
    healed = account.heal()
    account.commit(is_whole=True)

    assert (same, healed, account.heal()) == (False, True, False)
    assert {name: other.note(name) for name in kept if name.startswith("metric:")} == {
        name: text for name, text in kept.items() if name.startswith("metric:")
    }
    assert Ledger(other).position(ACCESS) == _at(200)


def test_breakers_are_those_of_this_run(index: FailingIndex) -> None:
    """The appliance was restarted: nobody is left alone any more."""
    first = Ledger(index, run="one")
    first.events(_batch(event("breaker", upstream="quay.io", state="open")))
    first.commit(is_whole=True)
    Ledger(index, run="one").commit(is_whole=True)
    kept = _committed(index, happenings.BREAKER)
    Ledger(index, run="two").commit(is_whole=True)

    assert kept == {("quay.io",): 1}
    assert _committed(index, happenings.BREAKER) == {}


def test_notes_of_another_version_start_anew(index: FailingIndex) -> None:
    """What has another shape by now must not keep the logger from starting."""
    index.touch({}, {metrics.note(traffic.REQUESTS): "{", metrics.note(ledger.LOST): "[[[], [1]]]"})
    index.touch({}, {metrics.note(traffic.SIZE): json.dumps([[["blob"], [1, 2]]])})
    account = Ledger(index)
    account.access(_batch(written(BLOB)))
    account.commit(is_whole=True)

    assert _committed(index, traffic.REQUESTS) == {("get", "200", "blob"): 1}
    assert _committed(index, traffic.SIZE) == {("blob",): 1000}
