"""The spool file of a download, and the file beside it that tells how long it will be."""

from __future__ import annotations

import os
from pathlib import Path

from entrepot.datastore.errors import ContentDamaged, refusal


def size_path(path: Path) -> Path:
    """Return the file that tells how long a spool file will be."""
    return path.with_name(f"{path.name}.size")


def read_size(path: Path) -> int | None:
    """Return how long a spool file will be, in bytes; None when that is not known.

    Raises: FileNotFoundError as long as the upstream has not answered; StorageBroken.
    """
    try:
        text = size_path(path).read_text()
    except FileNotFoundError:
        raise
    except OSError as error:
        raise refusal(error) from error
    if not text:  # it is made before it is written
        raise FileNotFoundError(path)
    return int(text) if text.isdecimal() else None


def append(descriptor: int, chunk: bytes, offset: int) -> None:
    """Append to a file, opened with O_APPEND, that ends at *offset*.

    With O_APPEND the kernel ignores the offset of pwrite (pwrite(2), BUGS): a file that is cut at
    this moment stays too short, instead of having a hole. Raises: ContentDamaged, OSError.
    """
    length = os.fstat(descriptor).st_size
    if length != offset:
        raise ContentDamaged(f"a file that is written has {length} bytes, not {offset}")
    view = memoryview(chunk)
    while view:
        written = os.pwrite(descriptor, view, offset)
        view = view[written:]
        offset += written
