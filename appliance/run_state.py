"""Write the start time and some counts into the run directory, for `entrepot status`."""

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
    """A `HitCounts` counts responses from stored content (`hits`) and from upstreams (`misses`)."""

    hits: int = 0
    misses: int = 0

    def since(self, before: HitCounts) -> HitCounts:
        """Return the difference to *before*.

        If a count is smaller than in *before*, the index was rebuilt, and the counts began at 0
        again. In that case, return the counts unchanged.
        """
        if self.hits < before.hits or self.misses < before.misses:
            return self
        return HitCounts(self.hits - before.hits, self.misses - before.misses)


@dataclass(frozen=True, slots=True)
class RunState:
    """A `RunState` describes one start of the appliance.

    `started` is the start time in seconds since the UTC epoch. `counted` has the counts at this
    time. `ends` maps the name of each program to the number of its unexpected exits.
    """

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
