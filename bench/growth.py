"""Measure operations on an index of ten thousand to ten million blobs.

The index has a row for each blob. Only the blobs that the measurement evicts have a file on disk.
The rebuild of the index reads a file of every blob, so it is measured with at most 100,000 blobs. A
cost is the CPU time of the process that does the operation. The start and the rebuild are measured
in elapsed time, because clients notice how long they take. Of the cleaner, the memory is measured.
"""

from __future__ import annotations

import shutil
import time
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path

from bench import kinds
from bench.errors import LoadFailed
from bench.figures import Figure, plain_figure
from bench.kinds import Plan
from bench.measure import Book
from bench.server import Launch, Server
from bench.stock import FILE, IMAGES, PARTS, SIZE, Stock, chosen
from entrepot.cleaner.policy import StoreLimits
from entrepot.cleaner.rounds import Rounds, RoundTools
from entrepot.cleaner.spool import Spool
from entrepot.cleaner.store import DataDirectory
from entrepot.cleaner.sweep import Sweep
from entrepot.datastore import layout
from entrepot.datastore.budget import OVERHEAD
from entrepot.datastore.index import AccessIndex
from entrepot.datastore.rebuild import rebuild
from entrepot.datastore.refs import Digest
from entrepot.logger.batch import LINES as LINES_READ
from entrepot.logger.batch import LogBatch
from entrepot.logger.display import Display
from entrepot.logger.filetimes import FileTimes
from entrepot.logger.loop import LoggerLoop, LogPaths, Work
from entrepot.logger.metrics import note, read
from entrepot.runtime.clock import Clock
from entrepot.runtime.run_names import METRICS

SIZES = (10_000, 100_000, 1_000_000, 10_000_000)
MOST_FILES = 100_000
EVICTED = 1_000
LINES = 200_000
_STAMP_BATCHES = 20
_WATCHED_S = 15.0
_LOOK_EVERY_S = 0.25
_REBUILT = "rebuild"
_CLEANER = "cleaner"  # the name of this row, and of the cleaner's process role in `bench.tree`
TITLES: Mapping[str, str] = {
    "stamp": "writing one access time, with 1,000 in a transaction; CPU us",
    "plan": f"planning {EVICTED:,} evictions; CPU s",
    "evict": f"planning and evicting {EVICTED:,} blobs; CPU s",
    "logger": "processing a line of the access log; CPU us",
    "start": "restart after a kill, until the first response; s",
    _CLEANER: f"largest memory of the cleaner in the first {_WATCHED_S:.0f} s; MB PSS",
    _REBUILT: "rebuild of a lost index from the files; s",
}
NOTES = (
    f"in the index each blob has {SIZE:,} bytes; {IMAGES} manifests reference {PARTS} blobs each",
    f"only the {EVICTED:,} evicted blobs have a file, of {FILE:,} bytes and without links",
    f"the rebuild is measured with at most {MOST_FILES:,} blobs, which all have a file",
    "`entrepot serve` is started with CLEANER_MAXSIZE=0 and an unreachable upstream",
    f"of the {LINES:,} log lines a third are for manifests, the others for 10,000 random blobs",
)


def grow(folder: Path, book: Book) -> dict[str, dict[str, Figure]]:
    """Measure an index of each size, beginning with the smallest.

    Return the figures by row of the table, then by size of the index. Once the time limit of the
    run has passed, larger sizes are skipped.
    """
    results: dict[str, dict[str, Figure]] = {}
    for rows in SIZES:
        if book.is_late:
            book.report_progress(f"{rows:,} blobs: not measured, because the time limit passed")
            break
        stock = Stock(folder / str(rows) / "data", rows, time.time())
        for row, act in _acts(stock).items():
            book.report_progress(f"{rows:,} blobs: {row}")
            if (found := act()) is not None:
                results.setdefault(row, {})[f"{rows:,}"] = found
        shutil.rmtree(stock.root.parent)
    return results


def _acts(stock: Stock) -> dict[str, Callable[[], Figure | None]]:
    """Return the measurements of an index, in order, because some need data of earlier ones."""
    return {
        "the stock itself": lambda: _make(stock),
        "stamp": lambda: _stamp(stock),
        "plan": lambda: _plan(stock),
        "evict": lambda: _evict(stock),
        "logger": lambda: _read_log(stock),
        "start": lambda: _start(stock),
        _CLEANER: lambda: _cleaner(stock),
        _REBUILT: lambda: _rebuild(stock),
    }


def _make(stock: Stock) -> None:
    stock.write_rows()
    stock.write_files(EVICTED)


def _stamp(stock: Stock) -> Figure:
    index = stock.index()
    batches, at = chosen(stock, _STAMP_BATCHES), stock.now + 1
    cpu, seconds = _timed(lambda: _touch(index, batches, at))
    index.close()
    many = sum(len(set(each)) for each in batches)
    return plain_figure(cpu / many * 1e6, {"us of time": seconds / many * 1e6})


def _touch(index: AccessIndex, batches: list[list[Digest]], at: float) -> None:
    for each in batches:
        index.touch(dict.fromkeys(each, at))


