"""What `serve` notes of its own start in the run directory, for `entrepot status` to read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from entrepot.datastore.errors import IndexUnavailable
from entrepot.datastore.index import AccessIndex
from entrepot.logger import metrics
from entrepot.logger.traffic import PROXY_HITS, PROXY_MISSES

_NAME = "record.json"


@dataclass(frozen=True, slots=True)
class HitCounts:
    """Answers with and without a fetch, since the index was made."""

    hits: int = 0
    misses: int = 0

    def since(self, before: HitCounts) -> HitCounts:
        """Return what came after *before*; all of it when the index is a new one since."""
        if self.hits < before.hits or self.misses < before.misses:
            return self
        return HitCounts(self.hits - before.hits, self.misses - before.misses)


@dataclass(frozen=True, slots=True)
class RunState:
    """`started` in s, UTC epoch; `ends`: how often each program has ended unasked."""

    started: float
    counted: HitCounts
    ends: Mapping[str, int] = field(default_factory=dict)

    def write(self, run: Path) -> None:
        """Write it, atomically."""
        new = run / f"{_NAME}.new"
        new.write_text(json.dumps(asdict(self)))
        new.rename(run / _NAME)

    @classmethod
    def read(cls, run: Path) -> RunState:
        """Read it. Raises: OSError, ValueError."""
        told = json.loads((run / _NAME).read_bytes())
        return cls(told["started"], HitCounts(**told["counted"]), told["ends"])


def counted(index: AccessIndex) -> HitCounts:
    """Ask the index what the logger has counted; nothing while it does not answer."""
    try:
        sums = [_sum(index.note(metrics.note(each))) for each in (PROXY_HITS, PROXY_MISSES)]
    except IndexUnavailable:
        return HitCounts()
    return HitCounts(*sums)


def _sum(note: str | None) -> int:
    return int(sum(amounts[0] for _, amounts in metrics.read(note)))
