"""A large blob over several connections."""

from __future__ import annotations

import threading
from collections.abc import Iterator

import pytest

from registry import lanes
from registry.errors import Unavailable, Why
from registry.lanes import Span, in_lanes
from registry.remote import RemoteBlob
from tests.registry.remotes import FakeRemote

CONTENT = bytes(range(250)) * 40


@pytest.fixture(autouse=True)
def _small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let a segment be small."""
    monkeypatch.setattr(lanes, "SEGMENT", 1500)


def read(remote: FakeRemote, start: int = 0, count: int = 3) -> Iterator[bytes]:
    """Read what is missing from *start* on."""
    seen: list[RemoteBlob] = []
    return in_lanes(remote.fetch, Span(start, len(CONTENT)), count, seen.append)


@pytest.mark.parametrize("start", [0, 1, 1499, 1500, 9999])
@pytest.mark.parametrize("count", [2, 3, 20])
def test_the_parts_come_in_order_and_each_once(start: int, count: int) -> None:
    """Wherever the file ends, and with more lanes than parts."""
    remote = FakeRemote(CONTENT)

    assert b"".join(read(remote, start, count)) == CONTENT[start:]
    assert sorted(remote.starts) == list(range(start, len(CONTENT), 1500))


def test_an_upstream_without_ranges_goes_on_in_one_stream() -> None:
    """It is asked once."""
    remote = FakeRemote(CONTENT, takes_ranges=False)

    assert b"".join(read(remote)) == CONTENT
    assert remote.starts == [0]


def test_no_more_runs_ahead_than_there_are_lanes() -> None:
    """What waits in memory is bounded, whatever the size of the blob."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=3)
    next(body)
    deadline = threading.Event()
    while len(remote.starts) < 3:
        deadline.wait(0.01)
    deadline.wait(0.05)

    assert sorted(remote.starts) == [0, 1500, 3000]
    assert CONTENT.endswith(b"".join(body))


def test_a_part_that_breaks_off_is_asked_for_the_rest() -> None:
    """Within its own bounds."""
    remote = FakeRemote(CONTENT, breaks=[10_000, 2500])

    assert b"".join(read(remote, count=2)) == CONTENT


def test_a_part_that_stays_away_ends_it() -> None:
    """After all that came before it."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=2)
    got = [next(body)]
    remote.refusals.extend([Unavailable("fake", "gone", Why.REFUSED)] * 30)
    with pytest.raises(Unavailable):
        got.extend(body)

    assert CONTENT.startswith(b"".join(got))


@pytest.mark.parametrize("takes_ranges", [True, False])
def test_an_upstream_may_change_its_mind_on_ranges(takes_ranges: bool) -> None:  # noqa: FBT001
    """Behind a balancer each connection may meet another host; what it sent was no blob then."""
    remote = FakeRemote(CONTENT, piece=500, takes_ranges=takes_ranges, breaks=[1000])
    body = read(remote, count=2)
    got = [next(body)]
    remote.takes_ranges = not takes_ranges

    assert b"".join([*got, *body]) == CONTENT


def test_what_nobody_foresaw_in_a_part_ends_it_too() -> None:
    """The download waited for that part for ever, with its file locked."""
    remote = FakeRemote(CONTENT)
    body = read(remote, count=2)
    got = [next(body)]
    remote.refusals.extend([RuntimeError("can't start new thread")] * 30)
    with pytest.raises(RuntimeError):
        got.extend(body)
