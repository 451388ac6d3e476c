"""`Stock` writes a data directory that is like one that Entrepot has written."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from bench.stock import IMAGES, Stock, access_lines, digest, manifest
from entrepot.datastore import layout
from entrepot.datastore.accesslog import parse
from entrepot.datastore.index import ContentKind, IndexEntry
from entrepot.datastore.refs import Digest
from entrepot.logger.accesses import note_uses, stamps


@pytest.fixture
def stock(tmp_path: Path) -> Stock:
    """Return a generated data directory of 2,000 blobs with its index, but without files."""
    made = Stock(tmp_path / "data", 2000, 1_800_000_000.0)
    made.write_rows()
    return made


def test_the_index_has_a_row_for_each_blob_and_manifest(stock: Stock) -> None:
    """The generated index has one row for each of the 2,000 blobs and for each manifest."""
    assert stock.index().count() == 2000 + IMAGES


def test_the_index_is_as_the_product_would_have_written_it(tmp_path: Path) -> None:
    """The index of the stock has the same counters, SQL indexes and triggers as Entrepot's."""
    stock = Stock(tmp_path / "data", 1000, time.time() - 60)
    stock.write_rows()
    index = stock.index()
    index.restore([IndexEntry(Digest.of(b"later"), 7, ContentKind.BLOB, stock.now)])

    assert index.inspect(thoroughly=True) == ""
    assert index.count() == 1001 + IMAGES


def test_the_first_rows_are_evicted_first(stock: Stock) -> None:
    """The oldest blobs of the stock have files, because the cleaner evicts the oldest first."""
    stock.write_files(10)
    oldest = [entry.digest for entry in stock.index().oldest(None, 10)]

    assert oldest == [digest(number) for number in range(10)]
    assert all(stock.storage().stat(layout.blob(each)) for each in oldest)


def test_manifests_reference_rows(stock: Stock) -> None:
    """The index of the stock has a row for each blob that a manifest references."""
    index = stock.index()

    assert all(index.entry(each) for each in index.children(manifest(0)))
    assert len(index.children(manifest(0))) == 9


def test_every_line_of_the_log_is_an_access_to_a_row(stock: Stock) -> None:
    """Each line of the stock's access log names a blob or manifest of its index.

    The logger ignores other lines, so they would cost less than real ones.
    """
    lines = [parse(line) for line in access_lines(stock, 300)]
    index, used = stock.index(), dict[str, float]()
    note_uses([(line, 1) for line in lines], used)

    assert len(lines) == 300
    assert {line.kind for line in lines} == {"manifest", "blob"}
    assert all(index.entry(each) for each in stamps(used))
    assert len(stamps(used)) == len({line.digest for line in lines})
