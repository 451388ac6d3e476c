"""Reads the data directory of an appliance: its size while it changes, its files and its logs."""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Self

from entrepot.datastore import accesslog, layout
from entrepot.datastore.accesslog import AccessLine
from entrepot.datastore.refs import Digest

_EVERY = 0.05


def size(root: Path) -> int:
    """Return the sum of the sizes of all files below *root*, in bytes.

    The walk can find a file twice if the file is renamed meanwhile; such a file counts once.
    """
    return sum({status.st_ino: status.st_size for _, status in _walk(str(root))}.values())


def snapshot(root: Path) -> dict[str, tuple[int, int, int]]:
    """Return inode, size (bytes) and mtime (ns) of each file below *root*, by its relative path."""
    return {
        os.path.relpath(path, root): (status.st_ino, status.st_size, status.st_mtime_ns)
        for path, status in _walk(str(root))
    }


class SizeSampler:
    """Measures a data directory every 50 ms during the `with` block; `largest` is in bytes."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._sample, daemon=True)
        self.largest = 0
        self.samples = 0

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._over.set()
        self._thread.join()

    def _sample(self) -> None:
        while not self._over.wait(_EVERY):
            self.largest = max(self.largest, size(self._root))
            self.samples += 1


def access_lines(state: Path) -> list[AccessLine]:
    """Return the lines of all files of the access log, in the order in which the requests ended."""
    lines = (line for file in _logs(state) for line in file.read_bytes().splitlines())
    return sorted((accesslog.parse(line) for line in lines), key=lambda line: line.end)


def spool_files(state: Path) -> list[Path]:
    """Return the spool files of unfinished downloads, without the `.size` files beside them."""
    spool = state / "spool"
    return [path for path in spool.glob("sha*-*") if path.suffix != ".size"]


def spool_file(state: Path, host: str, digest: Digest) -> Path:
    """Return the path of the spool file for a download from the upstream *host*."""
    return state / layout.SPOOL / layout.spool(layout.spool_key(digest, host))


def _logs(state: Path) -> list[Path]:
    return sorted((state / "log").glob("access.log*"), reverse=True)


def _walk(folder: str) -> Iterator[tuple[str, os.stat_result]]:
    try:
        entries = list(os.scandir(folder))
    except FileNotFoundError:
        return
    for entry in entries:
        try:
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(entry.path)
            else:
                yield entry.path, entry.stat(follow_symlinks=False)
        except FileNotFoundError:
            continue
