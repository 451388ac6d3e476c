"""The appliance's time, which follows small changes of the wall clock, and ignores its jumps.

The wall clock of a machine may be set forward or back at any moment: by the operator, by NTP after
a start with a wrong clock, by a hypervisor that resumes a guest. Last uses, ages and deadlines that
are compared with each other must not move with the wall clock. Therefore the time is counted on
CLOCK_BOOTTIME, which only advances and includes suspension, from a point that the processes of an
appliance share in a small file. The wall clock corrects the time as follows:

- The appliance's time follows a difference of a few seconds at once.
- A larger difference is a jump of the wall clock. After a jump, the time runs on unchanged, and
  ages count as zero, until the wall clock is set right or an hour has passed; after that hour the
  wall clock is trusted. Ages that began before a jump then count from the end of that hour.
- The appliance's time never goes back. If the appliance's time is ahead of a trusted wall clock, it
  runs at half speed until the wall clock has caught up. Therefore the later of two uses always has
  the later time.

The small file survives a restart of the appliance. Within one boot of the machine, a jump during
the restart is noticed exactly. After a reboot, a wall clock that is behind the last written time,
or more than a day ahead of it, counts as a jump.
"""

from __future__ import annotations

import json
import logging
import math
import time
import zlib
from collections.abc import Callable
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path
from typing import Protocol

from entrepot.runtime.atomic_write import write_atomically
from entrepot.runtime.small_file import read_small_file

log = logging.getLogger(__name__)

JUMP_S = 5.0
"""Up to this difference (s) the time follows the wall clock at once."""
TRUSTED_AFTER_S = 3600.0
"""A wall clock that has jumped must run evenly for this time (s) to be trusted."""

_MAX_DOWNTIME_S = 24 * 3600.0
_EQUAL_S = 0.001
# This much time passes between two reads of the file, which another process writes.
_READ_EVERY_S = 1.0
# A correction of the time by this many s is shared with other processes.
_SHARED_CORRECTION_S = 0.02
# This much time passes between two writes without a change, for the check after a reboot.
_WRITE_EVERY_S = 60.0
_MAX_BYTES = 4096  # largest number of bytes of the file


