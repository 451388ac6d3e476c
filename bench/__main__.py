"""Run the benchmarks: `python -m bench [STAGE...]`, `growth`, `hits OTHER` or `files`.

Without arguments, all stages run, with `growth` as the last. `growth` measures indexes of up to ten
million blobs. `hits` measures the CPU time of warm requests in this checkout and in another one.
`files` counts the source files that run during a request.
"""

from __future__ import annotations

import os
import resource
import shutil
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from bench import (
    cold,
    events,
    files_touched,
    first,
    hit_cost,
    kinds,
    many,
    plain_user,
    report,
    stages,
    tokens,
)
from bench.errors import BenchError
from bench.growth import grow
from bench.measure import Book
from bench.site import Site, opened

OUT = kinds.ROOT / "bench" / "out"
_ROUNDS = 3
_HITS_WORDS = 2
_MANY_FILES = 65536
# Once this time (s) has passed, the benchmark begins no further measurement. A measurement that is
# already running takes at most five minutes more.
_LONGEST_S = 15 * 60
_STAGES: Mapping[str, Callable[[Site, Book, int], None]] = {
    "warm": stages.warm,
    "worker": stages.worker,
    "many": many.many,
    "login": stages.login,
    "tokens": tokens.tokens,
    "events": events.events,
    "tls": stages.tls,
    "clients": cold.clients,
    "first": first.first,
    "line": cold.line,
}


def main(words: list[str]) -> int:
    """Run the benchmarks that the command line names; return the exit code."""
    if words == ["files"]:
        print(files_touched.table(files_touched.measure()))
        return 0
    plain_user.become(OUT, [kinds.ROOT, Path(sys.base_prefix)])
    signal.signal(signal.SIGTERM, _interrupt)
    _allow_many_files()
    if words[:1] == ["hits"] and len(words) == _HITS_WORDS:
        return _run(lambda: _hits(Path(words[1]).resolve()))
    unknown = set(words) - {*_STAGES, "growth"}
    if unknown:
        known = " ".join((*_STAGES, "growth", "files"))
        print(f"bench: unknown stage {', '.join(sorted(unknown))}; use {known}")
        return 2
    return _run(lambda: _measure(words or [*_STAGES, "growth"]))


def _run(act: Callable[[], int]) -> int:
    try:
        return act()
    except BenchError as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("bench: interrupted", file=sys.stderr)
        return 130


def _measure(words: list[str]) -> int:
    """Measure the named stages, then `growth` if it is named; return the larger exit code."""
    book = Book(most_s=_LONGEST_S)
    names = [each for each in words if each in _STAGES]
    return max(_compare(names, book) if names else 0, _grow(book) if "growth" in words else 0)


def _compare(names: list[str], book: Book) -> int:
    chosen = kinds.known(os.environ.get("BENCH_PEERS", ""), os.environ.get("BENCH_REGISTRY3", ""))
    try:
        with _folder() as folder, opened(folder, chosen) as site:
            for name in names:
                if book.is_late:
                    book.report_progress(f"{name}: not measured, because the time limit passed")
                else:
                    _STAGES[name](site, book, _ROUNDS)
    except KeyboardInterrupt:
        book.report_progress("interrupted; the results so far follow")
        report.write(OUT, book, chosen)
        raise
    return report.write(OUT, book, chosen)


def _grow(book: Book) -> int:
    with _folder() as folder:
        return report.write_growth(OUT, grow(folder, book))


def _hits(other: Path) -> int:
    """Compare the CPU time of a warm request in this checkout and in the one at *other*."""
    with _folder() as folder, opened(folder, kinds.known()) as site:
        print(hit_cost.table(hit_cost.compare(site, other)))
    return 0


@contextmanager
def _folder() -> Iterator[Path]:
    """Make a temporary folder for all files of the run, and remove it at the end."""
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    try:
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


def _allow_many_files() -> None:
    """Raise the limit of open files for the load generators and servers, which inherit it."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    allowed = _MANY_FILES if hard == resource.RLIM_INFINITY else min(hard, _MANY_FILES)
    resource.setrlimit(resource.RLIMIT_NOFILE, (allowed, hard))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
