"""Tests of the appliance's clock, which neither jumps with the wall clock nor runs backwards."""

from __future__ import annotations

import logging
import math
import random
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from entrepot.runtime.clock import JUMP_S, TRUSTED_AFTER_S, Clock, State, begin, follow, load, save

_DAY = 86400.0
_START = 1_800_000_000.0


@dataclass
class Machine:
    """A machine that has run for `up` seconds and whose wall clock is wrong by `off` seconds."""

    up: float = 1000.0
    off: float = 0.0
    boot: str = "first"
    clocks: list[Clock] = field(default_factory=list)

    def wall(self) -> float:
        """Return the time of the wall clock (seconds since the UTC epoch)."""
        return _START + self.up + self.off

    def clock(self, path: Path | None = None) -> Clock:
        """Return the clock of a process on this machine, with its state in the file *path*."""
        return Clock(path, wall=self.wall, elapsed=lambda: self.up, boot=lambda: self.boot)

    def run(self, clock: Clock, seconds: float, step: float = 1.0) -> None:
        """Let *seconds* pass in steps; call `keep` of *clock* after each step."""
        end = self.up + seconds
        while self.up < end:
            self.up = min(self.up + step, end)
            clock.keep()


@pytest.fixture
def machine() -> Machine:
    """Return a machine whose wall clock is correct."""
    return Machine()


@pytest.fixture
def path(tmp_path: Path) -> Path:
    """Return the path of the file through which all processes share one time."""
    return tmp_path / "clock"


def test_the_time_is_that_of_an_even_wall_clock(machine: Machine) -> None:
    """If NTP corrects the wall clock slowly, the appliance's clock follows it."""
    clock = machine.clock()
    for _ in range(1000):
        machine.off += 0.0005
        machine.run(clock, 1)

    assert clock() == pytest.approx(machine.wall(), abs=0.01)
    assert (clock.offset(), clock.jumps()) == (0.0, 0)


@pytest.mark.parametrize("jump", [40 * _DAY, _DAY, -3600.0, -400 * _DAY], ids=str)
def test_a_jump_changes_neither_the_time_nor_an_age(machine: Machine, jump: float) -> None:
    """If the wall clock jumps, the appliance's clock does not jump.

    Ages are zero until the wall clock is correct again, and correct afterwards.
    """
    clock = machine.clock()
    machine.run(clock, 100)
    at, expected = clock(), machine.wall()
    machine.off = jump

    assert clock() == pytest.approx(expected, abs=0.01)
    machine.run(clock, 8)
    during = clock.age(at), clock.age(at - 50 * _DAY), clock.before(1.0), clock.since()
    assert during == (0.0, 0.0, -math.inf, math.inf)
    assert clock.offset() == pytest.approx(jump, abs=0.01)

    machine.off = 0.0
    machine.run(clock, 2)
    assert clock() == pytest.approx(machine.wall(), abs=0.01)
    assert clock.age(at) == pytest.approx(10, abs=0.01)
    assert clock.jumps() == 1


def test_a_jump_is_logged_once(machine: Machine, caplog: pytest.LogCaptureFixture) -> None:
    """One line is logged when the wall clock jumps, and one when it is correct again."""
    clock = machine.clock()
    machine.run(clock, 10)
    caplog.set_level(logging.INFO)
    machine.off = _DAY
    machine.run(clock, 30)
    machine.off = 0.0
    machine.run(clock, 30)

    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    assert "wall clock jumped" in caplog.messages[0]


def test_a_wall_clock_that_stays_ahead_is_trusted_after_an_hour(machine: Machine) -> None:
    """If the wall clock jumps ahead and stays ahead for an hour, the appliance's clock follows it.

    Such a jump has probably corrected a wrong clock. Uses before the end of that hour are then
    treated as if they had been at the end of the hour.
    """
    clock = machine.clock()
    old = clock() - 30 * _DAY
    machine.off = _DAY
    machine.run(clock, TRUSTED_AFTER_S - 10, step=10)
    assert clock() < machine.wall() - _DAY / 2

    machine.run(clock, 30)

    assert clock() == pytest.approx(machine.wall(), abs=0.01)
    assert clock.age(old) == pytest.approx(0, abs=60)
    assert clock.offset() == 0.0


def test_the_time_slows_until_a_wall_clock_that_stays_back_has_caught_up(machine: Machine) -> None:
    """If the wall clock stays behind, the appliance's clock runs at half speed until both agree.

    So the appliance's time never runs backwards, and a later use of a blob has a later time.
    """
    clock = machine.clock()
    machine.run(clock, 10)
    machine.off = -3600.0
    machine.run(clock, TRUSTED_AFTER_S + 10, step=10)
    assert clock.offset() == 0.0
    assert clock() == pytest.approx(machine.wall() + 3600, abs=20)

    before = clock()
    machine.run(clock, 1000, step=10)
    assert clock() - before == pytest.approx(500, abs=10)
    machine.run(clock, 6400, step=10)

    assert clock() == pytest.approx(machine.wall(), abs=0.1)


