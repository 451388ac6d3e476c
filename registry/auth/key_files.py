"""Reload the files with the public keys that verify tokens: certificates and a key set (JWKS)."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import reduce
from operator import or_
from pathlib import Path
from typing import BinaryIO

from entrepot.runtime.reloading_file import ReloadingFile, Snapshot
from entrepot.runtime.run_names import SIGNING_KEYS, SIGNING_ROOTS
from entrepot.runtime.token_keys import (
    MAX_BYTES,
    TrustedKeys,
    UnusableKeys,
    parse_bundle,
    parse_jwks,
)


class KeyFiles:
    """A `KeyFiles` loads trusted keys from a *bundle* of certificates, a key set (*jwks*) or both.

    *kept* is the folder with a copy of the last valid content of each key file. If a changed file
    has no usable key, the keys of the last valid content stay in force. Raises, in the constructor
    only: OSError, UnusableKeys.
    """

    def __init__(self, bundle: Path | None, jwks: Path | None, kept: Path | None = None) -> None:
        found = ((bundle, parse_bundle, SIGNING_ROOTS), (jwks, parse_jwks, SIGNING_KEYS))
        self._files = [
            _reloading(path, parse, kept and kept / name) for path, parse, name in found if path
        ]
        self._merged = self._merge(self._snapshots())

    @property
    def generation(self) -> int:
        """Return a number that rises with each change of a key file."""
        return sum(each.generation for each in self._files)

    def refresh(self) -> None:
        """Reload the key files that have changed."""
        for each in self._files:
            each.refresh()

    def __call__(self) -> TrustedKeys:
        """Return the keys currently in force."""
        snapshots, merged = self._snapshots(), self._merged
        if [each.generation for each in snapshots] != merged[0]:
            merged = self._merged = self._merge(snapshots)
        return merged[1]

    def _snapshots(self) -> list[Snapshot[TrustedKeys]]:
        return [each.snapshot for each in self._files]

    def _merge(self, snapshots: list[Snapshot[TrustedKeys]]) -> tuple[list[int], TrustedKeys]:
        keys = reduce(or_, (each.value for each in snapshots), TrustedKeys())
        return [each.generation for each in snapshots], keys


def _reloading(
    path: Path, parse: Callable[[bytes], TrustedKeys], kept: Path | None
) -> ReloadingFile[TrustedKeys]:
    return ReloadingFile(path, parse, errors=(UnusableKeys,), last_good=kept, open_file=_bounded)


@contextmanager
def _bounded(path: Path) -> Iterator[BinaryIO]:
    """Open a key file so that a read returns at most one byte more than the accepted size."""
    # Without O_NONBLOCK, opening a named pipe at this path would block until a program writes to
    # the pipe.
    with _BoundedFile(os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK), "rb") as file:
        yield file


class _BoundedFile(io.FileIO):
    def read(self, size: int | None = -1, /) -> bytes:
        """Read at most one byte more than the largest accepted key file."""
        content = bytearray()
        limit = MAX_BYTES + 1 if size is None or size < 0 else min(size, MAX_BYTES + 1)
        while len(content) < limit and (piece := super().read(limit - len(content))):
            content += piece
        return bytes(content)
