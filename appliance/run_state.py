"""Write facts about one start into the run directory, for `entrepot status`."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path

from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.run_names import RUN_STATE
from entrepot.runtime.small_file import read_small_file


@dataclass(frozen=True, slots=True)
class HitCounts:
    """A `HitCounts` counts responses with and without a fetch from an upstream."""

    hits: int = 0
    misses: int = 0

    def since(self, before: HitCounts) -> HitCounts:
        """Return the difference to *before*; all counts if the index was rebuilt in between."""
        if self.hits < before.hits or self.misses < before.misses:
            return self
        return HitCounts(self.hits - before.hits, self.misses - before.misses)


@dataclass(frozen=True, slots=True)
class RunState:
    """A `RunState` has `started` (s, UTC epoch); `ends` counts unexpected ends by program."""

    started: float
    counted: HitCounts
    ends: Mapping[str, int] = field(default_factory=dict)

    def write(self, run: Path) -> None:
        """Write the state to the run directory, atomically."""
        write_atomically(run / RUN_STATE, json.dumps(asdict(self)).encode())

    @classmethod
    def read(cls, run: Path) -> RunState:
        """Read the state from the run directory. Raises: OSError, ValueError."""
        fields = json.loads(read_small_file(run / RUN_STATE))
        return cls(fields["started"], HitCounts(**fields["counted"]), fields["ends"])
