"""Find contradictions between the storage driver and other settings."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from entrepot.config.errors import Problem
from entrepot.config.keys import Key
from entrepot.config.raw_value import RawValue
from entrepot.config.schema import Settings


def contradictions(settings: Settings, given: Mapping[Key, RawValue]) -> Iterator[Problem]:
    """Yield a problem for each setting that contradicts `storage.inmemory`."""
    if not settings.storage.inmemory:
        return
    if (state := given.get(("storage", "statedir"))) is not None:
        why = "with storage.inmemory, index and logs are in memory too"
        yield state.problem(why, "take it out")
    maxsize = given.get(("cleaner", "maxsize"))
    if maxsize is not None and not settings.cleaner.maxsize:
        yield maxsize.problem("storage.inmemory needs a size limit", "try 1G")
