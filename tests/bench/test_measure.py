"""`attempt` obeys the time limit of a run; `in_rounds` measures some rows in more rounds."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any, cast

import pytest

from bench import measure as module
from bench.figures import Sample
from bench.measure import Book, attempt, in_rounds
from bench.upstream import Log


def _sample() -> Sample:
    return Sample(requests=1, seconds=1)


def test_no_sample_is_taken_when_the_time_is_over() -> None:
    """After the time limit of a run has passed, no sample is taken.

    If a row still has no sample, it counts as failed, and the reason names the time.
    """
    book = Book()
    attempt("idle", "entrepot", book, _sample)
    book.most_s = -1.0
    attempt("idle", "entrepot", book, _sample)
    attempt("memory", "entrepot", book, _sample)

    assert len(book.samples["idle"]["entrepot"]) == 1
    assert list(book.failed) == ["memory"]
    assert "time" in book.failed["memory"]["entrepot"]


def test_a_row_that_needs_more_rounds_gets_them(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """The row `blob-large` is measured in nine rounds instead of three, as `ROUNDS` states."""
    book = Book()
    monkeypatch.setattr(module, "measure", lambda *_: _sample())
    servers = cast("Any", {"entrepot": None})
    works = cast("Any", dict.fromkeys(("blob-large", "blob-small"), partial(_sample)))
    in_rounds(servers, works, book, Log(tmp_path / "log"), rounds=3)

    assert len(book.samples["blob-large"]["entrepot"]) == 9
    assert len(book.samples["blob-small"]["entrepot"]) == 3