@pytest.mark.parametrize("seed", range(20))
def test_the_time_never_goes_back(seed: int, path: Path) -> None:
    """The appliance's time never runs backwards in any process, whatever the wall clock does."""
    chance, machine = random.Random(seed), Machine()
    keeper, other = machine.clock(path), machine.clock(path)
    last = -math.inf
    for _ in range(400):
        if chance.random() < 0.05:
            machine.off = chance.choice([0.0, chance.uniform(-1, 1) * 10 ** chance.uniform(0, 7)])
        machine.off += chance.uniform(-0.01, 0.01)
        machine.up += chance.choice([0.01, 1.0, 5.0, 600.0])
        if chance.random() < 0.02:
            keeper = machine.clock(path)
        keeper.keep()
        now = keeper()
        assert now >= last - 1e-6
        last = now
        assert other() <= now + 1e-6 or machine.up - other._last_read < 1.0


def test_all_processes_have_the_same_time(machine: Machine, path: Path) -> None:
    """All processes see the same time, because they share the state of the clock in a file.

    This includes a process that starts while the wall clock is wrong.
    """
    keeper, worker = machine.clock(path), machine.clock(path)
    machine.run(keeper, 2)
    machine.off = 40 * _DAY
    machine.run(keeper, 2)

    late = machine.clock(path)

    assert worker() == keeper() == late()
    assert late.since() == math.inf


def test_a_wrong_clock_at_a_restart_is_detected(machine: Machine, path: Path) -> None:
    """If the wall clock is wrong when the appliance restarts, the appliance's clock detects this.

    The kernel's time since boot shows how much time has really passed.
    """
    first = machine.clock(path)
    machine.run(first, 10)
    at = first()
    machine.up += 3 * _DAY
    machine.off = 40 * _DAY

    again = machine.clock(path)
    assert again.age(at) == 0.0
    machine.off = 0.0
    again.keep()

    assert again.age(at) == pytest.approx(3 * _DAY, abs=1)


@pytest.mark.parametrize("off", [-400 * _DAY, 40 * _DAY], ids=["behind", "ahead"])
def test_a_wrong_clock_after_a_reboot_is_detected(
    machine: Machine, path: Path, off: float, caplog: pytest.LogCaptureFixture
) -> None:
    """If the wall clock is wrong after a reboot, the appliance's clock detects this.

    For example, a machine without a hardware clock boots with a wrong time.
    """
    first = machine.clock(path)
    machine.run(first, 10)
    at = first()
    machine.boot, machine.up, machine.off = "second", 5.0, 1000 + off

    again = machine.clock(path)
    again.keep()

    assert at <= again() < at + 61
    assert (again.age(at - 50 * _DAY), again.jumps()) == (0.0, 1)
    assert "wall clock jumped" in caplog.text


def test_a_reboot_with_a_right_clock_is_no_jump(machine: Machine, path: Path) -> None:
    """If the wall clock is correct after a reboot, the appliance's clock includes the downtime."""
    first = machine.clock(path)
    machine.run(first, 10)
    at, wall = first(), machine.wall()
    machine.boot, machine.up = "second", 5.0
    machine.off = wall + 600 - _START - machine.up

    again = machine.clock(path)
    again.keep()

    assert again.age(at) == pytest.approx(600, abs=1)
    assert again.jumps() == 0


def test_suspended_time_counts() -> None:
    """After a suspension of the machine, the clock includes the suspended time, without a jump."""
    now = begin(None, "boot", _START, 100.0)

    after = follow(now, _START + 30_000, 30_100.0)

    assert after.jumps == 0
    assert after.at(30_100.0) == _START + 30_000


def test_files_count_as_old_only_if_the_kernels_clock_ran_evenly(machine: Machine) -> None:
    """A file counts as old only if the kernel's clock has not jumped since the file's last write.

    The kernel's clock sets the times of files.
    """
    clock = machine.clock()
    machine.run(clock, 100, step=10)
    assert clock.before(50.0) == machine.wall() - 50.0
    machine.off = -365 * _DAY
    machine.run(clock, 10)
    machine.off = 0.0
    machine.run(clock, 40)

    assert clock.before(50.0) == -math.inf
    machine.run(clock, 20)
    assert clock.before(50.0) == machine.wall() - 50.0


@pytest.mark.parametrize(
    "damage",
    [
        lambda text: text[:20],
        lambda text: text.replace(b"base", b"bose"),
        lambda _: b"",
        bytes.upper,
    ],
    ids=["cut", "changed", "empty", "upper case"],
)
def test_a_damaged_file_is_ignored(path: Path, damage: object) -> None:
    """A clock file with a wrong checksum, as after an interrupted write, is ignored."""
    save(path, State("boot", 1.0, 2.0, 3.0))
    assert load(path) == State("boot", 1.0, 2.0, 3.0)
    assert callable(damage)

    path.write_bytes(damage(path.read_bytes()))

    assert load(path) is None


def test_the_time_continues_if_its_file_cannot_be_written(
    machine: Machine, path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """If the clock's file cannot be written, the clock continues and logs one warning.

    The clock writes the file again as soon as that is possible.
    """
    path.mkdir()
    clock = machine.clock(path)
    machine.run(clock, 10)
    assert caplog.text.count("the time could not be saved") == 1
    path.rmdir()

    machine.run(clock, 2)

    assert load(path) is not None


def test_a_small_step_is_no_jump(machine: Machine) -> None:
    """If the wall clock makes a small step, the appliance's clock follows it.

    After a step back, the appliance's clock follows slowly, and never runs backwards.
    """
    clock = machine.clock()
    machine.run(clock, 10)
    machine.off = JUMP_S - 0.1
    machine.run(clock, 1)
    assert clock() == machine.wall()
    machine.off = 0.0
    before = clock()
    machine.run(clock, 5)

    assert before < clock() < before + 4
    assert clock.jumps() == 0