def elapsed() -> float:
    """Return the time since the boot of the machine, suspension included (s); never goes back."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """Return the ID of this boot of the machine; an empty text if the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Ages(Protocol):
    """An `Ages` is a clock (s, UTC epoch) that also determines ages."""

    def __call__(self) -> float:
        """Return the time; it never goes back."""
        ...

    def age(self, at: float) -> float:
        """Return how old a time is at least, in s; never below zero."""
        ...

    def before(self, span: float) -> float:
        """Return the time (s): each file modified before it is certainly older than *span* s."""
        ...

    def since(self) -> float:
        """Return the time from which ages count; infinity while no age is certain."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """A `State` is the state shared by all processes; times are in s.

    `base`, `offset`, `anchored` and `pending` are on the clock `elapsed`. `base` is the trusted
    wall time at the boot. At the time `anchored` on `elapsed`, the time was `anchor`. A jump by
    `offset` was noticed at `pending`, which is None without a jump. Ages count from `since`; the
    wall clock was last moved at `moved`; `seen` is the time at which the state of the clock was
    written.
    """

    boot: str
    base: float
    anchor: float
    anchored: float
    since: float = 0.0
    moved: float = 0.0
    pending: float | None = None
    offset: float = 0.0
    jumps: int = 0
    seen: float = 0.0

    def at(self, now: float) -> float:
        """Return the time at *now* on `elapsed`; it never goes back from one state to the next."""
        return max(self.base + now, self.anchor + (now - self.anchored) / 2)


def begin(last: State | None, boot: str, wall: float, now: float) -> State:
    """Return the state at the start of a process, from the last written state."""
    if last is None:
        return State(boot, wall - now, wall, now)
    if last.boot == boot and now >= last.anchored:
        return last
    ahead = wall - last.seen
    if -JUMP_S <= ahead <= _MAX_DOWNTIME_S:
        return replace(
            last, boot=boot, base=wall - now, anchor=last.seen, anchored=now, pending=None
        )
    latest = last.seen + _WRITE_EVERY_S  # No recorded use has a later time.
    return replace(
        last, boot=boot, base=latest - now, anchor=latest, anchored=now, moved=latest, pending=None
    )


def follow(state: State, wall: float, now: float) -> State:
    """Return the state after a comparison with the wall clock."""
    offset, at = wall - now - state.base, state.at(now)
    if abs(offset) <= JUMP_S:
        moved = state.moved if state.pending is None else at
        return replace(
            state, base=wall - now, anchor=at, anchored=now, moved=moved, pending=None, offset=0.0
        )
    if state.pending is None or abs(offset - state.offset) > JUMP_S:
        return replace(state, pending=now, offset=offset, moved=at, jumps=state.jumps + 1)
    if now - state.pending < TRUSTED_AFTER_S:
        return state
    trusted = replace(state, base=wall - now, anchor=at, anchored=now, pending=None, offset=0.0)
    return replace(trusted, since=trusted.at(now), moved=trusted.at(now))


class Clock:
    """A `Clock` is the time of one appliance, shared through the file *path*.

    If *path* is None, the time is that of this process alone.

    `wall` returns s, UTC epoch; `elapsed` returns s since the boot that *boot* identifies. The
    clock is thread-safe. At least one process of the appliance calls `keep` about once a second,
    which corrects the time of all processes.
    """

    def __init__(
        self,
        path: Path | None = None,
        *,
        wall: Callable[[], float] = time.time,
        elapsed: Callable[[], float] = elapsed,
        boot: Callable[[], str] = boot,
    ) -> None:
        self._path = path
        self._wall = wall
        self._elapsed = elapsed
        self._boot = boot()
        self._written: State | None = None
        self._is_failing = False
        self._last_read = elapsed()
        self._state = begin(self._load(), self._boot, wall(), self._last_read)

    def __call__(self) -> float:
        """Return the time (s, UTC epoch)."""
        now = self._elapsed()
        return self._current(now).at(now)

    def age(self, at: float) -> float:
        """Return the age of a time, in s; zero while the wall clock is off."""
        return max(self() - max(at, self.since()), 0.0)

    def before(self, span: float) -> float:
        """Return the time on the kernel's clock before which a file is older than *span* s.

        The returned time is minus infinity while the wall clock is off, and until it has run evenly
        for *span* s.
        """
        now = self._elapsed()
        state = self._current(now)
        if self._offset(state, now) or state.at(now) - state.moved < span:
            return -math.inf
        return self._wall() - span

    def since(self) -> float:
        """Return the time from which ages count; infinity while the wall clock is off."""
        now = self._elapsed()
        state = self._current(now)
        return math.inf if self._offset(state, now) else state.since

    def shift(self) -> float:
        """Return the correction from a wall-clock time, read just now, to this clock (s)."""
        shift = self() - self._wall()
        return shift if abs(shift) > _EQUAL_S else 0.0

    def offset(self) -> float:
        """Return by how much the wall clock is off (s); zero if it is trusted."""
        now = self._elapsed()
        return self._offset(self._current(now), now)

    def jumps(self) -> int:
        """Return how often the wall clock has jumped since the file was first written."""
        return self._current(self._elapsed()).jumps

    def keep(self) -> None:
        """Compare with the wall clock, correct the time, and share it with other processes."""
        before, now = self._load() or self._state, self._elapsed()
        after = follow(begin(before, self._boot, self._wall(), now), self._wall(), now)
        after = replace(after, seen=after.at(now))
        self._state, self._last_read = after, now
        _report(before, after)
        if self._differs(after):
            self._write(after)

    def _offset(self, state: State, now: float) -> float:
        offset = self._wall() - now - state.base
        return offset if abs(offset) > JUMP_S else 0.0

    def _current(self, now: float) -> State:
        """Return the current state; re-read the file once a second."""
        if self._written is None and now - self._last_read >= _READ_EVERY_S:
            self._last_read = now
            self._state = self._load() or self._state
        return self._state

    def _load(self) -> State | None:
        return None if self._path is None else load(self._path)

    def _differs(self, state: State) -> bool:
        old = self._written
        if old is None or (state.pending, state.jumps, state.since, state.moved) != (
            old.pending,
            old.jumps,
            old.since,
            old.moved,
        ):
            return True
        return (
            abs(state.base - old.base) > _SHARED_CORRECTION_S
            or state.seen - old.seen > _WRITE_EVERY_S
        )

    def _write(self, state: State) -> None:
        self._written = state
        if self._path is None:
            return
        try:
            save(self._path, state)
            self._is_failing = False
        except OSError as error:
            if not self._is_failing:
                log.warning("time not kept", extra={"path": self._path, "error": error})
            self._is_failing = True
            # The next call of `keep` writes the state again.
            self._written = replace(state, seen=-math.inf)


def save(path: Path, state: State) -> None:
    """Write a state to *path*, atomically. Raises: OSError."""
    text = json.dumps(asdict(state)).encode()
    write_atomically(path, b"%08x %s\n" % (zlib.crc32(text), text))


def load(path: Path) -> State | None:
    """Read a state; return None if the file is absent, unreadable or incomplete."""
    try:
        checksum, _, text = read_small_file(path, _MAX_BYTES).rstrip(b"\n").partition(b" ")
        if int(checksum, 16) != zlib.crc32(text):
            return None
        found = json.loads(text)
        names = {each.name for each in fields(State)}
        return State(**{name: value for name, value in found.items() if name in names})
    except (OSError, ValueError, TypeError, AttributeError):
        return None


def _report(before: State, after: State) -> None:
    if after.jumps > before.jumps:
        extra = {"by": round(after.offset, 1), "patience": TRUSTED_AFTER_S}
        log.warning(
            "the wall clock jumped: nothing is evicted by age until it is set right", extra=extra
        )
    elif before.pending is not None and after.pending is None:
        is_back = after.since == before.since
        log.info("the wall clock is back" if is_back else "the wall clock is trusted from now on")