def _plan(stock: Stock) -> Figure:
    rounds, _ = _rounds(stock)
    cpu, seconds = _timed(lambda: _expect(sum(1 for _ in rounds.explain()), EVICTED))
    return plain_figure(cpu, {"s of time": seconds})


def _evict(stock: Stock) -> Figure:
    rounds, store = _rounds(stock)
    before = store.index.count()
    cpu, seconds = _timed(lambda: rounds.run(0))
    _expect(before - store.index.count(), EVICTED)
    return plain_figure(cpu, {"s of time": seconds})


def _rounds(stock: Stock) -> tuple[Rounds, DataDirectory]:
    """Return a cleaner's `Rounds` whose size limit makes it evict exactly `EVICTED` blobs."""
    store = DataDirectory(stock.storage(), stock.index(), stock.state / layout.SPOOL)
    held = store.index.reservations.used_bytes()
    target = held - EVICTED * (SIZE + OVERHEAD)
    bounds = StoreLimits(target=target, start=target, room=held)
    clock = Clock()
    hands = RoundTools(
        store=store,
        spool=Spool(store, clock),
        sweep=Sweep(store, lambda _: None, clock),
        barrier=_OpenBarrier(),
        clock=clock,
        stopped=lambda: False,
    )
    return Rounds(hands, bounds), store


class _OpenBarrier:
    """A stand-in for the log barrier, by which the cleaner waits until the logger has caught up."""

    blind = 0.0

    def fetch(self) -> str:
        """Return an empty string, which means that the logger has read the whole access log."""
        return ""


def _read_log(stock: Stock) -> Figure:
    """Measure how the logger processes a log that grew long while the logger did not run."""
    stock.write_log(LINES)
    index = stock.index()
    loop = LoggerLoop(_work(stock))
    cpu, seconds = _timed(lambda: _catch_up(loop))
    lines = read(index.notes.get(note(LINES_READ)))
    _expect(int(sum(amounts[0] for _, amounts in lines)), LINES)
    index.close()
    (stock.state / layout.ACCESS_LOG).unlink()
    more = {"lines/s": LINES / seconds, "us of time": seconds / LINES * 1e6}
    return plain_figure(cpu / LINES * 1e6, more)


def _work(stock: Stock) -> Work:
    index, state = stock.index(), stock.state
    return Work(
        places=LogPaths(state / layout.ACCESS_LOG, state / layout.EVENTS, state / "no.sock"),
        times=FileTimes(stock.storage(), index),
        display=Display(state / METRICS, index, build={}),
        open_ledger=lambda: LogBatch(index),
        wall=time.time,
    )


def _catch_up(loop: LoggerLoop) -> None:
    while loop.turn(time.monotonic()) == 0:
        pass
    loop.finish(time.monotonic())


def _start(stock: Stock) -> Figure:
    """Start the appliance, kill it, start it again, and measure the time of the second start."""
    server = Server(_launch(stock))
    try:
        first = server.start()
        server.kill()
        again = server.start()
    finally:
        server.stop()
    return plain_figure(again, {"s at first": first})


def _cleaner(stock: Stock) -> Figure:
    """Measure the largest memory of the cleaner after a start, while it checks the index."""
    with Server(_launch(stock)) as server:
        began, cpu = time.monotonic(), server.tree.cpu().get(_CLEANER, 0.0)
        most = 0.0
        while time.monotonic() < began + _WATCHED_S:
            memory = server.tree.memory().get(_CLEANER, [])
            most = max(most, sum(each.pss for each in memory) / 1e6)
            time.sleep(_LOOK_EVERY_S)
        spent = server.tree.cpu().get(_CLEANER, 0.0) - cpu
    return plain_figure(most, {"CPU s": spent})


def _launch(stock: Stock) -> Launch:
    # No server listens at this address; this measurement needs no upstream.
    plan = Plan(stock.root.parent, "http://127.0.0.1:9")
    launch = kinds.entrepot_launch(plan)
    return replace(launch, environment=dict(launch.environment) | {"CLEANER_MAXSIZE": "0"})


def _rebuild(stock: Stock) -> Figure | None:
    if stock.rows > MOST_FILES:
        return None
    fresh = Stock(stock.root / "lost", stock.rows, stock.now)
    fresh.write_files(fresh.rows)
    fresh.state.mkdir()
    index = fresh.index()
    cpu, seconds = _timed(lambda: rebuild(fresh.storage(), index, stock.now))
    _expect(index.count(), fresh.rows)
    index.close()
    return plain_figure(seconds, {"CPU s": cpu})


def _timed(act: Callable[[], object]) -> tuple[float, float]:
    """Return the CPU time of this process and the elapsed time (both in s)."""
    cpu, began = time.process_time(), time.monotonic()
    act()
    return time.process_time() - cpu, time.monotonic() - began


def _expect(got: int, expected: int) -> None:
    if got != expected:
        raise LoadFailed(f"{got:,} were done instead of {expected:,}")
