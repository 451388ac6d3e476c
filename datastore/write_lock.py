"""One writer a repository: what its tags mean and what they lead to change together.

A tag is set while its manifest is linked, and a manifest is unlinked after its tags: between the
two looks of one writer nobody else writes, in whatever process.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from entrepot.datastore import layout
from entrepot.datastore.locks import holding
from entrepot.datastore.refs import Repository


@contextmanager
def turn(state: Path, name: Repository, patience: float) -> Iterator[bool]:
    """Wait for the turn to write, at most *patience* (s), and tell whether it was given.

    *state* is the state directory. Raises: StorageFull, StorageBroken.
    """
    with holding(state / layout.WRITING / layout.short(name), patience) as held:
        yield held is not None
