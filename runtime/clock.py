"""Compute the appliance's time, which follows small changes of the wall clock and ignores jumps.

The wall clock of a machine can be set forward or back at any moment: by the operator, by NTP after
a start with a wrong clock, or by a hypervisor that resumes a guest. The appliance compares times of
last uses, ages and deadlines with each other, so these times must not jump. The appliance counts
time with CLOCK_BOOTTIME, which only advances and also runs while the machine is suspended. The
processes of an appliance share the start of this count in a small file. The wall clock corrects the
appliance's time as follows:

- A difference of a few seconds corrects the appliance's time at once.
- A larger difference is a jump of the wall clock. After a jump, the appliance's time continues
  unchanged, and ages count as zero, until the wall clock is correct again. If it is still wrong
  after an hour, the appliance trusts it, and ages of earlier times count from the end of that hour.
- The appliance's time never goes back. If it is ahead of a trusted wall clock, it runs at half
  speed until the wall clock has caught up. So the later of two uses always has the later time.

The small file survives a restart of the appliance. If the machine is not rebooted meanwhile, a jump
of the wall clock during the restart is detected as at any other time. After a reboot, a wall clock
that is more than 5 s behind the last written time, or more than a day ahead of it, counts as a
jump.
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
"""A difference of up to this many seconds corrects the time at once; a larger one is a jump."""
TRUSTED_AFTER_S = 3600.0
"""A wall clock that has jumped is trusted after this many seconds without another jump."""

_MAX_DOWNTIME_S = 24 * 3600.0
_EQUAL_S = 0.001
# A process rereads the file at this interval in seconds, because another process may have written
# it.
_READ_EVERY_S = 1.0
# A correction of more than this many seconds is written to the file for the other processes.
_SHARED_CORRECTION_S = 0.02
# The file is written at this interval in seconds even without a change, because after a reboot the
# wall clock is compared with the last written time.
_WRITE_EVERY_S = 60.0
_MAX_BYTES = 4096  # The largest number of bytes in the file.


def elapsed() -> float:
    """Return the seconds since the machine's boot, including suspension; they never decrease."""
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def boot() -> str:
    """Return the ID of this boot of the machine, or an empty text if the kernel has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


class Ages(Protocol):
    """The interface of a clock that also computes ages.

    Times are in seconds since the UTC epoch.
    """

    def __call__(self) -> float:
        """Return the time; it never goes back."""
        ...

    def age(self, at: float) -> float:
        """Return the smallest possible age of the time *at* in seconds; it is never below zero."""
        ...

    def before(self, span: float) -> float:
        """Return a time; a file last modified before it is older than *span* seconds."""
        ...

    def since(self) -> float:
        """Return the time from which ages count, or infinity while no age is certain."""
        ...


@dataclass(frozen=True, slots=True)
class State:
    """A `State` is the state of the clock, which all processes of the appliance share.

    Times are in seconds since the UTC epoch, except for `anchored` and `pending`, which are values
    of `elapsed`. `base` is the trusted wall time at the boot of the machine. When `elapsed` was
    `anchored`, the appliance's time was `anchor`. While the wall clock is wrong, `pending` is the
    time at which its jump was noticed, and `offset` is the size of the jump; otherwise `pending` is
    None. Ages count from `since`. `moved` is the time at which the wall clock last jumped or became
    correct, and `seen` is the time of the last comparison with the wall clock.
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
        """Return the appliance's time when `elapsed` returns *now*.

        A later state never returns an earlier time.
        """
        return max(self.base + now, self.anchor + (now - self.anchored) / 2)


def begin(last: State | None, boot: str, wall: float, now: float) -> State:
    """Return the state at the start of a process.

    *last* is the state in the file, or None. *wall* and *now* are the current values of the wall
    clock and of `elapsed`.
    """
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
    """Return the next state, after a comparison with the wall clock.

    *wall* and *now* are the current values of the wall clock and of `elapsed`.
    """
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
    """A `Clock` is the clock of one appliance, which its processes share through the file *path*.

    If *path* is None, the time is not shared. `wall` returns the wall clock in seconds since the
    UTC epoch. `elapsed` returns the seconds since the boot that *boot* identifies. At least one
    process of the appliance must call `keep` about once a second, which corrects the time of all
    processes. The clock is thread-safe.
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
        """Return the time in seconds since the UTC epoch."""
        now = self._elapsed()
        return self._current(now).at(now)

    def age(self, at: float) -> float:
        """Return the age of the time *at* in seconds; it is zero while the wall clock is wrong."""
        return max(self() - max(at, self.since()), 0.0)

    def before(self, span: float) -> float:
        """Return a wall-clock time; a file with an earlier time is older than *span* seconds.

        Return minus infinity while the wall clock is wrong, and for *span* seconds after it has
        jumped or become correct.
        """
        now = self._elapsed()
        state = self._current(now)
        if self._offset(state, now) or state.at(now) - state.moved < span:
            return -math.inf
        return self._wall() - span

    def since(self) -> float:
        """Return the time from which ages count, or infinity while the wall clock is wrong."""
        now = self._elapsed()
        state = self._current(now)
        return math.inf if self._offset(state, now) else state.since

    def shift(self) -> float:
        """Return by how many seconds this clock is ahead of the wall clock now."""
        shift = self() - self._wall()
        return shift if abs(shift) > _EQUAL_S else 0.0

    def offset(self) -> float:
        """Return by how many seconds the wall clock has jumped ahead, or zero if it is trusted."""
        now = self._elapsed()
        return self._offset(self._current(now), now)

    def jumps(self) -> int:
        """Return how often the wall clock has jumped since the file was first written."""
        return self._current(self._elapsed()).jumps

    def keep(self) -> None:
        """Compare the time with the wall clock, correct it and write it for other processes."""
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
                log.warning(
                    "the time could not be saved", extra={"path": self._path, "error": error}
                )
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
            "the wall clock jumped: nothing is evicted by age until it is correct", extra=extra
        )
    elif before.pending is not None and after.pending is None:
        is_back = after.since == before.since
        log.info(
            "the wall clock is correct again"
            if is_back
            else "the wall clock is trusted from now on"
        )
