"""Tests how a `Budget` divides the cap among content, logs, the index and the event queue."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from entrepot.datastore.budget import INDEX_BYTES, OVERHEAD, QUEUE_OVERHEAD, Budget
from entrepot.datastore.drivers.table import open_index
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.refs import Digest

MIB = 1024 * 1024


def _known(value: int | None) -> int:
    assert value is not None
    return value


def test_the_cap_is_the_maximum_plus_the_threshold() -> None:
    """The cap is the maximum size plus the threshold: 200 MiB and 20 % are exactly 240 MiB."""
    assert Budget(200 * MIB, 20).cap == 251_658_240


def test_without_a_maximum_only_the_logs_are_limited() -> None:
    """With a maximum size of 0, content is not limited, and the logs have 100 MiB."""
    budget = Budget(0, 20)

    assert (budget.cap, budget.max_used_bytes, budget.start, budget.target) == (None,) * 4
    assert budget.log_bytes == 100 * MIB


@pytest.mark.parametrize("maxsize", [20 * MIB, 200 * MIB, 10 * 1024 * MIB])
def test_content_logs_and_index_add_up_to_the_cap(maxsize: int) -> None:
    """The limits of content, logs and index add up to the cap exactly."""
    budget = Budget(maxsize, 20)

    assert _known(budget.max_used_bytes) + budget.log_bytes + INDEX_BYTES == budget.cap


@pytest.mark.parametrize("maxsize", [20 * MIB, 200 * MIB, 10 * 1024 * MIB])
def test_a_sweep_ends_with_the_data_directory_at_the_maximum(maxsize: int) -> None:
    """The size at which eviction ends, plus logs and index, is exactly the maximum size."""
    budget = Budget(maxsize, 20)

    assert _known(budget.target) + budget.log_bytes + INDEX_BYTES == maxsize


def test_a_sweep_starts_at_half_of_the_threshold() -> None:
    """Eviction begins halfway between the maximum size and the cap.

    During the eviction, downloads can use the upper half of this range.
    """
    budget = Budget(200 * MIB, 20)

    assert _known(budget.start) - _known(budget.target) == 20 * MIB
    assert _known(budget.max_used_bytes) - _known(budget.start) == 20 * MIB


def test_logs_have_one_percent_of_the_cap_but_at_least_64_kib() -> None:
    """Logs have 1 % of the cap, but at least 64 KiB."""
    assert Budget(200 * MIB, 20).log_bytes == 2_516_582
    assert Budget(1 * MIB, 0).log_bytes == 64 * 1024


@given(st.integers(1, 2**50), st.integers(0, 1000))
def test_the_bounds_are_in_order_for_any_setting(maxsize: int, threshold: int) -> None:
    """For any setting, the limits rise: end of eviction, start of eviction, content, cap."""
    budget = Budget(maxsize, threshold)

    bounds = (0, budget.target, budget.start, budget.max_used_bytes, budget.cap)
    assert list(bounds) == sorted(map(_known, bounds))


def _digest(number: int) -> Digest:
    return Digest.of(number.to_bytes(4, "big"))


def test_a_row_costs_no_more_than_its_overhead(tmp_path: Path) -> None:
    """A row needs no more bytes on the disk than its overhead, which is counted against the cap.

    These bytes are the row's share of the index file, the link of the content and, for a manifest,
    the media type and two links of a tag.
    """
    link = len("sha256:") + 64
    index = open_index(tmp_path)
    for image in range(300):
        layers = [_digest(image * 10 + layer) for layer in range(1, 10)]
        index.restore(
            [IndexEntry(each, 0, ContentKind.BLOB, float(int(each.hex[:4], 16))) for each in layers]
        )
        index.record(_digest(image * 10), 0, ContentKind.MANIFEST, 1.0 + image, children=layers)
    index.touch({_digest(image * 10): 2000.0 + image % 7 for image in range(300)})

    rows, manifests, used = index.count(), 300, index.reservations.used_bytes()
    index.close()
    pages = (tmp_path / "index.sqlite").stat().st_size
    links = rows * link + manifests * (3 * link)

    assert (rows, used) == (3000, 3000 * OVERHEAD)
    assert pages + links <= used


@pytest.mark.parametrize(
    ("maxsize", "queue"),
    [(0, 64 * MIB), (50 * MIB, MIB), (1000 * MIB, 12 * MIB), (10**6 * MIB, 64 * MIB)],
)
def test_the_queue_of_events_counts_against_the_cap(maxsize: int, queue: int) -> None:
    """If notifications are configured, the event queue gets 1 % of the cap, from 1 MiB to 64 MiB.

    If they are not configured, the budget has no space for an event queue.
    """
    without, with_events = Budget(maxsize, 20), Budget(maxsize, 20, has_events=True)

    assert without.queue_bytes == 0
    assert with_events.queue_bytes == queue
    if maxsize:
        assert without.max_used_bytes is not None
        assert with_events.max_used_bytes == without.max_used_bytes - queue - QUEUE_OVERHEAD


@pytest.mark.parametrize(
    ("maxsize", "logs"), [(0, 50 * MIB), (10 * 1024 * 1024 * MIB, 50 * MIB), (100 * MIB, MIB)]
)
def test_logs_and_transfers_share_the_state_directory_of_a_bucket(maxsize: int, logs: int) -> None:
    """If content is in a bucket, logs have 1 % of the cap, but at most 10 % of `spoolsize`.

    Downloads and uploads have the rest of `spoolsize`.
    """
    budget = Budget(maxsize, 0, spoolsize=500 * MIB)

    assert (budget.log_bytes, budget.max_reserved_bytes) == (logs, 500 * MIB - logs)
    assert Budget(maxsize, 0).max_reserved_bytes is None
